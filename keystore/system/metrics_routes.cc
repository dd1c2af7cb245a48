#include "keystore/system/metrics_routes.h"

#include <utility>

#include "common/strings.h"

namespace coffer::keystore {
namespace {

absl::StatusOr<Response> Metrics(const Telemetry& telemetry, const Clock& clock,
                                 const MetricsOptions& options, std::string_view format) {
  if (format.empty()) return Response::Bare(telemetry.Document(options.prefix, clock.Now()));
  if (format != "prometheus") {
    return absl::InvalidArgumentError(
        StrCat("metric response format \"", format, "\" unknown: use prometheus, or none for JSON"));
  }
  if (!options.prometheus) {
    return absl::InvalidArgumentError(
        "prometheus is not enabled: telemetry.prometheus_retention_time is 0");
  }
  Response response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.raw_body = SecretBytes::CopyOf(telemetry.Prometheus(options.prefix));
  return response;
}

}  // namespace

std::vector<Route> MetricsRoutes(const Telemetry& telemetry, const Clock& clock,
                                 MetricsOptions options) {
  return {{"metrics",
           "What the keystore counts of itself.",
           {{"format", FieldType::kString, "prometheus, or none for JSON."}},
           {{Operation::kRead,
             [&telemetry, &clock, options = std::move(options)](const Request& request, Txn&) {
               return Metrics(telemetry, clock, options, request.text("format"));
             }}},
           Access::kMetrics}};
}

}  // namespace coffer::keystore
