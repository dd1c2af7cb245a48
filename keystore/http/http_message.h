// HttpMessage: what the keystore wants to know of one HTTP request. Whatever may hold a token or a
// secret is in secret memory from the first byte.
#pragma once

#include <optional>
#include <string>

#include "common/secret_bytes.h"

namespace coffer::keystore {

struct HttpMessage {
  std::string method;    // as sent: methods are case-sensitive
  SecretBytes target;    // "/v1/secret/data/x?version=2"; a query may hold anything
  SecretBytes token;     // X-Vault-Token, else Authorization: Bearer
  std::string content_type;
  std::string name_space;  // X-Vault-Namespace
  std::string wrap_ttl;    // X-Vault-Wrap-TTL
  std::string forwarded_for;     // X-Forwarded-For, several joined by ","
  bool vault_request = false;    // X-Vault-Request: true
  bool expect_continue = false;  // Expect: 100-continue
  // Of a request to go on as a WebSocket (RFC 6455 section 4.1); the key is "" for another.
  std::string websocket_key;
  std::string websocket_version;
  std::string upgrade;
  SecretBytes body;
};

// An answer that comes from the listener itself. `message` goes into "errors"; "" leaves it empty.
struct HttpRefusal {
  int status = 400;
  std::string message;
  SecretBytes location{};  // where the client is sent, of a 307
};

}  // namespace coffer::keystore
