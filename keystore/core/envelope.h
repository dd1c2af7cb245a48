// From a Response to the JSON document of an answer: Vault's envelope.
#pragma once

#include <string_view>

#include "common/secret_bytes.h"
#include "keystore/core/request.h"
#include "keystore/core/response.h"

namespace coffer::keystore {

// Whether the answer has no body: 204.
bool IsEmpty(const Response& response);

// Appends the document, with a line feed at its end. `mount_type` is that of the mount which served
// the request: "kv".
void AppendBody(const Request& request, const Response& response, std::string_view mount_type,
                SecretBytes* out);

}  // namespace coffer::keystore
