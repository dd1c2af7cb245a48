#include "keystore/secrets/kv_v1.h"

#include "keystore/secrets/kv_events.h"
#include "keystore/secrets/raw_routes.h"

namespace coffer::keystore {

KvV1::KvV1(EventBus* events, LeaseTtls ttls)
    : routes_(RawRoutes([](const Request&, Txn& txn) { return txn; }, ttls,
                        [events](const Request& request, Txn& txn, std::string_view operation) {
                          TellKvV1(events, txn, request, operation);
                        })) {}

}  // namespace coffer::keystore
