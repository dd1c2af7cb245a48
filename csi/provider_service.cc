#include "csi/provider_service.h"

#include <grpcpp/support/proto_buffer_writer.h>

#include <algorithm>

#include "absl/time/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "csi/grpc_status.h"
#include "csi/received_message.h"
#include "csi/version.h"
#include "csi/volume_context.h"

namespace coffer::csi {
namespace {

constexpr std::size_t kMostSessions = 512;
constexpr std::chrono::hours kLongestIdle{1};
constexpr absl::Duration kLongestMount = absl::Seconds(110);
constexpr std::string_view kOfVolume = "csi.storage.k8s.io/";

absl::StatusOr<std::map<std::string, SecretBytes>> ReadAttributes(const std::string& text) {
  const absl::StatusOr<Json> attributes = ParseJson(text);
  if (!attributes.ok() || !attributes->is_object()) {
    return absl::InvalidArgumentError("attributes must be a JSON map of texts");
  }
  std::map<std::string, SecretBytes> read;
  for (const auto& [name, value] : attributes->items()) {
    if (!value.is_string()) {
      return absl::InvalidArgumentError(
          StrCat("attributes: ", std::string_view(name), " must be a text"));
    }
    read.emplace(std::string_view(name),
                 SecretBytes::CopyOf(std::string_view(value.get_ref<const SecretString&>())));
  }
  return read;
}

}  // namespace

grpc::ServerUnaryReactor* ProviderService::Version(grpc::CallbackServerContext* context,
                                                   const v1alpha1::VersionRequest*,
                                                   v1alpha1::VersionResponse* response) {
  response->set_version("v1alpha1");
  response->set_runtime_name("coffer-csi");
  response->set_runtime_version(kVersion);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* ProviderService::Mount(grpc::CallbackServerContext* context,
                                                 const grpc::ByteBuffer* received,
                                                 grpc::ByteBuffer* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Time deadline =
      std::min(absl::FromChrono(context->deadline()), absl::Now() + kLongestMount);
  const auto request = std::make_shared<v1alpha1::MountRequest>();
  if (const absl::Status read = ReadAndWipe(*received, request.get()); !read.ok()) {
    reactor->Finish(ToGrpc(read));
    return reactor;
  }
  workers_.Submit([this, reactor, request, response, deadline] {
    v1alpha1::MountResponse answer;
    const absl::Status mounted = MountFor(*request, deadline, &answer);
    Wipe(request->mutable_attributes());
    log::Write(mounted.ok() ? log::Level::kInfo : log::Level::kWarning,
               mounted.ok() ? "provided for the upstream driver" : "not provided",
               {{"target", request->target_path()}, {"status", mounted}});
    grpc::Status status = ToGrpc(mounted);
    bool own_buffer = false;
    if (status.ok()) {
      status = grpc::GenericSerialize<grpc::ProtoBufferWriter, v1alpha1::MountResponse>(
          answer, response, &own_buffer);
    }
    for (v1alpha1::File& file : *answer.mutable_files()) Wipe(file.mutable_contents());
    reactor->Finish(status);
  });
  return reactor;
}

absl::Status ProviderService::MountFor(const v1alpha1::MountRequest& request, absl::Time deadline,
                                       v1alpha1::MountResponse* response) {
  ASSIGN_OR_RETURN(const auto attributes, ReadAttributes(request.attributes()));
  absl::StatusOr<VolumeContext> context =
      ReadVolumeContext([&attributes](const std::string& key) -> std::string_view {
        const auto found = attributes.find(key);
        if (found != attributes.end()) return found->second.view();
        // Drivers before 1.4 didn't send the volume's own attributes; the name is for messages.
        return key == "secretProviderClass" ? "unnamed" : "";
      });
  RETURN_IF_ERROR(context.status());
  provider::SecretProviderClass secret_class;
  secret_class.name = context->secret_class;
  secret_class.kubernetes_namespace = context->pod.kubernetes_namespace;
  secret_class.provider = "vault";
  for (const auto& [name, value] : attributes) {
    if (name == "secretProviderClass" || name.starts_with(kOfVolume)) continue;
    secret_class.parameters.emplace(name, value.view());
  }
  if (tokens_ != nullptr) {
    RETURN_IF_ERROR(
        tokens_->Complete(secret_class.parameters["audience"], &*context, deadline));
  }
  const std::string key = StrCat(context->pod.uid, " ", request.target_path());
  provider::SessionPtr session = Take(key);
  absl::StatusOr<provider::FetchResult> fetched =
      provider_.Fetch(secret_class, context->pod, *session, deadline);
  Keep(key, std::move(session));
  RETURN_IF_ERROR(fetched.status());
  const bool ruled = std::any_of(
      fetched->files.begin(), fetched->files.end(), [](const provider::File& file) {
        return file.access.any() || file.owner.has_value() || file.group.has_value();
      });
  if (ruled || fetched->audit) {
    return absl::FailedPreconditionError(
        "the class asks for owner, group, audit, allowUIDs, allowExecutables, readOnce, availableFor "
        "or canary, which the upstream driver's volumes can't do: let Coffer's driver serve it");
  }
  for (const provider::ObjectVersion& version : fetched->versions) {
    v1alpha1::ObjectVersion* object = response->add_object_version();
    object->set_id(version.id);
    object->set_version(version.version);
  }
  for (const provider::File& file : fetched->files) {
    v1alpha1::File* answer = response->add_files();
    answer->set_path(file.path);
    answer->set_mode(static_cast<std::int32_t>(file.mode));
    answer->set_contents(file.content.data(), file.content.size());
  }
  return absl::OkStatus();
}

provider::SessionPtr ProviderService::Take(const std::string& key) {
  std::lock_guard lock(mutex_);
  const auto found = kept_.find(key);
  if (found == kept_.end()) return provider::NewSession();
  provider::SessionPtr session = std::move(found->second.session);
  kept_.erase(found);
  return session;
}

void ProviderService::Keep(const std::string& key, provider::SessionPtr session) {
  std::lock_guard lock(mutex_);
  ForgetTokensUsedBefore(now_() - kLongestIdle);
  if (!provider::HoldsToken(*session)) return;
  const auto [entry, added] = kept_.try_emplace(key);
  if (!added) revoker_.Revoke(std::move(entry->second.session));  // of another call at the same time
  entry->second = {std::move(session), now_()};
  if (kept_.size() <= kMostSessions) return;
  const auto oldest = std::min_element(kept_.begin(), kept_.end(), [](const auto& a, const auto& b) {
    return a.second.used < b.second.used;
  });
  revoker_.Revoke(std::move(oldest->second.session));
  kept_.erase(oldest);
}

void ProviderService::ForgetTokens() {
  std::lock_guard lock(mutex_);
  ForgetTokensUsedBefore(SteadyTime::max());
}

void ProviderService::ForgetTokensUsedBefore(SteadyTime time) {
  for (auto kept = kept_.begin(); kept != kept_.end();) {
    const bool goes = kept->second.used < time && !provider::HoldsLeases(*kept->second.session);
    if (goes) revoker_.Revoke(std::move(kept->second.session));
    kept = goes ? kept_.erase(kept) : std::next(kept);
  }
}

}  // namespace coffer::csi
