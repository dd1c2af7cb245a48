// What of a keystore's answer goes into files.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "common/secret_bytes.h"
#include "provider/objects.h"

namespace coffer::provider {

struct Extracted {
  std::string path;  // in the volume
  SecretBytes content;
};

// The files of one answer. `matched`: what the object's pattern stands for, "" where secretPath is
// none; it becomes the file, or the folder of the keys' files.
//
// With a key: data.data.<key> (kv version 2) or data.<key>, text as it is and anything else as
// JSON, then decoded. With none, nor keys, format or template: the whole response as JSON, its
// request_id emptied, because that alone would make every rotation look like a change.
// NotFound: no data, no such key; FailedPrecondition: not in that encoding, or a key that can't be
// a file's name.
absl::StatusOr<std::vector<Extracted>> ExtractFiles(const Json& response, const Object& object,
                                                    std::string_view matched);

// The file that an object without patterns makes.
std::string OneFile(const Object& object);

// kv version 2's own version of what was read, "<version>-<created_time>"; "" where there is none.
std::string ResponseVersion(const Json& response);

}  // namespace coffer::provider
