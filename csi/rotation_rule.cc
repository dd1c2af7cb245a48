#include "csi/rotation_rule.h"

#include "common/duration.h"
#include "common/strings.h"

namespace coffer::csi {

absl::StatusOr<RotationRule> RotationOf(const provider::SecretProviderClass& secret_class,
                                        RotationRule otherwise) {
  const auto wrong = [&secret_class](std::string_view field, std::string_view what) {
    return absl::InvalidArgumentError(StrCat("SecretProviderClass ",
                                             secret_class.kubernetes_namespace, "/",
                                             secret_class.name, ": spec.parameters.", field, ": ",
                                             what));
  };
  const auto text = [&secret_class](const char* name) -> std::string_view {
    const auto found = secret_class.parameters.find(name);
    return found == secret_class.parameters.end() ? "" : std::string_view(found->second);
  };
  RotationRule rule = otherwise;
  if (const std::string_view rotation = text("rotation"); !rotation.empty()) {
    rule.on = rotation == "on" || rotation == "true";
    if (!rule.on && rotation != "off" && rotation != "false") {
      return wrong("rotation", "must be \"on\" or \"off\"");
    }
  }
  if (const std::string_view interval = text("rotationInterval"); !interval.empty()) {
    const absl::StatusOr<absl::Duration> parsed = ParseDuration(interval);
    if (!parsed.ok() || (*parsed < absl::Seconds(1) && *parsed != absl::ZeroDuration())) {
      return wrong("rotationInterval", "must be a duration of 1s or more, as 30s or 5m, or 0");
    }
    rule.interval = *parsed;
  }
  return rule;
}

}  // namespace coffer::csi
