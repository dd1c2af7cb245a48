#include "csi/open_reporter.h"

#include <errno.h>

#include "common/log.h"

namespace coffer::csi {
namespace {

void SetLastOpen(absl::Time time, std::string_view file, const volume::PodFacts& pod,
                 Metrics* metrics) {
  metrics->Set(Moment::kLastOpen, time,
               {{"file", file},
                {"pod_name", pod.name},
                {"pod_namespace", pod.kubernetes_namespace},
                {"secret_provider_class", pod.secret_class}});
}

}  // namespace

void OpenReporter::Opening(const volume::OpenEvent& event) {
  if (audit_log_ != nullptr) audit_log_->Add(event);
  if (!event.canary) return;
  const volume::PodFacts& pod = event.volume->pod;
  metrics_.Add(Counter::kCanary, {{"file", event.file},
                                  {"pod_name", pod.name},
                                  {"pod_namespace", pod.kubernetes_namespace},
                                  {"secret_provider_class", pod.secret_class}});
  log::Warning("a canary secret was opened", {{"namespace", pod.kubernetes_namespace},
                                              {"pod", pod.name},
                                              {"class", pod.secret_class},
                                              {"file", event.file},
                                              {"pid", event.opener.pid},
                                              {"command", event.opener.command}});
  Owe(event);
}

void OpenReporter::StillOwed(const volume::OpenEvent& event) { Owe(event); }

// Where there is no cluster it is delivered at once: one that comes later needn't hear of what is
// long past.
void OpenReporter::Owe(const volume::OpenEvent& event) {
  if (on_canary_) {
    on_canary_(event);
  } else if (event.delivered) {
    event.delivered();
  }
}

void OpenReporter::Opened(const volume::OpenEvent& event) {
  const volume::PodFacts& pod = event.volume->pod;
  const std::string_view result =
      event.error == 0 ? "ok" : event.error == EACCES ? "refused" : "gone";
  metrics_.Add(Counter::kOpen, {{"pod_name", pod.name},
                                {"pod_namespace", pod.kubernetes_namespace},
                                {"result", result},
                                {"secret_provider_class", pod.secret_class}});
  if (event.error == 0) {
    SetLastOpen(event.time, event.file, pod, &metrics_);
    if (event.volume->audit) {
      times_.Opened(pod.kubernetes_namespace, pod.secret_class, event.file, pod.name, event.time);
    }
    records_.Opened(event);
  }
  if (audit_log_ != nullptr) audit_log_->WriteSoon();
}

void OpenReporter::Published(const std::string&, const VolumeContext& context,
                             PublishOutcome& outcome) {
  if (!outcome.status.ok() || outcome.audited.empty()) return;
  times_.Published(context.pod.kubernetes_namespace, context.secret_class, outcome.audited);
  if (!outcome.again) Remember(context);
  if (said_.exchange(true)) return;
  if (audit_log_ == nullptr) {
    log::Warning("a class asks for audit, but opens are only counted: give --audit-log",
                 {{"class", context.secret_class}});
  }
  if (!volume::Openers::SeesPods()) {
    log::Warning("opens are told without process and command: the plugin needs hostPID",
                 {{"class", context.secret_class}});
  }
}

void OpenReporter::Unpublished(const std::string&, const volume::PodFacts& pod,
                               const absl::Status& status) {
  if (status.ok()) times_.Gone(pod.kubernetes_namespace, pod.secret_class, pod.name);
}

void OpenReporter::TakenOver(const std::string&, const VolumeContext& context,
                             const std::vector<provider::ObjectVersion>&, absl::Time) {
  Remember(context);
}

void OpenReporter::Remember(const VolumeContext& context) {
  const volume::PodFacts pod = {.kubernetes_namespace = context.pod.kubernetes_namespace,
                                .name = context.pod.name,
                                .secret_class = context.secret_class};
  for (const auto& [file, time] :
       times_.OpenedBy(pod.kubernetes_namespace, pod.secret_class, pod.name)) {
    SetLastOpen(time, file, pod, &metrics_);
  }
}

}  // namespace coffer::csi
