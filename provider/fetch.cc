#include "provider/fetch.h"

#include <algorithm>

#include "common/json_members.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::provider {
namespace {

// The token of the audience that the class asks for.
absl::StatusOr<const SecretBytes*> TokenFor(const Pod& pod, const Login& login) {
  std::set<std::string> audiences;
  std::string sent;
  for (const auto& [audience, token] : pod.tokens) {
    audiences.insert(audience);
    StrAppend(&sent, sent.empty() ? "" : ", ", "\"", audience, "\"");
  }
  const auto found = pod.tokens.find(
      login.audience.empty() ? DefaultAudience(audiences).value_or("") : login.audience);
  if (found != pod.tokens.end()) return &found->second;
  return absl::FailedPreconditionError(
      StrCat("the kubelet sent no token of audience \"", login.audience, "\" for pod ",
             pod.kubernetes_namespace, "/", pod.name, " (it sent ", sent.empty() ? "none" : sent,
             "): list the audience in the CSIDriver's tokenRequests",
             login.audience.empty() ? " or name one in spec.parameters.audience" : ""));
}

bool Denied(const absl::StatusOr<Plan>& plan) {
  if (!plan.ok()) return absl::IsPermissionDenied(plan.status());
  return std::any_of(plan->requests.begin(), plan->requests.end(), [](const Request& request) {
    return absl::IsPermissionDenied(request.response.status());
  });
}

}  // namespace

Fetch::Fetch(const Clock& clock, Workers& workers, const Pod& pod, Session& session,
             absl::Time deadline)
    : clock_(clock),
      workers_(workers),
      pod_(pod),
      session_(session),
      deadline_(deadline),
      client_(*session.transport, session.login, clock) {}

absl::StatusOr<TokenPtr> Fetch::LogIn() const {
  ASSIGN_OR_RETURN(const SecretBytes* jwt, TokenFor(pod_, session_.login));
  const absl::StatusOr<Json> auth = client_.LogIn(*jwt, deadline_);
  if (auth.ok()) return TokenOf(*auth, clock_.Now());
  return absl::Status(
      auth.status().code(),
      ToAbsl(StrCat("logging in with role \"", session_.login.role, "\" as service account ",
                    pod_.kubernetes_namespace, "/", pod_.service_account, ": ",
                    Message(auth.status()))));
}

absl::StatusOr<Plan> Fetch::Read(const std::vector<Object>& objects) {
  PodLogin& login = *session_.pod_login;
  bool kept = false;
  ASSIGN_OR_RETURN(TokenPtr token,
                   login.Get(client_, clock_, deadline_, [this] { return LogIn(); }, &kept));
  absl::StatusOr<Plan> plan = ReadWith(objects, token);
  if (!kept || !Denied(plan)) return plan;
  TokenPtr newer = login.current();
  const bool own = newer == nullptr || newer == token;  // else another volume has logged in
  if (own) {
    ASSIGN_OR_RETURN(newer, LogIn());
  }
  std::map<std::string, Lease> leases = session_.leases;
  absl::StatusOr<Plan> second = ReadWith(objects, newer);
  if (!own) return second;
  if (Denied(second)) {
    // It may no more than the old one, with which all stays as it was.
    Renounce(newer);
    session_.leases = std::move(leases);
    session_.leased_with = token;
  } else {
    login.Replace(newer, clock_.Now());
    Renounce(token);
  }
  return second;
}

void Fetch::Settle(const Plan& plan) {
  std::erase_if(session_.leases, [&plan](const auto& lease) {
    return std::none_of(plan.requests.begin(), plan.requests.end(), [&lease](const Request& r) {
      return r.key == lease.first;
    });
  });
}

absl::StatusOr<Plan> Fetch::ReadWith(const std::vector<Object>& objects, const TokenPtr& token) {
  if (session_.leased_with != token) {  // what was leased with another may have ended
    std::erase_if(session_.leases, [](const auto& lease) { return !lease.second.id.empty(); });
    session_.leased_with = token;
  }
  ASSIGN_OR_RETURN(Plan plan, MakePlan(objects, [&](const Object& object) {
    if (!object.many_paths()) {
      return absl::StatusOr<std::vector<MatchedPath>>({{object.path, ""}});
    }
    return ExpandPath(object.path,
                      [&](const std::string& path) { return List(token, path); });
  }));
  std::vector<std::optional<Lease>> leases(plan.requests.size());
  workers_.ForEach(static_cast<int>(plan.requests.size()), [&](int i) {
    const auto at = static_cast<std::size_t>(i);
    leases[at] = ReadOne(token, plan.requests[at]);
  });
  for (std::size_t i = 0; i < leases.size(); ++i) {
    if (leases[i]) session_.leases.insert_or_assign(plan.requests[i].key, *std::move(leases[i]));
  }
  return plan;
}

void Fetch::Renounce(const TokenPtr& token) const {
  if (token->batch) return;
  const absl::Status revoked = RevokeToken(
      client_, token->secret, std::min(deadline_, clock_.Now() + absl::Seconds(2)));
  if (!revoked.ok()) log::Warning("a token that isn't needed isn't revoked", {{"error", revoked}});
}

absl::StatusOr<std::vector<std::string>> Fetch::List(const TokenPtr& token,
                                                     const std::string& path) const {
  ASSIGN_OR_RETURN(const Json answer,
                   client_.Call("LIST", path, "", token->secret, SecretBytes(), deadline_));
  std::vector<std::string> names;
  for (const Json& name : At(At(answer, "data"), "keys")) {
    if (name.is_string()) names.emplace_back(name.get_ref<const SecretString&>());
  }
  return names;
}

std::optional<Lease> Fetch::ReadOne(const TokenPtr& token, Request& request) const {
  const auto kept = session_.leases.find(request.key);
  if (kept != session_.leases.end() && !kept->second.response.is_null()) {
    if (!kept->second.due(clock_.Now())) {
      request.response = kept->second.response;
      return std::nullopt;
    }
    Lease lease = kept->second;
    const absl::StatusOr<bool> renewed = Renew(token, &lease);
    if (!renewed.ok() || *renewed) {
      request.response = renewed.ok() ? absl::StatusOr<Json>(lease.response) : renewed.status();
      return renewed.ok() ? std::optional<Lease>(std::move(lease)) : std::nullopt;
    }
  }
  const Object& object = *request.first;
  // A GET has no body: there arguments go into secretPath's query, as the provider documents.
  const bool with_body = object.method != "GET" && !object.args.is_null();
  request.response = client_.Call(object.method, request.path, object.query, token->secret,
                                  with_body ? DumpJson(object.args) : SecretBytes(), deadline_);
  if (!request.response.ok()) return std::nullopt;
  return LeaseOf(*request.response, object.method != "GET", clock_.Now());
}

absl::StatusOr<bool> Fetch::Renew(const TokenPtr& token, Lease* lease) const {
  if (!lease->renewable || clock_.Now() >= lease->expires_at) return false;
  const absl::StatusOr<Json> answer =
      client_.Call("PUT", "sys/leases/renew", "", token->secret,
                   DumpJson({{"lease_id", std::string_view(lease->id)}}), deadline_);
  // While the keystore is away there are no new ones either.
  if (absl::IsUnavailable(answer.status()) || absl::IsDeadlineExceeded(answer.status())) {
    return answer.status();
  }
  return answer.ok() && TakeRenewal(*answer, clock_.Now(), lease);
}

}  // namespace coffer::provider
