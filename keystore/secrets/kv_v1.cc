#include "keystore/secrets/kv_v1.h"

#include "keystore/secrets/raw_routes.h"

namespace coffer::keystore {

KvV1::KvV1() : routes_(RawRoutes([](const Request&, Txn& txn) { return txn; }, true)) {}

}  // namespace coffer::keystore
