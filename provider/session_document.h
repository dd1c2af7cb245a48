// A session as bytes, so that it can outlive the process, in memory that is as safe.
#pragma once

#include <string_view>

#include "absl/status/statusor.h"
#include "common/secret_bytes.h"
#include "provider/provider.h"

namespace coffer::provider {

// Everything that a session holds. Not while a call uses the session.
SecretBytes WriteSession(const Session& session);

// The session of WriteSession's bytes, for `provider`, where it shares its login with the other
// sessions of the pod. InvalidArgument says which field is wrong, never what it holds.
absl::StatusOr<SessionPtr> ReadSession(std::string_view document, Provider& provider);

}  // namespace coffer::provider
