// Core: the one way through. Every request is routed, checked against its token's policies, handled
// within one transaction and answered once that is durable.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "common/clock.h"
#include "keystore/barrier/barrier.h"
#include "keystore/core/audit.h"
#include "keystore/core/backend.h"
#include "keystore/core/mount_table.h"
#include "keystore/core/policy.h"
#include "keystore/core/route_table.h"
#include "keystore/core/telemetry.h"
#include "keystore/core/token_store.h"
#include "keystore/core/worker_pool.h"

namespace coffer::keystore {

class Core {
 public:
  // What it is given must outlive it. `workers`: threads for handlers that wait.
  Core(Barrier& barrier, TokenStore& tokens, PolicyStore& policies, MountStore& mounts,
       Audit& audit, int workers = 4);
  ~Core();  // waits for requests under way

  // Before the first request. `type` is that of the mounts it serves; for kv "kv/1" and "kv/2": the
  // type, then the option "version" ("1" where the mount has none).
  void Register(std::string type, Backend& backend);
  bool IsRegistered(const MountEntry& mount) const { return FindServed(mount) != nullptr; }
  Backend* FindBackend(const MountEntry& mount) const;

  // Answers exactly once: perhaps before Handle returns, perhaps on another thread, where it must not
  // block. `request` must live until then.
  using Done = std::function<void(absl::StatusOr<Response>)>;
  void Handle(Request& request, Done done);

  // Waits for the answer.
  absl::StatusOr<Response> HandleAndWait(Request& request);

  // Counts every request; whoever makes gauges does so before the first.
  Telemetry& telemetry() { return telemetry_; }

  // Revokes what has expired and what TokenStore::RevokeBelow noted, now and then every second until
  // Core ends; rests while sealed.
  void StartExpiry();

  // Writes what a new keystore holds (default policy, mount table) and makes the root token: `id`, or
  // one drawn at random where that is empty. For an unsealed barrier with nothing behind it.
  absl::StatusOr<SecretBytes> InitializeContents(std::string_view id = {});
  // Makes another root token, as generate-root does. Waits until it is stored.
  absl::StatusOr<SecretBytes> CreateRootToken();
  // Seals the barrier and forgets everything parsed.
  void Seal();

 private:
  // A transaction is run again this often when others write what it reads; then the client is told to.
  static constexpr int kAttempts = 64;

  struct Served {
    Backend* backend;
    RouteTable routes;
  };
  struct Call;

  const Served* FindServed(const MountEntry& mount) const;
  void Attempt(std::shared_ptr<Call> call);
  void AttemptOnWorker(std::shared_ptr<Call> call);
  void Finish(std::shared_ptr<Call> call, absl::StatusOr<Response> response);
  // The log gets what the storage says, with its folder, once in a while; the client gets the rest.
  absl::Status WithoutPlace(const absl::Status& failed);
  // Routing, token, policies, handler and login within `call`'s transaction, which it begins.
  absl::StatusOr<Response> Run(Call& call);
  absl::StatusOr<Response> RunHandler(Call& call, const RouteTable::Match& match, Txn& txn);
  // Tells the audit devices of the request, once; with `error` where it isn't handled.
  absl::Status AuditRequest(Call& call, const absl::Status& error);
  // Tells them of the answer; returns it, or why it may not be given.
  absl::StatusOr<Response> AuditAnswer(Call& call, absl::StatusOr<Response> response);
  absl::Status Identify(Call& call, Txn& root);
  absl::Status Authorize(Call& call, const Route* route, Txn& root);
  // Counts the use of a token with a limit by a request that failed.
  void CountUse(std::shared_ptr<Call> call, absl::Status failure);
  absl::StatusOr<SecretBytes> AddRootToken(Txn& root, std::string_view id);
  absl::Status LogIn(const Call& call, Txn& root, Response* response);
  // core_expiry.cc
  void ExpireForever();
  absl::Status ExpireNow();
  absl::Status RevokeNoted();
  absl::Status Write(const std::function<absl::Status(Txn&)>& work);

  Barrier& barrier_;
  TokenStore& tokens_;
  PolicyStore& policies_;
  MountStore& mounts_;
  Audit& audit_;
  std::map<std::string, Served, std::less<>> served_;
  const MountEntry system_mount_;
  Telemetry telemetry_;

  std::mutex mutex_;
  std::condition_variable changed_;
  int under_way_ = 0;
  bool ending_ = false;
  std::optional<std::chrono::steady_clock::time_point> storage_told_;  // when the log was last told
  std::thread expiry_;
  std::mutex revoking_;
  WorkerPool workers_;  // last: ends first
};

// The HTTP status for an error, as Vault answers it; backend.h has the table.
int HttpStatusFor(const absl::Status& status);

// "1 error occurred:\n\t* permission denied\n\n": how Vault words a refusal by policy.
absl::Status PermissionDenied();

}  // namespace coffer::keystore
