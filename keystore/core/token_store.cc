// Storage, from the root of the tree; values of index entries that need none are "1":
//   sys/token/id/<hash>               the token (token_entry.cc)
//   sys/token/accessor/<accessor>     its hash
//   sys/token/child/<parent>/<hash>   one for each child, so that siblings are made without conflict
//   sys/token/cubbyhole/<hash>/...    what goes with the token
//   sys/token/revoking/<uuid>         a prefix of paths, the tokens of which are to be revoked
//   sys/expire/<hour>/<ten>/<second>-<hash>
// The last is the order of expiry: <second> is when the token is due, in Unix seconds rounded up;
// <hour> and <ten> are that by 3600 and by 10. Names of a directory are read as a whole, so they are
// parted into pieces of which only those that are due are read.
#include "keystore/core/token_store.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/core/policy.h"

namespace coffer::keystore {
namespace {

constexpr std::string_view kExpire = "sys/expire/";
constexpr std::string_view kIds = "sys/token/id/";
constexpr std::string_view kAccessors = "sys/token/accessor/";
constexpr std::string_view kRevoking = "sys/token/revoking/";
constexpr std::int64_t kHour = 3600;
constexpr std::int64_t kTen = 10;
constexpr std::size_t kTokenLength = 24;

std::string IdPath(std::string_view hash) { return StrCat(kIds, hash); }
std::string AccessorPath(std::string_view accessor) { return StrCat(kAccessors, accessor); }
std::string ChildrenPath(std::string_view parent) {
  return StrCat("sys/token/child/", parent, "/");
}
std::string CubbyholePath(std::string_view hash) {
  return StrCat("sys/token/cubbyhole/", hash, "/");
}
std::string ExpirePath(const TokenEntry& entry) {
  const std::int64_t due = absl::ToInt64Seconds(
      absl::Ceil(entry.expire_time - absl::UnixEpoch(), absl::Seconds(1)));
  return StrCat(kExpire, due / kHour, "/", due / kTen, "/", due, "-", entry.hash);
}

// The number that `name` starts with, or -1.
std::int64_t LeadingNumber(std::string_view name) {
  std::int64_t number = 0;
  const std::string_view digits = name.substr(0, name.find_first_not_of("0123456789"));
  return absl::SimpleAtoi(ToAbsl(digits), &number) ? number : -1;
}

bool CouldBeAccessor(std::string_view text) {
  return !text.empty() && text.size() <= 64 &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c); });
}

bool IsBatch(const TokenSpec& spec) {
  return spec.type == "batch" || spec.type == "default-batch";
}

absl::Status CheckType(const TokenSpec& spec) {
  constexpr std::string_view kTypes[] = {"",      "service",        "default",
                                         "batch", "default-service", "default-batch"};
  if (std::find(std::begin(kTypes), std::end(kTypes), spec.type) == std::end(kTypes)) {
    return absl::InvalidArgumentError(StrCat("there are no tokens of type \"", spec.type, "\""));
  }
  if (!IsBatch(spec)) return absl::OkStatus();
  // All of these would have to be kept somewhere.
  for (const auto& [given, name] : {std::pair(spec.num_uses != 0, "num_uses"),
                                    std::pair(spec.period > absl::ZeroDuration(), "period"),
                                    std::pair(!spec.id.empty(), "id")}) {
    if (given) {
      return absl::InvalidArgumentError(StrCat("batch tokens cannot have \"", name, "\" set"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::string TokenHash(std::string_view token) {
  // Fetched once: SHA256() looks its algorithm up on every call, which takes longer than the hash.
  static EVP_MD* const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  thread_local const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(
      EVP_MD_CTX_new(), EVP_MD_CTX_free);
  std::array<std::uint8_t, 32> digest;
  if (EVP_DigestInit_ex2(context.get(), sha256, nullptr) != 1 ||
      EVP_DigestUpdate(context.get(), token.data(), token.size()) != 1 ||
      EVP_DigestFinal_ex(context.get(), digest.data(), nullptr) != 1) {
    std::abort();  // no memory, or an OpenSSL without SHA-256: no token can be told from another
  }
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex(2 * digest.size(), '\0');
  for (std::size_t i = 0; i < digest.size(); ++i) {
    hex[2 * i] = kDigits[digest[i] >> 4];
    hex[2 * i + 1] = kDigits[digest[i] & 15];
  }
  return hex;
}

Txn TokenStore::Cubbyhole(const Txn& txn, std::string_view hash) {
  return txn.Root().Under(CubbyholePath(hash));
}

absl::StatusOr<TokenStore::Created> TokenStore::Create(Txn& txn, TokenSpec spec,
                                                       const MountEntry& mount) {
  constexpr absl::Duration kNone = absl::ZeroDuration();
  RETURN_IF_ERROR(CheckType(spec));
  Created created;
  auto entry = std::make_shared<TokenEntry>();
  entry->policies = CleanPolicies(spec.policies, !spec.no_default_policy);
  if (mount.auth() && mount.path != "auth/token/") {
    if (entry->root()) {
      return absl::InvalidArgumentError("auth methods cannot create root tokens");
    }
    RETURN_IF_ERROR(CheckAssignable(entry->policies));
  }
  if (IsBatch(spec)) entry->type = "batch";
  if (entry->root() && entry->batch()) {
    return absl::InvalidArgumentError("batch tokens cannot be root tokens");
  }
  entry->parent = std::move(spec.parent);
  entry->display_name = std::move(spec.display_name);
  entry->path = std::move(spec.path);
  entry->meta = std::move(spec.meta);
  entry->role = std::move(spec.role);
  entry->num_uses = spec.num_uses;
  entry->period = spec.period;
  entry->explicit_max_ttl = spec.explicit_max_ttl;
  entry->creation_time = clock_.Now();

  if (entry->root() && spec.ttl == kNone && spec.period == kNone) {
    entry->creation_ttl = spec.explicit_max_ttl;
  } else {
    ASSIGN_OR_RETURN(Ttl ttl, TtlOn(mount, {.ttl = spec.ttl,
                                            .max_ttl = spec.max_ttl,
                                            .explicit_max_ttl = spec.explicit_max_ttl,
                                            .period = spec.period,
                                            .start = entry->creation_time}));
    entry->creation_ttl = ttl.ttl;
    created.warnings = std::move(ttl.warnings);
  }
  if (entry->creation_ttl > kNone) {
    entry->expire_time = entry->creation_time + entry->creation_ttl;
    entry->renewable = spec.renewable && !entry->batch();
    entry->bound_cidrs = std::move(spec.bound_cidrs);
  }

  if (!entry->parent.empty()) {
    // Read here, so that the parent's revocation and this can't both be committed.
    ASSIGN_OR_RETURN(const auto parent, txn.Tag(IdPath(entry->parent)));
    if (!parent) {
      return absl::InvalidArgumentError("parent token lookup failed: no parent found");
    }
  }
  if (entry->batch()) {
    ASSIGN_OR_RETURN(created.id, SealBatch(txn, *entry));
    entry->hash = TokenHash(created.id.view());
    created.entry = std::move(entry);
    return created;
  }
  if (spec.id.empty()) {
    created.id = SecretBytes::CopyOf("hvs.");
    created.id.Append(RandomBase62(kTokenLength).span());
    entry->hash = TokenHash(created.id.view());
  } else {
    created.id = std::move(spec.id);
    entry->hash = TokenHash(created.id.view());
    ASSIGN_OR_RETURN(const auto taken, txn.Tag(IdPath(entry->hash)));
    if (taken) return absl::InvalidArgumentError("cannot create a token with a duplicate ID");
  }
  entry->accessor = std::string(RandomBase62(kTokenLength).view());

  if (!entry->parent.empty()) {
    RETURN_IF_ERROR(txn.Put(StrCat(ChildrenPath(entry->parent), entry->hash), "1"));
  }
  RETURN_IF_ERROR(txn.Put(IdPath(entry->hash), EncodeToken(*entry).view()));
  RETURN_IF_ERROR(txn.Put(AccessorPath(entry->accessor), entry->hash));
  if (entry->expires()) RETURN_IF_ERROR(txn.Put(ExpirePath(*entry), "1"));
  created.entry = std::move(entry);
  return created;
}

absl::StatusOr<std::shared_ptr<const TokenEntry>> TokenStore::Load(Txn& txn,
                                                                   std::string_view hash) {
  return cache_.Get(txn, IdPath(hash), [&](SecretBytes stored) {
    return DecodeToken(hash, stored.view());
  });
}

absl::StatusOr<std::shared_ptr<const TokenEntry>> TokenStore::Lookup(Txn& txn,
                                                                     std::string_view token) {
  if (!IsBatchToken(token)) return LookupHash(txn, TokenHash(token));
  const std::shared_ptr<const TokenEntry> entry = OpenBatch(txn, token);
  return entry == nullptr ? entry : LookupAgain(txn, entry);
}

absl::StatusOr<std::shared_ptr<const TokenEntry>> TokenStore::LookupAgain(
    Txn& txn, const std::shared_ptr<const TokenEntry>& entry) {
  if (!entry->batch()) return LookupHash(txn, entry->hash);
  if (entry->expire_time <= clock_.Now()) return std::shared_ptr<const TokenEntry>();
  if (entry->parent.empty()) return entry;
  ASSIGN_OR_RETURN(const auto parent, LookupHash(txn, entry->parent));
  return parent == nullptr ? parent : entry;
}

void TokenStore::OnSeal() {
  cache_.Clear();
  std::lock_guard lock(batch_mutex_);
  batch_.clear();
}

absl::StatusOr<std::shared_ptr<const TokenEntry>> TokenStore::LookupHash(Txn& txn,
                                                                         std::string_view hash) {
  ASSIGN_OR_RETURN(std::shared_ptr<const TokenEntry> entry, Load(txn, hash));
  if (entry && (entry->num_uses < 0 || entry->expire_time <= clock_.Now())) entry = nullptr;
  return entry;
}

absl::StatusOr<std::shared_ptr<const TokenEntry>> TokenStore::LookupAccessor(
    Txn& txn, std::string_view accessor) {
  if (!CouldBeAccessor(accessor)) return std::shared_ptr<const TokenEntry>();
  ASSIGN_OR_RETURN(const std::optional<SecretBytes> hash, txn.Get(AccessorPath(accessor)));
  if (!hash) return std::shared_ptr<const TokenEntry>();
  return LookupHash(txn, hash->view());
}

absl::Status TokenStore::Rewrite(Txn& txn, const TokenEntry& before, const TokenEntry& after) {
  RETURN_IF_ERROR(txn.Put(IdPath(after.hash), EncodeToken(after).view()));
  if (before.expire_time == after.expire_time) return absl::OkStatus();
  if (before.expires()) RETURN_IF_ERROR(txn.Delete(ExpirePath(before)));
  return txn.Put(ExpirePath(after), "1");
}

absl::Status TokenStore::Use(Txn& txn, const TokenEntry& given) {
  if (given.num_uses == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(const std::shared_ptr<const TokenEntry> entry, LookupHash(txn, given.hash));
  if (entry == nullptr) return absl::OkStatus();  // revoked by the request itself
  TokenEntry used = *entry;
  if (--used.num_uses == 0) {
    used.num_uses = -1;
    used.expire_time = clock_.Now();
  }
  return Rewrite(txn, *entry, used);
}

absl::StatusOr<Ttl> TokenStore::TtlOn(const MountEntry& mount, TtlTerms terms) const {
  const absl::Duration longest = ttls_.MaxOf(mount);
  terms.default_ttl = ttls_.DefaultOf(mount);
  terms.max_ttl = terms.max_ttl > absl::ZeroDuration() ? std::min(terms.max_ttl, longest) : longest;
  return ComputeTtl(terms, clock_.Now());
}

absl::Status CheckRenewable(const TokenEntry& entry) {
  RETURN_IF_ERROR(CheckNotBatch(entry, "be renewed"));
  if (entry.renewable && entry.expires()) return absl::OkStatus();
  return absl::InvalidArgumentError("lease is not renewable");
}

absl::StatusOr<TokenStore::Renewed> TokenStore::Renew(Txn& txn, const TokenEntry& given,
                                                      TtlTerms terms, const MountEntry& mount,
                                                      absl::Duration increment) {
  RETURN_IF_ERROR(CheckRenewable(given));
  // Read again: a use may have been counted since.
  ASSIGN_OR_RETURN(const std::shared_ptr<const TokenEntry> entry, LookupHash(txn, given.hash));
  if (entry == nullptr) return absl::InvalidArgumentError("token not found");
  if (increment > absl::ZeroDuration()) terms.ttl = increment;
  terms.start = entry->creation_time;
  ASSIGN_OR_RETURN(Ttl ttl, TtlOn(mount, terms));
  auto renewed = std::make_shared<TokenEntry>(*entry);
  renewed->last_renewal = clock_.Now();
  renewed->expire_time = renewed->last_renewal + ttl.ttl;
  RETURN_IF_ERROR(Rewrite(txn, *entry, *renewed));
  return Renewed{std::move(renewed), std::move(ttl.warnings)};
}

// All but the children and the parent's link to it.
absl::Status TokenStore::Erase(Txn& txn, const TokenEntry& entry) {
  RETURN_IF_ERROR(txn.Delete(IdPath(entry.hash)));
  RETURN_IF_ERROR(txn.Delete(AccessorPath(entry.accessor)));
  if (entry.expires()) RETURN_IF_ERROR(txn.Delete(ExpirePath(entry)));
  // Most have none: looking first writes nothing for these.
  const std::string cubbyhole = CubbyholePath(entry.hash);
  ASSIGN_OR_RETURN(const std::vector<std::string> kept, txn.List(cubbyhole));
  return kept.empty() ? absl::OkStatus() : txn.DeleteAll(cubbyhole);
}

absl::Status TokenStore::Revoke(Txn& txn, std::string_view hash) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const TokenEntry> top, Load(txn, hash));
  if (top == nullptr) return absl::OkStatus();
  if (!top->parent.empty()) {
    RETURN_IF_ERROR(txn.Delete(StrCat(ChildrenPath(top->parent), hash)));
  }
  // Hashes that are still to do: memory grows with the breadth of the tree, not with its depth.
  std::vector<std::string> pending = {std::string(hash)};
  while (!pending.empty()) {
    const std::string current = std::move(pending.back());
    pending.pop_back();
    // Not through the cache, which these would only fill with what is gone.
    ASSIGN_OR_RETURN(const std::optional<SecretBytes> stored, txn.Get(IdPath(current)));
    if (stored) {
      ASSIGN_OR_RETURN(const auto entry, DecodeToken(current, stored->view()));
      RETURN_IF_ERROR(Erase(txn, *entry));
    }
    const std::string directory = ChildrenPath(current);
    ASSIGN_OR_RETURN(std::vector<std::string> children, txn.List(directory));
    if (children.empty()) continue;
    RETURN_IF_ERROR(txn.DeleteAll(directory));
    pending.insert(pending.end(), std::make_move_iterator(children.begin()),
                   std::make_move_iterator(children.end()));
  }
  return absl::OkStatus();
}

absl::Status TokenStore::RevokeOrphan(Txn& txn, std::string_view hash) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const TokenEntry> entry, Load(txn, hash));
  if (entry == nullptr) return absl::OkStatus();
  if (!entry->parent.empty()) {
    RETURN_IF_ERROR(txn.Delete(StrCat(ChildrenPath(entry->parent), hash)));
  }
  RETURN_IF_ERROR(Erase(txn, *entry));
  const std::string directory = ChildrenPath(hash);
  ASSIGN_OR_RETURN(const std::vector<std::string> children, txn.List(directory));
  if (!children.empty()) RETURN_IF_ERROR(txn.DeleteAll(directory));
  for (const std::string& name : children) {
    ASSIGN_OR_RETURN(const std::shared_ptr<const TokenEntry> child, Load(txn, name));
    if (child == nullptr) continue;
    TokenEntry orphan = *child;
    orphan.parent.clear();
    RETURN_IF_ERROR(Rewrite(txn, *child, orphan));
  }
  return absl::OkStatus();
}

absl::Status TokenStore::RevokeBelow(Txn& txn, std::string_view prefix) {
  return txn.Put(StrCat(kRevoking, RandomUuid()), prefix);
}

absl::StatusOr<std::vector<TokenStore::Noted>> TokenStore::ToRevoke(Txn& txn) {
  ASSIGN_OR_RETURN(std::vector<std::string> names, txn.List(kRevoking));
  std::vector<Noted> noted;
  for (std::string& name : names) {
    ASSIGN_OR_RETURN(const std::optional<SecretBytes> prefix, txn.Get(StrCat(kRevoking, name)));
    if (prefix) noted.push_back({std::move(name), std::string(prefix->view())});
  }
  return noted;
}

absl::Status TokenStore::Forget(Txn& txn, const Noted& noted) {
  return txn.Delete(StrCat(kRevoking, noted.name));
}

absl::Status TokenStore::CheckNotRevoking(Txn& txn, std::string_view path) {
  ASSIGN_OR_RETURN(const std::vector<Noted> noted, ToRevoke(txn));
  for (const auto& [name, prefix] : noted) {
    if (!prefix.starts_with(path) && !path.starts_with(prefix)) continue;
    return absl::UnavailableError(
        StrCat("tokens of what was mounted at ", prefix, " are being revoked: try again"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> TokenStore::HashesBelow(Txn& txn,
                                                                 std::string_view prefix) {
  ASSIGN_OR_RETURN(std::vector<std::string> hashes, txn.List(kIds));
  std::vector<std::string> below;
  for (std::string& hash : hashes) {
    // Not through the cache, which these would only fill with what is soon gone.
    ASSIGN_OR_RETURN(const std::optional<SecretBytes> stored, txn.Get(IdPath(hash)));
    if (!stored) continue;
    ASSIGN_OR_RETURN(const auto entry, DecodeToken(hash, stored->view()));
    if (entry->path == kRootTokenPath || !StrCat(entry->path, "/").starts_with(prefix)) continue;
    below.push_back(std::move(hash));
  }
  return below;
}

absl::StatusOr<std::vector<std::string>> TokenStore::Accessors(Txn& txn) {
  return txn.List(kAccessors);
}

absl::StatusOr<std::size_t> TokenStore::RevokeExpired(Txn& txn, std::size_t limit) {
  const std::int64_t now = absl::ToUnixSeconds(clock_.Now());
  std::size_t revoked = 0;
  ASSIGN_OR_RETURN(const std::vector<std::string> hours, txn.List(kExpire));
  for (const std::string& hour : hours) {
    if (LeadingNumber(hour) > now / kHour) continue;
    const std::string hour_path = StrCat(kExpire, hour);
    ASSIGN_OR_RETURN(const std::vector<std::string> tens, txn.List(hour_path));
    for (const std::string& ten : tens) {
      if (LeadingNumber(ten) > now / kTen) continue;
      const std::string ten_path = StrCat(hour_path, ten);
      ASSIGN_OR_RETURN(const std::vector<std::string> names, txn.List(ten_path));
      for (const std::string& name : names) {
        if (LeadingNumber(name) > now) continue;
        if (revoked == limit) return revoked;
        // Gone already where it descended from one that was due before it.
        RETURN_IF_ERROR(Revoke(txn, std::string_view(name).substr(name.find('-') + 1)));
        RETURN_IF_ERROR(txn.Delete(StrCat(ten_path, name)));
        ++revoked;
      }
    }
  }
  return revoked;
}

}  // namespace coffer::keystore
