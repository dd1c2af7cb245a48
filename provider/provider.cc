#include "provider/provider.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>

#include "common/log.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "provider/extract.h"
#include "provider/keystore_client.h"
#include "provider/parameters.h"
#include "provider/session.h"

namespace coffer::provider {
namespace {

// A kept token this close to its end is not started with.
constexpr absl::Duration kMargin = absl::Seconds(5);
constexpr std::size_t kMostTransports = 64;

absl::Status Prefixed(std::string_view prefix, const absl::Status& status) {
  return absl::Status(status.code(), ToAbsl(StrCat(prefix, ": ", Message(status))));
}

// The number of seconds in a member, 0 where there is none.
absl::Duration SecondsOf(const Json& object, const char* name) {
  const auto found = object.find(name);
  if (found == object.end() || !found->is_number()) return absl::ZeroDuration();
  return absl::Seconds(std::max<std::int64_t>(0, found->get<std::int64_t>()));
}

void SetLifetime(const Json& auth, absl::Time now, Session* session) {
  const absl::Duration ttl = SecondsOf(auth, "lease_duration");
  session->renewable = auth.value("renewable", false);
  session->expires_at = ttl == absl::ZeroDuration() ? absl::InfiniteFuture() : now + ttl;
  session->renew_at = ttl == absl::ZeroDuration() ? absl::InfiniteFuture() : now + ttl * 2 / 3;
}

// The token of the audience that the class asks for.
absl::StatusOr<const SecretBytes*> TokenFor(const Pod& pod, const Login& login) {
  const auto named = pod.tokens.find(login.audience);
  if (named != pod.tokens.end()) return &named->second;
  if (login.audience.empty() && pod.tokens.size() == 1) return &pod.tokens.begin()->second;
  std::string sent;
  for (const auto& [audience, token] : pod.tokens) {
    StrAppend(&sent, sent.empty() ? "" : ", ", "\"", audience, "\"");
  }
  return absl::FailedPreconditionError(
      StrCat("the kubelet sent no token of audience \"", login.audience, "\" for pod ",
             pod.kubernetes_namespace, "/", pod.name, " (it sent ", sent.empty() ? "none" : sent,
             "): list the audience in the CSIDriver's tokenRequests",
             login.audience.empty() ? " or name one in spec.parameters.audience" : ""));
}

std::string RequestKey(const Object& object) {
  std::string key = StrCat(object.method, " ", object.path, "?", object.query, " ");
  // Arguments may be secrets, and the key is a plain string: a digest stands for them.
  if (!object.args.is_null()) {
    const SecretBytes args = DumpJson(object.args);
    std::uint8_t digest[32];
    unsigned int size = 0;
    EVP_Digest(args.data(), args.size(), digest, &size, EVP_sha256(), nullptr);
    StrAppend(&key, EncodeHex(std::span(digest, size)).view());
  }
  return key;
}

// One request that one or more objects wait for.
struct Request {
  std::string key;
  const Object* first;  // an object that asks for it
  absl::StatusOr<Json> response = absl::UnknownError("not sent");
};

}  // namespace

void SessionDeleter::operator()(Session* session) const { delete session; }
SessionPtr NewSession() { return SessionPtr(new Session); }
bool HoldsToken(const Session& session) { return !session.token.empty(); }

void Session::Forget() {
  token = SecretBytes();
  leased.clear();
  renew_at = expires_at = absl::InfinitePast();
}

Provider::Provider(const Clock& clock, Workers& workers, Options options)
    : clock_(clock), workers_(workers), options_(std::move(options)) {
  if (options_.version_key.empty()) options_.version_key = RandomSecret(32);
}

std::shared_ptr<HttpTransport> Provider::TransportFor(const TlsClientOptions& tls) {
  const std::string key = TlsKey(tls);
  std::lock_guard lock(mutex_);
  if (transports_.size() >= kMostTransports) {  // classes choose them: drop what no volume uses
    std::erase_if(transports_, [](const auto& entry) { return entry.second.use_count() == 1; });
  }
  std::shared_ptr<HttpTransport>& transport = transports_[key];
  if (transport == nullptr) transport = options_.make_transport(tls);
  return transport;
}

namespace {

// One fetch: the login and the reads of it.
class Fetch {
 public:
  Fetch(const Clock& clock, const Pod& pod, Session& session, absl::Time deadline)
      : clock_(clock),
        pod_(pod),
        session_(session),
        deadline_(deadline),
        client_(*session.transport, session.login, clock) {}

  // Makes sure that there is a token. `kept` says that it was there before.
  absl::Status EnsureToken(bool* kept) {
    *kept = false;
    const absl::Time now = clock_.Now();
    if (!session_.token.empty() && now + kMargin < session_.expires_at) {
      if (now < session_.renew_at || Renew()) {
        *kept = true;
        return absl::OkStatus();
      }
    }
    return LogIn();
  }

  absl::Status LogIn() {
    ASSIGN_OR_RETURN(const SecretBytes* jwt, TokenFor(pod_, session_.login));
    absl::StatusOr<Json> auth = client_.LogIn(*jwt, deadline_);
    if (!auth.ok()) {
      return Prefixed(
          StrCat("logging in with role \"", session_.login.role, "\" as service account ",
                 pod_.kubernetes_namespace, "/", pod_.service_account),
          auth.status());
    }
    session_.Forget();
    session_.token = SecretBytes::CopyOf((*auth)["client_token"].get_ref<const SecretString&>());
    SetLifetime(*auth, clock_.Now(), &session_);
    return absl::OkStatus();
  }

  // Reads what has not been read yet, all at the same time.
  void Read(Workers& workers, std::vector<Request>& requests) {
    std::vector<Request*> open;
    for (Request& request : requests) {
      if (!request.response.ok()) open.push_back(&request);
    }
    workers.ForEach(static_cast<int>(open.size()), [&](int i) { ReadOne(*open[i]); });
    for (Request* request : open) RememberLease(*request);
  }

 private:
  void ReadOne(Request& request) const {
    const auto kept = session_.leased.find(request.key);
    if (kept != session_.leased.end() && clock_.Now() < kept->second.use_until) {
      request.response = kept->second.response;
      return;
    }
    const Object& object = *request.first;
    // A GET has no body: there arguments go into secretPath's query, as the provider documents.
    const bool with_body = object.method != "GET" && !object.args.is_null();
    request.response = client_.Call(object.method, object.path, object.query, session_.token,
                                    with_body ? DumpJson(object.args) : SecretBytes(), deadline_);
  }

  void RememberLease(const Request& request) {
    if (!request.response.ok() || !request.response->is_object()) return;
    const Json& response = *request.response;
    const auto kept = session_.leased.find(request.key);
    if (kept != session_.leased.end() && clock_.Now() < kept->second.use_until) return;
    const auto lease = response.find("lease_id");
    const absl::Duration ttl = SecondsOf(response, "lease_duration");
    if (lease == response.end() || !lease->is_string() ||
        lease->get_ref<const SecretString&>().empty() || ttl == absl::ZeroDuration()) {
      return;
    }
    session_.leased[request.key] = {response, clock_.Now() + ttl * 2 / 3};
  }

  // Lengthens the kept token's life. False: it can't be relied on any longer.
  bool Renew() {
    if (!session_.renewable) return false;
    absl::StatusOr<Json> answer =
        client_.Call("POST", "auth/token/renew-self", "", session_.token, SecretBytes(), deadline_);
    if (!answer.ok() || !answer->is_object() || !answer->contains("auth")) return false;
    const absl::Duration before = session_.expires_at - clock_.Now();
    SetLifetime((*answer)["auth"], clock_.Now(), &session_);
    // Near its maximal TTL a renewal no longer lengthens anything: then it's time for a new one.
    return session_.expires_at - clock_.Now() > before || before > absl::Minutes(1);
  }

  const Clock& clock_;
  const Pod& pod_;
  Session& session_;
  const absl::Time deadline_;
  const KeystoreClient client_;
};

std::string ContentVersion(const SecretBytes& key, const Object& object,
                           const SecretBytes& content) {
  const std::string name = StrCat(RequestKey(object), " ", object.key, " ", object.name, " ");
  SecretBytes message = SecretBytes::CopyOf(name);
  message.Append(content.view());
  std::uint8_t mac[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), message.data(), message.size(), mac,
       &size);
  return std::string(EncodeBase64Url(std::span(mac, size)).view());
}

}  // namespace

absl::StatusOr<FetchResult> Provider::Fetch(const SecretProviderClass& secret_class, const Pod& pod,
                                            Session& session, absl::Time deadline) {
  ASSIGN_OR_RETURN(Parameters parameters, ParseParameters(secret_class, options_.defaults));
  const std::string name =
      StrCat("SecretProviderClass ", secret_class.kubernetes_namespace, "/", secret_class.name);
  if (std::string key = LoginKey(parameters.login); key != session.login_key) {
    // The class points elsewhere since: what was held there is given back, without waiting long.
    const absl::Status revoked =
        Revoke(session, std::min(deadline, clock_.Now() + absl::Seconds(2)));
    if (!revoked.ok()) log::Warning("old token not revoked", {{"error", revoked}});
    session.Forget();
    session.login = parameters.login;
    session.login_key = std::move(key);
    session.transport = TransportFor(session.login.tls);
  }

  std::vector<Request> requests;
  std::vector<std::size_t> request_of(parameters.objects.size());
  for (std::size_t i = 0; i < parameters.objects.size(); ++i) {
    const std::string key = RequestKey(parameters.objects[i]);
    const auto same = std::find_if(requests.begin(), requests.end(),
                                   [&](const Request& request) { return request.key == key; });
    request_of[i] = static_cast<std::size_t>(same - requests.begin());
    if (same == requests.end()) requests.push_back({key, &parameters.objects[i]});
  }

  provider::Fetch fetch(clock_, pod, session, deadline);
  bool kept = false;
  if (absl::Status token = fetch.EnsureToken(&kept); !token.ok()) return Prefixed(name, token);
  fetch.Read(workers_, requests);
  const bool denied = std::any_of(requests.begin(), requests.end(), [](const Request& request) {
    return absl::IsPermissionDenied(request.response.status());
  });
  if (denied && kept) {  // the kept token may be gone: revoked, used up, a keystore restored
    if (absl::Status token = fetch.LogIn(); !token.ok()) return Prefixed(name, token);
    fetch.Read(workers_, requests);
  }

  FetchResult result;
  for (std::size_t i = 0; i < parameters.objects.size(); ++i) {
    const Object& object = parameters.objects[i];
    const std::string where = StrCat(name, ": object \"", object.name, "\"");
    const absl::StatusOr<Json>& response = requests[request_of[i]].response;
    if (!response.ok()) return Prefixed(where, response.status());
    absl::StatusOr<SecretBytes> content = ExtractContent(*response, object);
    if (!content.ok()) {
      return Prefixed(
          StrCat(where, ": ", object.method, " ", object.path, " at ", session.login.address),
          content.status());
    }
    std::string version = ResponseVersion(*response);
    if (version.empty()) version = ContentVersion(options_.version_key, object, *content);
    result.versions.push_back({object.name, std::move(version)});
    result.files.push_back({object.name, *std::move(content), object.mode});
  }
  std::sort(result.files.begin(), result.files.end(),
            [](const File& a, const File& b) { return a.path < b.path; });
  return result;
}

absl::Status Provider::Revoke(Session& session, absl::Time deadline) {
  if (session.token.empty()) return absl::OkStatus();
  if (clock_.Now() < session.expires_at) {
    const KeystoreClient client(*session.transport, session.login, clock_);
    const absl::Status revoked =
        client.Call("POST", "auth/token/revoke-self", "", session.token, SecretBytes(), deadline)
            .status();
    // Refused means that the keystore doesn't know the token any longer.
    if (!revoked.ok() && !absl::IsPermissionDenied(revoked)) return revoked;
  }
  session.Forget();
  return absl::OkStatus();
}

}  // namespace coffer::provider
