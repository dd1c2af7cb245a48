#include "cli/client.h"

#include "absl/time/clock.h"
#include "cli/values.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr absl::Duration kFirstPause = absl::Milliseconds(250);
constexpr std::size_t kMaxRawMessage = 1024;  // a proxy's error page
constexpr absl::Duration kLongestPause = absl::Milliseconds(1500);

// As Vault's client: what may pass by itself. 412 is a follower that hasn't seen a write yet.
bool MayPass(const absl::StatusOr<HttpResponse>& response) {
  if (!response.ok()) return absl::IsUnavailable(response.status());
  return response->status == 412 || (response->status >= 500 && response->status != 501);
}

absl::StatusCode CodeOf(int http_status) {
  switch (http_status) {
    case 400: return absl::StatusCode::kInvalidArgument;
    case 403: return absl::StatusCode::kPermissionDenied;
    case 404: return absl::StatusCode::kNotFound;
    case 405: return absl::StatusCode::kUnimplemented;
    default: return absl::StatusCode::kUnknown;
  }
}

// What the server refused, in the words of Vault's client. Its "errors" hold no secret.
absl::Status Refusal(const HttpRequest& request, const HttpResponse& response,
                     std::string_view name_space) {
  std::string text = "Error making API request.\n\n";
  if (!name_space.empty() && name_space != "root/") StrAppend(&text, "Namespace: ", name_space, "\n");
  StrAppend(&text, "URL: ", request.method, " ", request.url, "\nCode: ", response.status, ". ");
  absl::StatusOr<Json> body = ParseJson(response.body.view());
  const Json document = body.ok() ? *std::move(body) : Json();
  const Json& errors = At(document, "errors");
  if (!document.is_object() || !(errors.is_null() || errors.is_array())) {
    StrAppend(&text, "Raw Message:\n\n", response.body.view().substr(0, kMaxRawMessage));
    return {CodeOf(response.status), ToAbsl(text)};
  }
  text += "Errors:\n\n";
  bool first = true;
  for (const Json& error : errors) {
    if (!std::exchange(first, false)) text += "\n";
    StrAppend(&text, "* ",
              error.is_string() ? std::string_view(error.get_ref<const Json::string_t&>()) : "?");
  }
  return {CodeOf(response.status), ToAbsl(text)};
}

bool HasContent(const Json& document) {
  if (!document.is_object()) return false;
  for (std::string_view name : {"data", "warnings"}) {
    const auto found = document.find(name);
    if (found != document.end() && !found->empty()) return true;
  }
  return false;
}

void AddHeader(HttpRequest& request, std::string_view name, std::string_view value) {
  request.headers.push_back({std::string(name), SecretBytes::CopyOf(value)});
}

}  // namespace

absl::StatusOr<HttpResponse> ApiClient::Send(const ApiRequest& request) {
  HttpRequest http;
  http.method = request.method;
  http.url = StrCat(settings_.address, "/v1/", EncodeUrlPath(request.path));
  char separator = '?';
  for (const auto& [name, value] : request.query) {
    StrAppend(&http.url, std::exchange(separator, '&'), EncodeUrlQuery(name), "=",
              EncodeUrlQuery(value));
  }
  http.timeout = settings_.timeout;
  AddHeader(http, "X-Vault-Request", "true");
  if (!settings_.token.empty()) AddHeader(http, "X-Vault-Token", settings_.token.view());
  if (!settings_.name_space.empty()) AddHeader(http, "X-Vault-Namespace", settings_.name_space);
  if (!settings_.wrap_ttl.empty() && !request.preflight) {
    AddHeader(http, "X-Vault-Wrap-TTL", settings_.wrap_ttl);
  }
  for (const auto& [name, value] : settings_.headers) AddHeader(http, name, value);
  if (request.body != nullptr) {
    AddHeader(http, "Content-Type", request.content_type);
    http.body = DumpJson(*request.body);
  }
  if (shows() && !request.preflight) {
    Show(request, http);
    return absl::CancelledError("the request is shown, not sent");
  }

  absl::StatusOr<HttpResponse> response = transport_.Send(http);
  absl::Duration pause = kFirstPause;
  for (int retry = 0; retry < settings_.max_retries && MayPass(response); ++retry) {
    absl::SleepFor(pause);
    pause = std::min(2 * pause, kLongestPause);
    response = transport_.Send(http);
  }
  RETURN_IF_ERROR(response.status());

  const int status = response->status;
  if (settings_.follow_redirect && (status == 301 || status == 302 || status == 307)) {
    const std::string_view location = response->header("Location");
    if (http.url.starts_with("https://") && !location.starts_with("https://")) {
      return absl::FailedPreconditionError(
          StrCat("the server redirects ", request.method, " ", http.url,
                 " to an address without TLS: refused"));
    }
    if (location.empty()) return Refusal(http, *response, settings_.name_space);
    http.url = location;
    ASSIGN_OR_RETURN(response, transport_.Send(http));
  }

  if (response->status < 200 || response->status >= 300) {
    if (response->status == 404) {
      if (request.null_if_missing) return response;
      absl::StatusOr<Json> document = ParseJson(response->body.view());
      if (document.ok() && HasContent(*document)) refused_ = *std::move(document);
    }
    return Refusal(http, *response, settings_.name_space);
  }
  return response;
}

absl::StatusOr<SecretBytes> ApiClient::CallRaw(const ApiRequest& request) {
  ASSIGN_OR_RETURN(HttpResponse response, Send(request));
  return std::move(response.body);
}

absl::StatusOr<Json> ApiClient::Call(const ApiRequest& request) {
  ASSIGN_OR_RETURN(const HttpResponse response, Send(request));
  if (response.body.empty()) return Json();
  absl::StatusOr<Json> document = ParseJson(response.body.view());
  if (response.status == 404) {
    return document.ok() && HasContent(*document) ? std::move(document) : Json();
  }
  if (document.ok()) return document;
  return absl::UnknownError(StrCat("The answer to ", request.method, " ", settings_.address, "/v1/",
                                   request.path, " is no JSON document: is this the address of a ",
                                   "Vault server?"));
}

absl::StatusOr<Json> ApiClient::Read(std::string path, Query query) {
  return Call({.method = "GET",
               .path = std::move(path),
               .query = std::move(query),
               .null_if_missing = true});
}

absl::StatusOr<Json> ApiClient::List(std::string path) {
  return Call({.method = "GET",
               .path = std::move(path),
               .query = {{"list", "true"}},
               .null_if_missing = true});
}

absl::StatusOr<Json> ApiClient::Write(std::string path, const Json& body) {
  return Call({.method = "PUT", .path = std::move(path), .body = &body});
}

absl::StatusOr<Json> ApiClient::Delete(std::string path, Query query) {
  return Call({.method = "DELETE", .path = std::move(path), .query = std::move(query)});
}

}  // namespace coffer::cli
