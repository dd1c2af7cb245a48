// Provider: a SecretProviderClass and a pod's token become a set of files. Speaks the Vault HTTP
// API, so it works against the bundled keystore, Vault and OpenBao.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/http_client.h"
#include "common/secret_bytes.h"
#include "provider/access_rules.h"
#include "provider/workers.h"

namespace coffer::provider {

// A secrets-store.csi.x-k8s.io/v1 SecretProviderClass, as far as it is read here.
struct SecretProviderClass {
  std::string name;
  std::string kubernetes_namespace;
  std::string resource_version;  // "" where it came from a file
  std::string provider;          // "vault" or "coffer"
  std::map<std::string, std::string> parameters;
};

// Who asks: from the volume context of NodePublishVolume.
struct Pod {
  std::string name;
  std::string kubernetes_namespace;
  std::string uid;
  std::string service_account;
  std::map<std::string, SecretBytes> tokens;  // by audience; "" = the API server's
};

// The audience of the token that a class which names none logs in with, among those there are:
// "vault" as with vault-csi-provider, else the API server's, else the only one. Unset: there is none
// of these.
std::optional<std::string> DefaultAudience(const std::set<std::string>& audiences);

struct File {
  std::string path;  // relative, "/" parts, no "." or ".." segments
  SecretBytes content;
  std::uint32_t mode = 0644;  // permission bits
  // Who owns it where the class says so; else it is as the volume.
  std::optional<std::uint32_t> owner = std::nullopt;
  std::optional<std::uint32_t> group = std::nullopt;
  AccessRules access = {};
  std::string version = {};  // of the object that it comes from
};

// One object's version, for rotation and SecretProviderClassPodStatus.
struct ObjectVersion {
  std::string id;       // the objectName
  std::string version;  // changes when the content does; tells nothing about it
};

struct FetchResult {
  std::vector<File> files;              // sorted by path
  // In the order of the class's objects; optional ones that are absent have none.
  std::vector<ObjectVersion> versions;
  // When what was read must be fetched again, with the same session: a lease is to be renewed or
  // replaced, with time to spare for another attempt. Unset where nothing read has an end; a token
  // that ends alone costs only a login at the next fetch.
  std::optional<absl::Time> refetch_by = std::nullopt;
  bool audit = false;  // the class wants each open of a file told of
  std::string warning;  // what in the class means nothing, once a session; "" = nothing
};

// What holds where a class is silent: the provider's flags and environment.
struct Defaults {
  std::string address = "https://127.0.0.1:8200";
  std::string vault_namespace;
  std::string auth_mount = "kubernetes";
  TlsClientOptions tls;
};

// One volume's share in its pod's token, and what was leased with it: kept between fetches, given
// back at the end. An empty one belongs to a volume that hasn't logged in yet.
class Session;
class PodLogin;
struct Parameters;
struct SessionDeleter {
  void operator()(Session* session) const;
};
using SessionPtr = std::unique_ptr<Session, SessionDeleter>;
SessionPtr NewSession();
// Whether it holds a token that is worth revoking.
bool HoldsToken(const Session& session);
// Whether something was leased with it, which giving it back would end.
bool HoldsLeases(const Session& session);

// Safe on any thread; one session is used by one call at a time.
class Provider {
 public:
  struct Options {
    Defaults defaults;
    // Makes the versions of secrets that have none of their own: a MAC over the content. Random
    // when empty, and then such versions change once at a restart.
    SecretBytes version_key;
    std::function<std::unique_ptr<HttpTransport>(const TlsClientOptions&)> make_transport =
        MakeStreamTransport;
  };

  Provider(const Clock& clock, Workers& workers, Options options);

  // Logs in as the pod, unless a token of it still serves (volumes of one pod that log in alike
  // share one), and reads every object, each distinct request once and all at the same time. Tries again for as long as `deadline` allows,
  // a few times, what may pass: lost connections and 5xx.
  // InvalidArgument: the class, by field; FailedPrecondition: no token of the right audience;
  // PermissionDenied, NotFound: the keystore's word; Unavailable: no keystore, or sealed.
  absl::StatusOr<FetchResult> Fetch(const SecretProviderClass& secret_class, const Pod& pod,
                                    Session& session, absl::Time deadline);

  // Gives the session's token back to the keystore, with everything leased by it, unless another
  // volume of the pod uses it. OK where the token is gone already; Unavailable: try again later.
  absl::Status Revoke(Session& session, absl::Time deadline);

  // Gives a session that knows its pod and login its transport, and the login that others of the
  // pod may have already, with the tokens of both.
  void Join(Session& session);

 private:
  // Reads all objects with a session that knows its login.
  absl::StatusOr<FetchResult> FetchAs(const std::string& name, const Parameters& parameters,
                                      const Pod& pod, Session& session, absl::Time deadline);
  std::shared_ptr<HttpTransport> TransportFor(const TlsClientOptions& tls);
  // False: others still use the login, which the session has no longer. Else it alone has it.
  bool Leave(Session& session);

  const Clock& clock_;
  Workers& workers_;
  Options options_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<HttpTransport>> transports_;  // by TLS options
  std::map<std::string, std::weak_ptr<PodLogin>> logins_;             // by pod and LoginKey
  std::size_t purge_at_ = 64;
};

}  // namespace coffer::provider
