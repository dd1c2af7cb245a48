// Bundles: certificate, chain and private key of a secret as one file.
//
//   pem      PEM blocks: the certificate, its issuers from the next one on, the private key if the
//            secret has one
//   pkcs12   PKCS #12 (RFC 7292): the same, the key under the password (PBES2, AES-256), the
//            certificates readable, all under a MAC (SHA-256). The same parts make the same bytes,
//            so that a rotation that changes nothing changes no file.
#pragma once

#include "absl/status/statusor.h"
#include "common/json.h"
#include "common/secret_bytes.h"
#include "provider/objects.h"

namespace coffer::provider {

// `secret`: an object with the parts under the names of object.bundle or the usual ones: Vault's
// PKI, TLS Secrets of Kubernetes. NotFound: no such key; FailedPrecondition: a part isn't what it
// should be, or the private key isn't the certificate's.
absl::StatusOr<SecretBytes> MakeBundle(const Json& secret, const Object& object);

}  // namespace coffer::provider
