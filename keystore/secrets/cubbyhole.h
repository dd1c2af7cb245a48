// Cubbyhole: storage of each token's own, which goes with the token.
// https://developer.hashicorp.com/vault/api-docs/secret/cubbyhole
#pragma once

#include "keystore/core/backend.h"

namespace coffer::keystore {

class Cubbyhole : public Backend {
 public:
  Cubbyhole();
  const std::vector<Route>& routes() const override { return routes_; }

 private:
  const std::vector<Route> routes_;
};

}  // namespace coffer::keystore
