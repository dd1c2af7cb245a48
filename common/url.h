// The pieces of an http:// or https:// URL, and percent-encoding (declared in http_client.h).
#pragma once

#include <string_view>

#include "absl/status/statusor.h"

namespace coffer {

// "scheme://user:password@host:port/path?query", as far as it matters here. Views into the URL.
struct UrlParts {
  std::string_view scheme;     // "https"
  std::string_view host_port;  // "vault:8200", "[::1]:8200"
  std::string_view host;       // "vault", "[::1]"
  std::string_view port;       // "8200", or ""
  std::string_view rest;       // "/v1/x?y"
  std::string_view path;       // "/v1/x"
};

// InvalidArgument: neither scheme, no host, a space or a control character.
absl::StatusOr<UrlParts> ParseUrl(std::string_view url);

// Both are tokens or names of RFC 9110, compared without regard to case.
bool SameHttpName(std::string_view a, std::string_view b);
// A token of RFC 9110 section 5.6.2: a method, a header's name.
bool IsHttpToken(std::string_view text);

}  // namespace coffer
