#include "keystore/secrets/kv_events.h"

#include "common/strings.h"

namespace coffer::keystore {
namespace {

Event NewEvent(const Request& request, std::string_view engine, std::string_view operation,
               std::string_view data_path) {
  const MountEntry& mount = *request.mount;
  return {.type = StrCat(engine, "/", operation),
          .data_path = StrCat(mount.path, data_path),
          .metadata = {{"modified", "true"},
                       {"operation", std::string(operation)},
                       {"path", StrCat(mount.path, request.relative_path)}},
          .mount_path = mount.path,
          .mount_accessor = mount.accessor,
          .plugin = mount.type};
}

}  // namespace

void TellKvV1(EventBus* bus, Txn& txn, const Request& request, std::string_view operation) {
  if (bus == nullptr) return;
  bus->PublishOnCommit(txn, NewEvent(request, "kv-v1", operation, request.relative_path));
}

void TellKvV2(EventBus* bus, Txn& txn, const Request& request, std::string_view operation,
              KvPart part, std::string_view path, std::int64_t current, std::int64_t oldest) {
  if (bus == nullptr || bus->subscriber_count() == 0) return;
  Event event = NewEvent(request, "kv-v2", operation,
                         StrCat(part == KvPart::kData ? "data/" : "metadata/", path));
  event.metadata["current_version"] = StrCat(current);
  event.metadata["oldest_version"] = StrCat(oldest);
  bus->PublishOnCommit(txn, std::move(event));
}

void TellKvConfig(EventBus* bus, Txn& txn, const Request& request) {
  if (bus == nullptr) return;
  bus->PublishOnCommit(txn, NewEvent(request, "kv-v2", "config-write", "config"));
}

}  // namespace coffer::keystore
