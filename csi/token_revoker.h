// TokenRevoker: gives the tokens of volumes that are gone back to their keystore, in the background
// and for as long as it takes, since unpublishing must not wait for a keystore.
#pragma once

#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

#include "common/clock.h"
#include "csi/handover.h"
#include "csi/steady_time.h"
#include "provider/provider.h"

namespace coffer::csi {

class TokenRevoker {
 public:
  // `handover`: null, or who keeps what waits, for the next plugin to go on with.
  TokenRevoker(const Clock& clock, provider::Provider& provider, Handover* handover = nullptr);
  ~TokenRevoker();  // gives up on what is left

  // Takes a session over, and the document that keeps it, which is dropped in the end. Nothing is
  // revoked if it holds no token.
  void Revoke(provider::SessionPtr session, Handover::Id document = 0);

  // Until nothing is left, or `deadline`. True: nothing is left.
  bool Drain(absl::Time deadline);

 private:
  struct Pending {
    provider::SessionPtr session;
    Handover::Id document;
    SteadyTime due;
    absl::Duration pause;  // before the next attempt
  };

  void Run();
  void Keep(Pending& pending);

  const Clock& clock_;
  provider::Provider& provider_;
  Handover* const handover_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Pending> pending_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace coffer::csi
