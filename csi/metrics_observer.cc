#include "csi/metrics_observer.h"

namespace coffer::csi {

void MetricsObserver::Published(const std::string&, const VolumeContext& context,
                                PublishOutcome& outcome) {
  if (absl::IsAborted(outcome.status)) return;  // the other call on the volume tells
  const std::string_view provider = outcome.secret_class.provider;
  const std::string_view pod = context.pod.name;
  const std::string_view space = context.pod.kubernetes_namespace;
  const std::string_view name = context.secret_class;
  const std::string_view rotated = outcome.rotated ? "true" : "false";
  const bool ok = outcome.status.ok();
  if (!ok && outcome.again) {
    metrics_.Add(Counter::kRotationError, {{"error_type", outcome.error_type},
                                           {"os_type", "linux"},
                                           {"pod_name", pod},
                                           {"pod_namespace", space},
                                           {"provider", provider},
                                           {"rotated", rotated},
                                           {"secret_provider_class", name}});
  } else if (!ok) {
    metrics_.Add(Counter::kNodePublishError, {{"error_type", outcome.error_type},
                                              {"os_type", "linux"},
                                              {"pod_name", pod},
                                              {"pod_namespace", space},
                                              {"provider", provider},
                                              {"secret_provider_class", name}});
  } else if (outcome.again) {
    metrics_.Add(Counter::kRotation, {{"os_type", "linux"},
                                      {"pod_name", pod},
                                      {"pod_namespace", space},
                                      {"provider", provider},
                                      {"rotated", rotated},
                                      {"secret_provider_class", name}});
    metrics_.Observe(Timing::kRotation, outcome.took,
                     {{"os_type", "linux"},
                      {"pod_name", pod},
                      {"pod_namespace", space},
                      {"secret_provider_class", name}});
  } else {
    metrics_.Add(Counter::kNodePublish, {{"os_type", "linux"},
                                         {"pod_name", pod},
                                         {"pod_namespace", space},
                                         {"provider", provider},
                                         {"secret_provider_class", name}});
    metrics_.Observe(Timing::kNodePublish, outcome.took,
                     {{"os_type", "linux"}, {"provider", provider}});
  }
}

void MetricsObserver::Unpublished(const std::string&, const volume::PodFacts&,
                                  const absl::Status& status) {
  if (absl::IsAborted(status)) return;
  metrics_.Add(status.ok() ? Counter::kNodeUnpublish : Counter::kNodeUnpublishError,
               {{"os_type", "linux"}});
}

}  // namespace coffer::csi
