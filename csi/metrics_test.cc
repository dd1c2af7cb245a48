#include "csi/metrics.h"

#include "common/strings.h"
#include "csi/metrics_observer.h"

namespace coffer::csi {
namespace {

VolumeContext Context() {
  return {.secret_class = "webapp", .pod = {.name = "web-1", .kubernetes_namespace = "shop"}};
}

TEST_CASE("counts come out under the upstream driver's names and labels") {
  Metrics metrics;
  MetricsObserver observer(metrics);
  const auto published = [&](absl::Status status, bool again, bool rotated) {
    PublishOutcome outcome;
    outcome.status = status;
    outcome.error_type = status.ok() ? "" : "ProviderError";
    outcome.secret_class.provider = "vault";
    outcome.again = again;
    outcome.rotated = rotated;
    outcome.took = absl::Milliseconds(700);
    observer.Published("/t", Context(), outcome);
  };
  published(absl::OkStatus(), false, false);
  published(absl::OkStatus(), true, true);
  published(absl::NotFoundError(""), false, false);
  published(absl::NotFoundError(""), true, false);
  observer.Unpublished("/t", {}, absl::OkStatus());
  observer.Unpublished("/t", {}, absl::InternalError(""));
  published(absl::AbortedError(""), false, false);  // another call does it
  published(absl::AbortedError(""), true, false);
  observer.Unpublished("/t", {}, absl::AbortedError(""));
  const std::string text = metrics.Text();
  const std::string pod = "os_type=\"linux\",pod_name=\"web-1\",pod_namespace=\"shop\",";
  const std::string name = "secret_provider_class=\"webapp\"";
  for (const std::string& line : {
           StrCat("node_publish_total{", pod, "provider=\"vault\",", name, "} 1"),
           StrCat("node_publish_error_total{error_type=\"ProviderError\",", pod,
                  "provider=\"vault\",", name, "} 1"),
           std::string("node_unpublish_total{os_type=\"linux\"} 1"),
           std::string("node_unpublish_error_total{os_type=\"linux\"} 1"),
           StrCat("rotation_reconcile_total{", pod, "provider=\"vault\",rotated=\"true\",", name,
                  "} 1"),
           StrCat("rotation_reconcile_error_total{error_type=\"ProviderError\",", pod,
                  "provider=\"vault\",rotated=\"false\",", name, "} 1"),
           StrCat("rotation_reconcile_duration_sec_bucket{", pod, name, ",le=\"0.5\"} 0"),
           StrCat("rotation_reconcile_duration_sec_bucket{", pod, name, ",le=\"1\"} 1"),
           StrCat("rotation_reconcile_duration_sec_bucket{", pod, name, ",le=\"+Inf\"} 1"),
           StrCat("rotation_reconcile_duration_sec_sum{", pod, name, "} 0.7"),
           StrCat("rotation_reconcile_duration_sec_count{", pod, name, "} 1"),
           std::string("# TYPE node_publish_total counter"),
           std::string("# TYPE sync_k8s_secret_duration_sec histogram"),
       }) {
    CHECK_THAT(text, Catch::Contains(line + "\n"));
  }
}

TEST_CASE("labels are escaped, gauges are asked for, and old series make way") {
  Metrics metrics;
  int asked = 0;
  metrics.Gauge("g", "help", [&asked] { return ++asked; });
  metrics.Add(Counter::kNodeUnpublish, {{"os_type", "a\"b\\c\nd"}});
  CHECK_THAT(metrics.Text(), Catch::Contains(R"(node_unpublish_total{os_type="a\"b\\c\nd"} 1)"));
  CHECK_THAT(metrics.Text(), Catch::Contains("# TYPE g gauge\ng 2\n"));
  for (int i = 0; i < 2500; ++i) {
    metrics.Add(Counter::kNodePublish, {{"pod_name", StrCat("old-", i)}});
    metrics.Add(Counter::kNodePublish, {{"pod_name", "busy"}});
  }
  const std::string text = metrics.Text();
  CHECK_THAT(text, Catch::Contains("{pod_name=\"busy\"} 2500\n"));
  CHECK_THAT(text, Catch::Contains("{pod_name=\"old-2499\"} 1\n"));
  CHECK_THAT(text, !Catch::Contains("{pod_name=\"old-0\"}"));
}

}  // namespace
}  // namespace coffer::csi
