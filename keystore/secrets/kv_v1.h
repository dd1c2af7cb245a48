// KvV1: secrets without versions. https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v1
#pragma once

#include "keystore/core/backend.h"

namespace coffer::keystore {

class KvV1 : public Backend {
 public:
  KvV1();
  const std::vector<Route>& routes() const override { return routes_; }

 private:
  const std::vector<Route> routes_;
};

}  // namespace coffer::keystore
