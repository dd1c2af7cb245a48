// Addresses and the blocks (RFC 4632) that tokens are bound to.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace coffer::keystore {

// InvalidArgument: `block` is neither an address nor address/length, IPv4 or IPv6.
absl::Status CheckCidr(std::string_view block);

// Whether `address` lies in one of the blocks. An IPv4 address mapped to IPv6 counts as IPv4.
bool InAnyCidr(std::string_view address, const std::vector<std::string>& blocks);

}  // namespace coffer::keystore
