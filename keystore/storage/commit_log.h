// CommitLog: one file to which commits are written before they count. Writing behind each other
// within space that was laid out before is the cheapest that a disk can make durable: one flush, no
// metadata.
#pragma once

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
    WriteBatch writes;
  };

  // Opens or makes the file, `capacity` bytes laid out.
  static absl::StatusOr<std::unique_ptr<CommitLog>> Open(std::string path, std::size_t capacity);
  ~CommitLog();

  // Reads the records behind commit `applied`, in their order; further ones are appended behind
  // them. A last record that was cut short doesn't count: it wasn't acknowledged. DataLoss: the
  // file was damaged otherwise.
  absl::StatusOr<std::vector<Record>> Replay(std::uint64_t applied);

  // Makes one record of the bytes of batches durable. ResourceExhausted: the disk is full; nothing is
  // stored. Unavailable: the disk failed; whether the record is on it nobody knows, and the log
  // takes no more.
  absl::Status Append(std::uint64_t id, const std::vector<std::string_view>& batches);

  // Begins at the start of the file again: nothing in it is needed any more.
  void Restart() { position_ = 0; }
  // Whether a record of `size` bytes of batches keeps within what was laid out; the first
  // one always does.
  bool Fits(std::size_t size) const;

 private:
  CommitLog(std::string path, std::size_t capacity, UniqueFd fd);

  std::string Checksum(std::string_view head, const std::vector<std::string_view>& batches) const;
  absl::Status Unreadable() const;
  absl::StatusOr<std::vector<Record>> ReplayBytes(std::string_view bytes, std::uint64_t applied);
  bool ReadRecord(std::string_view rest, Record* record, std::size_t* size) const;

  const std::string path_;
  const std::size_t capacity_;
  const UniqueFd fd_;
  evp_md_st* const sha256_;
  evp_md_ctx_st* const digest_;
  std::size_t position_ = 0;
  absl::Status broken_;
};

}  // namespace coffer::keystore
