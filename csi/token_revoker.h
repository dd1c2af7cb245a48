// TokenRevoker: gives the tokens of volumes that are gone back to their keystore, in the background
// and for as long as it takes, since unpublishing must not wait for a keystore.
#pragma once

#include <condition_variable>
#include <list>
#include <mutex>
#include <thread>

#include "common/clock.h"
#include "provider/provider.h"

namespace coffer::csi {

class TokenRevoker {
 public:
  TokenRevoker(const Clock& clock, provider::Provider& provider);
  ~TokenRevoker();  // gives up on what is left

  // Takes a session over; nothing happens if it holds no token.
  void Revoke(provider::SessionPtr session);

  // Until nothing is left, or `deadline`. True: nothing is left.
  bool Drain(absl::Time deadline);

 private:
  struct Pending {
    provider::SessionPtr session;
    absl::Time due;
    absl::Duration pause;  // before the next attempt
  };

  void Run();

  const Clock& clock_;
  provider::Provider& provider_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::list<Pending> pending_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace coffer::csi
