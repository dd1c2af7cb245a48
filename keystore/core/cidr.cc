#include "keystore/core/cidr.h"

#include <arpa/inet.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>

#include "absl/strings/numbers.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

// Both families as 16 bytes: IPv4 as ::ffff:a.b.c.d, its lengths 96 longer.
using Address = std::array<std::uint8_t, 16>;

struct Block {
  Address address;
  int length;
};

std::optional<Address> ParseAddress(std::string_view text, bool* v4) {
  Address address{};
  const std::string copy(text);
  *v4 = inet_pton(AF_INET, copy.c_str(), address.data() + 12) == 1;
  if (*v4) {
    address[10] = address[11] = 0xff;
    return address;
  }
  if (inet_pton(AF_INET6, copy.c_str(), address.data()) == 1) return address;
  return std::nullopt;
}

std::optional<Block> ParseBlock(std::string_view text) {
  const std::size_t slash = text.find('/');
  bool v4 = false;
  const std::optional<Address> address = ParseAddress(text.substr(0, slash), &v4);
  if (!address) return std::nullopt;
  const int longest = v4 ? 32 : 128;
  int length = longest;
  if (slash != text.npos) {
    if (!absl::SimpleAtoi(ToAbsl(text.substr(slash + 1)), &length)) return std::nullopt;
    if (length < 0 || length > longest) return std::nullopt;
  }
  return Block{*address, v4 ? length + 96 : length};
}

bool Contains(const Block& block, const Address& address) {
  const std::size_t whole = static_cast<std::size_t>(block.length) / 8;
  if (std::memcmp(block.address.data(), address.data(), whole) != 0) return false;
  const int left = block.length % 8;
  if (left == 0) return true;
  const int mask = 0xff << (8 - left) & 0xff;
  return ((block.address[whole] ^ address[whole]) & mask) == 0;
}

}  // namespace

absl::Status CheckCidr(std::string_view block) {
  if (ParseBlock(block)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      StrCat("\"", block, "\" is not an address block: give e.g. 10.0.0.0/8 or 2001:db8::/32"));
}

bool InAnyCidr(std::string_view text, const std::vector<std::string>& blocks) {
  bool v4 = false;
  const std::optional<Address> address = ParseAddress(text, &v4);
  if (!address) return false;
  for (const std::string& candidate : blocks) {
    const std::optional<Block> block = ParseBlock(candidate);
    if (block && Contains(*block, *address)) return true;
  }
  return false;
}

}  // namespace coffer::keystore
