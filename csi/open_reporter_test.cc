#include "csi/open_reporter.h"

#include <errno.h>

#include "common/strings.h"

namespace coffer::csi {
namespace {

TEST_CASE("opens are counted, the last one's time is shown and kept, a canary is told on") {
  ManualClock clock;
  Metrics metrics;
  ReadTimes times(clock, "");
  std::vector<std::string> canaries;
  VolumeRecords records(clock);
  OpenReporter reporter(nullptr, metrics, times, records, [&](const volume::OpenEvent& event) {
    canaries.push_back(event.file);
  });
  PublishOutcome outcome;
  outcome.audited = {"password", "bait", "unread"};
  const VolumeContext context = {.secret_class = "webapp",
                                 .pod = {.name = "web-1", .kubernetes_namespace = "shop"}};
  reporter.Published("/t", context, outcome);
  records.Published("/t", context, outcome);
  const auto info = std::make_shared<const volume::VolumeInfo>(
      volume::VolumeInfo{"csi-1", "/t", {"shop", "web-1", "uid", "webapp"}, true});
  auto plain = std::make_shared<volume::VolumeInfo>(*info);
  plain->audit = false;
  const auto opened = [&](std::string file, int error, bool canary, bool audit = true) {
    clock.Advance(absl::Milliseconds(250));
    const volume::OpenEvent event{
        .volume = audit ? info : plain,
        .file = std::move(file),
        .version = "1",
        .opener = {.pid = 7, .uid = 1000, .command = error == 0 ? "app" : "cat"},
        .time = clock.Now(),
        .error = error,
        .canary = canary};
    const std::size_t before = canaries.size();
    reporter.Opening(event);
    CHECK(canaries.size() == before + (canary ? 1 : 0));  // known before the open is answered
    reporter.Opened(event);
  };
  opened("password", 0, false);
  opened("password", 0, false);
  opened("password", EACCES, false);
  const LastReader reader = records.All()["/t"].reader;
  CHECK(reader.file == "password");
  CHECK(reader.pid == 7);
  CHECK(reader.uid == 1000);
  CHECK(reader.command == "app");
  CHECK(reader.time == clock.Now() - absl::Milliseconds(250));
  opened("password", ENOENT, false);
  opened("bait", 0, true);
  opened("bait of a volume that isn't audited", 0, true, false);
  const std::string text = metrics.Text();
  const std::string pod = "pod_name=\"web-1\",pod_namespace=\"shop\",";
  const std::string name = "secret_provider_class=\"webapp\"";
  for (const std::string& line : {
           StrCat("coffer_csi_opens_total{", pod, "result=\"ok\",", name, "} 4"),
           StrCat("coffer_csi_opens_total{", pod, "result=\"refused\",", name, "} 1"),
           StrCat("coffer_csi_opens_total{", pod, "result=\"gone\",", name, "} 1"),
           StrCat("coffer_csi_canary_opens_total{file=\"bait\",", pod, name, "} 1"),
           StrCat("coffer_csi_last_open_timestamp_seconds{file=\"password\",", pod, name,
                  "} 1748950851.500"),
           std::string("# TYPE coffer_csi_last_open_timestamp_seconds gauge"),
       }) {
    CHECK_THAT(text, Catch::Contains(line + "\n"));
  }
  CHECK(canaries.size() == 2);
  // What a plugin before this one has told of is neither counted nor logged again.
  reporter.StillOwed({.volume = info, .file = "bait", .canary = true});
  CHECK(canaries.size() == 3);
  CHECK(metrics.Text() == text);
  CHECK(times.All().size() == 3);  // those that were published
  for (const ReadTime& time : times.All()) {
    CHECK((time.last_read == absl::InfinitePast()) == (time.file == "unread"));
  }

  // The next plugin shows them, of the pods that are here.
  const auto shown = [&](bool taken_over, const VolumeContext& pod) {
    Metrics next_metrics;
    OpenReporter next(nullptr, next_metrics, times, records, nullptr);
    if (taken_over) {
      next.TakenOver("/t", pod, {}, clock.Now());
    } else {
      next.Published("/t", pod, outcome);
    }
    return next_metrics.Text();
  };
  const std::string series = StrCat("{file=\"password\",", pod, name, "} 1748950851.500\n");
  CHECK_THAT(shown(true, context), Catch::Contains(series));
  CHECK_THAT(shown(false, context), Catch::Contains(series));
  const VolumeContext other = {.secret_class = "webapp",
                               .pod = {.name = "web-2", .kubernetes_namespace = "shop"}};
  CHECK_THAT(shown(true, other), !Catch::Contains("file="));
  reporter.Unpublished("/t", info->pod, absl::OkStatus());
  CHECK_THAT(shown(true, context), !Catch::Contains("file="));
}

TEST_CASE("where there is no cluster a canary's open is delivered at once") {
  ManualClock clock;
  Metrics metrics;
  ReadTimes times(clock, "");
  VolumeRecords records(clock);
  OpenReporter reporter(nullptr, metrics, times, records, nullptr);
  int delivered = 0;
  const volume::OpenEvent event{.volume = std::make_shared<const volume::VolumeInfo>(),
                                .file = "bait",
                                .canary = true,
                                .delivered = [&] { ++delivered; }};
  reporter.Opening(event);
  CHECK(delivered == 1);
  reporter.StillOwed(event);
  CHECK(delivered == 2);
}

}  // namespace
}  // namespace coffer::csi
