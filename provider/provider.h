// Provider: a SecretProviderClass and a pod's token become a set of files. Speaks the Vault HTTP API,
// so it works against the bundled keystore, Vault and OpenBao.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/http_client.h"
#include "common/secret_bytes.h"

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

struct File {
  std::string path;  // relative, "/" parts, no "." or ".." segments
  SecretBytes content;
  std::uint32_t mode = 0644;  // permission bits
};

// One object's version, for rotation and SecretProviderClassPodStatus.
struct ObjectVersion {
  std::string id;       // "<objectName>:<secretPath>:<method>"-like, stable
  std::string version;  // changes when the content does; tells nothing about it
};

struct FetchResult {
  std::vector<File> files;  // sorted by path
  std::vector<ObjectVersion> versions;
};

// The scoped token of one volume: kept between fetches, revoked at the end.
class Session;

}  // namespace coffer::provider
