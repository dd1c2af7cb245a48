// Shares: whatever is decoded and combined gives an error or bytes; what is split comes back.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "common/strings.h"
#include "keystore/barrier/shamir.h"

namespace {

using coffer::SecretBytes;
using coffer::keystore::CombineShares;
using coffer::keystore::DecodeShare;
using coffer::keystore::ShareConfig;
using coffer::keystore::SplitSecret;

void Must(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  const ShareConfig config{data[0], data[1]};
  const std::string_view rest(reinterpret_cast<const char*>(data) + 2, size - 2);

  // Text of shares, one a line.
  std::vector<SecretBytes> decoded;
  for (const std::string_view line : coffer::Split(rest, '\n')) {
    auto share = DecodeShare(line);
    if (!share.ok()) continue;
    Must(share->size() >= 16 && share->size() <= 33);
    Must(DecodeShare(coffer::EncodeHex(share->span()).view())->Equals(share->view()));
    decoded.push_back(*std::move(share));
  }
  CombineShares(decoded).IgnoreError();

  // Shares of any size, cut from the input.
  std::vector<SecretBytes> raw;
  const std::size_t piece = 1 + data[0] % 40;
  for (std::size_t at = 0; at < rest.size() && raw.size() < 255; at += piece) {
    raw.push_back(SecretBytes::CopyOf(rest.substr(at, piece)));
  }
  CombineShares(raw).IgnoreError();

  const SecretBytes secret = SecretBytes::CopyOf(rest.substr(0, 32));
  auto shares = SplitSecret(secret.span(), config);
  Must(shares.ok() == coffer::keystore::CheckShareConfig(config).ok());
  if (!shares.ok()) return 0;
  std::rotate(shares->begin(), shares->begin() + data[2] % shares->size(), shares->end());
  shares->resize(config.threshold);
  Must(CombineShares(*shares)->Equals(secret.view()));
  return 0;
}
