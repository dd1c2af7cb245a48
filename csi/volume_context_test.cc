#include "csi/volume_context.h"

namespace coffer::csi {
namespace {

using Context = std::map<std::string, std::string>;

Context Whole() {
  return {{"secretProviderClass", "webapp"},
          {"csi.storage.k8s.io/pod.name", "web-0"},
          {"csi.storage.k8s.io/pod.namespace", "default"},
          {"csi.storage.k8s.io/pod.uid", "2a4d"},
          {"csi.storage.k8s.io/serviceAccount.name", "vault"},
          {"csi.storage.k8s.io/ephemeral", "true"},
          {"csi.storage.k8s.io/serviceAccount.tokens",
           R"({"":{"token":"api-jwt"},"vault":{"token":"vault-jwt","expirationTimestamp":"x"}})"}};
}

absl::StatusOr<VolumeContext> Read(const Context& context) {
  return ReadVolumeContext([&](const std::string& key) -> std::string_view {
    const auto found = context.find(key);
    return found == context.end() ? std::string_view() : found->second;
  });
}

TEST_CASE("the kubelet's context says who asks, with a token for each audience") {
  const auto context = Read(Whole());
  REQUIRE(context.ok());
  CHECK(context->secret_class == "webapp");
  CHECK(context->pod.name == "web-0");
  CHECK(context->pod.kubernetes_namespace == "default");
  CHECK(context->pod.uid == "2a4d");
  CHECK(context->pod.service_account == "vault");
  REQUIRE(context->pod.tokens.size() == 2);
  CHECK(context->pod.tokens.at("").view() == "api-jwt");
  CHECK(context->pod.tokens.at("vault").view() == "vault-jwt");
}

TEST_CASE("tokens may be missing until the class asks for one") {
  Context context = Whole();
  context.erase(kTokensKey);
  CHECK(Read(context)->pod.tokens.empty());
}

TEST_CASE("a missing or wrong entry is named, a token never shown") {
  struct Case {
    std::string key;
    std::string value;
    std::string error;
  };
  const std::vector<Case> cases = {
      {"secretProviderClass", "", "secretProviderClass is missing"},
      {"secretProviderClass", "../x", "secretProviderClass is not the name"},
      {"secretProviderClass", "a/b", "secretProviderClass is not the name"},
      {"secretProviderClass", std::string(254, 'a'), "secretProviderClass is not the name"},
      {"csi.storage.k8s.io/pod.name", "", "pod.name is missing"},
      {"csi.storage.k8s.io/pod.namespace", "a?b", "pod.namespace is not the name"},
      {"csi.storage.k8s.io/pod.uid", "", "pod.uid is missing"},
      {"csi.storage.k8s.io/serviceAccount.name", "A", "serviceAccount.name is not the name"},
      {"csi.storage.k8s.io/ephemeral", "false", "ephemeral must be"},
      {kTokensKey, "leak-me", "tokens is not valid JSON"},
      {kTokensKey, R"(["leak-me"])", "tokens must be a JSON object"},
      {kTokensKey, R"({"vault":"leak-me"})", "tokens has no token for audience \"vault\""},
      {kTokensKey, R"({"vault":{"token":""}})", "tokens has no token for audience \"vault\""},
  };
  for (const Case& c : cases) {
    INFO(c.error);
    Context context = Whole();
    context[c.key] = c.value;
    const auto read = Read(context);
    REQUIRE(absl::IsInvalidArgument(read.status()));
    CHECK_THAT(std::string(Message(read.status())),
               Catch::Contains(c.error) && !Catch::Contains("leak-me"));
  }
}

TEST_CASE("a pod's fsGroup is a group id, or none") {
  VolumeContext context;
  REQUIRE(ReadMountGroup("", &context).ok());
  CHECK_FALSE(context.fs_group);
  REQUIRE(ReadMountGroup("2000", &context).ok());
  CHECK(context.fs_group == 2000);
  CHECK(context.Copy().fs_group == 2000);
  REQUIRE(ReadMountGroup("4294967294", &context).ok());
  for (const char* wrong : {"-1", "staff", "1 ", "4294967295", "0x1", "99999999999"}) {
    const absl::Status refused = ReadMountGroup(wrong, &context);
    CHECK(absl::IsInvalidArgument(refused));
    CHECK_THAT(std::string(Message(refused)), Catch::Contains("mount.volume_mount_group"));
  }
}

}  // namespace
}  // namespace coffer::csi
