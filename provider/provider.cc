#include "provider/provider.h"

#include <algorithm>

#include "common/log.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/status_prefix.h"
#include "common/strings.h"
#include "provider/fetch.h"
#include "provider/keystore_client.h"
#include "provider/parameters.h"
#include "provider/reading.h"
#include "provider/session.h"

namespace coffer::provider {
namespace {

constexpr std::size_t kMostTransports = 64;

// The uid is the pod; its name stands in where a caller has none.
std::string PodKey(const Pod& pod) {
  return pod.uid.empty() ? StrCat(pod.kubernetes_namespace, "/", pod.name) : pod.uid;
}

}  // namespace

std::optional<std::string> DefaultAudience(const std::set<std::string>& audiences) {
  for (const char* usual : {"vault", ""}) {
    if (audiences.contains(usual)) return usual;
  }
  if (audiences.size() == 1) return *audiences.begin();
  return std::nullopt;
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

void Provider::Join(Session& session) {
  session.transport = TransportFor(session.login.tls);
  std::lock_guard lock(mutex_);
  if (logins_.size() >= purge_at_) {  // those whose volumes never came to be
    std::erase_if(logins_, [](const auto& entry) { return entry.second.expired(); });
    purge_at_ = 2 * logins_.size() + 64;
  }
  std::weak_ptr<PodLogin>& entry = logins_[StrCat(session.pod, " ", session.login_key)];
  std::shared_ptr<PodLogin> there = entry.lock();
  std::shared_ptr<PodLogin> own = std::exchange(session.pod_login, there);
  if (there == nullptr) {
    session.pod_login = own != nullptr ? std::move(own) : std::make_shared<PodLogin>();
    entry = session.pod_login;
  } else if (own != nullptr) {
    const TokenPtr leased_with = session.leased_with;
    own->ForEach([&](const TokenPtr& token, bool current) {
      const TokenPtr added = there->Add(std::move(*token), current);
      if (token == leased_with) session.leased_with = added;
    });
  }
}

bool Provider::Leave(Session& session) {
  std::lock_guard lock(mutex_);
  if (session.pod_login.use_count() > 1) {
    session.pod_login.reset();
    return false;
  }
  const auto entry = logins_.find(StrCat(session.pod, " ", session.login_key));
  if (entry != logins_.end() && entry->second.lock() == session.pod_login) logins_.erase(entry);
  return true;
}

absl::StatusOr<FetchResult> Provider::Fetch(const SecretProviderClass& secret_class, const Pod& pod,
                                            Session& session, absl::Time deadline) {
  ASSIGN_OR_RETURN(Parameters parameters, ParseParameters(secret_class, options_.defaults));
  const std::string name =
      StrCat("SecretProviderClass ", secret_class.kubernetes_namespace, "/", secret_class.name);
  if (std::string key = LoginKey(parameters.login);
      key != session.login_key || session.pod_login == nullptr) {
    // The class points elsewhere since: what was held there is given back, without waiting long.
    const absl::Status revoked =
        Revoke(session, std::min(deadline, clock_.Now() + absl::Seconds(2)));
    if (!revoked.ok()) log::Warning("old token not revoked", {{"error", revoked}});
    session = Session();
    session.pod = PodKey(pod);
    session.login = parameters.login;
    session.login_key = std::move(key);
    Join(session);
  }
  absl::StatusOr<FetchResult> result = FetchAs(name, parameters, pod, session, deadline);
  if (parameters.unknown.empty()) return result;
  std::string warning;
  for (const std::string& field : parameters.unknown) {
    StrAppend(&warning, warning.empty() ? "" : ", ", field);
  }
  StrAppend(&warning, ": unknown, and ignored");
  if (!result.ok()) {
    return absl::Status(result.status().code(),
                        ToAbsl(StrCat(Message(result.status()), " (", warning, ")")));
  }
  if (session.warned != warning) {
    session.warned = warning;
    result->warning = StrCat(name, ": ", warning, ": see docs/secret-provider-class.md");
    log::Warning("parameters that mean nothing",
                 {{"pod", StrCat(pod.kubernetes_namespace, "/", pod.name)},
                  {"cause", result->warning}});
  }
  return result;
}

absl::StatusOr<FetchResult> Provider::FetchAs(const std::string& name,
                                              const Parameters& parameters, const Pod& pod,
                                              Session& session, absl::Time deadline) {
  provider::Fetch fetch(clock_, workers_, pod, session, deadline);
  const absl::StatusOr<Plan> plan = fetch.Read(parameters.objects);
  if (!plan.ok()) return Prefixed(name, plan.status());
  FetchResult result;
  result.audit = parameters.audit;
  ObjectOfFile object_of;
  for (const Reading& reading : plan->readings) {
    const Object& object = *reading.object;
    const std::string where = StrCat(name, ": object \"", object.name, "\"");
    std::vector<Extracted> files;
    std::string version;
    const absl::Status collected =
        Collect(reading, plan->requests, session.login.address, &files, &version);
    if (!collected.ok()) return Prefixed(where, collected);
    if (version.empty()) version = ContentVersion(options_.version_key, object, files);
    if (!files.empty()) result.versions.push_back({object.name, version});
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
                              .group = object.facts.group,
                              .access = object.facts.access,
                              .version = version});
    }
  }
  if (const auto clash = FindClash(object_of)) {
    return absl::FailedPreconditionError(
        StrCat(name, ": object \"", clash->below.second, "\": the file ", clash->below.first,
               " can't be made: ", clash->above.first, " is the file of object \"",
               clash->above.second, "\""));
  }
  std::sort(result.files.begin(), result.files.end(),
            [](const File& a, const File& b) { return a.path < b.path; });
  fetch.Settle(*plan);
  result.refetch_by = session.due();
  return result;
}

absl::Status Provider::Revoke(Session& session, absl::Time deadline) {
  if (session.pod_login == nullptr || !Leave(session)) return absl::OkStatus();
  const KeystoreClient client(*session.transport, session.login, clock_);
  RETURN_IF_ERROR(session.pod_login->Revoke(client, clock_, deadline));
  session.pod_login.reset();
  return absl::OkStatus();
}

}  // namespace coffer::provider
