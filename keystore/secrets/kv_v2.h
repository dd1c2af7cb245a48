// KvV2: secrets with versions. https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
#pragma once

#include "common/clock.h"
#include "keystore/barrier/parsed_cache.h"
#include "keystore/core/backend.h"
#include "keystore/secrets/kv_events.h"
#include "keystore/secrets/kv_metadata.h"

namespace coffer::keystore {

class KvV2 : public Backend {
 public:
  // Null `events`: nobody is told of changes.
  explicit KvV2(const Clock& clock, EventBus* events = nullptr);
  const std::vector<Route>& routes() const override { return routes_; }
  std::optional<Response> AnswerUnrouted(Operation operation, std::string_view path) const override;
  void OnSeal() override;

 private:
  // kv_v2_data.cc
  absl::StatusOr<Response> Read(const Request& request, Txn& txn);
  absl::StatusOr<Response> Write(const Request& request, Txn& txn);
  absl::StatusOr<Response> Patch(const Request& request, Txn& txn);
  absl::StatusOr<Response> DeleteNewest(const Request& request, Txn& txn);
  absl::StatusOr<Response> ReadSubkeys(const Request& request, Txn& txn);
  // Of a request whose SecretPath is valid.
  absl::StatusOr<Response> AddVersion(const Request& request, Txn& txn,
                                      std::string_view operation, KvMetadata metadata,
                                      const KvConfig& config, const Json& data, absl::Time now);
  // kv_v2_metadata.cc
  absl::StatusOr<Response> ReadMetadata(const Request& request, Txn& txn);
  absl::StatusOr<Response> WriteMetadata(const Request& request, Txn& txn);
  absl::StatusOr<Response> PatchMetadata(const Request& request, Txn& txn);
  absl::StatusOr<Response> DeleteMetadata(const Request& request, Txn& txn);
  absl::StatusOr<Response> ListMetadata(const Request& request, Txn& txn);
  // kv_v2.cc
  absl::StatusOr<Response> ReadConfig(const Request& request, Txn& txn);
  absl::StatusOr<Response> WriteConfig(const Request& request, Txn& txn);
  absl::StatusOr<Response> Delete(const Request& request, Txn& txn);
  absl::StatusOr<Response> Undelete(const Request& request, Txn& txn);
  absl::StatusOr<Response> Destroy(const Request& request, Txn& txn);

  // The metadata of the secret at `path`; null where there is none.
  absl::StatusOr<std::shared_ptr<const KvMetadata>> Load(Txn& txn, std::string_view path);
  // In an update handler: what `exists` of its route has loaded; null where there was none.
  static std::shared_ptr<const KvMetadata> Existing(const Request& request);
  // What is stored, its newest_text brought up to date.
  absl::StatusOr<std::shared_ptr<const KvMetadata>> Save(Txn& txn, std::string_view path,
                                                         KvMetadata metadata);
  absl::StatusOr<std::shared_ptr<const KvConfig>> LoadConfig(Txn& txn);
  static KvMetadata NewMetadata(absl::Time now);

  // The metadata is that after the change; null: gone.
  void Tell(Txn& txn, const Request& request, std::string_view operation, KvPart part,
            std::string_view path, const KvMetadata* metadata);

  std::vector<Route> MakeRoutes();

  const Clock& clock_;
  EventBus* const events_;
  ParsedCache<KvMetadata> metadata_;
  ParsedCache<KvConfig> configs_{1000};
  const std::vector<Route> routes_;
};

// The path of a secret as the request names it. InvalidArgument: empty, or with segments that are
// empty, "." or "..".
absl::StatusOr<std::string_view> SecretPath(const Request& request);
// Where the data of a version stands.
std::string VersionPath(const KvMetadata& metadata, std::int64_t number);

}  // namespace coffer::keystore
