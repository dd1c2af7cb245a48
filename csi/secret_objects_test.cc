#include "csi/secret_objects.h"

#include "common/strings.h"
#include "common/yaml.h"

namespace coffer::csi {
namespace {

absl::StatusOr<std::vector<SecretObject>> Read(const std::string& objects) {
  const auto documents = ParseYaml(StrCat("spec:\n  secretObjects: ", objects, "\n"));
  REQUIRE(documents.ok());
  return ReadSecretObjects(documents->front());
}

std::vector<provider::File> Files(
    std::initializer_list<std::pair<std::string, std::string>> contents) {
  std::vector<provider::File> files;
  for (const auto& [path, content] : contents) {
    files.push_back({.path = path, .content = SecretBytes::CopyOf(content)});
  }
  return files;
}

std::string Value(const SecretPayload& payload, const std::string& key) {
  REQUIRE(payload.status == absl::OkStatus());
  const auto bytes =
      DecodeBase64(payload.data[SecretString(key)].get_ref<const SecretString&>());
  REQUIRE(bytes.ok());
  return std::string(bytes->view());
}

TEST_CASE("secretObjects are read as upstream's, and an error names the field") {
  CHECK(Read("")->empty());
  CHECK(Read("[]")->empty());
  const auto read = Read(
      "[{secretName: ' s ', type: kubernetes.io/basic-auth, labels: {a: b}, annotations: {c: d},"
      " data: [{objectName: user, key: username}]}]");
  REQUIRE(read.ok());
  const SecretObject& object = read->front();
  CHECK(object.name == "s");
  CHECK(object.type == "kubernetes.io/basic-auth");
  CHECK(object.labels.at("a") == "b");
  CHECK(object.annotations.at("c") == "d");
  CHECK(object.data.front() == std::pair(std::string("username"), std::string("user")));
  CHECK(Read("[{secretName: s, data: [{objectName: a, key: b}]}]")->front().type == "Opaque");
  for (const auto& [text, error] : std::map<std::string, std::string>{
           {"{}", "spec.secretObjects: must be a list"},
           {"[x]", "spec.secretObjects[0]: must be a map"},
           {"[{data: [{objectName: a, key: b}]}]", "spec.secretObjects[0].secretName: is missing"},
           {"[{secretName: s}]", "spec.secretObjects[0].data: must be a list"},
           {"[{secretName: s, data: []}]", "spec.secretObjects[0].data: must be a list"},
           {"[{secretName: s, data: [{objectName: a, key: b}, {key: c}]}]",
            "spec.secretObjects[0].data[1].objectName: is missing"},
           {"[{secretName: s, data: [{objectName: a}]}]",
            "spec.secretObjects[0].data[0].key: is missing"},
           {"[{secretName: s, labels: [x], data: [{objectName: a, key: b}]}]",
            "spec.secretObjects[0].labels: must be a map of texts"}}) {
    INFO(text);
    const auto status = Read(text).status();
    CHECK(absl::IsInvalidArgument(status));
    CHECK_THAT(std::string(Message(status)), Catch::StartsWith(error));
  }
}

TEST_CASE("a Secret holds the files that it names; one that can't be filled hurts no other") {
  const auto payloads = FillSecretObjects(
      {{.name = "a", .data = {{"k", "sub/file"}, {"bytes", "binary"}}},
       {.name = "b", .data = {{"k", "absent"}}}},
      Files({{"sub/file", "text"}, {"binary", std::string("\0\xff", 2)}}));
  REQUIRE(payloads.size() == 2);
  CHECK(Value(payloads[0], "k") == "text");
  CHECK(Value(payloads[0], "bytes") == std::string("\0\xff", 2));
  CHECK(absl::IsInvalidArgument(payloads[1].status));
  CHECK_THAT(std::string(Message(payloads[1].status)),
             Catch::StartsWith("spec.secretObjects[1].data[0].objectName: \"absent\" is no file"));
}

TEST_CASE("of a bundle, a TLS Secret's tls.crt takes the certificates and tls.key the key") {
  const std::string certificates =
      "-----BEGIN CERTIFICATE-----\nAA\n-----END CERTIFICATE-----\n"
      "-----BEGIN CERTIFICATE-----\nBB\n-----END CERTIFICATE-----\n";
  const std::string key = "-----BEGIN EC PRIVATE KEY-----\nCC\n-----END EC PRIVATE KEY-----\n";
  const SecretObject object = {
      .name = "t",
      .type = "kubernetes.io/tls",
      .data = {{"tls.crt", "bundle"}, {"tls.key", "bundle"}, {"ca.crt", "ca"}}};
  const auto payloads =
      FillSecretObjects({object}, Files({{"bundle", key + "noise\n" + certificates}, {"ca", "x"}}));
  CHECK(Value(payloads[0], "tls.crt") == certificates);
  CHECK(Value(payloads[0], "tls.key") == key);
  CHECK(Value(payloads[0], "ca.crt") == "x");
  const auto without =
      FillSecretObjects({object}, Files({{"bundle", certificates}, {"ca", "x"}}));
  CHECK_THAT(std::string(Message(without[0].status)),
             Catch::StartsWith("spec.secretObjects[0].data[1].objectName: \"bundle\" has no PEM "
                               "block of type PRIVATE KEY, which tls.key"));
}

}  // namespace
}  // namespace coffer::csi
