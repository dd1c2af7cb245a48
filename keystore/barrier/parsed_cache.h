// ParsedCache: parsed forms of stored values, always right because each is kept with the tag of the
// entry it was parsed from, and the tag is read within the transaction.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>

#include "common/status_macros.h"
#include "keystore/barrier/txn.h"

namespace coffer::keystore {

template <class T>
class ParsedCache {
 public:
  // Holds at most `capacity` values; drops all when full.
  explicit ParsedCache(std::size_t capacity = 10'000) : capacity_(capacity) {}

  // The parsed value at `path` of `txn`, or null where there is none.
  // `parse`: absl::StatusOr<std::shared_ptr<const T>>(SecretBytes value).
  template <class Parse>
  absl::StatusOr<std::shared_ptr<const T>> Get(Txn& txn, std::string_view path, Parse parse) {
    std::string name = txn.prefix();
    name += path;
    Txn root = txn.Root();
    auto tag = root.Tag(name);
    if (!tag.ok()) return tag.status();
    if (!tag->has_value()) return std::shared_ptr<const T>();
    {
      std::lock_guard lock(mutex_);
      const auto found = values_.find(name);
      if (found != values_.end() && found->second.tag == **tag) return found->second.value;
    }
    ASSIGN_OR_RETURN(std::optional<SecretBytes> bytes, root.Get(name));
    if (!bytes) return std::shared_ptr<const T>();
    absl::StatusOr<std::shared_ptr<const T>> value = parse(*std::move(bytes));
    if (!value.ok()) return value;
    Keep(std::move(name), **std::move(tag), *value);
    return value;
  }

  // Keeps the parsed form of what `txn` has just put at `path`. No matter whether that is ever
  // committed: nothing else has its tag.
  void Added(Txn& txn, std::string_view path, std::shared_ptr<const T> value) {
    std::string name = txn.prefix();
    name += path;
    auto tag = txn.Root().Tag(name);
    if (tag.ok() && tag->has_value()) Keep(std::move(name), **std::move(tag), std::move(value));
  }

  // Forgets everything: at seal.
  void Clear() {
    std::lock_guard lock(mutex_);
    values_.clear();
  }

 private:
  void Keep(std::string name, std::string tag, std::shared_ptr<const T> value) {
    Value kept{std::move(tag), std::move(value)};  // then what it replaces, until the lock is free
    std::lock_guard lock(mutex_);
    if (values_.size() >= capacity_) values_.clear();
    std::swap(values_[std::move(name)], kept);
  }

  struct Value {
    std::string tag;
    std::shared_ptr<const T> value;
  };
  const std::size_t capacity_;
  std::mutex mutex_;
  std::unordered_map<std::string, Value> values_;
};

}  // namespace coffer::keystore
