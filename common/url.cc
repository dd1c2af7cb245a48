#include "common/url.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "common/http_client.h"
#include "common/strings.h"

namespace coffer {
namespace {

// A character of a token, RFC 9110 section 5.6.2.
bool IsTokenCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

std::string PercentEncode(std::string_view text, std::string_view also_kept) {
  std::string encoded;
  for (const char c : text) {
    const bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                            (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
    if (unreserved || also_kept.find(c) != std::string_view::npos) {
      encoded += c;
    } else {
      static constexpr char kHex[] = "0123456789ABCDEF";
      const auto byte = static_cast<unsigned char>(c);
      encoded += {'%', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  return encoded;
}

}  // namespace

bool IsHttpToken(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), IsTokenCharacter);
}

bool SameHttpName(std::string_view a, std::string_view b) {
  return absl::EqualsIgnoreCase(ToAbsl(a), ToAbsl(b));
}

absl::StatusOr<UrlParts> ParseUrl(std::string_view url) {
  UrlParts parts;
  const std::size_t colon = url.find("://");
  parts.scheme = url.substr(0, colon == std::string_view::npos ? 0 : colon);
  if (!SameHttpName(parts.scheme, "http") && !SameHttpName(parts.scheme, "https")) {
    return absl::InvalidArgumentError("the address must start with http:// or https://");
  }
  const auto is_control = [](unsigned char c) { return c <= ' ' || c == 0x7f; };
  if (std::any_of(url.begin(), url.end(), is_control)) {
    return absl::InvalidArgumentError("the address holds a space or a control character");
  }
  url.remove_prefix(colon + 3);
  const std::size_t end = std::min(url.find_first_of("/?#"), url.size());
  parts.rest = url.substr(end);
  parts.path = parts.rest.substr(0, parts.rest.find_first_of("?#"));
  parts.host_port = url.substr(0, end);
  parts.host_port.remove_prefix(parts.host_port.rfind('@') + 1);  // npos + 1 is 0
  const std::size_t bracket = parts.host_port.find(']');
  const std::size_t port =
      parts.host_port.find(':', bracket == std::string_view::npos ? 0 : bracket);
  parts.host = parts.host_port.substr(0, port);
  if (port != std::string_view::npos) parts.port = parts.host_port.substr(port + 1);
  if (parts.host.empty()) return absl::InvalidArgumentError("the address names no host");
  return parts;
}

std::string_view HttpResponse::header(std::string_view name) const {
  for (const HttpHeader& header : headers) {
    if (SameHttpName(header.name, name)) return header.value.view();
  }
  return "";
}

std::string EncodeUrlPath(std::string_view path) { return PercentEncode(path, "/"); }
std::string EncodeUrlQuery(std::string_view text) { return PercentEncode(text, ""); }

}  // namespace coffer
