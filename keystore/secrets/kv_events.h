// What the kv engines tell subscribers of changes, in Vault's words, except that every event names a
// data_path: without one, nobody but root may see it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "keystore/events/event_bus.h"

namespace coffer::keystore {

// "kv-v1/write", "kv-v1/delete". Null `bus`: nobody is told.
void TellKvV1(EventBus* bus, Txn& txn, const Request& request, std::string_view operation);

// Which of a secret's two paths a change is about.
enum class KvPart { kData, kMetadata };
// "kv-v2/<operation>": data-write, data-patch, data-delete, delete, undelete, destroy,
// metadata-write, metadata-patch, metadata-delete; current 0: there is no version any more.
void TellKvV2(EventBus* bus, Txn& txn, const Request& request, std::string_view operation,
              KvPart part, std::string_view path, std::int64_t current, std::int64_t oldest);
// "kv-v2/config-write".
void TellKvConfig(EventBus* bus, Txn& txn, const Request& request);

}  // namespace coffer::keystore
