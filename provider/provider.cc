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
#include "provider/path_pattern.h"
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

std::string RequestKey(const Object& object, std::string_view path) {
  std::string key = StrCat(object.method, " ", path, "?", object.query, " ");
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
  std::string path;
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

std::optional<absl::Time> Session::due() const {
  if (leased.empty()) return std::nullopt;
  absl::Time due = renew_at;  // leases end with their token
  for (const auto& [request, lease] : leased) due = std::min(due, lease.use_until);
  return due;
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

  // The paths that an object means, those of a pattern as the keystore lists them now.
  absl::StatusOr<std::vector<MatchedPath>> Paths(const Object& object) const {
    if (!object.many_paths()) return std::vector<MatchedPath>{{object.path, ""}};
    return ExpandPath(object.path,
                      [this](const std::string& path) { return List(path); });
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
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) const {
    ASSIGN_OR_RETURN(const Json answer, client_.Call("LIST", path, "", session_.token,
                                                     SecretBytes(), deadline_));
    std::vector<std::string> names;
    const auto data = answer.find("data");
    if (data == answer.end() || !data->is_object() || !data->contains("keys")) return names;
    for (const Json& name : (*data)["keys"]) {
      if (name.is_string()) names.emplace_back(name.get_ref<const SecretString&>());
    }
    return names;
  }

  void ReadOne(Request& request) const {
    const auto kept = session_.leased.find(request.key);
    if (kept != session_.leased.end() && clock_.Now() < kept->second.use_until) {
      request.response = kept->second.response;
      return;
    }
    const Object& object = *request.first;
    // A GET has no body: there arguments go into secretPath's query, as the provider documents.
    const bool with_body = object.method != "GET" && !object.args.is_null();
    request.response = client_.Call(object.method, request.path, object.query, session_.token,
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
                           const std::vector<Extracted>& files) {
  SecretBytes message = SecretBytes::CopyOf(
      StrCat(RequestKey(object, object.path), " ", object.key, " ", object.name, " "));
  for (const Extracted& file : files) {
    message.Append(StrCat(file.path.size(), ":", file.path, file.content.size(), ":"));
    message.Append(file.content.view());
  }
  std::uint8_t mac[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), message.data(), message.size(), mac,
       &size);
  return std::string(EncodeBase64Url(std::span(mac, size)).view());
}

// An object with what it is read from: for each path what it is called and which request reads it.
struct Reading {
  const Object* object;
  std::vector<std::pair<std::string, std::size_t>> parts = {};
};

// The readings of all objects, and the distinct requests that they need.
absl::StatusOr<std::vector<Reading>> Plan(const Fetch& fetch, const std::vector<Object>& objects,
                                          std::vector<Request>* requests) {
  requests->clear();
  std::vector<Reading> readings;
  for (const Object& object : objects) {
    Reading& reading = readings.emplace_back(Reading{&object});
    absl::StatusOr<std::vector<MatchedPath>> paths = fetch.Paths(object);
    if (!paths.ok()) return Prefixed(StrCat("object \"", object.name, "\""), paths.status());
    for (MatchedPath& path : *paths) {
      std::string key = RequestKey(object, path.path);
      const auto same = std::find_if(requests->begin(), requests->end(),
                                     [&](const Request& request) { return request.key == key; });
      reading.parts.emplace_back(std::move(path.matched), same - requests->begin());
      if (same == requests->end()) {
        requests->push_back({std::move(key), &object, std::move(path.path)});
      }
    }
  }
  return readings;
}

// The files of one object, and its version; neither where it is absent and may be.
absl::Status Collect(const Reading& reading, const std::vector<Request>& requests,
                     std::string_view address, std::vector<Extracted>* files,
                     std::string* version) {
  const Object& object = *reading.object;
  absl::Status absent;
  for (const auto& [matched, index] : reading.parts) {
    const absl::StatusOr<Json>& response = requests[index].response;
    if (!response.ok() && !absl::IsNotFound(response.status())) return response.status();
    if (!response.ok()) {  // of a pattern: listed, but deleted
      absent = response.status();
      continue;
    }
    absl::StatusOr<std::vector<Extracted>> extracted = ExtractFiles(*response, object, matched);
    if (extracted.ok()) {
      for (Extracted& file : *extracted) files->push_back(std::move(file));
      if (!object.many_paths()) *version = ResponseVersion(*response);
      continue;
    }
    absent = Prefixed(StrCat(object.method, " ", requests[index].path, " at ", address),
                      extracted.status());
    if (!absl::IsNotFound(absent)) return absent;
  }
  if (!files->empty()) return absl::OkStatus();
  if (object.fallback) {
    files->push_back({OneFile(object), SecretBytes::CopyOf(*object.fallback)});
    return absl::OkStatus();
  }
  if (object.optional) return absl::OkStatus();
  return absent.ok() ? absl::NotFoundError(
                           StrCat("nothing at ", address, " matches ", object.path))
                     : absent;
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

  provider::Fetch fetch(clock_, pod, session, deadline);
  bool kept = false;
  if (absl::Status token = fetch.EnsureToken(&kept); !token.ok()) return Prefixed(name, token);
  std::vector<Request> requests;
  absl::StatusOr<std::vector<Reading>> readings = Plan(fetch, parameters.objects, &requests);
  if (absl::IsPermissionDenied(readings.status()) && std::exchange(kept, false)) {
    // The kept token may be gone: revoked, used up, a keystore restored.
    if (absl::Status token = fetch.LogIn(); !token.ok()) return Prefixed(name, token);
    readings = Plan(fetch, parameters.objects, &requests);
  }
  if (!readings.ok()) return Prefixed(name, readings.status());
  fetch.Read(workers_, requests);
  const bool denied = std::any_of(requests.begin(), requests.end(), [](const Request& request) {
    return absl::IsPermissionDenied(request.response.status());
  });
  if (denied && kept) {
    if (absl::Status token = fetch.LogIn(); !token.ok()) return Prefixed(name, token);
    fetch.Read(workers_, requests);
  }

  FetchResult result;
  std::map<std::string, std::string> object_of;  // by the file's path
  for (const Reading& reading : *readings) {
    const Object& object = *reading.object;
    const std::string where = StrCat(name, ": object \"", object.name, "\"");
    std::vector<Extracted> files;
    std::string version;
    const absl::Status collected =
        Collect(reading, requests, session.login.address, &files, &version);
    if (!collected.ok()) return Prefixed(where, collected);
    if (version.empty()) version = ContentVersion(options_.version_key, object, files);
    if (!files.empty()) result.versions.push_back({object.name, std::move(version)});
    for (Extracted& file : files) {
      const auto [other, added] = object_of.emplace(file.path, object.name);
      if (!added) {
        return absl::FailedPreconditionError(StrCat(where, ": the file ", file.path,
                                                    " is made by object \"", other->second,
                                                    "\" already: give one of them a path"));
      }
      result.files.push_back({.path = std::move(file.path),
                              .content = std::move(file.content),
                              .mode = object.facts.mode,
                              .owner = object.facts.owner,
                              .group = object.facts.group});
    }
  }
  std::sort(result.files.begin(), result.files.end(),
            [](const File& a, const File& b) { return a.path < b.path; });
  result.refetch_by = session.due();
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
