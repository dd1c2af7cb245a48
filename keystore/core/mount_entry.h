// MountEntry: one secrets engine or auth method in the mount table.
#pragma once

#include <map>
#include <string>

#include "absl/time/time.h"
#include "common/json.h"

namespace coffer::keystore {

struct MountEntry {
  std::string path;  // "secret/", "auth/kubernetes/", "sys/"
  std::string type;  // "kv", "kubernetes", "token", "system", "cubbyhole"
  std::string uuid;  // its storage is "mount/<uuid>/"
  std::string accessor;  // "kv_1a2b3c4d"
  std::string description;
  std::map<std::string, std::string> options;  // {"version": "2"}
  absl::Duration default_lease_ttl;            // zero: the keystore's, LeaseTtls
  absl::Duration max_lease_ttl;                // zero: the keystore's
  bool local = false;
  bool seal_wrap = false;
  // The rest of Vault's mount config (listing_visibility, token_type, audit_non_hmac_request_keys,
  // ...) as given.
  Json config = Json::object();

  bool auth() const { return path.starts_with("auth/"); }
};

inline constexpr absl::Duration kSystemLeaseTtl = absl::Hours(768);

// How long leases last, and at most, where their mount doesn't say.
struct LeaseTtls {
  absl::Duration default_ttl = kSystemLeaseTtl;
  absl::Duration max_ttl = kSystemLeaseTtl;

  absl::Duration DefaultOf(const MountEntry& mount) const {
    return mount.default_lease_ttl > absl::ZeroDuration() ? mount.default_lease_ttl : default_ttl;
  }
  absl::Duration MaxOf(const MountEntry& mount) const {
    return mount.max_lease_ttl > absl::ZeroDuration() ? mount.max_lease_ttl : max_ttl;
  }
};

}  // namespace coffer::keystore
