// Names: the stored keys of paths. A stored key tells nothing of the path, but the keys of one
// directory have a common start, so that the store can list it.
#pragma once

#include <array>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/container/node_hash_map.h"
#include "keystore/barrier/mac_key.h"

namespace coffer::keystore {

// stored-key = mac(parent) mac(path); mac = the first 16 bytes of HMAC-SHA-256 under the names key.
// Parents and directories end in "/", the parent of "a" and "a/" is "". Half of the HMAC is enough:
// two of 2^40 paths share one with chance 2^-49, nobody without the key can look for such a pair,
// and an entry that is found under another's key doesn't open, for its own name isn't in it.
class Names {
 public:
  static constexpr std::size_t kMacSize = 16;
  static constexpr std::size_t kKeySize = MacKey::kSize;
  using Mac = std::array<char, kMacSize>;
  using StoredKey = std::array<char, 2 * kMacSize>;

  explicit Names(SecretBytes key);
  // Wipes the paths that it remembers.
  ~Names() { Forget(); }
  Names(const Names&) = delete;
  Names& operator=(const Names&) = delete;

  const SecretBytes& key() const { return key_.bytes(); }

  // Of a value ("a/b") or a directory ("a/b/"). Safe on any thread.
  StoredKey KeyOf(std::string_view path) { return Find(path, /*remember=*/true); }
  // As KeyOf, for a path that isn't expected to be used again soon.
  StoredKey KeyOfOnce(std::string_view path) { return Find(path, /*remember=*/false); }
  // What the stored keys of everything directly in `directory` ("" or "a/b/") start with.
  Mac PrefixOf(std::string_view directory);

  // Wipes the paths that it remembers. Safe on any thread.
  void Forget();

  static std::string_view View(const StoredKey& key) { return {key.data(), key.size()}; }
  static std::string_view View(const Mac& mac) { return {mac.data(), mac.size()}; }
  // What the stored keys of all that lie in the directory of `key` start with.
  static std::string_view DirectoryOf(std::string_view key) { return key.substr(0, kMacSize); }
  // What the stored keys of everything directly in the directory with key `directory` start with.
  static std::string_view PrefixIn(std::string_view directory) {
    return directory.substr(kMacSize);
  }

 private:
  static constexpr std::size_t kShards = 16;  // by 4 bits of a path's hash
  static constexpr std::size_t kKeysPerShard = 2048;

  struct Shard {
    std::mutex mutex;
    // Nodes stay where they are, so that every copy of a path can be wiped.
    absl::node_hash_map<std::string, StoredKey> keys;
    void Forget();
  };

  StoredKey Find(std::string_view path, bool remember);
  Mac MacOf(std::string_view path) const;

  const MacKey key_;
  const Mac root_;
  std::array<Shard, kShards> shards_;
};

// "a/b/" of "a/b/c" and of "a/b/c/"; "" of "a".
std::string_view ParentOf(std::string_view path);

}  // namespace coffer::keystore
