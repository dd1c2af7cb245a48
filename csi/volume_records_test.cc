#include "csi/volume_records.h"

#include "common/strings.h"

namespace coffer::csi {
namespace {

class Calls {
 public:
  void Publish(const std::string& target, absl::Status status, std::string_view version = "1",
               bool again = false, bool rotated = false) {
    clock.Advance(absl::Seconds(1));
    VolumeContext context;
    context.secret_class = "web";
    context.pod.name = "pod";
    context.pod.kubernetes_namespace = "shop";
    PublishOutcome outcome;
    outcome.status = std::move(status);
    outcome.again = again;
    outcome.rotated = rotated;
    outcome.secret_class.provider = "vault";
    outcome.versions = {{"password", std::string(version)}};
    records.Published(target, context, outcome);
  }
  VolumeRecord Of(const std::string& target) const { return records.All().at(target); }
  absl::Time now() const { return clock.Now(); }

  ManualClock clock;
  VolumeRecords records{clock};
};

TEST_CASE("a record tells the last success, the last change and the error since") {
  Calls calls;
  calls.Publish("/a", absl::OkStatus());
  const absl::Time published = calls.now();
  calls.Publish("/a", absl::OkStatus(), "1", true);
  CHECK(calls.Of("/a").published == published);
  CHECK(calls.Of("/a").fetched == calls.now());
  CHECK(calls.Of("/a").rotated == absl::InfinitePast());

  calls.Publish("/a", absl::OkStatus(), "2", true, true);
  const absl::Time rotated = calls.now();
  calls.Publish("/a", absl::UnavailableError("sealed"), "", true);
  VolumeRecord record = calls.Of("/a");
  CHECK(record.error == "sealed");
  CHECK(record.failed == calls.now());
  CHECK(record.rotated == rotated);
  CHECK(record.fetched == rotated);
  CHECK(record.versions.front().version == "2");  // of the content, which stays
  CHECK(record.pod == "pod");
  CHECK(record.provider == "vault");

  calls.Publish("/a", absl::AbortedError("another call is under way"), "", true);
  CHECK(calls.Of("/a").error == "sealed");
  calls.Publish("/a", absl::OkStatus(), "2", true);
  record = calls.Of("/a");
  CHECK(record.error.empty());
  CHECK(record.failed == absl::InfinitePast());
}

TEST_CASE("a record ends with its volume, and stays while that can't be unpublished") {
  Calls calls;
  calls.Publish("/a", absl::OkStatus());
  calls.records.Unpublished("/a", {}, absl::InternalError("busy"));
  CHECK(calls.Of("/a").error == "busy");
  calls.records.Unpublished("/a", {}, absl::OkStatus());
  calls.records.Unpublished("/never", {}, absl::InternalError("what"));
  CHECK(calls.records.All().empty());
}

TEST_CASE("of volumes that never were published the newest 200 are kept") {
  Calls calls;
  calls.Publish("/good", absl::OkStatus());
  for (int i = 0; i < 300; ++i) calls.Publish(StrCat("/", i), absl::NotFoundError("no class"));
  const auto all = calls.records.All();
  CHECK(all.size() == 201);
  CHECK(all.contains("/good"));
  CHECK(all.contains("/299"));
  CHECK_FALSE(all.contains("/99"));
}

}  // namespace
}  // namespace coffer::csi
