// log    = record* rest    the rest may hold older records, whose ids are smaller
// record = size:u32 id:u64 durable:u32 checksum:8 batch*    ids of following records count up by one
//   size     = bytes of the batches (write_batch.cc)
//   durable  = how much of the log was known to be durable when the record was written
//   checksum = the first 8 bytes of the SHA-256 of size, id, durable and batches
// Numbers are little-endian.
#include "keystore/storage/commit_log.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <bit>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

constexpr std::size_t kChecksumSize = 8;
constexpr std::size_t kHeadSize = 4 + 8 + 4;
constexpr std::size_t kHeaderSize = kHeadSize + kChecksumSize;

template <class T>
void Append(T number, std::string* out) {
  out->append(reinterpret_cast<const char*>(&number), sizeof(T));
}

static_assert(std::endian::native == std::endian::little);

template <class T>
T Take(std::string_view* from) {
  T number;
  std::memcpy(&number, from->data(), sizeof(T));
  from->remove_prefix(sizeof(T));
  return number;
}

}  // namespace

CommitLog::CommitLog(std::string path, UniqueFd fd, std::vector<UniqueFd> flushers)
    : path_(std::move(path)),
      fd_(std::move(fd)),
      flushers_(std::move(flushers)),
      sha256_(EVP_MD_fetch(nullptr, "SHA256", nullptr)),
      digest_(EVP_MD_CTX_new()) {
  if (sha256_ == nullptr || digest_ == nullptr) std::abort();
}

CommitLog::~CommitLog() {
  EVP_MD_CTX_free(digest_);
  EVP_MD_free(sha256_);
}

absl::StatusOr<std::unique_ptr<CommitLog>> CommitLog::Open(std::string path, std::size_t capacity,
                                                           std::size_t flushers) {
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  std::vector<UniqueFd> descriptors;
  bool opened = static_cast<bool>(fd);
  for (std::size_t i = 0; i < flushers && opened; ++i) {
    descriptors.emplace_back(open(path.c_str(), O_RDWR | O_CLOEXEC));
    opened = static_cast<bool>(descriptors.back());
  }
  if (!opened) {
    return absl::UnavailableError(StrCat("storage: can't open ", path, ": ", std::strerror(errno)));
  }
  std::unique_ptr<CommitLog> log(
      new CommitLog(std::move(path), std::move(fd), std::move(descriptors)));
  RETURN_IF_ERROR(log->Grow(capacity));
  return log;
}

absl::Status CommitLog::Grow(std::size_t capacity) {
  struct stat facts;
  if (fstat(fd_.get(), &facts) != 0) return Unreadable();
  // Written, not only reserved: the first write to reserved blocks costs as much as a new block.
  // Where the disk is too full for it the log works without.
  const std::string zeros(64 * 1024, '\0');
  for (std::size_t at = facts.st_size; at < capacity; at += zeros.size()) {
    if (pwrite(fd_.get(), zeros.data(), zeros.size(), static_cast<off_t>(at)) < 0) break;
  }
  if (fsync(fd_.get()) != 0) {
    return absl::UnavailableError(
        StrCat("storage: can't flush ", path_, ": ", std::strerror(errno)));
  }
  capacity_ = capacity;
  return absl::OkStatus();
}

bool CommitLog::Fits(std::size_t size) const {
  return position_ == 0 || position_ + kHeaderSize + size <= capacity_;
}

// The checksum of `head` (size, id and durable) and what follows.
std::string CommitLog::Checksum(std::string_view head,
                                const std::vector<std::string_view>& batches) const {
  std::uint8_t full[EVP_MAX_MD_SIZE];
  bool done = EVP_DigestInit_ex2(digest_, sha256_, nullptr) == 1 &&
              EVP_DigestUpdate(digest_, head.data(), head.size()) == 1;
  for (const std::string_view part : batches) {
    done = done && EVP_DigestUpdate(digest_, part.data(), part.size()) == 1;
  }
  if (!done || EVP_DigestFinal_ex(digest_, full, nullptr) != 1) std::abort();
  return std::string(reinterpret_cast<const char*>(full), kChecksumSize);
}

absl::Status CommitLog::Write(std::uint64_t id, const std::vector<std::string_view>& batches) {
  std::size_t size = 0;
  for (const std::string_view part : batches) size += part.size();
  if (size > UINT32_MAX) {
    return absl::ResourceExhaustedError("storage: too much for one transaction");
  }
  std::string header;
  Append(static_cast<std::uint32_t>(size), &header);
  Append(id, &header);
  Append(static_cast<std::uint32_t>(durable_.load()), &header);
  header += Checksum(header, batches);

  std::vector<iovec> parts;
  parts.reserve(1 + batches.size());
  parts.push_back({header.data(), header.size()});
  for (const std::string_view part : batches) {
    parts.push_back({const_cast<char*>(part.data()), part.size()});  // NOLINT: it is only read
  }
  std::size_t at = position_;
  for (std::size_t i = 0; i < parts.size();) {
    const int count = static_cast<int>(std::min<std::size_t>(parts.size() - i, IOV_MAX));
    const ssize_t written = pwritev(fd_.get(), &parts[i], count, static_cast<off_t>(at));
    if (written < 0) {
      if (errno == EINTR) continue;
      const int error = errno;
      const std::string message =
          StrCat("storage: can't write ", path_, ": ", std::strerror(error));
      if (error == ENOSPC || error == EDQUOT || error == EFBIG) {
        return absl::ResourceExhaustedError(message);
      }
      return absl::UnavailableError(StrCat(message, "; start the keystore again"));
    }
    at += static_cast<std::size_t>(written);
    std::size_t left = static_cast<std::size_t>(written);
    while (i < parts.size() && left >= parts[i].iov_len) left -= parts[i++].iov_len;
    if (left > 0) {
      parts[i].iov_base = static_cast<char*>(parts[i].iov_base) + left;
      parts[i].iov_len -= left;
    }
  }
  position_ = at;
  return absl::OkStatus();
}

absl::Status CommitLog::Flush(std::size_t flusher, std::size_t position) {
  if (fdatasync(flushers_[flusher].get()) != 0) {
    // What the kernel couldn't write it may have thrown away: only a restart knows what is there.
    return absl::UnavailableError(StrCat("storage: can't flush ", path_, ": ",
                                         std::strerror(errno), "; start the keystore again"));
  }
  std::size_t durable = durable_.load();
  while (durable < position && !durable_.compare_exchange_weak(durable, position)) {
  }
  return absl::OkStatus();
}

void CommitLog::Restart() {
  position_ = 0;
  durable_ = 0;
}

bool CommitLog::ReadRecord(std::string_view rest, Record* record, std::size_t* size) const {
  if (rest.size() < kHeaderSize) return false;
  const std::string_view head = rest.substr(0, kHeadSize);
  const std::string_view checksum = rest.substr(kHeadSize, kChecksumSize);
  std::string_view fields = head;
  const auto bytes = Take<std::uint32_t>(&fields);
  record->id = Take<std::uint64_t>(&fields);
  record->durable = Take<std::uint32_t>(&fields);
  rest.remove_prefix(kHeaderSize);
  if (bytes == 0 || rest.size() < bytes) return false;
  const std::string_view batches = rest.substr(0, bytes);
  if (Checksum(head, {batches}) != checksum) return false;
  std::optional<WriteBatch> writes = WriteBatch::Parse(batches);
  if (!writes) return false;
  record->writes = *std::move(writes);
  *size = kHeaderSize + bytes;
  return true;
}

absl::StatusOr<std::vector<CommitLog::Record>> CommitLog::Replay(std::uint64_t applied) {
  struct stat facts;
  if (fstat(fd_.get(), &facts) != 0) return Unreadable();
  position_ = 0;
  if (facts.st_size == 0) return std::vector<Record>();
  const auto size = static_cast<std::size_t>(facts.st_size);
  void* const map = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd_.get(), 0);
  if (map == MAP_FAILED) return Unreadable();
  std::size_t stale_end = 0;
  auto records = ReplayBytes({static_cast<const char*>(map), size}, applied, &stale_end);
  munmap(map, size);
  if (!records.ok()) return records;
  if (stale_end > 0) RETURN_IF_ERROR(Wipe(stale_end));
  if (records->empty()) position_ = 0;
  durable_ = position_;
  return records;
}

absl::Status CommitLog::Unreadable() const {
  return absl::UnavailableError(StrCat("storage: can't read ", path_, ": ", std::strerror(errno)));
}

// Records that don't count must not be met again, behind those that are written in their place.
absl::Status CommitLog::Wipe(std::size_t end) {
  const std::string zeros(end - position_, '\0');
  const ssize_t written =
      pwrite(fd_.get(), zeros.data(), zeros.size(), static_cast<off_t>(position_));
  if (written == static_cast<ssize_t>(zeros.size()) && fdatasync(fd_.get()) == 0) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(
      StrCat("storage: can't write ", path_, ": ", std::strerror(errno)));
}

absl::StatusOr<std::vector<CommitLog::Record>> CommitLog::ReplayBytes(std::string_view bytes,
                                                                      std::uint64_t applied,
                                                                      std::size_t* stale_end) {
  std::vector<Record> records;
  Record record;
  std::size_t size = 0;
  std::uint64_t last = 0;
  while (ReadRecord(bytes.substr(position_), &record, &size) &&
         (last == 0 || record.id == last + 1)) {
    last = record.id;
    position_ += size;
    if (record.id > applied) records.push_back(std::move(record));
  }
  // Records that were on their way together may have come to the disk in any order. A later one that
  // knew the bad one to be durable tells that it was good once.
  const std::uint64_t newest = std::max(last, applied);
  const std::string zeros(4096, '\0');  // laid out and never written
  while (bytes.size() > position_ && bytes.ends_with(zeros)) bytes.remove_suffix(zeros.size());
  for (std::size_t at = position_; at + kHeaderSize < bytes.size(); ++at) {
    std::uint64_t id;
    std::memcpy(&id, &bytes[at + 4], sizeof(id));
    if (id <= newest || id > newest + capacity_ || !ReadRecord(bytes.substr(at), &record, &size)) {
      continue;
    }
    if (record.durable > position_) {
      return absl::DataLossError(StrCat("storage: ", path_, " is damaged at byte ", position_,
                                        "; restore a backup of the folder"));
    }
    *stale_end = at + size;
  }
  return records;
}

}  // namespace coffer::keystore
