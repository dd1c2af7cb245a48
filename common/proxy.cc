#include "common/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdlib>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "common/lower_case.h"
#include "common/strings.h"

namespace coffer {
namespace {

// The bytes of an IP address, 4 or 16; "" where the text is none. 4 also of ::ffff:1.2.3.4.
std::string AddressBytes(std::string_view text) {
  const std::string address(text);
  char bytes[16];
  if (inet_pton(AF_INET, address.c_str(), bytes) == 1) return std::string(bytes, 4);
  if (inet_pton(AF_INET6, address.c_str(), bytes) != 1) return "";
  static constexpr char kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, '\xff', '\xff'};
  if (std::equal(kMapped, kMapped + 12, bytes)) return std::string(bytes + 12, 4);
  return std::string(bytes, 16);
}

bool IsLoopback(std::string_view host) {
  if (host == "localhost") return true;
  const std::string bytes = AddressBytes(host);
  if (bytes.size() == 4) return bytes[0] == 127;
  return bytes.size() == 16 && bytes == std::string(15, '\0') + '\x01';
}

bool SameNetwork(const std::string& a, const std::string& b, int bits) {
  if (a.size() != b.size()) return false;
  for (int i = 0; i < bits; ++i) {
    const auto at = static_cast<std::size_t>(i / 8);
    if (((a[at] ^ b[at]) >> (7 - i % 8) & 1) != 0) return false;
  }
  return true;
}

std::string_view WithoutBrackets(std::string_view host) {
  if (host.starts_with('[') && host.ends_with(']')) return host.substr(1, host.size() - 2);
  return host;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

SecretBytes PercentDecoded(std::string_view text) {
  SecretBytes decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const int high = text[i] == '%' && i + 2 < text.size() ? HexDigit(text[i + 1]) : -1;
    const int low = high >= 0 ? HexDigit(text[i + 2]) : -1;
    const char c = low >= 0 ? static_cast<char>(high << 4 | low) : text[i];
    if (low >= 0) i += 2;
    decoded.Append(std::string_view(&c, 1));
  }
  return decoded;
}

std::string_view Environment(const char* capitals, const char* small) {
  const char* value = std::getenv(capitals);
  if (value == nullptr || *value == '\0') value = std::getenv(small);
  return value == nullptr ? "" : value;
}

}  // namespace

ProxyRules::ProxyRules(std::string_view http, std::string_view https, std::string_view none)
    : http_(Parse("HTTP_PROXY", http)), https_(Parse("HTTPS_PROXY", https)) {
  for (const std::string_view entry : Split(none, ',')) {
    if (!Trim(entry).empty()) exceptions_.push_back(ParseException(Trim(entry)));
  }
}

ProxyRules ProxyRules::FromEnvironment() {
  return ProxyRules(Environment("HTTP_PROXY", "http_proxy"), Environment("HTTPS_PROXY", "https_proxy"),
                    Environment("NO_PROXY", "no_proxy"));
}

ProxyRules ProxyRules::Through(std::string_view field, std::string_view proxy) {
  ProxyRules rules;
  rules.http_ = rules.https_ = Parse(field, proxy);
  rules.always_ = true;
  return rules;
}

ProxyRules::Chosen ProxyRules::Parse(std::string_view variable, std::string_view text) {
  text = Trim(text);
  if (text.empty()) return nullptr;
  const auto wrong = [variable](std::string_view what) {
    return absl::FailedPreconditionError(StrCat("the proxy in ", variable, " ", what));
  };
  if (const std::size_t colon = text.find("://"); colon != text.npos) {
    if (!SameHttpName(text.substr(0, colon), "http")) {
      return wrong("isn't one that is spoken to over http://: others aren't supported");
    }
    text.remove_prefix(colon + 3);
  }
  auto proxy = std::make_shared<Proxy>();
  text = text.substr(0, text.find_first_of("/?#"));
  if (const std::size_t at = text.rfind('@'); at != text.npos) {
    const std::string_view user = text.substr(0, at);
    const std::size_t colon = std::min(user.find(':'), user.size());
    SecretBytes plain = PercentDecoded(user.substr(0, colon));
    plain.Append(":");
    if (colon < user.size()) plain.Append(PercentDecoded(user.substr(colon + 1)).view());
    proxy->authorization = SecretBytes::CopyOf("Basic ");
    proxy->authorization.Append(EncodeBase64(plain.span()).view());
    text.remove_prefix(at + 1);
  }
  const std::size_t colon = text.rfind(':');
  const bool has_port = colon != text.npos && text.find(']', colon) == text.npos;
  proxy->port = has_port ? text.substr(colon + 1) : "80";
  proxy->host = WithoutBrackets(has_port ? text.substr(0, colon) : text);
  int number = 0;
  if (proxy->host.empty() || !absl::SimpleAtoi(proxy->port, &number) || number < 1 ||
      number > 65535) {
    return wrong("must be http://host:port");
  }
  return proxy;
}

ProxyRules::Exception ProxyRules::ParseException(std::string_view text) {
  Exception exception;
  if (text == "*") return exception;
  if (const std::size_t slash = text.find('/'); slash != text.npos) {
    const std::string network = AddressBytes(text.substr(0, slash));
    int bits = 0;
    if (!network.empty() && absl::SimpleAtoi(ToAbsl(text.substr(slash + 1)), &bits) && bits >= 0 &&
        bits <= static_cast<int>(network.size()) * 8) {
      exception.network = network;
      exception.bits = bits;
    }
    exception.host = text;  // no host is called so
    return exception;
  }
  // An IPv6 address has more than one colon, and no port unless in brackets.
  const std::size_t colon = text.rfind(':');
  const bool has_port = colon != text.npos && AddressBytes(text).empty() &&
                        text.find(']', colon) == text.npos;
  if (has_port) {
    exception.port = text.substr(colon + 1);
    text = text.substr(0, colon);
  }
  text = WithoutBrackets(text);
  if (text.starts_with("*.")) text.remove_prefix(1);
  if (text.starts_with('.')) {
    exception.itself = false;
    text.remove_prefix(1);
  }
  exception.host = LowerCase(text);
  exception.network = AddressBytes(text);
  exception.bits = static_cast<int>(exception.network.size()) * 8;
  return exception;
}

bool ProxyRules::Excepted(std::string_view host, std::string_view port) const {
  const std::string address = AddressBytes(host);
  return std::any_of(exceptions_.begin(), exceptions_.end(), [&](const Exception& exception) {
    if (!exception.port.empty() && exception.port != port) return false;
    if (exception.host.empty()) return true;
    if (!exception.network.empty()) {
      return SameNetwork(exception.network, address, exception.bits);
    }
    if (!host.ends_with(exception.host)) return false;
    if (host.size() == exception.host.size()) return exception.itself;
    return exception.below && host[host.size() - exception.host.size() - 1] == '.';
  });
}

absl::StatusOr<std::shared_ptr<const Proxy>> ProxyRules::For(const UrlParts& url) const {
  const bool tls = SameHttpName(url.scheme, "https");
  const Chosen& chosen = tls ? https_ : http_;
  if (always_ || (chosen.ok() && *chosen == nullptr)) return chosen;
  const std::string host = LowerCase(WithoutBrackets(url.host));
  const std::string_view port = !url.port.empty() ? url.port : tls ? "443" : "80";
  if (IsLoopback(host) || Excepted(host, port)) return nullptr;
  return chosen;
}

}  // namespace coffer
