// SystemBackend: the routes of sys/, put together from their files.
#pragma once

#include <vector>

#include "keystore/core/backend.h"

namespace coffer::keystore {

class SystemBackend : public Backend {
 public:
  // Routes are tried in this order.
  explicit SystemBackend(std::vector<std::vector<Route>> groups) {
    for (std::vector<Route>& group : groups) {
      for (Route& route : group) routes_.push_back(std::move(route));
    }
  }
  const std::vector<Route>& routes() const override { return routes_; }

 private:
  std::vector<Route> routes_;
};

}  // namespace coffer::keystore
