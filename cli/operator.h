// Parts that the operator commands share.
#pragma once

#include <optional>

#include "cli/command.h"

namespace coffer::cli {

// An unseal key: `arg`, or standard input for "-", or asked for where `arg` is empty ("question" goes
// to the terminal). Without white space at both ends. Prints why there is none.
std::optional<SecretBytes> TakeKey(Session& session, std::string_view arg,
                                   std::string_view question);

// operator_rekey.cc, operator_generate_root.cc, operator_keys.cc
int RunRekey(Session& session);
int RunGenerateRoot(Session& session);
int RunRotate(Session& session);
int RunKeyStatus(Session& session);

}  // namespace coffer::cli
