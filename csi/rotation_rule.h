// RotationRule: whether and how often a volume's secrets are read anew.
#pragma once

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "provider/provider.h"

namespace coffer::csi {

struct RotationRule {
  bool on = true;
  // Between two fetches, whoever asks for them; zero: each republish of the kubelet fetches, and
  // nothing is fetched between.
  absl::Duration interval = absl::ZeroDuration();
};

// The upstream driver's interval, where rotation is asked for without one.
constexpr absl::Duration kUpstreamRotationInterval = absl::Minutes(2);

// What the class's parameters say (any provider's):
//   rotation: "on" | "off"      otherwise the plugin's --enable-secret-rotation
//   rotationInterval: 30s       otherwise the plugin's --rotation-poll-interval; 1 s or more, or 0
// InvalidArgument names the class and the field.
absl::StatusOr<RotationRule> RotationOf(const provider::SecretProviderClass& secret_class,
                                        RotationRule otherwise);

}  // namespace coffer::csi
