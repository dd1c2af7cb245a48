#include "keystore/auth/jwt.h"

#include <openssl/hmac.h>
#include <openssl/x509.h>

#include <thread>

#include "keystore/auth/jwt_keys.h"
#include "keystore/auth/jwt_test_issuer.h"

namespace coffer::keystore {
namespace {

const TestIssuer& Rsa() {
  static const TestIssuer issuer("RSA");
  return issuer;
}

std::shared_ptr<const JwtKeySet> Keys(const std::vector<std::string>& pems) {
  auto keys = JwtKeySet::FromPem(pems);
  REQUIRE(keys.ok());
  return *keys;
}

std::shared_ptr<const JwtKeySet> Jwks(const std::vector<Json>& jwks) {
  auto keys = JwtKeySet::FromJwks(DumpJson({{"keys", jwks}}).view());
  REQUIRE(keys.ok());
  return *keys;
}

absl::Status Check(const JwtKeySet& keys, std::string_view token) {
  const auto jwt = ParseJwt(token);
  return jwt.ok() ? keys.Verify(*jwt) : jwt.status();
}

bool Says(const absl::Status& status, std::string_view text) {
  return Message(status).find(text) != std::string_view::npos;
}

TEST_CASE("every algorithm verifies what its key signed, from PEM and from a JWK") {
  struct Case {
    std::string type;
    std::vector<std::string> algorithms;
  };
  const Case cases[] = {{"RSA", {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}},
                        {"P-256", {"ES256"}},
                        {"P-384", {"ES384"}},
                        {"P-521", {"ES512"}},
                        {"Ed25519", {"EdDSA"}}};
  for (const Case& c : cases) {
    const TestIssuer issuer(c.type, "id"), other(c.type, "id");
    const auto pem = Keys({issuer.PublicPem()});
    const auto jwks = Jwks({issuer.Jwk()});
    for (const std::string& algorithm : c.algorithms) {
      CAPTURE(c.type, algorithm);
      // Many, so that short coordinates and repeated use of a context come up.
      for (int i = 0; i < 40; ++i) {
        const std::string token = issuer.Sign(algorithm, {{"i", i}});
        CHECK(Check(*pem, token).ok());
        CHECK(Check(*jwks, token).ok());
      }
      const std::string token = other.Sign(algorithm, {{"i", 1}});
      CHECK(Says(Check(*pem, token), "signature is wrong"));
      CHECK(Says(Check(*jwks, token), "signature is wrong"));
      CHECK(Check(*pem, token).code() == absl::StatusCode::kPermissionDenied);
      CHECK(Check(*pem, issuer.Sign(algorithm, {})).ok());
    }
  }
}

TEST_CASE("a changed byte anywhere in a token breaks it") {
  const auto keys = Keys({Rsa().PublicPem()});
  const std::string token = Rsa().Sign("RS256", {{"sub", "system:serviceaccount:a:b"}});
  REQUIRE(Check(*keys, token).ok());
  for (std::size_t i = 0; i < token.size(); ++i) {
    std::string changed = token;
    changed[i] = changed[i] == 'A' ? 'B' : 'A';
    CAPTURE(i);
    CHECK_FALSE(Check(*keys, changed).ok());
  }
  CHECK_FALSE(Check(*keys, token.substr(0, token.rfind('.') + 1)).ok());
  CHECK_FALSE(Check(*keys, token + "AAAA").ok());
}

TEST_CASE("tokens that only pretend are refused") {
  const TestIssuer ec("P-256", "ec");
  const std::string pem = Rsa().PublicPem();
  const auto keys = Keys({pem});
  const Json claims = {{"sub", "x"}};
  const std::string payload = Base64UrlText(DumpJson(claims).view());
  const auto unsigned_token = [&](std::string_view header) {
    return StrCat(Base64UrlText(header), ".", payload, ".");
  };
  const std::string hs_input = StrCat(Base64UrlText(R"({"alg":"HS256","typ":"JWT"})"), ".", payload);
  unsigned char mac[32];
  HMAC(EVP_sha256(), pem.data(), static_cast<int>(pem.size()),
       reinterpret_cast<const unsigned char*>(hs_input.data()), hs_input.size(), mac, nullptr);
  const std::string hs256 = StrCat(
      hs_input, ".", Base64UrlText(std::string_view(reinterpret_cast<const char*>(mac), 32)));
  const std::string good = Rsa().Sign("RS256", claims);

  struct Case {
    std::string_view name;
    std::string token;
    std::string_view says;
  };
  const Case cases[] = {
      {"alg none", unsigned_token(R"({"alg":"none"})"), "algorithm isn't accepted"},
      {"alg None", unsigned_token(R"({"alg":"None"})"), "algorithm isn't accepted"},
      {"HMAC with the public key", hs256, "algorithm isn't accepted"},
      {"none with a good signature", Rsa().Sign("RS256", claims, {{"alg", "none"}}),
       "algorithm isn't accepted"},
      {"RSA key, EC algorithm", Rsa().Sign("RS256", claims, {{"alg", "ES256"}}),
       "no configured key fits its algorithm, ES256"},
      {"EC key's token", ec.Sign("ES256", claims), "no configured key fits"},
      {"PKCS 1 signature called PSS", Rsa().Sign("RS256", claims, {{"alg", "PS256"}}),
       "signature is wrong"},
      {"SHA-256 signature called SHA-512", Rsa().Sign("RS256", claims, {{"alg", "RS512"}}),
       "signature is wrong"},
      {"no signature", good.substr(0, good.rfind('.') + 1), "signature is wrong"},
      {"no alg", unsigned_token(R"({"kid":"x"})"), "names no algorithm"},
      {"alg not text", unsigned_token(R"({"alg":256})"), "names no algorithm"},
      {"alg null", unsigned_token(R"({"alg":null})"), "names no algorithm"},
      {"kid not text", unsigned_token(R"({"alg":"RS256","kid":{}})"), "key id (kid) isn't text"},
      {"crit", Rsa().Sign("RS256", claims, {{"crit", {"exp"}}}), "extension (crit)"},
      {"header not JSON", unsigned_token("alg=RS256"), "header isn't a JSON object"},
      {"header a list", unsigned_token(R"(["RS256"])"), "header isn't a JSON object"},
      {"claims not JSON", StrCat(Base64UrlText(R"({"alg":"RS256"})"), ".e30x.AA"),
       "claims isn't a JSON object"},
      {"claims a text", StrCat(Base64UrlText(R"({"alg":"RS256"})"), ".", Base64UrlText("\"x\""),
                               ".AA"),
       "claims isn't a JSON object"},
      {"padding", StrCat(Base64UrlText(R"({"alg":"RS256"})"), "=.", payload, ".AA"), "base64url"},
      {"other alphabet", StrCat(Base64UrlText(R"({"alg":"RS256"})"), ".", payload, ".+/+/"),
       "signature isn't base64url"},
      {"not base64", StrCat(Base64UrlText(R"({"alg":"RS256"})"), ".", payload, ".A!"),
       "signature isn't base64url"},
      {"space", " " + good, "header isn't base64url"},
      {"two parts", "a.b", "three parts"},
      {"one part", "abc", "three parts"},
      {"nothing", "", "three parts"},
      {"five parts (encrypted)", "a.b.c.d.e", "three parts"},
      {"too large", Rsa().Sign("RS256", {{"x", std::string(16 * 1024, 'x')}}), "larger than 16384"},
      {"nested too deep", StrCat(Base64UrlText(R"({"alg":"RS256"})"), ".",
                                 Base64UrlText("{\"a\":" + std::string(100, '[') +
                                               std::string(100, ']') + "}"),
                                 ".AA"),
       "claims isn't a JSON object"}};
  for (const Case& c : cases) {
    const absl::Status status = Check(*keys, c.token);
    CAPTURE(c.name, status.ToString());
    CHECK(absl::IsPermissionDenied(status));
    CHECK(Says(status, c.says));
  }
}

TEST_CASE("a key id chooses the key") {
  const TestIssuer a("P-256", "a"), b("P-256", "b"), c("P-256", "c"), nameless("P-256");
  const auto keys = Jwks({a.Jwk(), b.Jwk()});
  CHECK(Check(*keys, a.Sign("ES256", {})).ok());
  CHECK(Check(*keys, b.Sign("ES256", {})).ok());
  CHECK(Says(Check(*keys, c.Sign("ES256", {})), "unknown key, with the id \"c\""));
  CHECK(Says(Check(*keys, c.Sign("ES256", {}, {{"kid", "x\ny"}})), "id that isn't plain text"));
  CHECK(Says(Check(*keys, a.Sign("ES256", {}, {{"kid", "b"}})), "signature is wrong"));
  // Without an id every key is tried; a key without one takes any.
  CHECK(Check(*Jwks({a.Jwk(), nameless.Jwk()}), nameless.Sign("ES256", {})).ok());
  CHECK(Check(*Jwks({nameless.Jwk()}), nameless.Sign("ES256", {}, {{"kid", "any"}})).ok());
  CHECK(Check(*Keys({a.PublicPem(), b.PublicPem()}), b.Sign("ES256", {})).ok());
  CHECK_FALSE(keys->Knows(*ParseJwt(c.Sign("ES256", {}))));
}

TEST_CASE("PEM texts: public keys and certificates, and nothing else") {
  const TestIssuer ec("P-256"), small("RSA", "", 1024), odd("secp256k1");
  X509* x509 = X509_new();
  X509_set_pubkey(x509, Rsa().key());
  X509_gmtime_adj(X509_getm_notAfter(x509), -1);  // dates don't matter
  X509_gmtime_adj(X509_getm_notBefore(x509), -2);
  X509_sign(x509, Rsa().key(), EVP_sha256());
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(bio, x509);
  char* data;
  long size = BIO_get_mem_data(bio, &data);
  const std::string certificate(data, static_cast<std::size_t>(size));
  BIO_free(bio);
  X509_free(x509);
  bio = BIO_new(BIO_s_mem());
  i2d_PublicKey(Rsa().key(), nullptr);
  unsigned char* der = nullptr;
  const int der_size = i2d_PublicKey(Rsa().key(), &der);
  PEM_write_bio(bio, "RSA PUBLIC KEY", "", der, der_size);
  OPENSSL_free(der);
  size = BIO_get_mem_data(bio, &data);
  const std::string pkcs1(data, static_cast<std::size_t>(size));
  BIO_free(bio);

  const std::string token = Rsa().Sign("RS256", {});
  const std::string untrimmed = Rsa().PublicPem();
  for (const std::string& pem :
       {untrimmed, certificate, pkcs1, "Some text.\n" + untrimmed, ec.PublicPem() + untrimmed,
        std::string(Trim(untrimmed)), std::string(Trim(certificate))}) {
    CHECK(Check(*Keys({pem}), token).ok());
  }

  struct Case {
    std::string pem;
    std::string_view says;
  };
  const Case cases[] = {
      {"", "does not contain any valid RSA"},
      {"junk", "does not contain any valid RSA"},
      {"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "can't be read"},
      {"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "can't be read"},
      {"-----BEGIN DH PARAMETERS-----\nAAAA\n-----END DH PARAMETERS-----\n", "DH PARAMETERS"},
      {ec.PrivatePem(), "private key"},
      {small.PublicPem(), "1024 bits"},
      {odd.PublicPem(), "curve P-256, P-384 or P-521"}};
  for (const Case& c : cases) {
    const auto keys = JwtKeySet::FromPem({untrimmed, c.pem});
    CAPTURE(c.pem, keys.status().ToString());
    CHECK(keys.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(Says(keys.status(), c.says));
    CHECK(Says(keys.status(), "public key 2: "));
  }
}

TEST_CASE("JWK sets: what can't be used is left out") {
  const TestIssuer good("P-256", "good");
  Json encryption = TestIssuer("P-256", "enc").Jwk();
  encryption["use"] = "enc";
  Json off_curve = TestIssuer("P-256", "off").Jwk();
  off_curve["x"] = off_curve["y"];
  Json other_algorithm = good.Jwk();
  other_algorithm["alg"] = "RS256";
  Json no_y = good.Jwk();
  no_y.erase("y");
  const std::vector<Json> useless = {
      encryption, off_curve, no_y, Json("text"), Json(nullptr), Json::object(),
      {{"kty", "oct"}, {"k", "c2VjcmV0"}, {"kid", "hmac"}},
      {{"kty", "RSA"}, {"n", "AQAB"}, {"e", "AQAB"}},
      {{"kty", "RSA"}, {"n", "!"}, {"e", "AQAB"}},
      {{"kty", "OKP"}, {"crv", "X25519"}, {"x", Base64UrlText(std::string(32, 'x'))}},
      {{"kty", "OKP"}, {"crv", "Ed25519"}, {"x", "AAAA"}}};
  std::vector<Json> with_good = useless;
  with_good.push_back(good.Jwk());
  CHECK(Check(*Jwks(with_good), good.Sign("ES256", {})).ok());
  CHECK(Says(Check(*Jwks({other_algorithm}), good.Sign("ES256", {})), "no configured key fits"));
  for (const std::string& document :
       {std::string(DumpJson({{"keys", useless}}).view()), std::string(R"({"keys":{}})"),
        std::string("[]"), std::string("{}"), std::string("x")}) {
    CHECK(JwtKeySet::FromJwks(document).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("one key set serves many threads") {
  const auto keys = Keys({Rsa().PublicPem()});
  const std::string right = Rsa().Sign("RS256", {{"a", 1}});
  std::string wrong = right;
  wrong[wrong.size() - 9] ^= 1;
  std::atomic<int> good{0}, bad{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 300; ++i) {
        if (Check(*keys, right).ok()) ++good;
        if (!Check(*keys, wrong).ok()) ++bad;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(good == 1200);
  CHECK(bad == 1200);
}

TEST_CASE("claims: times, audience and issuer") {
  const std::int64_t now = 1'750'000'000;
  struct Case {
    std::string_view name;
    Json claims;
    std::string audience;
    std::optional<std::string> issuer;
    std::string_view says;  // "" = holds
  };
  const Case cases[] = {
      {"nothing asked", Json::object(), "", {}, ""},
      {"all in time", {{"exp", now + 1}, {"nbf", now}, {"iat", now}}, "", {}, ""},
      {"just within the leeway", {{"exp", now - 59}}, "", {}, ""},
      {"expired", {{"exp", now - 60}}, "", {}, "it expired at 2025-06-15T15:05:40Z"},
      {"expired long ago", {{"exp", 0}}, "", {}, "it expired at 1970-01-01"},
      {"nbf within the leeway", {{"nbf", now + 60}}, "", {}, ""},
      {"not yet", {{"nbf", now + 61}}, "", {}, "isn't valid before"},
      {"issued in the future", {{"iat", now + 61}}, "", {}, "issued in the future"},
      {"a fraction", {{"exp", now + 0.5}}, "", {}, ""},
      {"exp a text", {{"exp", "1750000000"}}, "", {}, "\"exp\" isn't a number"},
      {"exp null", {{"exp", nullptr}}, "", {}, "\"exp\" isn't a number"},
      {"exp immense", {{"exp", 1e300}}, "", {}, "\"exp\" isn't a number"},
      {"nbf a list", {{"nbf", {1}}}, "", {}, "\"nbf\" isn't a number"},
      {"audience among several", {{"aud", {"a", "vault"}}}, "vault", {}, ""},
      {"audience as text", {{"aud", "vault"}}, "vault", {}, ""},
      {"another audience", {{"aud", {"a", "b"}}}, "vault", {}, "it isn't meant for \"vault\""},
      {"part of an audience", {{"aud", "vaults"}}, "vault", {}, "it isn't meant for"},
      {"no audience", Json::object(), "vault", {}, "it has none"},
      {"empty audience", {{"aud", Json::array()}}, "vault", {}, "it has none"},
      {"audience a number", {{"aud", 1}}, "vault", {}, "\"aud\" isn't a text"},
      {"audience an object", {{"aud", {{"vault", 1}}}}, "vault", {}, "\"aud\" isn't a text"},
      {"issuer", {{"iss", "https://k8s"}}, "", "https://k8s", ""},
      {"another issuer", {{"iss", "https://other"}}, "", "https://k8s", "claim \"iss\" is invalid"},
      {"no issuer", Json::object(), "", "https://k8s", "claim \"iss\" is invalid"}};
  for (const Case& c : cases) {
    const absl::Status status =
        CheckClaims(c.claims, {absl::FromUnixSeconds(now), c.audience, c.issuer});
    CAPTURE(c.name, status.ToString());
    CHECK(absl::IsPermissionDenied(status) != c.says.empty());
    CHECK(Says(status, c.says));
  }
}

}  // namespace
}  // namespace coffer::keystore
