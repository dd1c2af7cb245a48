#include "keystore/http/origin.h"

#include "common/strings.h"
#include "keystore/core/cidr.h"

namespace coffer::keystore {
namespace {

std::optional<HttpRefusal> FollowProxy(const ForwardedForOptions& options,
                                       std::string_view forwarded_for, std::string* address) {
  if (forwarded_for.empty()) {
    if (!options.reject_not_present) return std::nullopt;
    return HttpRefusal{
        400, "missing x-forwarded-for header and configured to reject when not present"};
  }
  if (!InAnyCidr(*address, options.authorized)) {
    if (!options.reject_not_authorized) return std::nullopt;
    return HttpRefusal{400, "client address not authorized for x-forwarded-for and configured to "
                            "reject connection"};
  }
  const std::vector<std::string_view> hops = Split(forwarded_for, ',');
  if (options.hop_skips >= hops.size()) {
    return HttpRefusal{
        400, StrCat("malformed x-forwarded-for configuration or request, hops to skip (",
                    options.hop_skips, ") would skip before earliest chain link (chain length ",
                    hops.size(), ")")};
  }
  *address = Trim(hops[hops.size() - 1 - options.hop_skips]);
  return std::nullopt;
}

}  // namespace

std::optional<HttpRefusal> CheckOrigin(const ListenerOptions& options, const HttpMessage& message,
                                       std::string* remote_address) {
  if (options.require_request_header && !message.vault_request) {
    return HttpRefusal{412, "missing 'X-Vault-Request' header"};
  }
  if (options.forwarded_for.authorized.empty()) return std::nullopt;
  return FollowProxy(options.forwarded_for, message.forwarded_for, remote_address);
}

}  // namespace coffer::keystore
