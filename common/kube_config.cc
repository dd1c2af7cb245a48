#include "common/kube_config.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "common/json.h"
#include "common/json_members.h"
#include "common/proxy.h"
#include "common/secret_file.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/yaml.h"

namespace coffer {
namespace {

// The entry of `list` (clusters, contexts, users) with that name; its member `kind`.
absl::StatusOr<Json> Named(const Json& config, const char* list, const char* kind,
                           std::string_view name) {
  const auto entries = config.find(list);
  if (entries != config.end() && entries->is_array()) {
    for (const Json& entry : *entries) {
      if (TextAt(entry, "name") == name && entry.contains(kind) && entry[kind].is_object()) {
        return entry[kind];
      }
    }
  }
  return absl::InvalidArgumentError(StrCat(list, ": has no ", kind, " named \"", name, "\""));
}

class Reader {
 public:
  Reader(const std::string& path, KubeConfig* config)
      : folder_(std::filesystem::path(path).parent_path()), config_(config) {}

  // A file that `object` names as `field`, or holds as `field`-data in base64.
  absl::Status File(const Json& object, const std::string& field, std::string* path) {
    const std::string data_field = StrCat(field, "-data");
    const auto data = object.find(SecretString(data_field));
    if (data != object.end() && data->is_string()) {
      absl::StatusOr<SecretBytes> bytes = DecodeBase64(data->get_ref<const SecretString&>());
      if (!bytes.ok()) {
        return absl::InvalidArgumentError(StrCat(data_field, ": ", Message(bytes.status())));
      }
      return InMemory(*bytes, field, path);
    }
    *path = Resolved(TextAt(object, field));
    return absl::OkStatus();
  }

  // Paths are relative to the kubeconfig's folder.
  std::string Resolved(std::string_view path) const {
    return path.empty() ? "" : std::string(folder_ / path);
  }

 private:
  absl::Status InMemory(const SecretBytes& bytes, const std::string& name, std::string* path) {
    UniqueFd fd(memfd_create(name.c_str(), MFD_CLOEXEC));
    if (!fd || write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      return absl::InternalError(StrCat("no memory file for ", name));
    }
    *path = StrCat("/proc/self/fd/", fd.get());
    config_->inline_files.push_back(std::move(fd));
    return absl::OkStatus();
  }

  const std::filesystem::path folder_;
  KubeConfig* config_;
};

absl::Status ReadUser(const Json& user, Reader& reader, KubeConfig* config) {
  for (const char* field : {"exec", "auth-provider", "username"}) {
    if (user.contains(field)) {
      return absl::InvalidArgumentError(StrCat(
          "user.", field, ": isn't supported: use a token, tokenFile or client certificate"));
    }
  }
  RETURN_IF_ERROR(reader.File(user, "client-certificate", &config->tls.client_certificate_file));
  RETURN_IF_ERROR(reader.File(user, "client-key", &config->tls.client_key_file));
  config->token_file = reader.Resolved(TextAt(user, "tokenFile"));
  const auto token = user.find("token");
  if (config->token_file.empty() && token != user.end() && token->is_string()) {
    config->token = SecretBytes::CopyOf(token->get_ref<const SecretString&>());
  }
  return absl::OkStatus();
}

absl::StatusOr<KubeConfig> Read(const std::string& path, const Json& file) {
  KubeConfig config;
  Reader reader(path, &config);
  const std::string_view current = TextAt(file, "current-context");
  if (current.empty()) return absl::InvalidArgumentError("current-context: is missing");
  ASSIGN_OR_RETURN(const Json context, Named(file, "contexts", "context", current));
  ASSIGN_OR_RETURN(const Json cluster,
                   Named(file, "clusters", "cluster", TextAt(context, "cluster")));
  config.server = TextAt(cluster, "server");
  while (config.server.ends_with('/')) config.server.pop_back();
  if (!config.server.starts_with("https://") && !config.server.starts_with("http://")) {
    return absl::InvalidArgumentError("cluster.server: must be an http:// or https:// URL");
  }
  RETURN_IF_ERROR(reader.File(cluster, "certificate-authority", &config.tls.ca_file));
  config.tls.skip_verify = TextAt(cluster, "insecure-skip-tls-verify") == "true";
  config.tls.server_name = TextAt(cluster, "tls-server-name");
  config.proxy = SecretBytes::CopyOf(TextAt(cluster, "proxy-url"));
  if (!config.proxy.empty()) {
    const auto proxy =
        ProxyRules::Through("cluster.proxy-url", config.proxy.view()).For(*ParseUrl("http://x"));
    if (!proxy.ok()) return absl::InvalidArgumentError(ToAbsl(Message(proxy.status())));
  }
  if (const std::string_view user = TextAt(context, "user"); !user.empty()) {
    ASSIGN_OR_RETURN(const Json found, Named(file, "users", "user", user));
    RETURN_IF_ERROR(ReadUser(found, reader, &config));
  }
  return config;
}

}  // namespace

absl::StatusOr<KubeConfig> LoadKubeConfig(const std::string& path) {
  const absl::StatusOr<SecretBytes> text = ReadSecretFile(path);
  if (!text.ok()) {
    return absl::NotFoundError(
        StrCat("kubeconfig: ", Message(text.status()),
               "; name one that is there, or none within a pod, whose ServiceAccount is used then"));
  }
  absl::StatusOr<std::vector<Json>> documents = ParseYaml(text->view());
  absl::StatusOr<KubeConfig> config = absl::InvalidArgumentError("must be one YAML map");
  if (!documents.ok()) {
    config = documents.status();
  } else if (documents->size() == 1 && documents->front().is_object()) {
    config = Read(path, documents->front());
  }
  if (config.ok()) return config;
  return absl::Status(config.status().code(),
                      ToAbsl(StrCat("kubeconfig ", path, ": ", Message(config.status()))));
}

absl::StatusOr<KubeConfig> InClusterConfig(std::string_view folder) {
  const char* host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (host == nullptr || *host == '\0' || port == nullptr || *port == '\0') {
    return absl::FailedPreconditionError(
        "not in a cluster (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT aren't set): use "
        "--kubeconfig=FILE, or --secret-provider-class-dir=FOLDER where there is no cluster");
  }
  const bool v6 = std::string_view(host).find(':') != std::string_view::npos;
  KubeConfig config;
  config.server = StrCat("https://", v6 ? "[" : "", host, v6 ? "]" : "", ":", port);
  config.tls.ca_file = StrCat(folder, "/ca.crt");
  config.token_file = StrCat(folder, "/token");
  return config;
}

}  // namespace coffer
