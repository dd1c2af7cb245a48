// Gate: whom a volume that delivers opens lets in, and when its read-once files have been read.
//
// A handle has read a file when it was given all of its bytes, however often it began anew, and in
// any order, which threads that answer side by side don't keep; the file is gone when that handle
// is closed, and nobody else is let in, or given more, from the last byte on. Handles of a plugin
// that has died count as having been given what comes before their next read.
//
// Not locked.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

#include "csi/volume/opener.h"
#include "csi/volume/tree.h"

namespace coffer::volume {

class Gate {
 public:
  // What became of an open.
  struct Passage {
    int error = 0;  // of OpenEvent
    std::string refusal = {};
    std::string file = {};
    std::string version = {};
    bool canary = false;
    std::uint64_t handle = 0;
    bool every_read = false;  // reads must be delivered, too: no cached pages
  };

  // ENOENT, and no file: there is no such inode.
  Passage Open(Tree& tree, std::uint64_t inode, const Opener& opener, Tree::Time now);

  // Of a canary's passage: the listener was told. By then no other open is one to be told.
  void Told(Tree& tree, const std::string& file);
  // Of one that was told, or is being told: nobody is owed it any more.
  void Delivered(Tree& tree, const std::string& file);

  // Whether a handle may be given bytes of the file.
  bool MayRead(Tree& tree, std::uint64_t inode, std::uint64_t handle) const;
  // It was given those up to `end`. True: nobody else may have any from now on.
  bool HasRead(Tree& tree, std::uint64_t inode, std::uint64_t handle, std::uint64_t start,
               std::uint64_t end);

  // True: the file is gone with that.
  bool Close(Tree& tree, std::uint64_t inode, std::uint64_t handle);

 private:
  // What a handle was given of a file.
  struct Given {
    std::uint64_t size = 0;                         // from the start
    std::map<std::uint64_t, std::uint64_t> pieces;  // behind that, from where to where

    void Add(std::uint64_t start, std::uint64_t end);
  };

  std::map<std::pair<std::uint64_t, std::uint64_t>, Given> given_;  // of read-once files
  std::map<std::string, std::uint32_t> telling_;  // canaries, and what Guard::told becomes
};

}  // namespace coffer::volume
