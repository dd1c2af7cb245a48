// login: proves who is there by a token or an auth method, and keeps the token for later commands.
#include "cli/arguments.h"
#include "cli/output.h"
#include "cli/values.h"
#include "common/status_macros.h"
#include "common/status_prefix.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

// Where a pod finds its own ServiceAccount token.
constexpr char kPodToken[] = "/var/run/secrets/kubernetes.io/serviceaccount/token";

// An answer as a login would give it, of what the server knows about the token itself.
absl::StatusOr<Json> LoginByToken(Session& session, const Json& data) {
  SecretBytes token = SecretBytes::CopyOf(Trim(TextAt(data, "token")));
  if (token.empty()) {
    ASSIGN_OR_RETURN(token, session.console.Ask("Token (will be hidden): "));
  }
  if (token.empty()) {
    return absl::InvalidArgumentError(
        "a token must be passed to auth, please view the help for more information");
  }
  session.api->SetToken(token.Copy());
  session.api->DropWrapping();
  absl::StatusOr<Json> answer =
      session.api->Call({.method = "GET", .path = "auth/token/lookup-self"});
  if (!answer.ok()) return Prefixed("error looking up token", answer.status());
  const Json& known = At(*answer, "data");
  Json auth = {{"client_token", Json::string_t(token.view())},
               {"accessor", At(known, "accessor")},
               {"policies", At(known, "policies")},
               {"token_policies", At(known, "policies")},
               {"identity_policies", At(known, "identity_policies")},
               {"metadata", At(known, "meta")},
               {"orphan", TrueAt(known, "orphan")},
               {"entity_id", Json::string_t(TextAt(known, "entity_id"))},
               {"lease_duration", IntegerAt(known, "ttl")},
               {"renewable", TrueAt(known, "renewable")}};
  return Json{{"request_id", Json::string_t(TextAt(*answer, "request_id"))},
              {"warnings", At(*answer, "warnings")},
              {"auth", std::move(auth)}};
}

// Methods with a name and a password: the name goes into the path.
absl::StatusOr<Json> LoginByPassword(Session& session, const std::string& mount, Json data) {
  const std::string name(TextAt(data, "username"));
  if (name.empty()) {
    return absl::InvalidArgumentError("'username' must be specified: add username=NAME");
  }
  data.erase("username");
  if (!data.contains("password")) {
    ASSIGN_OR_RETURN(const SecretBytes password,
                     session.console.Ask("Password (will be hidden): "));
    data["password"] = Json::string_t(password.view());
  }
  return session.api->Write(StrCat("auth/", mount, "login/", name), data);
}

// Any other method: its fields as K=V pairs. In a pod the token of its ServiceAccount needn't be named.
absl::StatusOr<Json> LoginByFields(Session& session, std::string_view method,
                                   const std::string& mount, Json data) {
  if (method == "kubernetes" && !data.contains("jwt")) {
    absl::StatusOr<SecretBytes> jwt = ReadSecretFile(kPodToken);
    if (!jwt.ok()) {
      return absl::InvalidArgumentError(
          StrCat("no jwt=… was given, and the pod's own token can't be used: ",
                 Message(jwt.status())));
    }
    data["jwt"] = Json::string_t(Trim(jwt->view()));
  }
  return session.api->Write(StrCat("auth/", mount, "login"), data);
}

absl::StatusOr<Json> Authenticate(Session& session, std::string_view method,
                                  const std::string& mount, Json data) {
  if (method == "token") return LoginByToken(session, data);
  // An old token of another server must not get in the way.
  session.api->SetToken({});
  if (method == "userpass" || method == "ldap" || method == "okta" || method == "radius") {
    return LoginByPassword(session, mount, std::move(data));
  }
  return LoginByFields(session, method, mount, std::move(data));
}

void WarnOfVariable(Session& session) {
  if (session.environment.Setting("TOKEN").empty()) return;
  session.console.Warn(
      StrCat(Wrapped("WARNING! The VAULT_TOKEN environment variable is set! The value of this "
                     "variable will take precedence; if this is unwanted please unset VAULT_TOKEN or "
                     "update its value accordingly."),
             "\n"));
}

// Keeps the token, or says where it is not kept.
int Store(Session& session, const Json& secret, bool no_store, bool token_only) {
  if (no_store) {
    if (!token_only) {
      session.console.Warn(
          StrCat(Wrapped("The token was not stored in token helper. Set the VAULT_TOKEN environment "
                         "variable or pass the token below with each request to Vault."),
                 "\n"));
    }
    return kDone;
  }
  const absl::Status stored =
      session.environment.StoreToken(TextAt(At(secret, "auth"), "client_token"));
  if (!stored.ok()) {
    session.Fail("Error storing token", stored);
    session.console.Error(
        StrCat(Wrapped("Authentication was successful, but the token was not persisted. The resulting "
                       "token is shown below for your records."),
               "\n"));
    PrintSecret(session, secret);
    return kApiError;
  }
  WarnOfVariable(session);
  return kDone;
}

int Login(Session& session) {
  const Flags& flags = session.flags;
  const bool token_only = flags.on("token-only");
  const bool no_store = token_only || flags.on("no-store");
  if (no_store && flags.on("no-print")) {
    return session.Refuse("-no-store and -no-print cannot be used together");
  }
  const std::string method(SanitizePath(flags.text("method")));
  const std::string mount =
      WithSlash(SanitizePath(flags.given("path") ? flags.text("path") : method));
  std::vector<std::string>& args = session.args;
  Json data = Json::object();
  if (method == "token" && args.size() == 1 && args[0] == "-") {
    const absl::StatusOr<SecretBytes> token = session.console.ReadAll();
    if (!token.ok()) return session.Refuse(Message(token.status()));
    data["token"] = Json::string_t(Trim(token->view()));
  } else if (method == "token" && args.size() == 1 && args[0].find('=') == std::string::npos) {
    data["token"] = Json::string_t(args[0]);
  } else {
    absl::StatusOr<Json> parsed = ParseData(args, session.console);
    if (!parsed.ok()) {
      return session.Refuse(StrCat("Error parsing configuration: ", Message(parsed.status())));
    }
    data = *std::move(parsed);
  }

  const absl::StatusOr<Json> secret = Authenticate(session, method, mount, std::move(data));
  if (!secret.ok()) return session.Fail("Error authenticating", secret.status());
  if (At(*secret, "wrap_info").is_object()) {
    return token_only ? PrintFieldOfSecret(session, *secret, "wrapping_token")
                      : PrintSecret(session, *secret);
  }
  if (!At(*secret, "auth").is_object()) {
    return session.Fail(
        Wrapped("Vault returned a secret, but the secret has no authentication information attached. "
                "This should never happen and is likely a bug."));
  }
  if (const int code = Store(session, *secret, no_store, token_only); code != kDone) return code;
  if (flags.on("no-print")) return kDone;
  const std::string_view field = token_only ? "token" : flags.text("field");
  if (!field.empty()) return PrintFieldOfSecret(session, *secret, field);
  if (session.table() && !no_store) {
    session.console.Line(
        StrCat(Wrapped("Success! You are now authenticated. The token information displayed below is "
                       "already stored in the token helper. You do NOT need to run \"vault login\" "
                       "again. Future Vault requests will automatically use this token."),
               "\n"));
  }
  return PrintSecret(session, *secret);
}

}  // namespace

std::vector<Command> LoginCommands() {
  return {{.name = "login",
           .synopsis = "Authenticate locally",
           .usage = "[options] [AUTH K=V...]",
           .help = "Authenticates users or machines to the server. A successful login is kept in "
                   "~/.vault-token for later commands. Without arguments the token is asked for; \"-\" "
                   "reads it from standard input.\n"
                   "    $ vault login -\n"
                   "    $ vault login -method=userpass username=my-username\n"
                   "    $ vault login -method=kubernetes role=web",
           .max_args = kAnyNumber,
           .prints = Prints::kFields,
           .flags = {{"method", FlagType::kText,
                      "Type of authentication: token, userpass, ldap, kubernetes, or another whose "
                      "login takes fields.",
                      "token"},
                     {"path", FlagType::kText,
                      "Path at which the auth method is enabled. The default is the method."},
                     {"no-store", FlagType::kSwitch, "Do not keep the token."},
                     {"no-print", FlagType::kSwitch, "Do not display the token."},
                     {"token-only", FlagType::kSwitch,
                      "Output only the token, and do not keep it."}},
           .run = Login}};
}

}  // namespace coffer::cli
