#include "csi/volume/volume_facts.h"

#include <algorithm>
#include <charconv>

#include "common/strings.h"

namespace coffer::volume {
namespace {

constexpr std::size_t kParts = 8;

std::string Line(std::string_view text) {
  std::string line(text);
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

}  // namespace

std::string WriteFacts(const VolumeFacts& facts) {
  const VolumeInfo& info = facts.info;
  return StrCat(facts.device, facts.opens ? "\nopens" : "\nfast", info.audit ? "\naudit\n" : "\n\n",
                Line(info.pod.kubernetes_namespace), "\n", Line(info.pod.name), "\n",
                Line(info.pod.uid), "\n", Line(info.pod.secret_class), "\n",
                Line(info.volume_id));
}

absl::StatusOr<VolumeFacts> ReadFacts(std::string_view text) {
  const std::vector<std::string_view> parts = Split(text, '\n');
  VolumeFacts facts;
  const auto wrong = [] {
    return absl::FailedPreconditionError("the keeper's facts about it can't be read");
  };
  if (parts.size() != kParts) return wrong();
  const char* const end = parts[0].data() + parts[0].size();
  const auto [stop, error] = std::from_chars(parts[0].data(), end, facts.device);
  if (error != std::errc() || stop != end) return wrong();
  facts.opens = parts[1] == "opens";
  facts.info.audit = parts[2] == "audit";
  facts.info.pod = {std::string(parts[3]), std::string(parts[4]), std::string(parts[5]),
                    std::string(parts[6])};
  facts.info.volume_id = parts[7];
  return facts;
}

bool NeedOpens(const std::vector<SnapshotFile>& files) {
  return std::any_of(files.begin(), files.end(),
                     [](const SnapshotFile& file) { return file.rules.guarded(); });
}

}  // namespace coffer::volume
