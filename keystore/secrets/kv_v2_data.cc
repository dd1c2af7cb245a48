#include "absl/strings/numbers.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/secrets/kv_v2.h"

namespace coffer::keystore {
namespace {

// The version that the request asks for; null where there is none.
const KvVersion* Asked(const Request& request, const KvMetadata& metadata) {
  const std::int64_t number = request.integer("version");
  return metadata.Find(number > 0 ? number : metadata.current_version);
}

absl::Status NoData(const KvVersion& version) {
  return absl::DataLossError(
      StrCat("the data of version ", version.number, " is not in storage"));
}

absl::StatusOr<Json> LoadData(Txn& txn, const KvMetadata& metadata, const KvVersion& version) {
  ASSIGN_OR_RETURN(std::optional<Json> data, txn.GetJson(VersionPath(metadata, version.number)));
  if (!data) return NoData(version);
  return *std::move(data);
}

absl::Status CheckCas(const Request& request, const KvConfig& config, const KvMetadata& metadata) {
  const Json& options = request.json("options");
  const auto cas = options.find("cas");
  if (!options.is_object() || cas == options.end()) {
    if (!config.cas_required && !metadata.cas_required) return absl::OkStatus();
    return absl::InvalidArgumentError("check-and-set parameter required for this call");
  }
  std::int64_t version = 0;
  if (cas->is_number_integer()) {
    version = cas->get<std::int64_t>();
  } else if (cas->is_string()) {
    const std::string_view text = cas->get_ref<const Json::string_t&>();
    if (!text.empty() && !absl::SimpleAtoi(ToAbsl(text), &version)) {
      return absl::InvalidArgumentError("error parsing check-and-set parameter");
    }
  } else if (!cas->is_null()) {
    return absl::InvalidArgumentError("error parsing check-and-set parameter");
  }
  if (version == metadata.current_version) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "check-and-set parameter did not match the current version");
}

// Puts null in place of all that isn't an object with members, and of objects below `depth` levels.
void RemoveValues(Json& object, std::int64_t depth) {
  for (Json& value : object) {
    if (value.is_object() && !value.empty() && depth != 1) {
      RemoveValues(value, depth == 0 ? 0 : depth - 1);
    } else {
      value = nullptr;
    }
  }
}

}  // namespace

absl::StatusOr<Response> KvV2::Read(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const std::string_view path, SecretPath(request));
  ASSIGN_OR_RETURN(const auto metadata, Load(txn, path));
  if (metadata == nullptr) return absl::NotFoundError("");
  const KvVersion* version = Asked(request, *metadata);
  if (version == nullptr) return absl::NotFoundError("");
  if (version->destroyed || version->deleted(clock_.Now())) {
    return Response::NotFoundWith(
        {{"data", nullptr}, {"metadata", DescribeVersion(*metadata, *version)}});
  }
  ASSIGN_OR_RETURN(const std::optional<SecretBytes> data,
                   txn.Get(VersionPath(*metadata, version->number)));
  if (!data) return NoData(*version);
  // Nothing here looks into the secret, so what is stored goes out as it is.
  SecretBytes older;
  std::string_view description = metadata->newest_text;
  if (version->number != metadata->current_version) {
    older = DumpJson(DescribeVersion(*metadata, *version));
    description = older.view();
  }
  Response response;
  SecretBytes& text = response.data_text;
  text.Reserve(data->size() + description.size() + 24);
  text.Append("{\"data\":");
  text.Append(data->span());
  text.Append(",\"metadata\":");
  text.Append(description);
  text.Append("}");
  return response;
}

absl::StatusOr<Response> KvV2::ReadSubkeys(const Request& request, Txn& txn) {
  if (request.text("path").empty()) return absl::NotFoundError("");
  ASSIGN_OR_RETURN(const std::string_view path, SecretPath(request));
  ASSIGN_OR_RETURN(const auto metadata, Load(txn, path));
  if (metadata == nullptr) return absl::NotFoundError("");
  const KvVersion* version = Asked(request, *metadata);
  if (version == nullptr) return absl::NotFoundError("");
  const Json description = DescribeVersion(*metadata, *version);
  if (version->destroyed || version->deleted(clock_.Now())) {
    return Response::NotFoundWith({{"subkeys", nullptr}, {"metadata", description}});
  }
  ASSIGN_OR_RETURN(Json data, LoadData(txn, *metadata, *version));
  RemoveValues(data, std::max<std::int64_t>(0, request.integer("depth")));
  return Response::Data({{"subkeys", std::move(data)}, {"metadata", description}});
}

absl::StatusOr<Response> KvV2::AddVersion(const Request& request, Txn& txn,
                                          std::string_view operation, KvMetadata metadata,
                                          const KvConfig& config, const Json& data,
                                          absl::Time now) {
  const std::string_view path = request.text("path");
  const std::vector<std::int64_t> dropped = metadata.AddVersion(config, now);
  RETURN_IF_ERROR(txn.PutJson(VersionPath(metadata, metadata.current_version), data));
  for (const std::int64_t number : dropped) {
    RETURN_IF_ERROR(txn.Delete(VersionPath(metadata, number)));
  }
  ASSIGN_OR_RETURN(const auto saved, Save(txn, path, std::move(metadata)));
  Tell(txn, request, operation, KvPart::kData, path, saved.get());
  Response response;
  response.data_text = SecretBytes::CopyOf(saved->newest_text);
  return response;
}

absl::StatusOr<Response> KvV2::Write(const Request& request, Txn& txn) {
  RETURN_IF_ERROR(SecretPath(request).status());
  const Json& data = request.json("data");
  if (!data.is_object()) return absl::InvalidArgumentError("no data provided");
  ASSIGN_OR_RETURN(const auto config, LoadConfig(txn));
  const std::shared_ptr<const KvMetadata> stored = Existing(request);
  const absl::Time now = clock_.Now();
  KvMetadata metadata = stored ? *stored : NewMetadata(now);
  RETURN_IF_ERROR(CheckCas(request, *config, metadata));
  return AddVersion(request, txn, "data-write", std::move(metadata), *config, data, now);
}

absl::StatusOr<Response> KvV2::Patch(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const std::string_view path, SecretPath(request));
  const Json& patch = request.json("data");
  if (!patch.is_object()) return absl::InvalidArgumentError("no data provided");
  ASSIGN_OR_RETURN(const auto metadata, Load(txn, path));
  if (metadata == nullptr) return absl::NotFoundError("");
  ASSIGN_OR_RETURN(const auto config, LoadConfig(txn));
  RETURN_IF_ERROR(CheckCas(request, *config, *metadata));
  const KvVersion* newest = metadata->Find(metadata->current_version);
  if (newest == nullptr) return absl::NotFoundError("");
  if (newest->destroyed || newest->deleted(clock_.Now())) {
    return Response::NotFoundWith(DescribeVersion(*metadata, *newest));
  }
  ASSIGN_OR_RETURN(Json data, LoadData(txn, *metadata, *newest));
  data.merge_patch(patch);
  return AddVersion(request, txn, "data-patch", *metadata, *config, data, clock_.Now());
}

absl::StatusOr<Response> KvV2::DeleteNewest(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const std::string_view path, SecretPath(request));
  ASSIGN_OR_RETURN(const auto stored, Load(txn, path));
  if (stored == nullptr) return Response::Empty();
  KvMetadata metadata = *stored;
  KvVersion* newest = metadata.Find(metadata.current_version);
  const absl::Time now = clock_.Now();
  if (newest == nullptr || newest->destroyed || newest->deleted(now)) return Response::Empty();
  newest->deletion = now;
  ASSIGN_OR_RETURN(const auto saved, Save(txn, path, std::move(metadata)));
  Tell(txn, request, "data-delete", KvPart::kData, path, saved.get());
  return Response::Empty();
}

}  // namespace coffer::keystore
