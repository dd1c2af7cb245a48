#include "keystore/secrets/cubbyhole.h"

#include "keystore/core/token_store.h"
#include "keystore/secrets/raw_routes.h"

namespace coffer::keystore {

Cubbyhole::Cubbyhole()
    : routes_(RawRoutes(
          [](const Request& request, Txn& txn) -> absl::StatusOr<Txn> {
            if (request.caller->batch()) {
              return absl::InvalidArgumentError(
                  "cubbyhole operations are only supported by \"service\" type tokens");
            }
            return TokenStore::Cubbyhole(txn, request.caller->hash);
          },
          std::nullopt)) {}

}  // namespace coffer::keystore
