#include "csi/kube_client.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "common/json_members.h"
#include "common/secret_file.h"
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

// What a watch may be silent for: the API server sends a bookmark each minute or so.
constexpr absl::Duration kLongestSilence = absl::Minutes(5);
constexpr std::size_t kMostEventBytes = 4 << 20;
// An API server that is overloaded says when to come again; one that is asked to wait longer, or
// more often, is given up on for now.
constexpr int kMostAttempts = 5;
constexpr absl::Duration kLongestRetryAfter = absl::Seconds(10);

// What a 429 or 503 asks to wait for: whole seconds, as the API server has it; 0: nothing is said.
absl::Duration RetryAfterOf(const HttpResponse& response) {
  int seconds = 0;
  const bool asks = response.status == 429 || response.status == 503;
  if (!asks || !absl::SimpleAtoi(ToAbsl(response.header("Retry-After")), &seconds)) {
    return absl::ZeroDuration();
  }
  return absl::Seconds(std::max(seconds, 0));
}

// Of an answer that is a Status object, as errors are.
absl::Status StatusOf(int http_status, std::string_view body, std::string_view what) {
  const absl::StatusOr<Json> answer = ParseJson(body);
  std::string reason;
  if (answer.ok() && At(*answer, "message").is_string()) {
    reason = StrCat(": ", TextAt(*answer, "message").substr(0, 300));
  } else if (http_status == 404) {
    // What there is no object of is told by a Status object; this is plain text.
    reason = ": it doesn't know the kind; install the CRDs: kubectl apply -f deploy/daemonset/crds.yaml";
  }
  return absl::Status(CodeOf(http_status), ToAbsl(StrCat(what, ": HTTP ", http_status, reason)));
}

}  // namespace

KubeClient::KubeClient(KubeConfig config)
    : config_(std::move(config)),
      transport_(config_.proxy.empty()
                     ? MakeStreamTransport(config_.tls)
                     : MakeStreamTransportThrough(config_.proxy.view(), config_.tls)) {}

absl::StatusOr<SecretBytes> KubeClient::Authorization() const {
  SecretBytes value;
  if (config_.token_file.empty() && config_.token.empty()) return value;
  value.Append("Bearer ");
  if (config_.token_file.empty()) {
    value.Append(config_.token.view());
    return value;
  }
  const absl::StatusOr<SecretBytes> read = ReadSecretFile(config_.token_file);
  if (!read.ok()) {
    return absl::UnavailableError(
        StrCat("no token for the API server: ", Message(read.status())));
  }
  const std::string_view token = Trim(read->view());
  if (token.empty()) {
    return absl::UnavailableError(StrCat("no token for the API server in ", config_.token_file));
  }
  value.Append(token);
  return value;
}

absl::StatusOr<HttpResponse> KubeClient::Send(HttpRequest request, const std::string& what) {
  ASSIGN_OR_RETURN(SecretBytes authorization, Authorization());
  if (!authorization.empty()) {
    request.headers.push_back({"Authorization", std::move(authorization)});
  }
  request.headers.push_back({"Accept", SecretBytes::CopyOf("application/json")});
  // A watch has no deadline; what it waits for is part of a longer pause anyway.
  const absl::Time deadline = absl::Now() + std::min(request.timeout, 3 * kLongestRetryAfter);
  for (int attempt = 1;; ++attempt) {
    absl::StatusOr<HttpResponse> response = transport_->Send(request);
    if (!response.ok()) {
      return absl::Status(response.status().code(),
                          ToAbsl(StrCat(what, ": ", Message(response.status()))));
    }
    if (response->status / 100 == 2) return response;
    const absl::Duration wait = RetryAfterOf(*response);
    const bool worth = wait > absl::ZeroDuration() && wait <= kLongestRetryAfter &&
                       attempt < kMostAttempts && absl::Now() + wait < deadline;
    if (!worth) return StatusOf(response->status, response->body.view(), what);
    absl::SleepFor(wait);
    if (!request.on_body) request.timeout = deadline - absl::Now();
  }
}

absl::StatusOr<Json> KubeClient::Call(std::string_view method, std::string_view path,
                                      const Json* body, std::string_view content_type,
                                      absl::Time deadline) {
  const std::string what = StrCat(method, " ", path, " at ", config_.server);
  HttpRequest request;
  request.method = method;
  request.url = StrCat(config_.server, path);
  if (body != nullptr) {
    request.body = DumpJson(*body);
    request.headers.push_back({"Content-Type", SecretBytes::CopyOf(content_type)});
  }
  request.timeout = std::min(deadline - absl::Now(), absl::Seconds(30));
  if (request.timeout <= absl::ZeroDuration()) {
    return absl::DeadlineExceededError(StrCat(what, ": no time left"));
  }
  ASSIGN_OR_RETURN(const HttpResponse response, Send(std::move(request), what));
  absl::StatusOr<Json> answer = ParseJson(response.body.view());
  if (!answer.ok()) return absl::InternalError(StrCat(what, ": ", Message(answer.status())));
  return answer;
}

absl::StatusOr<Json> KubeClient::Get(std::string_view path, absl::Time deadline) {
  return Call("GET", path, nullptr, "", deadline);
}

absl::StatusOr<Json> KubeClient::Post(std::string_view path, const Json& body,
                                      absl::Time deadline) {
  return Call("POST", path, &body, "application/json", deadline);
}

absl::StatusOr<Json> KubeClient::Patch(std::string_view path, const Json& body,
                                       absl::Time deadline) {
  return Call("PATCH", path, &body, "application/merge-patch+json", deadline);
}

absl::Status KubeClient::Delete(std::string_view path, std::string_view uid,
                                std::string_view version, absl::Time deadline) {
  Json preconditions = {{"uid", SecretString(uid)}};
  if (!version.empty()) preconditions["resourceVersion"] = SecretString(version);
  const Json body = {{"apiVersion", "v1"},
                     {"kind", "DeleteOptions"},
                     {"preconditions", std::move(preconditions)}};
  return Call("DELETE", path, &body, "application/json", deadline).status();
}

absl::Status KubeClient::Watch(std::string_view path,
                               const std::function<bool(const Json& event)>& on_event) {
  const std::string what = StrCat("watching ", path, " at ", config_.server);
  HttpRequest request;
  request.url = StrCat(config_.server, path);
  request.timeout = kLongestSilence;
  SecretBytes line;
  absl::Status failed;
  request.on_body = [&](std::string_view part) {
    if (part.empty()) return on_event(Json());
    for (std::size_t end = part.find('\n'); end != part.npos; end = part.find('\n')) {
      line.Append(part.substr(0, end));
      part.remove_prefix(end + 1);
      const absl::StatusOr<Json> event = ParseJson(line.view());
      line.Clear();
      if (!event.ok() || !event->is_object() || !event->contains("object")) {
        failed = absl::InternalError(StrCat(what, ": an event isn't JSON with an object"));
        return false;
      }
      if (event->value("type", SecretString()) == "ERROR") {
        const Json& status = (*event)["object"];
        failed = StatusOf(status.value("code", 500), DumpJson(status).view(), what);
        return false;
      }
      if (!on_event(*event)) return false;
    }
    if (line.size() + part.size() > kMostEventBytes) {
      failed = absl::ResourceExhaustedError(StrCat(what, ": an event is larger than 4 MiB"));
      return false;
    }
    line.Append(part);
    return true;
  };
  const absl::Status ended = Send(std::move(request), what).status();
  return failed.ok() ? ended : failed;
}

}  // namespace coffer::csi
