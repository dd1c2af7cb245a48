// The routes of sys/ that open, close and re-key the barrier; most of them work while it is sealed.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "keystore/barrier/shamir_seal.h"
#include "keystore/core/backend.h"

namespace coffer::keystore {

// What the seal's routes need of the rest of the keystore.
struct SealHooks {
  // Core::InitializeContents: fills a new keystore; the root token.
  std::function<absl::StatusOr<SecretBytes>()> initialize_contents;
  // Core::CreateRootToken in a transaction of its own, committed.
  std::function<absl::StatusOr<SecretBytes>()> create_root_token;
  // Core::Seal: seals the barrier and forgets what was parsed.
  std::function<void()> seal;
};

// What the answers tell of this server.
struct ServerFacts {
  std::string version;       // "1.15.0"-like
  std::string build_date;    // RFC 3339
  std::string storage_type;  // Store::type()
};

// The routes below "sys/"; they hold references to `seal`, which must outlive them.
std::vector<Route> SealRoutes(ShamirSeal& seal, const Clock& clock, ServerFacts facts,
                              SealHooks hooks);

}  // namespace coffer::keystore
