#include "provider/class_document.h"

#include "common/strings.h"
#include "common/yaml.h"

namespace coffer::provider {
namespace {

constexpr char kClass[] =
    "apiVersion: secrets-store.csi.x-k8s.io/v1\n"
    "kind: SecretProviderClass\n"
    "metadata: {name: webapp, namespace: shop, resourceVersion: '7'}\n"
    "spec: {provider: vault, parameters: {roleName: webapp, vaultSkipTLSVerify: true}}\n";

TEST_CASE("classes are read from streams, lists and API answers; other kinds are skipped") {
  const std::string second =
      "apiVersion: secrets-store.csi.x-k8s.io/v1alpha1\nkind: SecretProviderClass\n"
      "metadata: {name: old}\nspec: {provider: coffer}\n";
  auto classes = ReadClasses(StrCat(kClass, "---\nkind: Pod\napiVersion: v1\n---\n", second));
  REQUIRE(classes.ok());
  REQUIRE(classes->size() == 2);
  CHECK(classes->front().name == "webapp");
  CHECK(classes->front().kubernetes_namespace == "shop");
  CHECK(classes->front().resource_version == "7");
  CHECK(classes->front().parameters.at("vaultSkipTLSVerify") == "true");
  CHECK(classes->back().kubernetes_namespace == "default");
  CHECK(classes->back().provider == "coffer");

  const auto object = ParseYaml(kClass);
  REQUIRE(object.ok());
  const Json list = {
      {"kind", "List"}, {"apiVersion", "v1"}, {"items", Json::array({object->front()})}};
  classes = ReadClasses(DumpJson(list).view());
  REQUIRE(classes.ok());
  CHECK(classes->size() == 1);
}

TEST_CASE("a wrong field of a class is named") {
  const std::vector<std::pair<Json, std::string>> patches = {
      {{{"metadata", nullptr}}, "metadata: is missing"},
      {{{"metadata", {{"namespace", "shop"}}}}, "metadata.name: is missing"},
      {{{"spec", nullptr}}, "SecretProviderClass shop/webapp: spec: is missing"},
      {{{"spec", {{"parameters", nullptr}}}}, "spec.provider: is missing"},
      {{{"spec", {{"provider", "vault"}, {"parameters", "x"}}}}, "spec.parameters: must be a map"},
      {{{"spec", {{"provider", "vault"}, {"parameters", {{"objects", Json::array()}}}}}},
       "spec.parameters.objects: must be text"},
      {{{"kind", "Secret"}}, "kind: must be SecretProviderClass"},
  };
  for (const auto& [patch, error] : patches) {
    INFO(error);
    Json object = ParseYaml(kClass)->front();
    object.update(patch);
    const auto read = ReadClass(object);
    REQUIRE(absl::IsInvalidArgument(read.status()));
    CHECK_THAT(std::string(Message(read.status())), Catch::Contains(error));
  }
}

}  // namespace
}  // namespace coffer::provider
