// The volume context of NodePublishVolume: what the kubelet says about the pod, and what the pod's
// volumeAttributes say.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "provider/provider.h"

namespace coffer::csi {

struct VolumeContext {
  std::string secret_class;  // in the pod's namespace
  provider::Pod pod;
  // For other vendors' providers, which are sent it all.
  std::map<std::string, std::string> attributes;   // without the tokens
  std::map<std::string, std::string> expirations;  // of the tokens, by audience, as the kubelet says
  SecretBytes secrets;  // of nodePublishSecretRef, a JSON map; empty: none
  // The pod's fsGroup: whose the files are where the class names no group.
  std::optional<std::uint32_t> fs_group;

  VolumeContext Copy() const;
};

// `get` gives an entry's value, or "". InvalidArgument names the entry that is missing or wrong,
// never a token.
absl::StatusOr<VolumeContext> ReadVolumeContext(
    const std::function<std::string_view(const std::string& key)>& get);

// `text`: volume_mount_group of the volume's capability, "" = the pod has no fsGroup.
// InvalidArgument names the field.
absl::Status ReadMountGroup(std::string_view text, VolumeContext* context);

constexpr char kTokensKey[] = "csi.storage.k8s.io/serviceAccount.tokens";

}  // namespace coffer::csi
