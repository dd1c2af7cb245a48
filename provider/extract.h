// What of a keystore's answer goes into the file.
#pragma once

#include "absl/status/statusor.h"
#include "common/json.h"
#include "common/secret_bytes.h"
#include "provider/parameters.h"

namespace coffer::provider {

// With a key: data.data.<key> (kv version 2) or data.<key>, text as it is and anything else as
// JSON, then decoded. Without: the whole response as JSON, its request_id emptied, because that
// alone would make every rotation look like a change. NotFound: no data, no such key;
// FailedPrecondition: not in that encoding.
absl::StatusOr<SecretBytes> ExtractContent(const Json& response, const Object& object);

// kv version 2's own version of what was read, "<version>-<created_time>"; "" where there is none.
std::string ResponseVersion(const Json& response);

}  // namespace coffer::provider
