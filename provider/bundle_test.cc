#include "provider/bundle.h"

#include <openssl/pkcs12.h>

#include "common/http_client_test_server.h"
#include "provider/extract.h"

namespace coffer::provider {
namespace {

struct Certificates {
  TestCertificate root{""};
  TestCertificate middle{"", &root};
  TestCertificate leaf{"DNS:web", &middle};
  TestCertificate other{"DNS:other", &root};

  // As Vault's PKI answers.
  Json Pki() const {
    return {{"certificate", leaf.certificate_pem()},
            {"issuing_ca", middle.certificate_pem()},
            {"ca_chain", {root.certificate_pem(), middle.certificate_pem()}},
            {"private_key", leaf.key_pem()},
            {"private_key_type", "ec"},
            {"serial_number", "01:02"},
            {"password", "s3cret"}};
  }
};

Object MakeObject(std::string_view fields) {
  auto objects =
      ParseObjects(StrCat("- {objectName: web, secretPath: pki/issue/web, ", fields, "}"), {});
  INFO(fields << objects.status());
  REQUIRE(objects.ok());
  return std::move(objects->front());
}

std::string Bundle(const Json& secret, std::string_view fields) {
  const auto made = MakeBundle(secret, MakeObject(fields));
  INFO(made.status());
  REQUIRE(made.ok());
  return std::string(made->view());
}

TEST_CASE("a PEM bundle is the certificate, its issuers in order, and the key") {
  const Certificates c;
  const std::string leaf = c.leaf.certificate_pem(), middle = c.middle.certificate_pem(),
                    root = c.root.certificate_pem(), key = c.leaf.key_pem();
  const Json lists = {leaf, middle};
  struct Case {
    const char* what;
    Json secret;
    std::string_view fields;
    std::string expected;
  };
  const Case cases[] = {
      {"PKI", c.Pki(), "format: pem", leaf + middle + root + key},
      {"an issuer alone",
       {{"certificate", leaf}, {"issuing_ca", middle}, {"ca_chain", Json::array()},
        {"private_key", key}},
       "format: pem", leaf + middle + key},
      {"a TLS Secret", {{"tls.crt", leaf + middle}, {"ca.crt", root}, {"tls.key", key}},
       "format: PEM", leaf + middle + root + key},
      {"the same certificate again", {{"crt", leaf + leaf}, {"ca", middle + leaf}, {"key", key}},
       "format: pem", leaf + middle + key},
      {"the issuer first", {{"cert", root + middle + leaf}, {"key", key}}, "format: pem",
       leaf + middle + root + key},
      {"a stranger among the issuers",
       {{"cert", leaf}, {"chain", {c.other.certificate_pem(), middle}}, {"key", key}},
       "format: pem", leaf + middle + c.other.certificate_pem() + key},
      {"no key", {{"cert", leaf}}, "format: pem", leaf},
      {"names of its own", {{"a", leaf}, {"b", middle}, {"c", "\n" + key + "\n\n"}, {"key", "x"}},
       "format: pem, bundle: {certificate: a, chain: b, key: c}", leaf + middle + key},
      {"text around it", {{"cert", "# mine\n" + leaf + "\n"}, {"key", key}}, "format: pem",
       leaf + key},
  };
  for (const Case& x : cases) {
    INFO(x.what);
    CHECK(Bundle(x.secret, x.fields) == x.expected);
  }
}

struct Parsed {
  EVP_PKEY* key = nullptr;
  X509* certificate = nullptr;
  STACK_OF(X509)* others = nullptr;
  bool good;

  Parsed(const std::string& der, const char* password) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
    PKCS12* bundle = d2i_PKCS12(nullptr, &bytes, static_cast<long>(der.size()));
    good = bundle != nullptr && PKCS12_parse(bundle, password, &key, &certificate, &others) == 1;
    PKCS12_free(bundle);
  }
  ~Parsed() {
    EVP_PKEY_free(key);
    X509_free(certificate);
    sk_X509_pop_free(others, X509_free);
  }
};

TEST_CASE("a PKCS #12 bundle opens with its password alone, and is the same each time") {
  const Certificates c;
  constexpr char kWithPassword[] = "format: pkcs12, bundle: {password: password}";
  const std::string sealed = Bundle(c.Pki(), kWithPassword);
  const std::string open = Bundle(c.Pki(), "format: pkcs12");
  CHECK(Bundle(c.Pki(), kWithPassword) == sealed);
  CHECK(Bundle(c.Pki(), "format: pkcs12") == open);
  CHECK(sealed != open);
  CHECK_FALSE(Parsed(sealed, "wrong").good);
  CHECK_FALSE(Parsed(sealed, "").good);
  CHECK_FALSE(Parsed(open, "s3cret").good);
  for (const auto& [bundle, password] : {std::pair(sealed, "s3cret"), std::pair(open, "")}) {
    const Parsed parsed(bundle, password);
    REQUIRE(parsed.good);
    CHECK(EVP_PKEY_eq(parsed.key, c.leaf.key()) == 1);
    CHECK(X509_cmp(parsed.certificate, c.leaf.certificate()) == 0);
    CHECK(sk_X509_num(parsed.others) == 2);
    int size = 0;
    const unsigned char* alias = X509_alias_get0(parsed.certificate, &size);
    CHECK(std::string(reinterpret_cast<const char*>(alias), static_cast<std::size_t>(size)) ==
          "web");
  }
  Json other = c.Pki();
  other["password"] = "another";
  CHECK(Bundle(other, kWithPassword) != sealed);
}

TEST_CASE("parts that are absent, no parts or no pair are told, without what they hold") {
  const Certificates c;
  const std::string leaf = c.leaf.certificate_pem(), key = c.leaf.key_pem();
  std::string encrypted;
  {
    BIO* bio = BIO_new(BIO_s_mem());
    PEM_write_bio_PKCS8PrivateKey(bio, c.leaf.key(), EVP_aes_128_cbc(), "pw", 2, nullptr, nullptr);
    encrypted = BioText(bio);
  }
  struct Case {
    Json secret;
    std::string_view fields;
    absl::StatusCode code;
    std::string words;
  };
  const auto kAbsent = absl::StatusCode::kNotFound;
  const auto kWrong = absl::StatusCode::kFailedPrecondition;
  const Case cases[] = {
      {{{"key", key}}, "format: pem", kAbsent, "has no certificate: name its key"},
      {{{"cert", leaf}}, "format: pkcs12", kAbsent, "has no private key: name its key"},
      {{{"cert", leaf}, {"key", key}}, "format: pem, bundle: {chain: x}", kAbsent,
       "key \"x\" does not exist"},
      {{{"cert", leaf}, {"key", key}}, "format: pkcs12, bundle: {password: pw}", kAbsent,
       "key \"pw\" does not exist"},
      {{{"cert", leaf}, {"key", key}, {"pw", 5}}, "format: pkcs12, bundle: {password: pw}", kWrong,
       "key \"pw\" must be text"},
      {{{"cert", leaf}, {"tls.key", c.other.key_pem()}}, "format: pem", kWrong,
       "key \"tls.key\" isn't the private key of the certificate in key \"cert\""},
      {{{"cert", "s3cret"}, {"key", key}}, "format: pem", kWrong,
       "key \"cert\" has no certificate in PEM"},
      {{{"cert", 5}}, "format: pem", kWrong, "key \"cert\" must be text in PEM"},
      {{{"cert", leaf}, {"ca", {leaf, 5}}}, "format: pem", kWrong, "key \"ca\" must be text"},
      {{{"cert", leaf + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}},
       "format: pem", kWrong, "key \"cert\" has a PEM block that is no certificate"},
      {{{"cert", leaf}, {"key", "s3cret"}}, "format: pem", kWrong,
       "key \"key\" has no private key in PEM"},
      {{{"cert", leaf}, {"key", {{"a", "s3cret"}}}}, "format: pem", kWrong,
       "key \"key\" must be text in PEM"},
      {{{"cert", leaf}, {"key", encrypted}}, "format: pem", kWrong, "key \"key\" is encrypted"},
      {Json("s3cret"), "format: pem", kAbsent, "the answer has no keys"},
  };
  for (const Case& x : cases) {
    const absl::Status status = MakeBundle(x.secret, MakeObject(x.fields)).status();
    INFO(x.words << " " << status);
    CHECK(status.code() == x.code);
    CHECK_THAT(std::string(Message(status)), Catch::Contains(x.words));
    CHECK_THAT(std::string(Message(status)), !Catch::Contains("s3cret"));
  }
}

TEST_CASE("a bundle is a file as any other: of kv, in a folder, with a default") {
  const Certificates c;
  const Json response = {{"data", {{"data", c.Pki()}, {"metadata", {{"version", 1}}}}}};
  const auto files =
      ExtractFiles(response, MakeObject("format: pkcs12, path: tls/web.p12"), "");
  REQUIRE(files.ok());
  REQUIRE(files->size() == 1);
  CHECK(files->front().path == "tls/web.p12");
  CHECK(Parsed(std::string(files->front().content.view()), "").good);
}

TEST_CASE("a bundle's fields are checked") {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"format: p12", "objects[0].format: must be env, json, yaml, properties, pem or pkcs12"},
      {"bundle: {key: a}", "objects[0].bundle: is for format pem or pkcs12"},
      {"format: pem, bundle: x", "objects[0].bundle: must be a map"},
      {"format: pem, bundle: {cert: x}", "objects[0].bundle: has the unknown field cert"},
      {"format: pem, bundle: {key: ''}", "objects[0].bundle: must have the name of a key"},
      {"format: pem, bundle: {password: x}", "objects[0].bundle.password: is for format pkcs12"},
      {"format: pem, keys: '*'", "objects[0].keys: is for all keys of a secret"},
      {"format: pem, secretKey: a", "objects[0].secretKey: "},
      {"format: pkcs12, encoding: hex", "objects[0].encoding: "},
  };
  for (const auto& [fields, words] : cases) {
    const auto objects = ParseObjects(StrCat("- {objectName: w, secretPath: p, ", fields, "}"), {});
    REQUIRE(absl::IsInvalidArgument(objects.status()));
    CHECK_THAT(std::string(Message(objects.status())), Catch::Contains(std::string(words)));
  }
}

}  // namespace
}  // namespace coffer::provider
