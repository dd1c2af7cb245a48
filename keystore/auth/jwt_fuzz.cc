// Any bytes as a token, as its parts, as keys, or as changes to a good token: nothing crashes, and
// nothing that the key didn't sign is let in. The first byte chooses which.
#include <cstdint>
#include <cstdlib>

#include "keystore/auth/jwt.h"
#include "keystore/auth/jwt_keys.h"
#include "keystore/auth/jwt_test_issuer.h"
#include "keystore/auth/kubernetes_selector.h"

namespace coffer::keystore {
namespace {

struct Fixture {
  const TestIssuer rsa{"RSA", "rsa"}, ec{"P-256", "ec"}, ed{"Ed25519", "ed"};
  const std::vector<std::string> tokens = {rsa.Sign("RS256", {{"sub", "a"}}),
                                           rsa.Sign("PS512", {{"exp", 1}}),
                                           ec.Sign("ES256", {{"sub", "a"}}),
                                           ed.Sign("EdDSA", {{"aud", {"a"}}})};
  const std::shared_ptr<const JwtKeySet> keys = *JwtKeySet::FromJwks(
      DumpJson({{"keys", Json::array({rsa.Jwk(), ec.Jwk(), ed.Jwk()})}}).view());
};

// Whether `token` is let in; goes through all that a login does with it.
bool LetsIn(const JwtKeySet& keys, std::string_view token) {
  const auto jwt = ParseJwt(token);
  if (!jwt.ok()) return false;
  (void)CheckClaims(jwt->claims, {absl::FromUnixSeconds(1'750'000'000), "vault", "issuer"});
  return keys.Verify(*jwt).ok();
}

void Run(std::uint8_t choice, std::string_view input) {
  static const auto* fixture = new Fixture();
  switch (choice % 6) {
    case 0:
      if (LetsIn(*fixture->keys, input)) std::abort();
      break;
    case 1: {  // header, claims and signature, parted by line ends
      std::string token;
      for (const std::string_view part : Split(input, '\n')) {
        StrAppend(&token, token.empty() ? "" : ".", Base64UrlText(part));
      }
      if (LetsIn(*fixture->keys, token)) std::abort();
      break;
    }
    case 2: {  // a good token with bytes put in place of its own: where (two bytes) and what, each
      const std::string& good = fixture->tokens[choice / 6 % fixture->tokens.size()];
      std::string token = good;
      for (std::size_t i = 0; i + 2 < input.size(); i += 3) {
        const auto at = static_cast<std::uint8_t>(input[i]) * 256 + static_cast<std::uint8_t>(input[i + 1]);
        token[static_cast<std::size_t>(at) % token.size()] = input[i + 2];
      }
      if (LetsIn(*fixture->keys, token) != (token == good)) std::abort();
      break;
    }
    case 3:
      if (const auto keys = JwtKeySet::FromJwks(input); keys.ok()) {
        for (const std::string& token : fixture->tokens) {
          if (LetsIn(**keys, token)) std::abort();
        }
      }
      break;
    case 4:
      if (const auto keys = JwtKeySet::FromPem({std::string(input)}); keys.ok()) {
        for (const std::string& token : fixture->tokens) {
          if (LetsIn(**keys, token)) std::abort();
        }
      }
      break;
    case 5:
      if (const auto selector = LabelSelector::Parse(input); selector.ok()) {
        (void)selector->Fits({{"env", "prod"}});
      }
      break;
  }
}

}  // namespace
}  // namespace coffer::keystore

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  coffer::keystore::Run(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
