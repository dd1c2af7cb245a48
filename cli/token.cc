// token: create, lookup, renew, revoke, capabilities.
#include "cli/output.h"
#include "cli/values.h"
#include "common/duration.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

Json TextList(const std::vector<std::string>& texts) {
  Json list = Json::array();
  for (const std::string& text : texts) list.push_back(Json::string_t(text));
  return list;
}

// Sets `member` to the flag's duration in Go's form, where it was given.
void SetDuration(const Flags& flags, std::string_view flag, const char* member, Json& body) {
  if (flags.duration(flag) != absl::ZeroDuration()) {
    body[member] = Json::string_t(FormatGoDuration(flags.duration(flag)));
  }
}

void SetText(const Flags& flags, std::string_view flag, const char* member, Json& body) {
  if (!flags.text(flag).empty()) body[member] = Json::string_t(flags.text(flag));
}

Json CreateBody(const Flags& flags) {
  Json body = {{"policies", TextList(flags.texts("policy"))},
               {"no_parent", flags.on("orphan")},
               {"no_default_policy", flags.on("no-default-policy")},
               {"renewable", flags.on("renewable")},
               {"num_uses", flags.integer("use-limit")}};
  SetText(flags, "id", "id", body);
  SetText(flags, "display-name", "display_name", body);
  SetText(flags, "type", "type", body);
  SetText(flags, "entity-alias", "entity_alias", body);
  SetDuration(flags, "ttl", "ttl", body);
  SetDuration(flags, "explicit-max-ttl", "explicit_max_ttl", body);
  SetDuration(flags, "period", "period", body);
  for (const auto& [name, value] : flags.pairs("metadata")) {
    body["meta"][Json::string_t(name)] = Json::string_t(value);
  }
  return body;
}

int Create(Session& session) {
  const std::string_view type = session.flags.text("type");
  if (type != "service" && type != "batch") {
    return session.Refuse(StrCat("Invalid token type \"", type, "\": it is service or batch"));
  }
  const Json body = CreateBody(session.flags);
  const std::string_view role = session.flags.text("role");
  const absl::StatusOr<Json> secret = session.api->Call(
      {.method = "POST",
       .path = role.empty() ? "auth/token/create" : StrCat("auth/token/create/", role),
       .body = &body});
  if (!secret.ok()) return session.Fail("Error creating token", secret.status());
  return PrintAnswer(session, *secret);
}

// The token or, with -accessor, the accessor that the argument is.
Json Target(const Session& session, std::string_view arg) {
  return {{session.flags.on("accessor") ? "accessor" : "token", Json::string_t(arg)}};
}

int Lookup(Session& session) {
  const std::string_view arg = session.args.empty() ? "" : Trim(session.args[0]);
  const bool accessor = session.flags.on("accessor");
  if (accessor && arg.empty()) {
    return session.Refuse("Not enough arguments with -accessor (expected 1, got 0)");
  }
  absl::StatusOr<Json> secret;
  if (arg.empty()) {
    secret = session.api->Call({.method = "GET", .path = "auth/token/lookup-self"});
  } else {
    const Json body = Target(session, arg);
    secret = session.api->Call(
        {.method = "POST",
         .path = accessor ? "auth/token/lookup-accessor" : "auth/token/lookup",
         .body = &body});
  }
  if (!secret.ok()) return session.Fail("Error looking up token", secret.status());
  return PrintAnswer(session, *secret);
}

int Renew(Session& session) {
  const std::string_view arg = session.args.empty() ? "" : Trim(session.args[0]);
  const bool accessor = session.flags.on("accessor");
  if (accessor && arg.empty()) {
    return session.Refuse("Not enough arguments with -accessor (expected 1, got 0)");
  }
  Json body = arg.empty() ? Json(Json::object()) : Target(session, arg);
  if (const absl::Duration increment = session.flags.duration("increment");
      increment != absl::ZeroDuration()) {
    body["increment"] = absl::ToInt64Seconds(increment);
  }
  const absl::StatusOr<Json> secret =
      session.api->Write(arg.empty()  ? "auth/token/renew-self"
                         : accessor   ? "auth/token/renew-accessor"
                                      : "auth/token/renew",
                         body);
  if (!secret.ok()) return session.Fail("Error renewing token", secret.status());
  return PrintAnswer(session, *secret);
}

int Revoke(Session& session) {
  const std::string_view arg = session.args.empty() ? "" : Trim(session.args[0]);
  const bool self = session.flags.on("self"), accessor = session.flags.on("accessor");
  const std::string_view mode = session.flags.text("mode");
  if (self && !arg.empty()) return session.Refuse("Too many arguments with -self (expected 0, got 1)");
  if (!self && arg.empty()) return session.Refuse("Not enough arguments (expected 1 or -self)");
  if (accessor && self) return session.Refuse("Cannot use -accessor with -self");
  if (accessor && !mode.empty()) return session.Refuse("Cannot use -accessor with -mode");
  if (self && !mode.empty()) return session.Refuse("Cannot use -self with -mode");
  if (mode != "" && mode != "orphan" && mode != "path") {
    return session.Refuse(StrCat("Invalid revocation mode: ", mode));
  }
  std::string path = self              ? "auth/token/revoke-self"
                     : accessor        ? "auth/token/revoke-accessor"
                     : mode == "orphan" ? "auth/token/revoke-orphan"
                     : mode == "path"   ? StrCat("sys/leases/revoke-prefix/", SanitizePath(arg))
                                        : "auth/token/revoke";
  const Json body = self || mode == "path" ? Json(Json::object()) : Target(session, arg);
  const absl::StatusOr<Json> answer = session.api->Write(std::move(path), body);
  if (!answer.ok()) return session.Fail("Error revoking token", answer.status());
  session.console.Line("Success! Revoked token (if it existed)");
  return kDone;
}

int Capabilities(Session& session) {
  const bool accessor = session.flags.on("accessor");
  if (accessor && session.args.size() < 2) {
    return session.Refuse("Not enough arguments with -accessor (expected 2, got 1)");
  }
  const bool self = session.args.size() == 1;
  const Json::string_t path(session.args.back());
  Json body = self ? Json(Json::object()) : Target(session, Trim(session.args[0]));
  body["paths"] = Json::array({path});
  const absl::StatusOr<Json> answer = session.api->Call(
      {.method = "POST",
       .path = self       ? "sys/capabilities-self"
               : accessor ? "sys/capabilities-accessor"
                          : "sys/capabilities",
       .body = &body});
  if (!answer.ok()) return session.Fail("Error listing capabilities", answer.status());
  Json capabilities = At(At(*answer, "data"), std::string_view(path));
  if (!capabilities.is_array()) capabilities = At(At(*answer, "data"), "capabilities");
  if (!capabilities.is_array()) return session.Refuse("No capabilities found");
  std::sort(capabilities.begin(), capabilities.end());
  if (!session.table()) return PrintDocument(session, capabilities);
  std::string line;
  for (const Json& capability : capabilities) {
    StrAppend(&line, line.empty() ? "" : ", ", PrintValue(capability).view());
  }
  session.console.Line(line);
  return kDone;
}

const std::vector<Flag>& CreateFlags() {
  static const std::vector<Flag> kFlags = {
      {"id", FlagType::kText, "Value for the token. By default one is made. Needs sudo."},
      {"display-name", FlagType::kText, "Name of the token, for logs. Not unique."},
      {"ttl", FlagType::kDuration, "Initial TTL of the token, such as \"5s\" or \"24h\"."},
      {"explicit-max-ttl", FlagType::kDuration,
       "Longest life of the token: a hard limit that renewals can't pass."},
      {"period", FlagType::kDuration,
       "If given, every renewal sets the TTL to this again, without end. Needs sudo."},
      {"renewable", FlagType::kSwitch, "Allow the token to be renewed.", "true"},
      {"orphan", FlagType::kSwitch,
       "Create the token without a parent, so that it outlives the one in use. Needs sudo."},
      {"no-default-policy", FlagType::kSwitch, "Leave out the \"default\" policy."},
      {"use-limit", FlagType::kInteger, "Number of times that the token can be used; 0: no limit.",
       "0"},
      {"role", FlagType::kText, "Name of the role to create the token by."},
      {"type", FlagType::kText, "\"service\" or \"batch\".", "service"},
      {"metadata", FlagType::kPairs,
       "Key-value pair that goes with the token into logs. Can be given more than once."},
      {"policy", FlagType::kTexts, "Name of a policy. Can be given more than once."},
      {"entity-alias", FlagType::kText, "Name of the entity alias to create the token under."}};
  return kFlags;
}

}  // namespace

std::vector<Command> TokenCommands() {
  const Flag accessor = {"accessor", FlagType::kSwitch,
                         "Treat the argument as an accessor instead of a token. The token itself is "
                         "not shown."};
  return {
      {.name = "token create",
       .synopsis = "Create a new token",
       .usage = "[options]",
       .help = "Creates a new token, a child of the one in use unless -orphan is given.\n"
               "    $ vault token create -policy=admin -ttl=24h",
       .prints = Prints::kFields,
       .flags = CreateFlags(),
       .run = Create},
      {.name = "token lookup",
       .synopsis = "Display information about a token",
       .usage = "[options] [TOKEN | ACCESSOR]",
       .help = "Displays information about a token; without an argument about the one in use.",
       .max_args = 1,
       .prints = Prints::kFields,
       .flags = {accessor},
       .run = Lookup},
      {.name = "token renew",
       .synopsis = "Renew a token lease",
       .usage = "[options] [TOKEN]",
       .help = "Renews a token's lease; without an argument that of the one in use.\n"
               "    $ vault token renew -increment=30m",
       .max_args = 1,
       .prints = Prints::kFields,
       .flags = {accessor,
                 {"increment", FlagType::kDuration, "How long the token shall live from now on.", "",
                  "i"}},
       .run = Renew},
      {.name = "token revoke",
       .synopsis = "Revoke a token and its children",
       .usage = "[options] [TOKEN | ACCESSOR]",
       .help = "Revokes a token and everything that was made with it.\n"
               "    $ vault token revoke hvs.CAES…\n    $ vault token revoke -self",
       .max_args = 1,
       .flags = {accessor,
                 {"self", FlagType::kSwitch, "Revoke the token in use."},
                 {"mode", FlagType::kText,
                  "\"orphan\": leave the token's children as orphans. \"path\": revoke all tokens "
                  "that were made by logins at the path that the argument is."}},
       .run = Revoke},
      {.name = "token capabilities",
       .synopsis = "Print capabilities of a token on a path",
       .usage = "[options] [TOKEN | ACCESSOR] PATH",
       .help = "Prints what a token may do at a path; without a token what the one in use may do.\n"
               "    $ vault token capabilities secret/data/foo",
       .min_args = 1,
       .max_args = 2,
       .prints = Prints::kFormats,
       .flags = {accessor},
       .run = Capabilities},
  };
}

}  // namespace coffer::cli
