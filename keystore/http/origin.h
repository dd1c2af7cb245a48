// Where a request comes from, and whether that may be: X-Forwarded-For and X-Vault-Request.
#pragma once

#include <optional>
#include <string>

#include "keystore/http/http_message.h"
#include "keystore/http/http_server.h"

namespace coffer::keystore {

// Replaces `remote_address`, that of the connection, by the one that a trusted proxy tells. A
// refusal is to be answered as it is.
std::optional<HttpRefusal> CheckOrigin(const ListenerOptions& options, const HttpMessage& message,
                                       std::string* remote_address);

}  // namespace coffer::keystore
