// Storage of a mount:
//   config              the mount's settings                 (kv_metadata.cc)
//   metadata/<path>     a secret's settings and versions     (kv_metadata.cc)
//   version/<id>-<n>    the data of version n, a JSON object
// <id> stands in the metadata: version entries need no directories of their own, and a path that is
// used again after its metadata was deleted meets nothing old.
#include "keystore/secrets/kv_v2.h"

#include "absl/strings/numbers.h"
#include "common/duration.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

constexpr std::size_t kIdLength = 16;

const Field kPath{"path", FieldType::kString, "Location of the secret"};
const Field kVersion{"version", FieldType::kInteger, "The version; 0 or none: the newest"};
const Field kVersions{"versions", FieldType::kAny, "The versions: a list of numbers"};

std::vector<Field> SettingFields(FieldType duration) {
  return {{"max_versions", FieldType::kInteger, "How many versions are kept; 0: not set"},
          {"cas_required", FieldType::kBoolean, "Writes must give the cas option"},
          {"delete_version_after", duration, "For how long a version lives; 0: not set"}};
}

// What of "vault kv" does the operation where it is right; "" for none.
std::string_view CommandFor(Operation operation) {
  switch (operation) {
    case Operation::kRead: return "get";
    case Operation::kCreate:
    case Operation::kUpdate: return "put";
    case Operation::kPatch: return "patch";
    case Operation::kDelete: return "delete";
    case Operation::kList: return "list";
    case Operation::kHelp: break;
  }
  return "";
}

// A list of numbers, of texts, "1,2", or one number.
absl::StatusOr<std::vector<std::int64_t>> VersionsOf(const Request& request,
                                                     std::string_view none) {
  std::vector<std::int64_t> versions;
  const auto wrong = [] {
    return absl::InvalidArgumentError(
        "Field validation failed: error converting input for field \"versions\": give a list of "
        "numbers");
  };
  const auto add = [&](const Json& item) {
    std::int64_t number = 0;
    if (item.is_number_integer()) {
      versions.push_back(item.get<std::int64_t>());
      return true;
    }
    if (!item.is_string()) return false;
    for (const std::string_view piece : Split(item.get_ref<const Json::string_t&>(), ',')) {
      if (Trim(piece).empty()) continue;
      if (!absl::SimpleAtoi(ToAbsl(Trim(piece)), &number)) return false;
      versions.push_back(number);
    }
    return true;
  };
  const Json& given = request.json("versions");
  if (given.is_array()) {
    for (const Json& item : given) {
      if (!add(item)) return wrong();
    }
  } else if (!given.is_null() && !add(given)) {
    return wrong();
  }
  if (versions.empty()) return absl::InvalidArgumentError(std::string(none));
  return versions;
}

}  // namespace

KvV2::KvV2(const Clock& clock, EventBus* events)
    : clock_(clock), events_(events), routes_(MakeRoutes()) {}

void KvV2::Tell(Txn& txn, const Request& request, std::string_view operation, KvPart part,
                std::string_view path, const KvMetadata* metadata) {
  TellKvV2(events_, txn, request, operation, part, path,
           metadata == nullptr ? 0 : metadata->current_version,
           metadata == nullptr ? 0 : metadata->oldest_version);
}

// In Vault's words: clients look for them to tell the version of a mount.
std::optional<Response> KvV2::AnswerUnrouted(Operation operation, std::string_view path) const {
  const std::string_view command = CommandFor(operation);
  if (command.empty()) return std::nullopt;
  Response response = Response::NotFoundWith(nullptr);
  for (const std::string_view root : {"metadata", "data", "delete", "undelete", "destroy"}) {
    if (path != root) continue;
    response.warnings = {"Non-listing operations on the root of a K/V v2 mount are not supported."};
    return response;
  }
  response.warnings = {StrCat(
      "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API "
      "endpoints to use. If using the Vault CLI, use 'vault kv ",
      command, "' for this operation.")};
  return response;
}

void KvV2::OnSeal() {
  metadata_.Clear();
  configs_.Clear();
}

std::vector<Route> KvV2::MakeRoutes() {
  using enum Operation;
  using Method = absl::StatusOr<Response> (KvV2::*)(const Request&, Txn&);
  const auto to = [this](Method method) {
    return [this, method](const Request& request, Txn& txn) { return (this->*method)(request, txn); };
  };
  const auto exists = [this](Request& request, Txn& txn) -> absl::StatusOr<bool> {
    const absl::StatusOr<std::string_view> path = SecretPath(request);
    if (!path.ok()) return false;
    ASSIGN_OR_RETURN(request.existing, Load(txn, *path));
    return request.existing != nullptr;
  };
  std::vector<Field> metadata_fields = SettingFields(FieldType::kDuration);
  metadata_fields.push_back(kPath);
  metadata_fields.push_back({"custom_metadata", FieldType::kMap, "Texts that describe the secret"});
  const std::vector<Field> data_fields = {
      kPath, kVersion, {"data", FieldType::kMap, "The secret"},
      {"options", FieldType::kMap, "\"cas\": the write is refused unless this is the newest version"}};
  return {
      {"data/{path+}", "Reads, writes, patches and deletes the newest version.", data_fields,
       {{kRead, to(&KvV2::Read)},
        {kUpdate, to(&KvV2::Write)},
        {kPatch, to(&KvV2::Patch)},
        {kDelete, to(&KvV2::DeleteNewest)}},
       Access::kToken, exists},
      {"metadata/{path*}", "A secret's settings and versions; lists secrets.", metadata_fields,
       {{kRead, to(&KvV2::ReadMetadata)},
        {kUpdate, to(&KvV2::WriteMetadata)},
        {kPatch, to(&KvV2::PatchMetadata)},
        {kDelete, to(&KvV2::DeleteMetadata)},
        {kList, to(&KvV2::ListMetadata)}},
       Access::kToken, exists},
      {"config", "The mount's settings.", SettingFields(FieldType::kAny),
       {{kRead, to(&KvV2::ReadConfig)}, {kUpdate, to(&KvV2::WriteConfig)}}},
      {"delete/{path+}", "Deletes versions, so that they can be undeleted.", {kPath, kVersions},
       {{kUpdate, to(&KvV2::Delete)}}},
      {"undelete/{path+}", "Brings back versions that were deleted.", {kPath, kVersions},
       {{kUpdate, to(&KvV2::Undelete)}}},
      {"destroy/{path+}", "Destroys the data of versions for good.", {kPath, kVersions},
       {{kUpdate, to(&KvV2::Destroy)}}},
      {"subkeys/{path*}", "The names within a secret, without the values.",
       {kPath, kVersion,
        {"depth", FieldType::kInteger, "How many levels are shown; 0: all"}},
       {{kRead, to(&KvV2::ReadSubkeys)}}},
  };
}

absl::StatusOr<std::string_view> SecretPath(const Request& request) {
  const std::string_view path = request.text("path");
  if (path.empty()) return absl::InvalidArgumentError("missing path");
  if (path.ends_with('/')) {
    return absl::InvalidArgumentError("the path of a secret cannot end in '/'");
  }
  for (const std::string_view segment : Split(path, '/')) {
    if (segment.empty()) {
      return absl::InvalidArgumentError("the path of a secret cannot have empty segments");
    }
    if (segment == "." || segment == "..") {
      return absl::InvalidArgumentError("path cannot contain parent references");
    }
  }
  return path;
}

std::string VersionPath(const KvMetadata& metadata, std::int64_t number) {
  return StrCat("version/", metadata.id, "-", number);
}

absl::StatusOr<std::shared_ptr<const KvMetadata>> KvV2::Load(Txn& txn, std::string_view path) {
  return metadata_.Get(txn, StrCat("metadata/", path), [](SecretBytes stored) {
    return DecodeKvMetadata(stored.view());
  });
}

std::shared_ptr<const KvMetadata> KvV2::Existing(const Request& request) {
  return std::static_pointer_cast<const KvMetadata>(request.existing);
}

absl::StatusOr<std::shared_ptr<const KvMetadata>> KvV2::Save(Txn& txn, std::string_view path,
                                                             KvMetadata metadata) {
  metadata.MakeNewestText();
  auto saved = std::make_shared<const KvMetadata>(std::move(metadata));
  const std::string stored_path = StrCat("metadata/", path);
  RETURN_IF_ERROR(txn.Put(stored_path, EncodeKvMetadata(*saved).view()));
  metadata_.Added(txn, stored_path, saved);
  return saved;
}

absl::StatusOr<std::shared_ptr<const KvConfig>> KvV2::LoadConfig(Txn& txn) {
  static const auto* unset = new std::shared_ptr<const KvConfig>(std::make_shared<KvConfig>());
  ASSIGN_OR_RETURN(auto config, configs_.Get(txn, "config", [](SecretBytes stored) {
                     return DecodeKvConfig(stored.view());
                   }));
  return config ? config : *unset;
}

KvMetadata KvV2::NewMetadata(absl::Time now) {
  KvMetadata metadata;
  metadata.id = std::string(RandomBase62(kIdLength).view());
  metadata.created = metadata.updated = now;
  return metadata;
}

absl::StatusOr<Response> KvV2::ReadConfig(const Request&, Txn& txn) {
  ASSIGN_OR_RETURN(const auto config, LoadConfig(txn));
  return Response::Data({{"cas_required", config->cas_required},
                         {"delete_version_after", FormatGoDuration(config->delete_version_after)},
                         {"max_versions", config->max_versions}});
}

absl::StatusOr<Response> KvV2::WriteConfig(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const auto stored, LoadConfig(txn));
  KvConfig config = *stored;
  if (request.has("max_versions")) config.max_versions = request.integer("max_versions");
  if (config.max_versions < 0) {
    return absl::InvalidArgumentError("max_versions cannot be negative");
  }
  if (request.has("cas_required")) config.cas_required = request.boolean("cas_required");
  if (request.has("delete_version_after")) {
    const Json& given = request.json("delete_version_after");
    absl::StatusOr<absl::Duration> after = absl::InvalidArgumentError("");
    if (given.is_number_integer()) after = absl::Seconds(given.get<std::int64_t>());
    if (given.is_string()) after = ParseDuration(given.get_ref<const Json::string_t&>());
    if (given.is_null()) after = absl::ZeroDuration();
    if (!after.ok()) {
      return absl::InvalidArgumentError(
          "Field validation failed: error converting input for field \"delete_version_after\": "
          "give a duration like \"1h30m\", or seconds");
    }
    const bool off = *after < absl::ZeroDuration();
    config.delete_version_after = off ? -absl::Seconds(1) : absl::Trunc(*after, absl::Seconds(1));
  }
  RETURN_IF_ERROR(txn.Put("config", EncodeKvConfig(config).view()));
  TellKvConfig(events_, txn, request);
  return Response::Empty();
}

absl::StatusOr<Response> KvV2::Delete(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const std::string_view path, SecretPath(request));
  ASSIGN_OR_RETURN(const auto versions, VersionsOf(request, "No version number provided"));
  ASSIGN_OR_RETURN(const auto stored, Load(txn, path));
  if (stored == nullptr) return Response::Empty();
  KvMetadata metadata = *stored;
  const absl::Time now = clock_.Now();
  for (const std::int64_t number : versions) {
    KvVersion* version = metadata.Find(number);
    if (version != nullptr && !version->destroyed && !version->deleted(now)) {
      version->deletion = now;
    }
  }
  ASSIGN_OR_RETURN(const auto saved, Save(txn, path, std::move(metadata)));
  Tell(txn, request, "delete", KvPart::kData, path, saved.get());
  return Response::Empty();
}

absl::StatusOr<Response> KvV2::Undelete(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const std::string_view path, SecretPath(request));
  ASSIGN_OR_RETURN(const auto versions, VersionsOf(request, "No version number provided"));
  ASSIGN_OR_RETURN(const auto stored, Load(txn, path));
  if (stored == nullptr) return Response::Empty();
  ASSIGN_OR_RETURN(const auto config, LoadConfig(txn));
  KvMetadata metadata = *stored;
  for (const std::int64_t number : versions) {
    KvVersion* version = metadata.Find(number);
    if (version != nullptr && !version->destroyed) {
      version->deletion = metadata.DeletionTime(*config, clock_.Now());
    }
  }
  ASSIGN_OR_RETURN(const auto saved, Save(txn, path, std::move(metadata)));
  Tell(txn, request, "undelete", KvPart::kData, path, saved.get());
  return Response::Empty();
}

absl::StatusOr<Response> KvV2::Destroy(const Request& request, Txn& txn) {
  ASSIGN_OR_RETURN(const std::string_view path, SecretPath(request));
  ASSIGN_OR_RETURN(const auto versions, VersionsOf(request, "no version number provided"));
  ASSIGN_OR_RETURN(const auto stored, Load(txn, path));
  if (stored == nullptr) return Response::Empty();
  KvMetadata metadata = *stored;
  for (const std::int64_t number : versions) {
    KvVersion* version = metadata.Find(number);
    if (version == nullptr || version->destroyed) continue;
    version->destroyed = true;
    RETURN_IF_ERROR(txn.Delete(VersionPath(metadata, number)));
  }
  ASSIGN_OR_RETURN(const auto saved, Save(txn, path, std::move(metadata)));
  Tell(txn, request, "destroy", KvPart::kData, path, saved.get());
  return Response::Empty();
}

}  // namespace coffer::keystore
