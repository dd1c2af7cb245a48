// EventStream: what a request for events is answered with: messages that come one after the other
// until it ends. The listener sends them over a WebSocket.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/secret_bytes.h"

namespace coffer::keystore {

// Safe on any thread.
class EventStream {
 public:
  // Why it ended, as a WebSocket's close frame says it (RFC 6455 section 7.4).
  struct End {
    std::uint16_t code = 1000;
    std::string reason;  // at most 123 bytes
  };

  virtual ~EventStream() = default;
  // The oldest message that was not taken yet; null where there is none now. After the end: none.
  virtual std::shared_ptr<const SecretBytes> Next() = 0;
  virtual std::optional<End> end() const = 0;
  // Called, on any thread and never after this is replaced by null, when something is there for
  // Next() that was empty before, or the stream ends. Must not block. To be called once.
  virtual void SetWake(std::function<void()> wake) = 0;
};

}  // namespace coffer::keystore
