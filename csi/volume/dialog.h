// Dialog: the FUSE kernel protocol (linux/fuse.h, 7.31 and later) for one tree: a request in, the
// bytes of its answer out.
//
//   request := fuse_in_header body          answer := fuse_out_header body
//
// Spoken here and not through libfuse: each of its sessions takes one of the process's 1,024
// thread-specific keys, a node has more volumes than that, and a session that was handed over would
// want the kernel's INIT again.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "common/secret_bytes.h"
#include "csi/volume/gate.h"
#include "csi/volume/tree.h"

namespace coffer::volume {

// What a thread needs to answer: of use to any number of volumes, one after the other.
struct DialogBuffers {
  static constexpr std::size_t kRequestSize = 8192;  // FUSE_MIN_READ_BUFFER; we take no writes
  alignas(8) std::uint8_t request[kRequestSize];
  SecretBytes answer;  // grows to the largest read, at most 128 KiB
};

// Who opens a file, as the request says; none where the request is another one.
struct Asker {
  std::uint32_t thread, uid, gid;
};
std::optional<Asker> WhoOpens(std::span<const std::uint8_t> request);

// What the requests of a volume that delivers opens need, and what became of one.
struct Delivery {
  Gate& gate;
  const Opener& opener;  // where WhoOpens says so
  std::optional<Gate::Passage> passage = {};
  bool vanished = false;  // a file is gone, or but for one reader
};

// Handles one request, and leaves the answer, if there is one, in `answer`. `delivery`: null where
// opens aren't delivered.
void Answer(Tree& tree, std::span<const std::uint8_t> request, SecretBytes& answer,
            Delivery* delivery = nullptr);

// The notification that drops what is cached of an inode: its attributes, and the pages from `offset`
// on. The kernel says ENOENT of an inode that it doesn't know.
struct PageDrop {
  static constexpr std::int64_t kNoPages = -1;  // waits for nobody who reads them
  explicit PageDrop(std::uint64_t inode, std::int64_t offset = 0);
  alignas(8) std::uint8_t bytes[40];
};

// The notification that makes the kernel forget an entry of the root, so that it asks again.
SecretBytes EntryDrop(std::string_view name);

// The notification that has the kernel ask again what was read and never answered (Linux 6.9; older
// ones say EINVAL). The dialog itself is remembered by the kernel, and nothing of it is needed
// here.
struct Resend {
  Resend();
  alignas(8) std::uint8_t bytes[16];
};

}  // namespace coffer::volume
