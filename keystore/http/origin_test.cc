// Who may say where a request comes from.
#include "keystore/http/origin.h"

#include <catch2/catch.hpp>

using namespace coffer::keystore;

TEST_CASE("X-Forwarded-For is believed of authorised proxies alone") {
  struct Case {
    std::string_view name;
    ForwardedForOptions options;
    std::string_view header, from, seen;  // seen "": refused
  };
  const std::vector<std::string> proxies = {"10.0.0.0/8", "::1"};
  const std::vector<Case> cases = {
      {"without proxies it is ignored", {}, "1.2.3.4", "10.0.0.1", "10.0.0.1"},
      {"from a proxy", {.authorized = proxies}, "1.2.3.4", "10.0.0.1", "1.2.3.4"},
      {"from an IPv6 proxy", {.authorized = proxies}, "1.2.3.4", "::1", "1.2.3.4"},
      {"the last hop counts", {.authorized = proxies}, "6.6.6.6, 1.2.3.4", "10.0.0.1", "1.2.3.4"},
      {"hops are skipped from the end", {.authorized = proxies, .hop_skips = 1}, "1.2.3.4,10.0.0.2",
       "10.0.0.1", "1.2.3.4"},
      {"more skipped than there are", {.authorized = proxies, .hop_skips = 2}, "1.2.3.4,10.0.0.2",
       "10.0.0.1", ""},
      {"from elsewhere", {.authorized = proxies}, "1.2.3.4", "9.9.9.9", ""},
      {"from elsewhere, let through as itself",
       {.authorized = proxies, .reject_not_authorized = false}, "1.2.3.4", "9.9.9.9", "9.9.9.9"},
      {"missing", {.authorized = proxies}, "", "10.0.0.1", ""},
      {"missing, let through as itself", {.authorized = proxies, .reject_not_present = false}, "",
       "10.0.0.1", "10.0.0.1"},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    ListenerOptions options;
    options.forwarded_for = c.options;
    HttpMessage message;
    message.forwarded_for = c.header;
    std::string address(c.from);
    const auto refusal = CheckOrigin(options, message, &address);
    CHECK(refusal.has_value() == c.seen.empty());
    if (refusal) {
      CHECK(refusal->status == 400);
    } else {
      CHECK(address == c.seen);
    }
  }
}

TEST_CASE("Where it is required, a request without X-Vault-Request is refused") {
  ListenerOptions options;
  options.require_request_header = true;
  HttpMessage message;
  std::string address = "127.0.0.1";
  CHECK(CheckOrigin(options, message, &address)->status == 412);
  message.vault_request = true;
  CHECK_FALSE(CheckOrigin(options, message, &address));
}
