// A session's document is one JSON object. All members are there, no others.
//
//   session = {"version": 1,
//              "pod": uid,                             "" = it never logged in
//              "login": {"address", "namespace", "auth_mount", "role", "audience": text,
//                        "tls": {"ca_file", "ca_directory", "ca_pem", "client_certificate_file",
//                                "client_key_file", "server_name": text, "skip_verify": bool}},
//              "tokens": [token ...],
//              "leased_with": n | null,                which token, from 0
//              "leases": [lease ...]}
//   token   = {"secret", "accessor": text, "current", "renewable", "batch": bool,
//              "taken_at", "renew_at", "expires_at": time}   at most one is current
//   lease   = {"request", "id": text, "response": any, "renewable": bool, "lasts": microseconds,
//              "taken_at", "act_at", "expires_at": time}
//   time    = microseconds since 1970 | null           null = never
#include "provider/session_document.h"

#include <algorithm>
#include <set>

#include "common/json.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "provider/session.h"

namespace coffer::provider {
namespace {

constexpr int kVersion = 1;

Json TimeJson(absl::Time time) {
  return time == absl::InfiniteFuture() ? Json() : Json(absl::ToUnixMicros(time));
}

Json LoginJson(const Login& login) {
  const auto text = [](const std::string& value) { return Json(std::string_view(value)); };
  const TlsClientOptions& tls = login.tls;
  return {{"address", text(login.address)},
          {"namespace", text(login.vault_namespace)},
          {"auth_mount", text(login.auth_mount)},
          {"role", text(login.role)},
          {"audience", text(login.audience)},
          {"tls",
           {{"ca_file", text(tls.ca_file)},
            {"ca_directory", text(tls.ca_directory)},
            {"ca_pem", text(tls.ca_pem)},
            {"client_certificate_file", text(tls.client_certificate_file)},
            {"client_key_file", text(tls.client_key_file)},
            {"server_name", text(tls.server_name)},
            {"skip_verify", tls.skip_verify}}}};
}

// Reads the members of one object; the first that is wrong is the status.
class Members {
 public:
  Members(const Json& object, std::string path) : object_(object), path_(std::move(path)) {
    if (!object.is_object()) Fail("", path_.empty() ? "it must be an object" : "must be an object");
  }

  std::string Where(std::string_view name) const {
    return path_.empty() || name.empty() ? StrCat(path_, name) : StrCat(path_, ".", name);
  }

  // The member, or null after an error.
  const Json& Take(std::string_view name) {
    static const Json* none = new Json;
    taken_.insert(std::string(name));
    if (!status_.ok()) return *none;
    const auto found = object_.find(SecretString(name));
    if (found != object_.end()) return *found;
    Fail(name, "is missing");
    return *none;
  }
  std::string_view Text(std::string_view name) {
    const Json& value = Take(name);
    if (value.is_string()) return value.get_ref<const SecretString&>();
    Fail(name, "must be text");
    return "";
  }
  bool Bool(std::string_view name) {
    const Json& value = Take(name);
    if (value.is_boolean()) return value.get<bool>();
    Fail(name, "must be true or false");
    return false;
  }
  std::int64_t Integer(std::string_view name) {
    const Json& value = Take(name);
    if (value.is_number_integer()) return value.get<std::int64_t>();
    Fail(name, "must be a number");
    return 0;
  }
  absl::Time Time(std::string_view name) {
    return Take(name).is_null() && status_.ok() ? absl::InfiniteFuture()
                                                : absl::FromUnixMicros(Integer(name));
  }
  const Json& List(std::string_view name) {
    static const Json* none = new Json(Json::array());
    const Json& value = Take(name);
    if (value.is_array()) return value;
    Fail(name, "must be a list");
    return *none;
  }

  void Fail(std::string_view name, std::string_view what) {
    if (!status_.ok()) return;
    const std::string where = Where(name);
    status_ = absl::InvalidArgumentError(
        StrCat("session: ", where, where.empty() ? "" : " ", what));
  }
  // Also where there are members that nobody asked for.
  absl::Status Done() {
    if (!status_.ok()) return status_;
    for (const auto& [name, value] : object_.items()) {
      const std::string_view member = name;
      if (!taken_.contains(std::string(member))) Fail(member, "is unknown");
    }
    return status_;
  }

 private:
  const Json& object_;
  const std::string path_;
  std::set<std::string> taken_;
  absl::Status status_;
};

absl::Status ReadLogin(const Json& object, Login* login) {
  Members members(object, "login");
  login->address = members.Text("address");
  login->vault_namespace = members.Text("namespace");
  login->auth_mount = members.Text("auth_mount");
  login->role = members.Text("role");
  login->audience = members.Text("audience");
  const Json& nested = members.Take("tls");
  RETURN_IF_ERROR(members.Done());
  Members tls(nested, "login.tls");
  login->tls.ca_file = tls.Text("ca_file");
  login->tls.ca_directory = tls.Text("ca_directory");
  login->tls.ca_pem = tls.Text("ca_pem");
  login->tls.client_certificate_file = tls.Text("client_certificate_file");
  login->tls.client_key_file = tls.Text("client_key_file");
  login->tls.server_name = tls.Text("server_name");
  login->tls.skip_verify = tls.Bool("skip_verify");
  return tls.Done();
}

absl::StatusOr<Token> ReadToken(const Json& object, std::string path, bool* current) {
  Members members(object, std::move(path));
  Token token;
  token.secret = SecretBytes::CopyOf(members.Text("secret"));
  token.accessor = members.Text("accessor");
  *current = members.Bool("current");
  token.renewable = members.Bool("renewable");
  token.batch = members.Bool("batch");
  token.taken_at = members.Time("taken_at");
  token.renew_at = members.Time("renew_at");
  token.expires_at = members.Time("expires_at");
  if (token.secret.empty()) members.Fail("secret", "is empty");
  RETURN_IF_ERROR(members.Done());
  return token;
}

absl::Status ReadLease(const Json& object, std::string path, std::map<std::string, Lease>* leases) {
  Members members(object, std::move(path));
  Lease lease;
  const std::string request(members.Text("request"));
  lease.id = members.Text("id");
  lease.response = members.Take("response");
  lease.renewable = members.Bool("renewable");
  lease.lasts = absl::Microseconds(members.Integer("lasts"));
  lease.taken_at = members.Time("taken_at");
  lease.act_at = members.Time("act_at");
  lease.expires_at = members.Time("expires_at");
  if (leases->contains(request)) members.Fail("request", "comes twice");
  RETURN_IF_ERROR(members.Done());
  leases->emplace(request, std::move(lease));
  return absl::OkStatus();
}

// The tokens, given to a login of the session's own; which of them the leases hang on.
absl::Status ReadTokens(const Json& list, const Json& leased_with, Session* session) {
  bool have_current = false;
  for (std::size_t i = 0; i < list.size(); ++i) {
    const std::string path = StrCat("tokens[", i, "]");
    bool current = false;
    ASSIGN_OR_RETURN(Token token, ReadToken(list[i], path, &current));
    if (current && std::exchange(have_current, true)) {
      return absl::InvalidArgumentError(StrCat("session: ", path, ".current comes twice"));
    }
    const TokenPtr added = session->pod_login->Add(std::move(token), current);
    if (leased_with == i) session->leased_with = added;
  }
  if (!leased_with.is_null() && session->leased_with == nullptr) {
    return absl::InvalidArgumentError("session: leased_with is no token's number");
  }
  return absl::OkStatus();
}

}  // namespace

SecretBytes WriteSession(const Session& session) {
  Json tokens = Json::array();
  Json leased_with;
  if (session.pod_login != nullptr) {
    session.pod_login->ForEach([&](const TokenPtr& token, bool current) {
      if (token == session.leased_with) leased_with = tokens.size();
      tokens.push_back({{"secret", token->secret.view()},
                        {"accessor", std::string_view(token->accessor)},
                        {"current", current},
                        {"renewable", token->renewable},
                        {"batch", token->batch},
                        {"taken_at", TimeJson(token->taken_at)},
                        {"renew_at", TimeJson(token->renew_at)},
                        {"expires_at", TimeJson(token->expires_at)}});
    });
  }
  Json leases = Json::array();
  for (const auto& [request, lease] : session.leases) {
    leases.push_back({{"request", std::string_view(request)},
                      {"id", std::string_view(lease.id)},
                      {"response", lease.response},
                      {"renewable", lease.renewable},
                      {"lasts", absl::ToInt64Microseconds(lease.lasts)},
                      {"taken_at", TimeJson(lease.taken_at)},
                      {"act_at", TimeJson(lease.act_at)},
                      {"expires_at", TimeJson(lease.expires_at)}});
  }
  return DumpJson({{"version", kVersion},
                   {"pod", std::string_view(session.pod)},
                   {"login", LoginJson(session.login)},
                   {"tokens", std::move(tokens)},
                   {"leased_with", std::move(leased_with)},
                   {"leases", std::move(leases)}});
}

absl::StatusOr<SessionPtr> ReadSession(std::string_view document, Provider& provider) {
  absl::StatusOr<Json> json = ParseJson(document);
  if (!json.ok()) return absl::InvalidArgumentError(StrCat("session: ", Message(json.status())));
  Members members(*json, "");
  if (members.Integer("version") != kVersion) members.Fail("version", "must be 1");
  SessionPtr session = NewSession();
  session->pod = members.Text("pod");
  const Json& login = members.Take("login");
  const Json& tokens = members.List("tokens");
  const Json& leased_with = members.Take("leased_with");
  const Json& leases = members.List("leases");
  RETURN_IF_ERROR(members.Done());
  RETURN_IF_ERROR(ReadLogin(login, &session->login));
  session->pod_login = std::make_shared<PodLogin>();
  RETURN_IF_ERROR(ReadTokens(tokens, leased_with, session.get()));
  for (std::size_t i = 0; i < leases.size(); ++i) {
    RETURN_IF_ERROR(ReadLease(leases[i], StrCat("leases[", i, "]"), &session->leases));
  }
  if (session->pod.empty()) {
    session->pod_login.reset();
    return session;
  }
  session->login_key = LoginKey(session->login);
  provider.Join(*session);
  return session;
}

}  // namespace coffer::provider
