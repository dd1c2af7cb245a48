#include "csi/kube_client.h"

#include <fstream>
#include <sstream>

#include "absl/time/clock.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

absl::StatusCode CodeOf(int http_status) {
  switch (http_status) {
    case 400:
    case 422:
      return absl::StatusCode::kInvalidArgument;
    case 401:
      return absl::StatusCode::kUnauthenticated;
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
      return absl::StatusCode::kNotFound;
    case 409:
      return absl::StatusCode::kAborted;
    case 410:
      return absl::StatusCode::kOutOfRange;
    default:
      break;
  }
  return http_status == 429 || http_status >= 500 ? absl::StatusCode::kUnavailable
                                                  : absl::StatusCode::kFailedPrecondition;
}

}  // namespace

KubeClient::KubeClient(KubeConfig config)
    : config_(std::move(config)), transport_(MakeStreamTransport(config_.tls)) {}

absl::StatusOr<SecretBytes> KubeClient::Authorization() const {
  SecretBytes value;
  if (config_.token_file.empty() && config_.token.empty()) return value;
  value.Append("Bearer ");
  if (config_.token_file.empty()) {
    value.Append(config_.token.view());
    return value;
  }
  std::ifstream file(config_.token_file);
  char buffer[16 * 1024];
  file.read(buffer, sizeof(buffer));
  const std::string_view token = Trim({buffer, static_cast<std::size_t>(file.gcount())});
  if (token.empty()) {
    return absl::UnavailableError(StrCat("no token for the API server in ", config_.token_file));
  }
  value.Append(token);
  return value;
}

absl::StatusOr<Json> KubeClient::Get(std::string_view path, absl::Time deadline) {
  const std::string what = StrCat("GET ", path, " at ", config_.server);
  HttpRequest request;
  request.url = StrCat(config_.server, path);
  ASSIGN_OR_RETURN(SecretBytes authorization, Authorization());
  if (!authorization.empty()) {
    request.headers.push_back({"Authorization", std::move(authorization)});
  }
  request.headers.push_back({"Accept", SecretBytes::CopyOf("application/json")});
  request.timeout = std::min(deadline - absl::Now(), absl::Seconds(30));
  if (request.timeout <= absl::ZeroDuration()) {
    return absl::DeadlineExceededError(StrCat(what, ": no time left"));
  }
  absl::StatusOr<HttpResponse> response = transport_->Send(request);
  if (!response.ok()) {
    return absl::Status(response.status().code(),
                        ToAbsl(StrCat(what, ": ", Message(response.status()))));
  }
  absl::StatusOr<Json> answer = ParseJson(response->body.view());
  if (response->status != 200) {
    std::string reason;  // of a Status object
    if (answer.ok() && answer->is_object() && answer->contains("message") &&
        (*answer)["message"].is_string()) {
      const std::string_view message = (*answer)["message"].get_ref<const SecretString&>();
      reason = StrCat(": ", message.substr(0, 300));
    }
    return absl::Status(CodeOf(response->status),
                        ToAbsl(StrCat(what, ": HTTP ", response->status, reason)));
  }
  if (!answer.ok()) return absl::InternalError(StrCat(what, ": ", Message(answer.status())));
  return answer;
}

}  // namespace coffer::csi
