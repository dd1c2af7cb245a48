// Writes JSON straight into secret memory: an answer is written once, where it is sent from.
#pragma once

#include "common/json.h"
#include "common/secret_bytes.h"

namespace coffer {

// Appends `text` as a JSON string. Invalid UTF-8 becomes U+FFFD.
void AppendJsonString(std::string_view text, SecretBytes* out);
void AppendJsonStrings(const std::vector<std::string>& texts, SecretBytes* out);
void AppendJsonInteger(std::int64_t number, SecretBytes* out);
// Appends a document; its keys come sorted. A number that JSON can't say (NaN) becomes null.
void AppendJson(const Json& document, SecretBytes* out);
// Appends ",\"key\":value" for each member of an object.
void AppendJsonMembers(const Json& object, SecretBytes* out);

}  // namespace coffer
