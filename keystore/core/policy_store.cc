// PolicyStore: policies by name, and the Acl of a set of names, which is found again by the tags of
// the stored policies without reading them.
#include "common/lower_case.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/core/policy.h"

namespace coffer::keystore {
namespace {

constexpr std::string_view kDirectory = "sys/policy/";
constexpr std::size_t kMaxNameSize = 512;
constexpr std::size_t kMaxCachedAcls = 10'000;

// A name is one segment of the path.
std::string StoredPath(std::string_view name) {
  std::string path(kDirectory);
  for (const char c : name) {
    if (c == '%') {
      path += "%25";
    } else if (c == '/') {
      path += "%2F";
    } else {
      path += c;
    }
  }
  return path;
}

std::string NameOf(std::string_view stored) {
  std::string name;
  while (!stored.empty()) {
    const bool escaped = stored.starts_with("%25") || stored.starts_with("%2F");
    name += !escaped ? stored[0] : stored[2] == '5' ? '%' : '/';
    stored.remove_prefix(escaped ? 3 : 1);
  }
  return name;
}

absl::Status CheckName(std::string_view name) {
  if (name.empty()) return absl::InvalidArgumentError("the policy's name is missing");
  if (name.size() > kMaxNameSize) {
    return absl::InvalidArgumentError(
        StrCat("the policy's name is longer than ", kMaxNameSize, " bytes"));
  }
  return absl::OkStatus();
}

// Those that Vault keeps for itself.
bool IsInternal(std::string_view name) {
  return name == kWrappingPolicy || name == "control-group";
}

}  // namespace

absl::Status CheckAssignable(const std::vector<std::string>& policies) {
  for (const std::string& policy : policies) {
    if (!IsInternal(policy)) continue;
    return absl::InvalidArgumentError(StrCat("cannot assign policy \"", policy, "\""));
  }
  return absl::OkStatus();
}

std::string NormalPolicyName(std::string_view name) { return LowerCase(name); }

absl::StatusOr<std::vector<std::string>> PolicyStore::List(Txn& txn) {
  ASSIGN_OR_RETURN(const std::vector<std::string> stored, txn.List(kDirectory));
  std::vector<std::string> names;
  for (const std::string& name : stored) names.push_back(NameOf(name));
  std::sort(names.begin(), names.end());
  names.emplace_back("root");
  return names;
}

absl::StatusOr<std::optional<std::string>> PolicyStore::Get(Txn& txn, std::string_view name) {
  const std::string lower = LowerCase(name);
  if (lower == "root") return std::string();
  RETURN_IF_ERROR(CheckName(lower));
  ASSIGN_OR_RETURN(const std::optional<SecretBytes> text, txn.Get(StoredPath(lower)));
  if (!text) return std::nullopt;
  return std::string(text->view());
}

absl::Status PolicyStore::Put(Txn& txn, std::string_view name, std::string_view text) {
  const std::string lower = LowerCase(name);
  RETURN_IF_ERROR(CheckName(lower));
  if (lower == "root" || IsInternal(lower)) {
    return absl::InvalidArgumentError(StrCat("cannot update \"", lower, "\" policy"));
  }
  const auto parsed = Policy::Parse(lower, text);
  if (!parsed.ok()) return parsed.status();
  return txn.Put(StoredPath(lower), text);
}

absl::Status PolicyStore::Delete(Txn& txn, std::string_view name) {
  const std::string lower = LowerCase(name);
  RETURN_IF_ERROR(CheckName(lower));
  if (lower == "root" || IsInternal(lower)) {
    return absl::InvalidArgumentError(StrCat("cannot delete \"", lower, "\" policy"));
  }
  if (lower == "default") return absl::InvalidArgumentError("cannot delete default policy");
  return txn.Delete(StoredPath(lower));
}

absl::Status PolicyStore::Initialize(Txn& txn) { return Put(txn, "default", DefaultPolicyText()); }

absl::StatusOr<std::shared_ptr<const Acl>> PolicyStore::AclFor(
    Txn& txn, const std::vector<std::string>& names) {
  static const auto kRoot =
      std::make_shared<const Acl>(std::vector<std::shared_ptr<const Policy>>(), true);
  if (std::find(names.begin(), names.end(), "root") != names.end()) return kRoot;

  std::string key;
  std::vector<std::string> paths;
  std::vector<std::string> tags;
  for (const std::string& name : names) {
    paths.push_back(StoredPath(HasUpperCase(name) ? LowerCase(name) : name));
    ASSIGN_OR_RETURN(std::optional<std::string> tag, txn.Tag(paths.back()));
    tags.push_back(tag ? *std::move(tag) : std::string());
    key += std::string_view(paths.back()).substr(kDirectory.size());
    key += '/';
  }
  {
    std::lock_guard lock(mutex_);
    const auto found = acls_.find(key);
    if (found != acls_.end() && found->second.tags == tags) return found->second.acl;
  }

  std::vector<std::shared_ptr<const Policy>> policies;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (tags[i].empty()) continue;
    ASSIGN_OR_RETURN(auto policy, policies_.Get(txn, paths[i], [&](const SecretBytes& text) {
      return Policy::Parse(names[i], text.view());
    }));
    policies.push_back(std::move(policy));
  }
  auto acl = std::make_shared<const Acl>(policies, false);
  std::lock_guard lock(mutex_);
  if (acls_.size() >= kMaxCachedAcls) acls_.clear();
  acls_.insert_or_assign(std::move(key), CachedAcl{std::move(tags), acl});
  return acl;
}

void PolicyStore::OnSeal() {
  policies_.Clear();
  std::lock_guard lock(mutex_);
  acls_.clear();
}

}  // namespace coffer::keystore
