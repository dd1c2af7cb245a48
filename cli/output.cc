#include "cli/output.h"

#include "absl/time/time.h"
#include "cli/table.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

// The fields of Vault's Secret, as its JSON shows them.
constexpr std::string_view kSecretOrder[] = {
    "request_id", "lease_id", "lease_duration", "renewable", "data", "warnings",
    "auth", "wrap_info", "mount_type",
    "auth.client_token", "auth.accessor", "auth.policies", "auth.token_policies",
    "auth.identity_policies", "auth.metadata", "auth.orphan", "auth.entity_id",
    "auth.lease_duration", "auth.renewable", "auth.mfa_requirement",
    "wrap_info.token", "wrap_info.accessor", "wrap_info.ttl", "wrap_info.creation_time",
    "wrap_info.creation_path", "wrap_info.wrapped_accessor"};
constexpr std::string_view kOfAuth = "auth.";

const char* Switch(bool on) { return on ? "true" : "false"; }

// The envelope with exactly the members that Vault's client knows.
Json Envelope(const Json& secret) {
  Json out = Json::object();
  out["request_id"] = Json::string_t(TextAt(secret, "request_id"));
  out["lease_id"] = Json::string_t(TextAt(secret, "lease_id"));
  out["lease_duration"] = IntegerAt(secret, "lease_duration");
  out["renewable"] = TrueAt(secret, "renewable");
  out["data"] = At(secret, "data");
  out["warnings"] = At(secret, "warnings");
  if (const Json& auth = At(secret, "auth"); auth.is_object()) {
    for (std::string_view name : kSecretOrder) {
      if (!name.starts_with(kOfAuth)) continue;
      const std::string_view member = name.substr(kOfAuth.size());
      out["auth"][Json::string_t(member)] = At(auth, member);
    }
  }
  if (At(secret, "wrap_info").is_object()) out["wrap_info"] = At(secret, "wrap_info");
  if (!TextAt(secret, "mount_type").empty()) out["mount_type"] = At(secret, "mount_type");
  return out;
}

void AddLease(const Json& secret, Table& table) {
  const std::int64_t seconds = IntegerAt(secret, "lease_duration");
  if (seconds <= 0) return;
  if (TextAt(secret, "lease_id").empty()) {
    table.Add("refresh_interval", PrintSeconds(seconds));
    return;
  }
  table.Add("lease_id", TextAt(secret, "lease_id"));
  table.Add("lease_duration", PrintSeconds(seconds));
  table.Add("lease_renewable", Switch(TrueAt(secret, "renewable")));
}

void AddAuth(const Json& auth, Table& table) {
  table.Add("token", TextAt(auth, "client_token"));
  table.Add("token_accessor", TextAt(auth, "accessor"));
  const std::int64_t seconds = IntegerAt(auth, "lease_duration");
  table.Add("token_duration", seconds == 0 ? "∞" : PrintSeconds(seconds));
  table.Add("token_renewable", Switch(TrueAt(auth, "renewable")));
  for (std::string_view name : {"token_policies", "identity_policies", "policies"}) {
    table.Add(name, PrintQuoted(At(auth, name)).view());
  }
  for (const auto& [key, value] : At(auth, "metadata").items()) {
    SecretBytes name = SecretBytes::CopyOf("token_meta_");
    name.Append(key);
    table.Add(name.view(), PrintValue(value).view());
  }
}

// Go's form of an RFC 3339 time; what is no time stays as it is.
std::string LongTime(std::string_view text) {
  absl::Time time;
  if (!absl::ParseTime(absl::RFC3339_full, ToAbsl(text), &time, nullptr)) return std::string(text);
  return absl::FormatTime("%Y-%m-%d %H:%M:%E*S +0000 UTC", time, absl::UTCTimeZone());
}

void AddWrapping(const Json& wrap, Table& table) {
  table.Add("wrapping_token:", TextAt(wrap, "token"));
  table.Add("wrapping_accessor:", TextAt(wrap, "accessor"));
  table.Add("wrapping_token_ttl:", PrintSeconds(IntegerAt(wrap, "ttl")));
  table.Add("wrapping_token_creation_time:", LongTime(TextAt(wrap, "creation_time")));
  table.Add("wrapping_token_creation_path:", TextAt(wrap, "creation_path"));
  if (!TextAt(wrap, "wrapped_accessor").empty()) {
    table.Add("wrapped_accessor:", TextAt(wrap, "wrapped_accessor"));
  }
}

void AddMembers(const Json& map, Table& table) {
  if (!map.is_object()) return;
  for (const auto& [key, value] : map.items()) {
    table.Add(key, PrintValueOf(key, value).view());
  }
}

// The names by which -field finds what isn't in the data; the value stands in the envelope's `part`.
struct NamedField {
  std::string_view field, part, member;
};
constexpr NamedField kNamedFields[] = {
    {"token", "auth", "client_token"},
    {"token_accessor", "auth", "accessor"},
    {"token_duration", "auth", "lease_duration"},
    {"token_renewable", "auth", "renewable"},
    {"token_policies", "auth", "token_policies"},
    {"identity_policies", "auth", "identity_policies"},
    {"policies", "auth", "policies"},
    {"wrapping_token", "wrap_info", "token"},
    {"wrapping_accessor", "wrap_info", "accessor"},
    {"wrapping_token_ttl", "wrap_info", "ttl"},
    {"wrapping_token_creation_time", "wrap_info", "creation_time"},
    {"wrapping_token_creation_path", "wrap_info", "creation_path"},
    {"wrapped_accessor", "wrap_info", "wrapped_accessor"},
    {"lease_duration", "", "lease_duration"},
    {"refresh_interval", "", "lease_duration"},
    {"lease_id", "", "lease_id"},
    {"request_id", "", "request_id"},
    {"renewable", "", "renewable"},
};

const Json& FieldOf(const Json& secret, std::string_view field) {
  const Json& data = At(secret, "data");
  const std::string_view part = At(secret, "auth").is_object()        ? "auth"
                                : At(secret, "wrap_info").is_object() ? "wrap_info"
                                                                      : "";
  for (const NamedField& named : kNamedFields) {
    if (named.field == field && named.part == part) {
      return At(part.empty() ? secret : At(secret, part), named.member);
    }
  }
  if (part.empty() && field == "data" && !(data.is_object() && data.contains("data"))) return data;
  return At(data, field);
}

int PrintField(Session& session, const Json& value, std::string_view field) {
  if (value.is_null()) {
    return session.Refuse(StrCat("Field \"", field, "\" not present in secret"));
  }
  if (session.format == "json") {
    session.console.Value(PrintJson(value).view());
  } else if (session.format == "yaml") {
    SecretBytes text = PrintYaml(value);
    text.Append("\n");
    session.console.Value(text.view());
  } else {
    session.console.Value(PrintValue(value).view());
  }
  return kDone;
}

}  // namespace

void PrintWarnings(Session& session, const Json& secret) {
  if (!session.table()) return;
  const Json& warnings = At(secret, "warnings");
  if (!warnings.is_array() || warnings.empty()) return;
  session.console.Warn("WARNING! The following warnings were returned from Vault:\n");
  for (const Json& warning : warnings) {
    if (!warning.is_string()) continue;
    session.console.Warn(Wrapped(StrCat("* ", PrintValue(warning).view()), 2));
    session.console.Warn("");
  }
}

int PrintDocument(Session& session, const Json& document, MemberOrder order) {
  if (session.format == "json") {
    session.console.Line(PrintJson(document, order).view());
  } else if (session.format == "yaml") {
    session.console.Line(PrintYaml(document).view());
  } else {
    return session.Refuse(StrCat("Could not parse output: cannot use the ", session.format,
                                 " formatter for this type"));
  }
  return kDone;
}

int PrintSecret(Session& session, const Json& secret) {
  if (!session.table()) return PrintDocument(session, Envelope(secret), kSecretOrder);
  PrintWarnings(session, secret);
  Table table = Table::WithHeader("Key", "Value");
  const std::size_t header = table.size();
  AddLease(secret, table);
  if (At(secret, "auth").is_object()) AddAuth(At(secret, "auth"), table);
  if (At(secret, "wrap_info").is_object()) AddWrapping(At(secret, "wrap_info"), table);
  AddMembers(At(secret, "data"), table);
  if (table.size() > header) session.console.Line(table.Print().view());
  return kDone;
}

int PrintMap(Session& session, const Json& map, MemberOrder order) {
  if (!session.table()) return PrintDocument(session, map, order);
  if (map.empty()) return kDone;
  Table table = Table::WithHeader("Key", "Value");
  AddMembers(map, table);
  session.console.Line(table.Print().view());
  return kDone;
}

int PrintList(Session& session, const Json& list) {
  if (!session.table()) return PrintDocument(session, list);
  if (!list.is_array() || list.empty()) return kDone;
  Json sorted = list;
  std::sort(sorted.begin(), sorted.end());
  Table table = Table::WithHeader("Keys");
  for (const Json& item : sorted) table.Add(PrintValue(item).view());
  session.console.Line(table.Print().view());
  return kDone;
}

int PrintKeysBelow(Session& session, const std::string& path) {
  const absl::StatusOr<Json> secret = session.api->List(path);
  std::string_view shown = path;
  if (shown.ends_with('/')) shown.remove_suffix(1);
  if (!secret.ok()) return session.Fail(StrCat("Error listing ", shown), secret.status());
  if (At(*secret, "wrap_info").is_object()) return PrintSecret(session, *secret);
  const Json& keys = At(At(*secret, "data"), "keys");
  if (keys.is_array()) return PrintList(session, keys);
  if (!session.table()) {
    PrintDocument(session, Json::object());
    return kApiError;
  }
  if (At(*secret, "warnings").is_array() && At(*secret, "data").is_null()) {
    return PrintSecret(session, *secret);
  }
  return session.Fail(StrCat(At(*secret, "data").is_null() ? "No value" : "No entries",
                             " found at ", shown));
}

int PrintFieldOfSecret(Session& session, const Json& secret, std::string_view field) {
  return PrintField(session, FieldOf(secret, field), field);
}

int PrintFieldOfMap(Session& session, const Json& map, std::string_view field) {
  return PrintField(session, At(map, field), field);
}

int PrintAnswer(Session& session, const Json& secret) {
  const std::string_view field = session.flags.text("field");
  return field.empty() ? PrintSecret(session, secret)
                       : PrintFieldOfSecret(session, secret, field);
}

int PrintWritten(Session& session, const Json& secret, std::string_view path) {
  const bool tells = At(secret, "data").is_object() || At(secret, "auth").is_object() ||
                     At(secret, "wrap_info").is_object();
  if (tells || (!session.table() && !secret.is_null())) return PrintAnswer(session, secret);
  PrintWarnings(session, secret);
  if (session.table()) session.console.Line(StrCat("Success! Data written to: ", path));
  return kDone;
}

namespace {

// As long as the widest line below, with the same number of signs on both sides.
std::string BetweenSigns(std::string_view title, std::size_t width) {
  std::size_t signs = width > title.size() + 2 ? width - title.size() - 2 : 4;
  signs += signs % 2;
  const std::string side(signs / 2, '=');
  return StrCat(side, " ", title, " ", side);
}

}  // namespace

std::string HeaderFor(std::string_view title, const Json& map) {
  std::size_t widest = 0;
  for (const auto& [key, value] : map.items()) widest = std::max(widest, key.size());
  return BetweenSigns(title, widest + std::string_view("    Value").size());
}

void PrintPath(Session& session, std::string_view title, std::string_view path) {
  session.console.Line(BetweenSigns(title, path.size()));
  session.console.Line(path);
  session.console.Line("");
}

}  // namespace coffer::cli
