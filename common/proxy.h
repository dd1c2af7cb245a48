// ProxyRules: which proxy a request goes through, from the environment, as Go's programs read it, so
// that what is set for the cluster's other programs holds here too.
//
//   HTTP_PROXY, HTTPS_PROXY   for http:// and https://: [http://][user:password@]host[:port]
//   NO_PROXY                  entry *("," entry): "*", host[:port], .domain, *.domain, address, CIDR;
//                             a host stands for what is below it too, .domain for that alone
//
// In capitals or, where those are unset, not. Requests to localhost and loopback addresses never
// take a proxy.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/secret_bytes.h"
#include "common/url.h"

namespace coffer {

struct Proxy {
  std::string host, port;
  SecretBytes authorization;  // the value of Proxy-Authorization; empty = none

  std::string address() const { return host + ":" + port; }
};

class ProxyRules {
 public:
  ProxyRules() = default;  // no proxies
  ProxyRules(std::string_view http, std::string_view https, std::string_view none);
  static ProxyRules FromEnvironment();
  // Every request through `proxy`, to this machine, too. `field` is what an error calls it.
  static ProxyRules Through(std::string_view field, std::string_view proxy);

  // Null: straight to the server. FailedPrecondition: that proxy's URL is wrong.
  absl::StatusOr<std::shared_ptr<const Proxy>> For(const UrlParts& url) const;

 private:
  struct Exception {
    std::string host;  // "" = all
    std::string port;  // "" = any
    bool itself = true, below = true;
    std::string network;  // the address's bytes, then `bits` count
    int bits = 0;
  };
  using Chosen = absl::StatusOr<std::shared_ptr<const Proxy>>;

  static Chosen Parse(std::string_view variable, std::string_view text);
  static Exception ParseException(std::string_view text);
  bool Excepted(std::string_view host, std::string_view port) const;

  Chosen http_ = nullptr, https_ = nullptr;
  std::vector<Exception> exceptions_;
  bool always_ = false;
};

}  // namespace coffer
