// ApiClient: Vault's HTTP API as the command line speaks it: headers, wrapping, retries, one redirect,
// errors in Vault's words.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/http_client.h"
#include "common/json.h"

namespace coffer::cli {

struct ClientSettings {
  std::string address;  // http:// or https://, without a slash at the end
  SecretBytes token;
  std::string name_space;  // "" or with a slash at the end
  std::string wrap_ttl;    // Go's form, "" for none
  std::vector<std::pair<std::string, std::string>> headers;
  absl::Duration timeout = absl::Seconds(60);
  int max_retries = 0;
  bool follow_redirect = true;
  // What is made of requests instead of sending them.
  enum class Show { kNothing, kCurl, kPolicy } show = Show::kNothing;
  bool show_skip_verify = false;  // the curl command goes without verification too
};

using Query = std::vector<std::pair<std::string_view, std::string>>;

struct ApiRequest {
  std::string_view method;
  std::string path;  // behind /v1/, not encoded
  Query query = {};
  const Json* body = nullptr;
  std::string_view content_type = "application/json";
  // Asked by the command line for its own sake (which version is this mount?): not wrapped, not shown.
  bool preflight = false;
  // A 404 with "data" or "warnings" is an answer, any other 404 is null: as vault reads and lists.
  bool null_if_missing = false;
};

class ApiClient {
 public:
  // `transport` outlives the client.
  ApiClient(ClientSettings settings, HttpTransport& transport)
      : settings_(std::move(settings)), transport_(transport) {}

  // The answer's document; null for an answer without a body. Codes of errors follow the answer's: 400
  // InvalidArgument, 403 PermissionDenied, 404 NotFound, 405 Unimplemented, another Unknown, with
  // Vault's "Error making API request." text as the message; Unavailable and so on from the
  // transport; Cancelled when the request was shown instead of sent.
  absl::StatusOr<Json> Call(const ApiRequest& request);
  // The answer's body as it came.
  absl::StatusOr<SecretBytes> CallRaw(const ApiRequest& request);

  // The common forms. Read and List answer null where there is nothing.
  absl::StatusOr<Json> Read(std::string path, Query query = {});
  absl::StatusOr<Json> List(std::string path);
  absl::StatusOr<Json> Write(std::string path, const Json& body);
  absl::StatusOr<Json> Delete(std::string path, Query query = {});

  std::string_view token() const { return settings_.token.view(); }
  void SetToken(SecretBytes token) { settings_.token = std::move(token); }
  void DropWrapping() { settings_.wrap_ttl.clear(); }
  bool shows() const { return settings_.show != ClientSettings::Show::kNothing; }
  // The envelope of the last write or deletion that was answered 404 with "data" or "warnings";
  // null if there was none.
  const Json& refused() const { return refused_; }
  // The curl command or policy of the request that was shown; empty if there was none.
  const SecretBytes& shown() const { return shown_; }

 private:
  absl::StatusOr<HttpResponse> Send(const ApiRequest& request);
  void Show(const ApiRequest& request, const HttpRequest& http);

  ClientSettings settings_;
  HttpTransport& transport_;
  SecretBytes shown_;
  Json refused_;
};

}  // namespace coffer::cli
