// Core: the one way through. Every request is routed, checked against its token's policies, handled
// within one transaction and answered once that is durable.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "common/clock.h"
#include "keystore/barrier/barrier.h"
#include "keystore/core/backend.h"
#include "keystore/core/mount_table.h"
#include "keystore/core/policy.h"
#include "keystore/core/token_store.h"

namespace coffer::keystore {

// The types that can be mounted, by "type" or, for kv, "kv/1" and "kv/2" (type "/" options.version).
// Backends are owned by main and outlive Core.
using BackendRegistry = std::map<std::string, Backend*, std::less<>>;

class Core {
 public:
  // `workers`: threads for handlers that wait.
  Core(Barrier& barrier, TokenStore& tokens, PolicyStore& policies, MountStore& mounts,
       const Clock& clock, int workers = 4);
  ~Core();  // waits for requests under way

  // Before the first request.
  void Register(std::string_view type, Backend& backend);

  // Answers exactly once: perhaps before Handle returns, perhaps on another thread, where it must not
  // block. `request` must live until then.
  using Done = std::function<void(absl::StatusOr<Response>)>;
  void Handle(Request& request, Done done);

  // Waits for the answer.
  absl::StatusOr<Response> HandleAndWait(Request& request);

  // The backend of a mount, or null for a type that isn't registered.
  Backend* FindBackend(const MountEntry& mount) const;

  // Revokes what has expired, then again every second until Core ends; does nothing while sealed.
  void StartExpiry();

  // Writes what a new keystore holds (default policy, mount table) and makes the root token; called
  // once the barrier is unsealed for the first time.
  absl::StatusOr<SecretBytes> InitializeContents();
  // Makes another root token, as generate-root does.
  absl::StatusOr<SecretBytes> CreateRootToken(Txn& txn);
  // Seals the barrier and forgets everything parsed.
  void Seal();
};

// The HTTP status for an error, as Vault answers it.
int HttpStatusFor(const absl::Status& status);

}  // namespace coffer::keystore
