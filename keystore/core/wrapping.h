// Response wrapping: an answer is put into the cubbyhole of a token that is good for one use, and who
// asked gets that token: https://developer.hashicorp.com/vault/docs/concepts/response-wrapping
#pragma once

#include <memory>
#include <string_view>

#include "keystore/core/request.h"
#include "keystore/core/response.h"
#include "keystore/core/token_store.h"

namespace coffer::keystore {

// All `txn`s are of the whole tree.

// Puts `response` away for request.wrap_ttl and leaves the wrapping token in its place.
absl::Status Wrap(TokenStore& tokens, Txn& txn, const Request& request, Response* response);

// The same for a document that is there already, as it came out of another wrapping.
absl::StatusOr<WrapInfo> WrapText(TokenStore& tokens, Txn& txn, std::string_view text,
                                  std::string_view creation_path, absl::Duration ttl);

// InvalidArgument: what was given is no wrapping token, or not any more.
absl::Status NotWrapping();

// A wrapping token's entry. NotWrapping: there is none of that id, or it is another's.
absl::StatusOr<std::shared_ptr<const TokenEntry>> FindWrapping(TokenStore& tokens, Txn& txn,
                                                               std::string_view token);

// What it holds; the token is gone with this.
absl::StatusOr<SecretBytes> Unwrap(TokenStore& tokens, Txn& txn, const TokenEntry& wrapping);

}  // namespace coffer::keystore
