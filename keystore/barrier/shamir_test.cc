#include "keystore/barrier/shamir.h"

#include "common/random.h"

namespace coffer::keystore {
namespace {

std::vector<SecretBytes> Pick(const std::vector<SecretBytes>& shares, std::vector<int> picked) {
  std::vector<SecretBytes> some;
  for (const int i : picked) some.push_back(shares[i].Copy());
  return some;
}

SecretBytes FromHex(std::string_view hex) { return *DecodeHex(hex); }

TEST_CASE("share configurations are Vault's") {
  struct Case {
    ShareConfig config;
    std::string_view refusal;  // "": allowed
  };
  for (const Case& c : std::initializer_list<Case>{
           {{1, 1}, ""},
           {{2, 2}, ""},
           {{5, 3}, ""},
           {{255, 255}, ""},
           {{0, 0}, "shares must be at least one"},
           {{-1, 1}, "shares must be at least one"},
           {{5, 0}, "threshold must be at least one"},
           {{5, 1}, "threshold must be greater than one for multiple shares"},
           {{256, 3}, "shares must be less than 256"},
           {{255, 256}, "threshold must be less than 256"},
           {{3, 5}, "threshold cannot be larger than shares"}}) {
    CAPTURE(c.config.shares, c.config.threshold);
    CHECK(Message(CheckShareConfig(c.config)) == c.refusal);
  }
}

TEST_CASE("any threshold of the shares give the secret, in any order") {
  const SecretBytes secret = RandomSecret(32);
  const auto shares = *SplitSecret(secret.span(), {5, 3});
  REQUIRE(shares.size() == 5);
  for (int a = 0; a < 5; ++a) {
    CHECK(shares[a].size() == 33);
    for (int b = 0; b < 5; ++b) {
      for (int c = 0; c < 5; ++c) {
        if (a == b || b == c || a == c) continue;
        CHECK(CombineShares(Pick(shares, {a, b, c}))->Equals(secret.view()));
      }
    }
  }
  CHECK(CombineShares(Pick(shares, {0, 1, 2, 3, 4}))->Equals(secret.view()));
}

TEST_CASE("large configurations work") {
  const SecretBytes secret = RandomSecret(32);
  for (const ShareConfig config : {ShareConfig{2, 2}, {255, 2}, {255, 255}, {100, 50}}) {
    auto shares = *SplitSecret(secret.span(), config);
    shares.erase(shares.begin(), shares.end() - config.threshold);
    CHECK(CombineShares(shares)->Equals(secret.view()));
  }
}

TEST_CASE("2 of 3 needed shares reveal nothing: they fit every secret as well") {
  // For two shares of a 3-threshold secret and any secret byte there is a third share that makes
  // it.
  const SecretBytes secret = FromHex("42");
  const auto shares = *SplitSecret(secret.span(), {3, 3});
  std::set<std::uint8_t> secrets;
  for (int y = 0; y < 256; ++y) {
    auto guess = Pick(shares, {0, 1});
    const std::uint8_t third[] = {static_cast<std::uint8_t>(y), 3};
    guess.push_back(SecretBytes::CopyOf(std::span<const std::uint8_t>(third)));
    secrets.insert(CombineShares(guess)->data()[0]);
  }
  CHECK(secrets.size() == 256);
}

TEST_CASE("shares of the same secret differ each time") {
  const SecretBytes secret = RandomSecret(32);
  const auto first = *SplitSecret(secret.span(), {3, 2});
  const auto second = *SplitSecret(secret.span(), {3, 2});
  CHECK_FALSE(first[0].Equals(second[0].view()));
}

TEST_CASE("the only share of 1 of 1 is the secret") {
  const SecretBytes secret = RandomSecret(32);
  const auto shares = *SplitSecret(secret.span(), {1, 1});
  REQUIRE(shares.size() == 1);
  CHECK(shares[0].Equals(secret.view()));
  CHECK(CombineShares(shares)->Equals(secret.view()));
}

TEST_CASE("the field is GF(2^8) of AES and the layout is Vault's") {
  // f(z) = 0x53 + 0xca z: by hand, 0xca * 2 = 0x8f and 0xca * 3 = 0x45 modulo 0x11b.
  std::vector<SecretBytes> shares;
  shares.push_back(FromHex("9901"));  // 0x53 ^ 0xca
  shares.push_back(FromHex("dc02"));  // 0x53 ^ 0x8f
  CHECK(CombineShares(shares)->data()[0] == 0x53);
  shares[0] = FromHex("1603");  // 0x53 ^ 0x45
  CHECK(CombineShares(shares)->data()[0] == 0x53);
}

TEST_CASE("shares that can't belong together are refused") {
  const auto shares = *SplitSecret(RandomSecret(32).span(), {3, 2});
  CHECK_FALSE(CombineShares({}).ok());
  CHECK_FALSE(CombineShares(Pick(shares, {0, 0})).ok());
  auto odd = Pick(shares, {0, 1});
  odd[1].Resize(32);
  CHECK_FALSE(CombineShares(odd).ok());
  odd[1] = SecretBytes(33);  // x = 0 would be the secret itself
  CHECK_FALSE(CombineShares(odd).ok());
}

TEST_CASE("shares are read from hex and base64") {
  const SecretBytes share = RandomSecret(33);
  const SecretBytes key = RandomSecret(32);
  for (const SecretBytes* bytes : {&share, &key}) {
    CHECK(DecodeShare(EncodeHex(bytes->span()).view())->Equals(bytes->view()));
    CHECK(DecodeShare(EncodeBase64(bytes->span()).view())->Equals(bytes->view()));
    CHECK(DecodeShare(EncodeBase64Url(bytes->span()).view())->Equals(bytes->view()));
  }
  // Base64 of 33 bytes that happens to be hex digits only: as hex it would be 22 bytes, as Vault.
  CHECK(DecodeShare(std::string(44, 'a'))->size() == 22);
  struct Case {
    std::string text;
    std::string_view refusal;
  };
  for (const Case& c :
       std::initializer_list<Case>{{"", "key is shorter than minimum 16 bytes"},
                                   {"?", "'key' must be a valid hex or base64 string"},
                                   {"c2hvcnQ=", "key is shorter than minimum 16 bytes"},
                                   {std::string(80, 'z'), "key is longer than maximum 33 bytes"}}) {
    CAPTURE(c.text);
    CHECK(Message(DecodeShare(c.text).status()) == c.refusal);
  }
}

}  // namespace
}  // namespace coffer::keystore
