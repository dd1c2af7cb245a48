// One WebSocket to sys/events/subscribe of a keystore. Beast stays in the .cc file.
#pragma once

#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "common/secret_bytes.h"
#include "provider/parameters.h"

namespace coffer::csi {

class EventConnection {
 public:
  EventConnection();
  ~EventConnection();

  // Subscribes to `type` and calls `on_open` once, then `on_message` for each event, until the
  // connection ends; always returns an error that says why. FailedPrecondition: TLS, or the
  // keystore declines: a plain GET of the same path says why.
  absl::Status Run(const provider::Login& login, const SecretBytes& token, std::string_view type,
                   const std::function<void()>& on_open,
                   const std::function<void(std::string_view)>& on_message);
  // Ends Run, from any thread; also one that comes later.
  void Stop();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace coffer::csi
