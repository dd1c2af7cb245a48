// CommitLog: one file to which commits are written before they count. Writing behind each other
// within space that was laid out before is the cheapest that a disk can make durable: one flush, no
// metadata. Several records may be on their way to the disk at a time.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/unique_fd.h"
#include "keystore/storage/write_batch.h"

struct evp_md_ctx_st;
struct evp_md_st;

namespace coffer::keystore {

class CommitLog {
 public:
  struct Record {
    std::uint64_t id;
    std::uint32_t durable;  // the bytes of the log that were known to be durable when it was written
    WriteBatch writes;
  };

  // Opens or makes the file, `capacity` bytes laid out, for that many threads that flush it.
  // Unavailable: it can't be opened or flushed.
  static absl::StatusOr<std::unique_ptr<CommitLog>> Open(std::string path, std::size_t capacity,
                                                         std::size_t flushers = 1);
  ~CommitLog();

  // Reads the records behind commit `applied`, in their order; further ones are written behind
  // them. A record that was cut short doesn't count, nor do those behind it, where none of them was
  // known to be durable: nobody was told of them. DataLoss: the file was damaged otherwise.
  absl::StatusOr<std::vector<Record>> Replay(std::uint64_t applied);

  // Writes one record of the bytes of batches. ResourceExhausted: the disk is full; nothing is
  // stored. Unavailable: the disk failed; whether the record is on it nobody knows.
  absl::Status Write(std::uint64_t id, const std::vector<std::string_view>& batches);
  // Where the last record ends.
  std::size_t position() const { return position_; }
  // Makes what was written up to `position` durable. By several threads at a time, each with another
  // `flusher`: its descriptor hears of every failure to write, also of one that another's heard of.
  // Unavailable: the disk failed; what is on it only a restart can tell.
  absl::Status Flush(std::size_t flusher, std::size_t position);

  // Begins at the start of the file again: nothing in it is needed any more, or being flushed.
  void Restart();
  // Whether a record of `size` bytes of batches keeps within the capacity; the first one always
  // does.
  bool Fits(std::size_t size) const;
  std::size_t capacity() const { return capacity_; }
  // Lays more out, while nobody writes it or flushes. Unavailable: it can't be flushed; the
  // capacity is what it was.
  absl::Status Grow(std::size_t capacity);

 private:
  CommitLog(std::string path, UniqueFd fd, std::vector<UniqueFd> flushers);

  std::string Checksum(std::string_view head, const std::vector<std::string_view>& batches) const;
  absl::Status Unreadable() const;
  // `stale_end`: where the last of the records ends that don't count; 0 where there is none.
  absl::StatusOr<std::vector<Record>> ReplayBytes(std::string_view bytes, std::uint64_t applied,
                                                  std::size_t* stale_end);
  bool ReadRecord(std::string_view rest, Record* record, std::size_t* size) const;
  absl::Status Wipe(std::size_t end);

  const std::string path_;
  const UniqueFd fd_;
  const std::vector<UniqueFd> flushers_;
  evp_md_st* const sha256_;
  evp_md_ctx_st* const digest_;
  std::size_t capacity_ = 0;
  std::size_t position_ = 0;
  std::atomic<std::size_t> durable_{0};
};

}  // namespace coffer::keystore
