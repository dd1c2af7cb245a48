#include "keystore/barrier/names.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

#include "common/strings.h"

namespace coffer::keystore {

std::string_view ParentOf(std::string_view path) {
  if (path.ends_with('/')) path.remove_suffix(1);
  return path.substr(0, path.rfind('/') + 1);
}

static_assert(sizeof(std::size_t) == 8);

Names::Names(SecretBytes key) : key_(std::move(key)), root_(MacOf("")) {}

Names::Mac Names::MacOf(std::string_view path) const {
  const MacKey::Mac full = key_.Of(path);
  Mac mac;
  std::copy_n(full.begin(), kMacSize, mac.begin());
  return mac;
}

Names::StoredKey Names::Find(std::string_view path, bool remember) {
  const std::size_t hash = shards_[0].keys.hash_function()(ToAbsl(path));
  Shard& shard = shards_[hash >> 60];  // the map takes the low bits
  {
    std::lock_guard lock(shard.mutex);
    const auto found = shard.keys.find(ToAbsl(path), hash);
    if (found != shard.keys.end()) return found->second;
  }
  const Mac parent = PrefixOf(ParentOf(path));
  const Mac own = MacOf(path);
  StoredKey key;
  std::copy(own.begin(), own.end(), std::copy(parent.begin(), parent.end(), key.begin()));
  if (!remember) return key;
  std::lock_guard lock(shard.mutex);
  if (shard.keys.size() >= kKeysPerShard) shard.Forget();
  shard.keys.try_emplace(std::string(path), key);
  return key;
}

Names::Mac Names::PrefixOf(std::string_view directory) {
  if (directory.empty()) return root_;
  const StoredKey key = KeyOf(directory);
  Mac prefix;
  std::copy_n(key.begin() + kMacSize, kMacSize, prefix.begin());
  return prefix;
}

void Names::Shard::Forget() {
  for (auto& [path, key] : keys) OPENSSL_cleanse(const_cast<char*>(path.data()), path.size());
  keys.clear();
}

void Names::Forget() {
  for (Shard& shard : shards_) {
    std::lock_guard lock(shard.mutex);
    shard.Forget();
  }
}

}  // namespace coffer::keystore
