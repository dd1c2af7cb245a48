// The one way to random bytes: OpenSSL's generator.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "common/secret_bytes.h"

namespace coffer {

// Fills with bytes fit for keys. Ends the process if the generator fails: there is nothing safe
// left to do.
void FillRandom(std::span<std::uint8_t> bytes);

SecretBytes RandomSecret(std::size_t size);

// A random UUID (RFC 9562 version 4): 36 characters, lower case. Not a secret.
std::string RandomUuid();

// `length` characters of [A-Za-z0-9], evenly drawn, for tokens and accessors.
SecretBytes RandomBase62(std::size_t length);

}  // namespace coffer
