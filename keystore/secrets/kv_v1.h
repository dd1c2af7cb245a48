// KvV1: secrets without versions. https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v1
#pragma once

#include "keystore/core/backend.h"
#include "keystore/events/event_bus.h"

namespace coffer::keystore {

class KvV1 : public Backend {
 public:
  // Null `events`: nobody is told of changes.
  explicit KvV1(EventBus* events = nullptr, LeaseTtls ttls = {});
  const std::vector<Route>& routes() const override { return routes_; }

 private:
  const std::vector<Route> routes_;
};

}  // namespace coffer::keystore
