#include "keystore/storage/buffered_txn.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {

absl::Status Conflict() {
  return absl::AbortedError("another transaction wrote what this one had read; run it again");
}

std::string PrefixEnd(std::string_view prefix) {
  std::string end(prefix);
  while (!end.empty() && end.back() == '\xff') end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return end;
}

absl::StatusOr<std::optional<std::string_view>> BufferedTxn::Get(std::string_view key) {
  if (!changes_.writes.empty()) {
    const auto mine = changes_.writes.find(key);
    if (mine != changes_.writes.end()) {
      if (!mine->second) return std::optional<std::string_view>();
      return std::optional<std::string_view>(*mine->second);
    }
  }
  changes_.reads.Add(key);
  return Read(key);
}

absl::StatusOr<std::vector<StoredEntry>> BufferedTxn::Scan(std::string_view prefix,
                                                           std::string_view after,
                                                           std::size_t limit) {
  KeyRange range{std::string(prefix), PrefixEnd(prefix)};
  // The first key after `after` is `after` and a zero byte.
  if (!after.empty()) range.begin = std::max(range.begin, StrCat(after, std::string_view("\0", 1)));
  std::vector<StoredEntry> found;
  if (!range.end.empty() && range.begin >= range.end) return found;

  const auto full = [&] { return limit != 0 && found.size() >= limit; };
  auto mine = changes_.writes.lower_bound(range.begin);
  // Adds own writes before `key` (null: all of the range).
  const auto add_mine = [&](const std::string_view* key) {
    for (; mine != changes_.writes.end() && range.Contains(mine->first) && !full(); ++mine) {
      if (key != nullptr && mine->first >= *key) return;
      if (mine->second) found.push_back({mine->first, *mine->second});
    }
  };
  RETURN_IF_ERROR(Walk(range.begin, [&](std::string_view key, std::string_view value) {
    if (!range.Contains(key)) return false;
    add_mine(&key);
    if (full()) return false;
    if (mine != changes_.writes.end() && mine->first == key) {
      if (mine->second) found.push_back({mine->first, *mine->second});
      ++mine;
    } else {
      found.push_back({key, value});
    }
    return !full();
  }));
  add_mine(nullptr);

  // A scan that its limit cut short has seen nothing behind its last key.
  if (full()) range.end = StrCat(found.back().key, std::string_view("\0", 1));
  changes_.ranges.push_back(std::move(range));
  return found;
}

void BufferedTxn::Write(std::string_view key, std::optional<std::string> value) {
  if (key.empty() || key.size() > kMaxKeySize) {
    changes_.status = absl::InvalidArgumentError(
        StrCat("a key of ", key.size(), " bytes can't be stored: keys are 1 to ", kMaxKeySize));
    return;
  }
  const auto mine = changes_.writes.lower_bound(key);
  if (mine != changes_.writes.end() && mine->first == key) {
    mine->second = std::move(value);
  } else {
    changes_.writes.emplace_hint(mine, key, std::move(value));
  }
}

}  // namespace coffer::keystore
