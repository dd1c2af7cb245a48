#include "csi/vendor_providers.h"

#include <grpcpp/grpcpp.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>

#include "common/json.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "csi/received_message.h"
#include "proto/secretsstore.grpc.pb.h"

namespace coffer::csi {
namespace {

// The upstream driver's rule; it keeps a class from naming files elsewhere.
bool IsProviderName(std::string_view name) {
  return !name.empty() && name.size() <= 30 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '-' || c == '_';
  });
}

std::string Attributes(const provider::SecretProviderClass& secret_class,
                       const VolumeContext& context) {
  Json attributes = Json::object();
  for (const auto& [name, value] : secret_class.parameters) {
    attributes[SecretString(name)] = SecretString(value);
  }
  for (const auto& [name, value] : context.attributes) {
    attributes[SecretString(name)] = SecretString(value);
  }
  if (!context.pod.tokens.empty()) {
    Json tokens = Json::object();
    for (const auto& [audience, token] : context.pod.tokens) {
      const auto expiration = context.expirations.find(audience);
      tokens[SecretString(audience)] = {
          {"token", SecretString(token.view())},
          {"expirationTimestamp",
           SecretString(expiration == context.expirations.end() ? "" : expiration->second)}};
    }
    attributes[kTokensKey] = SecretString(DumpJson(tokens).view());
  }
  return std::string(DumpJson(attributes).view());
}

absl::StatusOr<provider::FetchResult> FilesOf(v1alpha1::MountResponse& response,
                                              std::string* error_type) {
  if (!response.error().code().empty()) {
    *error_type = response.error().code();
    return absl::UnavailableError(StrCat("error code ", response.error().code()));
  }
  if (response.files().empty()) {
    return absl::FailedPreconditionError(
        "it answered no files: a provider that writes them itself is too old, use one of 2021 or "
        "later");
  }
  provider::FetchResult result;
  for (v1alpha1::File& file : *response.mutable_files()) {
    if (file.mode() < 0 || file.mode() > 0777) {
      return absl::InternalError(StrCat("it answered mode ", file.mode(), " for ", file.path(),
                                        ", which isn't between 0 and 511"));
    }
    result.files.push_back({.path = file.path(),
                            .content = SecretBytes::CopyOf(file.contents()),
                            .mode = static_cast<std::uint32_t>(file.mode())});
    Wipe(file.mutable_contents());
  }
  std::sort(result.files.begin(), result.files.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });
  for (const v1alpha1::ObjectVersion& version : response.object_version()) {
    result.versions.push_back({version.id(), version.version()});
  }
  return result;
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> VendorProviders::ChannelTo(
    const std::string& provider) {
  if (!IsProviderName(provider)) {
    return absl::InvalidArgumentError(
        "may have letters, digits, \"-\" and \"_\", 30 at most");
  }
  std::string tried;
  for (const std::string& folder : folders_) {
    const std::string path = StrCat(folder, "/", provider, ".sock");
    struct stat facts = {};
    if (stat(path.c_str(), &facts) != 0 || !S_ISSOCK(facts.st_mode)) {
      StrAppend(&tried, tried.empty() ? "" : " and ", path);
      continue;
    }
    std::lock_guard lock(mutex_);
    std::shared_ptr<grpc::Channel>& channel = channels_[path];
    if (channel == nullptr) {
      grpc::ChannelArguments arguments;
      arguments.SetMaxReceiveMessageSize(most_bytes_);
      arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
      channel = grpc::CreateCustomChannel(StrCat("unix:", path),
                                          grpc::InsecureChannelCredentials(), arguments);
    }
    return channel;
  }
  return absl::FailedPreconditionError(
      StrCat("isn't served here (use vault or coffer), and that vendor's provider isn't running on "
             "this node: there is no socket ",
             tried));
}

absl::StatusOr<provider::FetchResult> VendorProviders::Fetch(
    const provider::SecretProviderClass& secret_class, const VolumeContext& context,
    const std::string& target, const std::vector<provider::ObjectVersion>& current,
    absl::Time deadline, std::string* error_type) {
  *error_type = "FailedToLookupProviderGRPCClient";
  const std::string where =
      StrCat("SecretProviderClass ", secret_class.kubernetes_namespace, "/", secret_class.name,
             ": spec.provider: \"", secret_class.provider, "\" ");
  const auto channel = ChannelTo(secret_class.provider);
  if (!channel.ok()) {
    return absl::Status(channel.status().code(), ToAbsl(StrCat(where, Message(channel.status()))));
  }
  v1alpha1::MountRequest request;
  request.set_attributes(Attributes(secret_class, context));
  request.set_secrets(context.secrets.empty() ? "{}" : std::string(context.secrets.view()));
  request.set_target_path(target);
  request.set_permission("420");  // 0644
  for (const provider::ObjectVersion& version : current) {
    v1alpha1::ObjectVersion* object = request.add_current_object_version();
    object->set_id(version.id);
    object->set_version(version.version);
  }
  grpc::ClientContext call;
  call.set_deadline(absl::ToChronoTime(deadline));
  call.set_wait_for_ready(false);
  v1alpha1::MountResponse response;
  *error_type = "GRPCProviderError";
  const grpc::Status status =
      v1alpha1::CSIDriverProvider::NewStub(*channel)->Mount(&call, request, &response);
  Wipe(request.mutable_attributes());
  Wipe(request.mutable_secrets());
  absl::StatusOr<provider::FetchResult> result =
      status.ok() ? FilesOf(response, error_type)
                  : absl::StatusOr<provider::FetchResult>(
                        absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                                     status.error_message()));
  if (result.ok()) return result;
  return absl::Status(result.status().code(),
                      ToAbsl(StrCat(where, "failed: ", Message(result.status()))));
}

}  // namespace coffer::csi
