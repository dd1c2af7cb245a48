// A stored token is a JSON object; members that hold their default are left out:
//   "a"  accessor               "p"  parent's hash ("")       "po" policies ([])
//   "d"  display name ("")      "pa" path ("")                "m"  metadata (null)
//   "t"  type ("service")       "ro" role ("")                "u"  uses left (0)
//   "c"  creation, Unix ns      "l"  creation TTL, s (0)      "pe" period, s (0)
//   "x"  explicit max TTL, s    "r"  1: renewable             "b"  bound CIDRs ([])
//   "e"  expiry, Unix ns (never)                              "n"  last renewal, Unix ns (never)
#include "keystore/core/token_entry.h"

#include <algorithm>
#include <set>

#include "absl/strings/ascii.h"
#include "common/json_writer.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

// Writes members without a document in between: each login does this.
class MemberWriter {
 public:
  explicit MemberWriter(SecretBytes* out) : out_(*out) {}

  void Set(std::string_view name, std::string_view text) {
    if (text.empty()) return;
    Name(name);
    AppendJsonString(text, &out_);
  }
  void Set(std::string_view name, std::int64_t number) {
    if (number == 0) return;
    Name(name);
    AppendJsonInteger(number, &out_);
  }
  void Set(std::string_view name, absl::Duration duration) {
    Set(name, absl::ToInt64Seconds(duration));
  }
  void Set(std::string_view name, const std::vector<std::string>& texts) {
    if (texts.empty()) return;
    Name(name);
    AppendJsonStrings(texts, &out_);
  }
  void SetDocument(std::string_view name, const Json& document) {
    if (document.is_null()) return;
    Name(name);
    AppendJson(document, &out_);
  }
  void Begin() { out_.Append("{"); }
  void End() { out_.Append("}"); }

 private:
  void Name(std::string_view name) {
    out_.Append(first_ ? "\"" : ",\"");
    out_.Append(name);
    out_.Append("\":");
    first_ = false;
  }

  SecretBytes& out_;
  bool first_ = true;
};

std::string Text(const Json& stored, const char* name) {
  const auto found = stored.find(name);
  if (found == stored.end()) return {};
  return std::string(std::string_view(found->get_ref<const Json::string_t&>()));
}
std::int64_t Number(const Json& stored, const char* name, std::int64_t otherwise = 0) {
  const auto found = stored.find(name);
  return found == stored.end() ? otherwise : found->get<std::int64_t>();
}
std::vector<std::string> Texts(const Json& stored, const char* name) {
  std::vector<std::string> texts;
  const auto found = stored.find(name);
  if (found == stored.end()) return texts;
  for (const Json& text : *found) {
    texts.emplace_back(std::string_view(text.get_ref<const Json::string_t&>()));
  }
  return texts;
}

}  // namespace

bool TokenEntry::root() const {
  return std::find(policies.begin(), policies.end(), "root") != policies.end();
}

absl::Duration TokenEntry::given() const {
  return expires() ? expire_time - std::max(creation_time, last_renewal) : absl::ZeroDuration();
}

std::vector<std::string> CleanPolicies(const std::vector<std::string>& policies,
                                       bool add_default) {
  std::set<std::string> clean;
  for (const std::string& policy : policies) {
    std::string name = absl::AsciiStrToLower(ToAbsl(Trim(policy)));
    if (!name.empty()) clean.insert(std::move(name));
  }
  if (clean.contains("root")) return {"root"};
  if (add_default) clean.insert("default");
  return {clean.begin(), clean.end()};
}

SecretBytes EncodeToken(const TokenEntry& entry) {
  constexpr std::size_t kUsualSize = 512;
  SecretBytes stored;
  stored.Reserve(kUsualSize);
  MemberWriter writer(&stored);
  writer.Begin();
  writer.Set("a", entry.accessor);
  writer.Set("p", entry.parent);
  writer.Set("po", entry.policies);
  writer.Set("d", entry.display_name);
  writer.Set("pa", entry.path);
  writer.SetDocument("m", entry.meta);
  if (entry.type != "service") writer.Set("t", entry.type);
  writer.Set("ro", entry.role);
  writer.Set("u", entry.num_uses);
  writer.Set("c", absl::ToUnixNanos(entry.creation_time));
  writer.Set("l", entry.creation_ttl);
  writer.Set("pe", entry.period);
  writer.Set("x", entry.explicit_max_ttl);
  if (entry.renewable) writer.Set("r", std::int64_t{1});
  writer.Set("b", entry.bound_cidrs);
  if (entry.expires()) writer.Set("e", absl::ToUnixNanos(entry.expire_time));
  if (entry.last_renewal != absl::InfinitePast()) {
    writer.Set("n", absl::ToUnixNanos(entry.last_renewal));
  }
  writer.End();
  return stored;
}

absl::StatusOr<std::shared_ptr<const TokenEntry>> DecodeToken(std::string_view hash,
                                                              std::string_view stored_bytes) {
  const absl::StatusOr<Json> document = ParseJson(stored_bytes);
  if (!document.ok() || !document->is_object()) {
    return absl::DataLossError("a stored token is not the JSON object that was written");
  }
  const Json& stored = *document;
  auto entry = std::make_shared<TokenEntry>();
  try {
    entry->hash = hash;
    entry->accessor = Text(stored, "a");
    entry->parent = Text(stored, "p");
    entry->policies = Texts(stored, "po");
    entry->display_name = Text(stored, "d");
    entry->path = Text(stored, "pa");
    if (stored.contains("m")) entry->meta = stored.at("m");
    if (stored.contains("t")) entry->type = Text(stored, "t");
    entry->role = Text(stored, "ro");
    entry->num_uses = Number(stored, "u");
    entry->creation_time = absl::FromUnixNanos(Number(stored, "c"));
    entry->creation_ttl = absl::Seconds(Number(stored, "l"));
    entry->period = absl::Seconds(Number(stored, "pe"));
    entry->explicit_max_ttl = absl::Seconds(Number(stored, "x"));
    entry->renewable = stored.contains("r");
    entry->bound_cidrs = Texts(stored, "b");
    if (stored.contains("e")) entry->expire_time = absl::FromUnixNanos(Number(stored, "e"));
    if (stored.contains("n")) entry->last_renewal = absl::FromUnixNanos(Number(stored, "n"));
  } catch (const Json::exception&) {
    return absl::DataLossError("a stored token has a member of the wrong type");
  }
  return entry;
}

}  // namespace coffer::keystore
