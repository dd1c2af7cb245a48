#include "provider/keystore_client.h"

#include <algorithm>
#include <array>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "common/json_members.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/url.h"

namespace coffer::provider {
namespace {

// Between one attempt and the next, each lengthened by up to a half at random, so that the nodes of
// a cluster don't knock together.
constexpr std::array<absl::Duration, 3> kBackOff = {absl::Milliseconds(50), absl::Milliseconds(200),
                                                    absl::Milliseconds(500)};
// What one attempt is given at most, so that a connection that hangs leaves time for another.
constexpr absl::Duration kAttempt = absl::Seconds(20);

absl::StatusCode CodeOf(int http_status) {
  switch (http_status) {
    case 400:
      return absl::StatusCode::kInvalidArgument;
    case 401:
    case 403:
      return absl::StatusCode::kPermissionDenied;
    case 404:
      return absl::StatusCode::kNotFound;
    case 405:
      return absl::StatusCode::kUnimplemented;
    case 412:  // a standby that has not caught up
    case 429:
      return absl::StatusCode::kUnavailable;
    default:
      break;
  }
  return http_status >= 500 ? absl::StatusCode::kUnavailable
                            : absl::StatusCode::kFailedPrecondition;
}

// The texts of `errors` and `warnings`, on one line and not too long. What echoes a credential is
// left out whole.
std::string Explanation(const Json& answer, std::string_view token, std::string_view body) {
  std::string text;
  if (!answer.is_object()) return text;
  for (const char* list : {"errors", "warnings"}) {
    const auto found = answer.find(list);
    if (found == answer.end() || !found->is_array()) continue;
    for (const Json& entry : *found) {
      if (!entry.is_string()) continue;
      const std::string_view line = entry.get_ref<const SecretString&>();
      if (!token.empty() && line.find(token) != line.npos) continue;
      if (!body.empty() && line.size() >= 16 && body.find(line) != body.npos) continue;
      StrAppend(&text, text.empty() ? "" : "; ", line.substr(0, 300));
      if (text.size() > 600) break;
    }
  }
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
  absl::RemoveExtraAsciiWhitespace(&text);
  return text;
}

// Up to a half.
absl::Duration Jitter(absl::Duration duration) {
  std::uint8_t byte = 0;
  FillRandom({&byte, 1});
  return duration * (byte / 512.0);
}

bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status);
}

// What Retry-After asks for: seconds or a date (RFC 9110 section 10.2.3); 0 where it says nothing.
absl::Duration RetryAfter(const HttpResponse& response, absl::Time now) {
  const std::string_view text = Trim(response.header("Retry-After"));
  std::int64_t seconds = 0;
  if (absl::SimpleAtoi(ToAbsl(text), &seconds)) return absl::Seconds(std::max<std::int64_t>(0, seconds));
  absl::Time date;
  std::string error;
  if (!absl::ParseTime("%a, %d %b %Y %H:%M:%S GMT", ToAbsl(text), &date, &error)) {
    return absl::ZeroDuration();
  }
  return std::max(absl::ZeroDuration(), date - now);
}

bool Redirects(int status) {
  return status == 301 || status == 302 || status == 307 || status == 308;
}

// Where a redirect leads; a path stays at the server.
absl::StatusOr<std::string> RedirectTarget(std::string_view url, std::string_view location) {
  std::string target(location);
  if (location.starts_with('/') && !location.starts_with("//")) {
    target = StrCat(url.substr(0, url.find('/', url.find("://") + 3)), location);
  }
  const absl::StatusOr<UrlParts> parts = ParseUrl(target);
  if (!parts.ok()) return absl::FailedPreconditionError("it redirects to what is no URL");
  if (url.starts_with("https://") && !SameHttpName(parts->scheme, "https")) {
    return absl::FailedPreconditionError(
        StrCat("it redirects to ", parts->host_port, " without TLS: refused"));
  }
  return target;
}

}  // namespace

absl::StatusOr<HttpResponse> KeystoreClient::Send(HttpRequest& request) const {
  absl::StatusOr<HttpResponse> response = transport_.Send(request);
  if (!response.ok() || !Redirects(response->status)) return response;
  const std::string_view location = response->header("Location");
  if (location.empty()) return response;
  ASSIGN_OR_RETURN(std::string target, RedirectTarget(request.url, location));
  std::swap(request.url, target);
  response = transport_.Send(request);
  std::swap(request.url, target);
  return response;
}

absl::StatusOr<Json> KeystoreClient::Call(std::string_view method, std::string_view path,
                                          std::string_view query, const SecretBytes& token,
                                          SecretBytes body, absl::Time deadline) const {
  HttpRequest request;
  request.method = method;
  request.url =
      StrCat(login_.address, "/v1/", EncodeUrlPath(path), query.empty() ? "" : "?", query);
  request.headers.push_back({"X-Vault-Request", SecretBytes::CopyOf("true")});
  if (!token.empty()) request.headers.push_back({"X-Vault-Token", token.Copy()});
  if (!login_.vault_namespace.empty()) {
    request.headers.push_back({"X-Vault-Namespace", SecretBytes::CopyOf(login_.vault_namespace)});
  }
  if (!body.empty()) {
    request.headers.push_back({"Content-Type", SecretBytes::CopyOf("application/json")});
  }
  request.body = std::move(body);

  const std::string what = StrCat(method, " ", path, " at ", login_.address);
  for (std::size_t attempt = 0;; ++attempt) {
    const absl::Duration left = deadline - clock_.Now();
    if (left <= absl::ZeroDuration()) {
      return absl::DeadlineExceededError(StrCat(what, ": no time left"));
    }
    request.timeout = std::min(left, kAttempt);
    absl::StatusOr<HttpResponse> response = Send(request);
    absl::Status failed;
    absl::Duration asked_pause;
    if (!response.ok()) {
      failed = absl::Status(response.status().code(),
                            ToAbsl(StrCat(what, ": ", Message(response.status()))));
    } else {
      Json answer;
      absl::StatusOr<Json> parsed = ParseJson(response->body.view());
      if (parsed.ok()) answer = *std::move(parsed);
      const bool success = response->status >= 200 && response->status < 300;
      if (success && (parsed.ok() || response->body.empty())) return answer;
      if (success) {
        return absl::InternalError(StrCat(what, ": HTTP ", response->status,
                                          " with a body that is ", Message(parsed.status())));
      }
      asked_pause = RetryAfter(*response, clock_.Now());
      const std::string explanation = Explanation(answer, token.view(), request.body.view());
      failed = absl::Status(CodeOf(response->status),
                            ToAbsl(StrCat(what, ": HTTP ", response->status,
                                          explanation.empty() ? "" : ": ", explanation)));
    }
    if (!MayPass(failed) || attempt == kBackOff.size()) return failed;
    const absl::Duration pause = std::max(asked_pause, kBackOff[attempt]) + Jitter(kBackOff[attempt]);
    if (clock_.Now() + pause >= deadline) return failed;
    absl::SleepFor(pause);
  }
}

absl::StatusOr<Json> KeystoreClient::LogIn(const SecretBytes& jwt, absl::Time deadline) const {
  const Json body = {{"role", std::string_view(login_.role)}, {"jwt", jwt.view()}};
  const SecretBytes none;
  ASSIGN_OR_RETURN(Json answer, Call("POST", StrCat("auth/", login_.auth_mount, "/login"), "", none,
                                     DumpJson(body), deadline));
  if (!At(At(answer, "auth"), "client_token").is_string()) {
    return absl::InternalError(StrCat("POST auth/", login_.auth_mount, "/login at ", login_.address,
                                      ": the answer has no auth.client_token"));
  }
  return std::move(answer["auth"]);
}

}  // namespace coffer::provider
