// Snapshot: the immutable tree of files of one version of a volume, as one image in secret memory.
// Nothing else describes the tree, so that who holds the image can serve it.
//
//   image    := Header Node{node_count} Guard{guard_count} names contents
//   nodes    := folder of the snapshot, "..data" link to it, then all others in breadth-first
//   order;
//               a folder's children lie side by side, sorted by the bytes of their names
//   inode of a node := Header.first_inode + its index
//   a file has a guard where opens are delivered; the rules' texts are among the names
//
// Where its tree stands with it is in the image, too, so that whoever gets the volume's images
// after a death at any moment can go on: each step of the tree is one store into one of them.
//
// Numbers are in the machine's byte order: an image never leaves it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "csi/volume/secret_mapping.h"
#include "csi/volume/volume.h"

namespace coffer::volume {

struct Node {
  std::uint64_t offset = 0;      // of a file's or link's bytes in the image; 0 for a folder
  std::uint64_t size = 0;        // bytes
  std::uint64_t link_inode = 0;  // of the volume's link to this top-level node; 0: not made yet
  std::uint32_t mode = 0;        // with the type's bits
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::uint32_t parent = 0;
  std::uint32_t first_child = 0;
  std::uint32_t child_count = 0;
  std::uint32_t name_offset = 0;  // in the names
  std::uint32_t name_size = 0;    // bytes
  std::uint64_t lookups = 0;      // references that the kernel holds
  std::uint32_t guard = 0;        // its number, from 1; 0: none
  std::uint32_t reserved = 0;
};

// What is kept of a file whose opens are delivered.
struct Guard {
  static constexpr std::uint32_t kReadOnce = 1;
  static constexpr std::uint32_t kCanary = 2;
  // Of a canary's first open, told of nobody yet: 0. Builds that know kTold alone, and mean by it
  // that nothing is owed, take both together for it.
  static constexpr std::uint32_t kTold = 1;
  static constexpr std::uint32_t kOwed = 2;  // somebody is yet to be told: OpenEvent::delivered
  static constexpr std::uint64_t kReaderElsewhere = UINT64_MAX;  // of the same file in another snapshot

  std::uint32_t rules_offset = 0;  // in the names
  std::uint32_t rules_size = 0;
  std::uint32_t flags = 0;
  std::uint32_t told = 0;              // kTold, kOwed
  std::uint32_t gone = 0;              // its bytes are wiped
  std::uint32_t reserved = 0;
  std::int64_t available_nanos = 0;    // after it was published; 0: for as long as the volume
  std::int64_t end_nanos = 0;          // then, by the steady clock, which all processes share
  std::uint64_t handles = 0;           // given out so far: each has a number, from 1
  std::uint64_t reader = 0;            // the handle that was given all bytes; 0: none yet
  std::uint8_t digest[32] = {};        // SHA-256 of the bytes where they may go before the file

  bool vanishes() const { return (flags & kReadOnce) != 0 || available_nanos != 0; }
};

// A snapshot's place in its tree's life.
struct Marks {
  std::uint64_t turn = 0;        // the highest is the current one's; 0: never current
  std::uint64_t next_inode = 0;  // the highest of all images is the tree's next free number
  std::uint32_t listed = 0;      // its folder is in the root
  std::uint32_t removed = 0;     // kept for the kernel's references alone
  std::uint32_t given_up = 0;    // a swap to it failed
  std::uint32_t unfinished = 0;  // the swap to it still has steps to do
  std::uint32_t new_data = 0;    // "..data_tmp" leads to it
  std::uint32_t answering = 0;   // see Tree::MarkAnswering
};

class Snapshot {
 public:
  static constexpr std::uint32_t kFolder = 0;
  static constexpr std::uint32_t kDataLink = 1;

  // Sorts `files` by path. `first_inode`: the tree takes node_count() numbers from there. `guarded`:
  // opens are delivered. InvalidArgument names the path that is wrong: no valid path, listed twice,
  // file and folder.
  static absl::StatusOr<std::unique_ptr<Snapshot>> Build(std::vector<SnapshotFile>& files,
                                                         std::uint64_t first_inode, absl::Time time,
                                                         bool guarded = false,
                                                         MemoryKind memory = MemoryKind::kMemfdSecret);

  // Takes over what another process has built. FailedPrecondition: in another format; the rest is
  // believed.
  static absl::StatusOr<std::unique_ptr<Snapshot>> Open(UniqueFd image);

  int fd() const { return image_.fd(); }
  Marks& marks() { return header().marks; }
  const Marks& marks() const { return header().marks; }
  // The image is someone else's from here on: it isn't wiped at the end.
  void Spare() { image_.Spare(); }

  std::uint64_t first_inode() const { return header().first_inode; }
  std::uint32_t node_count() const { return header().node_count; }
  std::uint32_t file_count() const { return header().file_count; }
  std::int64_t time_nanos() const { return header().time_nanos; }
  std::uint64_t content_size() const { return header().content_size; }
  bool Has(std::uint64_t inode) const {
    return inode >= first_inode() && inode - first_inode() < node_count();
  }

  Node& node(std::uint32_t index) { return nodes_[index]; }
  const Node& node(std::uint32_t index) const { return nodes_[index]; }
  // Null: the node has none.
  Guard* guard(std::uint32_t index) {
    return nodes_[index].guard == 0 ? nullptr : &guards_[nodes_[index].guard - 1];
  }
  const Guard* guard(std::uint32_t index) const {
    return const_cast<Snapshot*>(this)->guard(index);
  }
  bool gone(std::uint32_t index) const {
    return nodes_[index].guard != 0 && guards_[nodes_[index].guard - 1].gone != 0;
  }
  std::string_view Rules(const Guard& guard) const;
  std::string_view Name(std::uint32_t index) const;
  // A file's bytes or a link's target.
  std::string_view Content(std::uint32_t index) const;
  // Name of the snapshot's folder in the volume.
  std::string_view folder_name() const { return Name(kFolder); }
  // From the snapshot's folder: "a/b".
  std::string Path(std::uint32_t index) const;
  std::optional<std::uint32_t> Child(std::uint32_t folder, std::string_view name) const;
  // The same, but none for a file that is gone.
  std::optional<std::uint32_t> Present(std::uint32_t folder, std::string_view name) const;
  std::optional<std::uint32_t> Find(std::string_view path) const;

  // True when these files are what the snapshot holds, or has held: paths, bytes, modes, owners,
  // rules. Looks at nothing that changes, also not at bytes that may go: so it needs no lock.
  bool Holds(const std::vector<SnapshotFile>& files) const;

  // Wipes a file; there must be a guard. False: it is gone already.
  bool Vanish(std::uint32_t index);
  // Wipes what was to be wiped when the process that did so was killed.
  void FinishVanishing();
  // For each node the one of the same path in `old`, if there is one. Needs no lock either.
  using Counterparts = std::vector<std::optional<std::uint32_t>>;
  Counterparts CounterpartsIn(const Snapshot& old) const;
  // Takes over what happened to the files of `old` that are the same ones here: those that are gone
  // stay gone, time goes on, a canary's first open was the first, and is owed still.
  void Inherit(const Snapshot& old, const Counterparts& counterparts);

  // The kernel took or gave back references. lookups() is the sum over all nodes.
  void AddLookup(std::uint32_t index);
  void Forget(std::uint32_t index, std::uint64_t count);
  void ForgetAll();
  std::uint64_t lookups() const { return header().lookups; }

 private:
  static constexpr std::uint64_t kFormat = 0x32'72'65'66'66'6f'63;  // "coffer2"

  struct Header {
    std::uint64_t format;
    std::uint64_t first_inode;
    std::int64_t time_nanos;  // since 1970
    std::uint64_t lookups;
    std::uint64_t content_size;  // bytes of all files
    std::uint64_t names_offset;
    std::uint32_t node_count;
    std::uint32_t file_count;
    std::uint64_t guard_count;
    Marks marks;
  };

  explicit Snapshot(SecretMapping image);
  bool HoldsGuarded(const Guard& guard, const SnapshotFile& file) const;
  Header& header() const { return *reinterpret_cast<Header*>(image_.span().data()); }

  SecretMapping image_;
  Node* nodes_;
  Guard* guards_;
};

}  // namespace coffer::volume
