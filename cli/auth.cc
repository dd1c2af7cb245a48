// auth: enable, disable, list, tune, move, help.
#include "cli/mounts.h"
#include "cli/output.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr MountTable kMethods = {
    .api = "sys/auth",
    .enable_method = "POST",
    .enable_body = MountBody,
    .print = [](Session& session, const Json& methods) {
      return PrintMounts(session, methods, true);
    },
    .enable = {"Error enabling $0 auth", "Success! Enabled $0 auth method at: $1"},
    .disable = {"Error disabling auth method at $1",
                "Success! Disabled the auth method (if it existed) at: $1"},
    .list_failed = "Error listing enabled authentications",
    .tune = {"Error tuning auth method $1", "Success! Tuned the auth method at: $1"},
    .moved = "auth method"};

// How to log in by a method, as "login" takes it.
constexpr std::pair<std::string_view, std::string_view> kLoginHelp[] = {
    {"token",
     "Usage: vault login TOKEN [CONFIG K=V...]\n\n  The token auth method logs in by a token that is "
     "there already.\n\n      $ vault login hvs.CAES…\n\n  \"-\" reads the token from standard input."},
    {"kubernetes",
     "Usage: vault login -method=kubernetes [CONFIG K=V...]\n\n  The kubernetes auth method logs in by "
     "a ServiceAccount's token.\n\n      $ vault login -method=kubernetes role=web\n\nConfiguration:"
     "\n\n  role=<string>\n      Name of the role.\n\n  jwt=<string>\n      The ServiceAccount's token. "
     "In a pod its own is used."},
    {"userpass",
     "Usage: vault login -method=userpass [CONFIG K=V...]\n\n  The userpass auth method logs in by a "
     "name and a password, which is asked for.\n\n      $ vault login -method=userpass "
     "username=my-username"},
};

// The argument is a method or the path of one.
int Help(Session& session) {
  const std::string path = WithSlash(SanitizePath(session.args[0]));
  const absl::StatusOr<Json> answer = session.api->Call({.method = "GET", .path = "sys/auth"});
  std::string type(SanitizePath(path));
  if (answer.ok()) {
    const std::string_view mounted = TextAt(At(MountsOf(*answer), path), "type");
    if (!mounted.empty()) type = mounted;
  }
  for (const auto& [method, text] : kLoginHelp) {
    if (method != type) continue;
    session.console.Line(text);
    return kDone;
  }
  return session.Refuse(Wrapped(StrCat(
      "Unknown auth method: ", type, ". Use \"vault auth list\" to see the complete list of auth "
      "methods; \"vault login -method=", type, " K=V...\" hands it the fields of its login.")));
}

}  // namespace

std::vector<Command> AuthCommands() {
  const Flag token_type = {"token-type", FlagType::kText,
                           "Type of the tokens that the method makes: default-service, "
                           "default-batch, service or batch."};
  std::vector<Flag> tune = MountFlags();
  tune.push_back(token_type);
  std::vector<Flag> enable = tune;
  enable.push_back({"path", FlagType::kText,
                    "Place where the auth method will be reached. The default is its type."});
  enable.push_back({"local", FlagType::kSwitch, "Keep the method out of replication."});
  enable.push_back({"seal-wrap", FlagType::kSwitch, "Wrap critical values by the seal once more."});
  return {
      {.name = "auth enable",
       .synopsis = "Enables a new auth method",
       .usage = "[options] TYPE",
       .help = "Enables a new auth method, by which users or machines log in.\n"
               "    $ vault auth enable kubernetes",
       .min_args = 1,
       .max_args = 1,
       .flags = enable,
       .run = [](Session& session) { return kMethods.Enable(session); }},
      {.name = "auth disable",
       .synopsis = "Disables an auth method",
       .usage = "[options] PATH",
       .help = "Disables the auth method at a path. All tokens that were made by it are revoked.",
       .min_args = 1,
       .max_args = 1,
       .run = [](Session& session) { return kMethods.Disable(session); }},
      {.name = "auth list",
       .synopsis = "Lists enabled auth methods",
       .usage = "[options]",
       .help = "Lists the enabled auth methods.",
       .prints = Prints::kFormats,
       .flags = {{"detailed", FlagType::kSwitch, "Print TTLs, options and versions too."}},
       .run = [](Session& session) { return kMethods.List(session); }},
      {.name = "auth tune",
       .synopsis = "Tunes an auth method configuration",
       .usage = "[options] PATH",
       .help = "Changes the settings of the auth method at a path.",
       .min_args = 1,
       .max_args = 1,
       .flags = tune,
       .run = [](Session& session) { return kMethods.Tune(session); }},
      {.name = "auth move",
       .synopsis = "Move an auth method to a new path",
       .usage = "[options] SOURCE DESTINATION",
       .help =
           "Moves an auth method to a new path; both paths begin with \"auth/\". All tokens that "
           "were made by it are revoked; its configuration moves along.\n"
           "    $ vault auth move auth/kubernetes/ auth/cluster-1/",
       .min_args = 2,
       .max_args = 2,
       .run = [](Session& session) { return kMethods.Move(session); }},
      {.name = "auth help",
       .synopsis = "Prints usage for an auth method",
       .usage = "[options] TYPE | PATH",
       .help = "Prints how to log in by an auth method.",
       .min_args = 1,
       .max_args = 1,
       .run = Help},
  };
}

}  // namespace coffer::cli
