#include "csi/rotation_rule.h"

#include "common/strings.h"

namespace coffer::csi {
namespace {

TEST_CASE("a class may say how it is rotated, and is silent else") {
  const RotationRule off{.on = false, .interval = absl::Minutes(2)};
  const RotationRule on{.on = true, .interval = absl::Minutes(2)};
  struct Case {
    std::map<std::string, std::string> parameters;
    RotationRule otherwise, wanted;
    std::string error;
  };
  const Case cases[] = {
      {{}, on, on, ""},
      {{}, off, off, ""},
      {{{"rotation", "off"}}, on, off, ""},
      {{{"rotation", "on"}}, off, on, ""},
      {{{"rotationInterval", "30s"}}, on, {true, absl::Seconds(30)}, ""},
      {{{"rotationInterval", "45"}}, on, {true, absl::Seconds(45)}, ""},
      {{{"rotationInterval", "0"}}, on, {true, absl::ZeroDuration()}, ""},
      {{{"rotation", "off"}, {"rotationInterval", "1h"}}, on, {false, absl::Hours(1)}, ""},
      {{{"rotation", "sometimes"}}, on, on, "a/b: spec.parameters.rotation: must be"},
      {{{"rotationInterval", "soon"}}, on, on, "a/b: spec.parameters.rotationInterval: must be"},
      {{{"rotationInterval", "10ms"}}, on, on, "a/b: spec.parameters.rotationInterval: must be"},
      {{{"rotationInterval", "-5s"}}, on, on, "a/b: spec.parameters.rotationInterval: must be"},
  };
  for (const Case& c : cases) {
    provider::SecretProviderClass secret_class;
    secret_class.kubernetes_namespace = "a";
    secret_class.name = "b";
    secret_class.parameters = c.parameters;
    const auto rule = RotationOf(secret_class, c.otherwise);
    CAPTURE(rule.status().ToString(), c.error);
    CHECK(rule.ok() == c.error.empty());
    if (rule.ok()) {
      CHECK(rule->on == c.wanted.on);
      CHECK(rule->interval == c.wanted.interval);
    } else {
      CHECK(absl::IsInvalidArgument(rule.status()));
      CHECK(Message(rule.status()).find(c.error) != std::string_view::npos);
    }
  }
}

}  // namespace
}  // namespace coffer::csi
