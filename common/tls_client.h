// What a TLS client's connections have in common: whom it trusts and what it shows.
#pragma once

#include <openssl/ssl.h>

#include <memory>

#include "absl/status/statusor.h"
#include "common/http_client.h"

namespace coffer {

// TLS 1.2 at least. FailedPrecondition says which file is wrong.
absl::StatusOr<std::shared_ptr<SSL_CTX>> MakeTlsClient(const TlsClientOptions& tls);

}  // namespace coffer
