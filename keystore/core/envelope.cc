#include "keystore/core/envelope.h"

#include <algorithm>

#include "common/json_writer.h"
#include "keystore/core/rfc3339.h"

namespace coffer::keystore {
namespace {

void AppendAuth(const Auth& auth, SecretBytes* out) {
  const TokenEntry& entry = *auth.entry;
  out->Append("{\"client_token\":");
  AppendJsonString(auth.client_token.view(), out);
  out->Append(",\"accessor\":");
  AppendJsonString(entry.accessor, out);
  out->Append(",\"policies\":");
  AppendJsonStrings(entry.policies, out);
  if (!entry.policies.empty()) {
    out->Append(",\"token_policies\":");
    AppendJsonStrings(entry.policies, out);
  }
  out->Append(",\"metadata\":");
  AppendJson(entry.meta, out);
  out->Append(",\"lease_duration\":");
  AppendJsonInteger(absl::ToInt64Seconds(entry.given() + absl::Milliseconds(500)), out);
  out->Append(entry.renewable ? ",\"renewable\":true" : ",\"renewable\":false");
  out->Append(",\"entity_id\":\"\",\"token_type\":");
  AppendJsonString(entry.type, out);
  out->Append(entry.parent.empty() ? ",\"orphan\":true" : ",\"orphan\":false");
  out->Append(",\"mfa_requirement\":null,\"num_uses\":");
  AppendJsonInteger(std::max<std::int64_t>(entry.num_uses, 0), out);
  out->Append("}");
}

void AppendWrapInfo(const WrapInfo& wrapped, SecretBytes* out) {
  const TokenEntry& entry = *wrapped.entry;
  out->Append("{\"token\":");
  AppendJsonString(wrapped.token.view(), out);
  out->Append(",\"accessor\":");
  AppendJsonString(entry.accessor, out);
  out->Append(",\"ttl\":");
  AppendJsonInteger(absl::ToInt64Seconds(entry.creation_ttl), out);
  out->Append(",\"creation_time\":");
  AppendJsonString(FormatRfc3339(entry.creation_time), out);
  out->Append(",\"creation_path\":");
  AppendJsonString(entry.path, out);
  if (!wrapped.accessor.empty()) {
    out->Append(",\"wrapped_accessor\":");
    AppendJsonString(wrapped.accessor, out);
  }
  out->Append("}");
}

// Field order and presence as in Vault 1.15, whose documents end in a line feed.
void AppendEnvelope(const Request& request, const Response& response, std::string_view mount_type,
                    SecretBytes* out) {
  out->Append("{\"request_id\":\"");
  out->Append(request.id);
  out->Append("\",\"lease_id\":\"\",\"renewable\":false,\"lease_duration\":");
  AppendJsonInteger(absl::ToInt64Seconds(response.lease_duration), out);
  out->Append(",\"data\":");
  if (response.data_text.empty()) {
    AppendJson(response.data, out);
  } else {
    out->Append(response.data_text.span());
  }
  out->Append(",\"wrap_info\":");
  if (response.wrapped) {
    AppendWrapInfo(*response.wrapped, out);
  } else {
    out->Append("null");
  }
  out->Append(",\"warnings\":");
  if (response.warnings.empty()) {
    out->Append("null");
  } else {
    AppendJsonStrings(response.warnings, out);
  }
  out->Append(",\"auth\":");
  if (response.auth) {
    AppendAuth(*response.auth, out);
  } else {
    out->Append("null");
  }
  out->Append(",\"mount_type\":");
  AppendJsonString(mount_type, out);
  if (response.flattened && response.data.is_object()) AppendJsonMembers(response.data, out);
  out->Append("}\n");
}

}  // namespace

bool IsEmpty(const Response& response) {
  return response.data.is_null() && response.data_text.empty() && response.warnings.empty() &&
         !response.auth && !response.wrapped;
}

void AppendBody(const Request& request, const Response& response, std::string_view mount_type,
                SecretBytes* out) {
  if (!response.bare) return AppendEnvelope(request, response, mount_type, out);
  AppendJson(response.data, out);
  out->Append("\n");
}

}  // namespace coffer::keystore
