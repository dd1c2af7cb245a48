// From an HTTP message to a Request: path, operation, query and JSON body, as Vault reads them.
#pragma once

#include <optional>

#include "keystore/core/request.h"
#include "keystore/http/http_message.h"

namespace coffer::keystore {

// Fills in operation, path, data and token of `request`, which is new; takes the token out of
// `message`. A refusal is to be answered as it is.
std::optional<HttpRefusal> DecodeRequest(HttpMessage& message, Request* request);

}  // namespace coffer::keystore
