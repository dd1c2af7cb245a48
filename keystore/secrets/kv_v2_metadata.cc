#include "common/duration.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/core/rfc3339.h"
#include "keystore/secrets/kv_v2.h"

namespace coffer::keystore {
namespace {

constexpr std::string_view kCasMandated =
    "\"cas_required\" set to false, but is mandated by backend config. This value will be ignored.";

// Takes over the settings that the request gives, custom metadata aside. A null puts one back.
absl::Status ApplySettings(const Request& request, const KvConfig& config, KvMetadata* metadata,
                           Response* response) {
  if (request.has("max_versions")) {
    metadata->max_versions = request.integer("max_versions");
    if (metadata->max_versions < 0) {
      return absl::InvalidArgumentError("max_versions cannot be negative");
    }
  }
  if (request.has("cas_required")) {
    metadata->cas_required = request.boolean("cas_required");
    if (config.cas_required && !metadata->cas_required) {
      response->warnings.emplace_back(kCasMandated);
    }
  }
  if (request.has("delete_version_after")) {
    metadata->delete_version_after = request.duration("delete_version_after");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Response> KvV2::ReadMetadata(const Request& request, Txn& txn) {
  if (request.text("path").empty()) return absl::NotFoundError("");
  ASSIGN_OR_RETURN(const std::string_view path, SecretPath(request));
  ASSIGN_OR_RETURN(const auto metadata, Load(txn, path));
  if (metadata == nullptr) return absl::NotFoundError("");
  Json versions = Json::object();
  for (const KvVersion& version : metadata->versions) {
    versions[Json::string_t(StrCat(version.number))] = {
        {"created_time", FormatRfc3339(version.created)},
        {"deletion_time", FormatDeletion(version.deletion)},
        {"destroyed", version.destroyed}};
  }
  return Response::Data(
      {{"cas_required", metadata->cas_required},
       {"created_time", FormatRfc3339(metadata->created)},
       {"current_version", metadata->current_version},
       {"custom_metadata", metadata->custom},
       {"delete_version_after", FormatGoDuration(metadata->delete_version_after)},
       {"max_versions", metadata->max_versions},
       {"oldest_version", metadata->oldest_version},
       {"updated_time", FormatRfc3339(metadata->updated)},
       {"versions", std::move(versions)}});
}

absl::StatusOr<Response> KvV2::WriteMetadata(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const std::string_view path, SecretPath(request));
  if (!request.has("max_versions") && !request.has("cas_required") &&
      !request.has("delete_version_after") && !request.has("custom_metadata")) {
    return Response::Empty();
  }
  ASSIGN_OR_RETURN(const auto config, LoadConfig(txn));
  const std::shared_ptr<const KvMetadata> stored = Existing(request);
  KvMetadata metadata = stored ? *stored : NewMetadata(clock_.Now());
  Response response;
  RETURN_IF_ERROR(ApplySettings(request, *config, &metadata, &response));
  if (request.has("custom_metadata")) {
    ASSIGN_OR_RETURN(metadata.custom, CheckCustomMetadata(request.json("custom_metadata"), false));
  }
  ASSIGN_OR_RETURN(const auto saved, Save(txn, path, std::move(metadata)));
  Tell(txn, request, "metadata-write", KvPart::kMetadata, path, saved.get());
  return response;
}

absl::StatusOr<Response> KvV2::PatchMetadata(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const std::string_view path, SecretPath(request));
  ASSIGN_OR_RETURN(const auto config, LoadConfig(txn));
  ASSIGN_OR_RETURN(const auto stored, Load(txn, path));
  if (stored == nullptr) return absl::NotFoundError("");
  KvMetadata metadata = *stored;
  Response response;
  RETURN_IF_ERROR(ApplySettings(request, *config, &metadata, &response));
  if (request.has("custom_metadata")) {
    const Json& given = request.json("custom_metadata");
    if (given.is_null()) {
      metadata.custom = nullptr;
    } else {
      ASSIGN_OR_RETURN(const Json patch, CheckCustomMetadata(given, true));
      if (patch.is_object()) metadata.custom.merge_patch(patch);
      ASSIGN_OR_RETURN(metadata.custom, CheckCustomMetadata(metadata.custom, false));
    }
  }
  ASSIGN_OR_RETURN(const auto saved, Save(txn, path, std::move(metadata)));
  Tell(txn, request, "metadata-patch", KvPart::kMetadata, path, saved.get());
  return response;
}

absl::StatusOr<Response> KvV2::DeleteMetadata(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const std::string_view path, SecretPath(request));
  ASSIGN_OR_RETURN(const auto metadata, Load(txn, path));
  if (metadata == nullptr) return Response::Empty();
  for (const KvVersion& version : metadata->versions) {
    RETURN_IF_ERROR(txn.Delete(VersionPath(*metadata, version.number)));
  }
  RETURN_IF_ERROR(txn.Delete(StrCat("metadata/", path)));
  Tell(txn, request, "metadata-delete", KvPart::kMetadata, path, nullptr);
  return Response::Empty();
}

absl::StatusOr<Response> KvV2::ListMetadata(const Request& request, Txn& txn) {
  std::string directory = StrCat("metadata/", request.text("path"));
  if (!directory.ends_with('/')) directory += '/';
  if (directory.find("//") != directory.npos) return absl::NotFoundError("");
  ASSIGN_OR_RETURN(const std::vector<std::string> keys, txn.List(directory));
  if (keys.empty()) return absl::NotFoundError("");
  return Response::Data({{"keys", keys}});
}

}  // namespace coffer::keystore
