#include "csi/event_subscriber.h"

namespace coffer::csi {
namespace {

std::string Event(std::string_view type, std::string_view mount, const Json& metadata) {
  const Json event = {
      {"data",
       {{"event", {{"metadata", metadata}}},
        {"event_type", std::string(type)},
        {"plugin_info", {{"mount_path", std::string(mount)}}}}}};
  return std::string(DumpJson(event).view());
}

TEST_CASE("an event is about the path that a class would read") {
  struct Case {
    std::string_view type, mount;
    Json metadata;
    std::string_view path;
  };
  const std::vector<Case> cases = {
      {"kv-v2/data-write", "secret/", {{"data_path", "secret/data/a/b"}}, "secret/data/a/b"},
      {"kv-v2/metadata-delete", "secret/", {{"data_path", "secret/metadata/a"}}, "secret/data/a"},
      {"kv-v2/data-delete", "team/kv/", {{"path", "team/kv/data/a"}}, "team/kv/data/a"},
      {"kv-v2/undelete", "secret/", {{"path", "secret/undelete/a"}}, "secret/data/a"},
      {"kv-v2/config-write", "secret/", {{"data_path", "secret/config"}}, ""},
      {"kv-v1/write", "kv/", {{"data_path", "kv/metadata/a"}}, "kv/metadata/a"},
      {"kv-v1/write", "kv/", Json::object(), ""}};
  for (const Case& c : cases) {
    INFO(c.type << " " << c.path);
    CHECK(EventPath(Event(c.type, c.mount, c.metadata)) == c.path);
  }
  CHECK(EventPath("not JSON").empty());
  CHECK(EventPath("[1]").empty());
  CHECK(EventPath("{\"data\":{\"event\":3}}").empty());
}

TEST_CASE("after a gap the node's volumes take turns at the keystore, for two minutes at most") {
  CHECK(SpreadAfterGap(0) == absl::Seconds(5));
  CHECK(SpreadAfterGap(20) == absl::Seconds(5));
  CHECK(SpreadAfterGap(110) == absl::Seconds(22));
  CHECK(SpreadAfterGap(1500) == absl::Minutes(2));
}

}  // namespace
}  // namespace coffer::csi
