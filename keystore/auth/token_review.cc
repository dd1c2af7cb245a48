// POST /apis/authentication.k8s.io/v1/tokenreviews
//   {"apiVersion", "kind", "spec": {"token", "audiences"?}}
//   -> 201 {"status": {"authenticated", "user": {"username", "uid"}, "audiences"?, "error"?}}
// where "username" is system:serviceaccount:<namespace>:<name>. Errors are a "Status" object.
#include "keystore/auth/token_review.h"

#include <unistd.h>

#include "common/json.h"
#include "common/json_members.h"
#include "common/secret_file.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/auth/jwt.h"

namespace coffer::keystore {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(15);

// The file without white space around; empty where it can't be read.
SecretBytes ReadToken(const std::string& path) {
  const absl::StatusOr<SecretBytes> bytes = ReadSecretFile(path);
  return bytes.ok() ? SecretBytes::CopyOf(Trim(bytes->view())) : SecretBytes();
}

absl::Status Denied(const auto&... pieces) {
  return absl::PermissionDeniedError(StrCat("lookup failed: ", pieces...));
}

// Text of the API server's as a message may show it.
std::string Shown(std::string_view text) {
  std::string shown(text.substr(0, 200));
  std::replace_if(shown.begin(), shown.end(), [](char c) { return c < ' ' || c == 0x7f; }, ' ');
  return shown;
}

// What a Status object (or any other body) says in its "message".
std::string ErrorText(const HttpResponse& response) {
  const auto body = ParseJson(response.body.view());
  const std::string_view message = body.ok() ? TextAt(*body, "message") : "";
  return StrCat("status ", response.status, message.empty() ? "" : ": ", Shown(message));
}

absl::StatusOr<ReviewedAccount> ReadReview(const Json& review,
                                           const std::vector<std::string>& asked) {
  const Json& status = At(review, "status");
  if (!status.is_object()) {
    return absl::UnavailableError("the API server's TokenReview has no status: is kubernetes_host right?");
  }
  if (const std::string_view error = TextAt(status, "error"); !error.empty()) {
    return Denied(Shown(error));
  }
  if (At(status, "authenticated") != true) return Denied("service account jwt not valid");
  // An API server that knows no audiences answers none: then the JWT's own claim, checked before,
  // decides.
  if (const Json& fitting = At(status, "audiences");
      !asked.empty() && fitting.is_array() && !fitting.empty() &&
      std::find_first_of(fitting.begin(), fitting.end(), asked.begin(), asked.end()) ==
          fitting.end()) {
    return Denied("service account jwt is not meant for the audience asked for");
  }
  const Json& user = At(status, "user");
  const std::string_view username = TextAt(user, "username");
  const std::vector<std::string_view> parts = Split(username, ':');
  if (parts.size() != 4) return Denied("unexpected username format");
  if (parts[0] != "system" || parts[1] != "serviceaccount") {
    return Denied("username returned is not a service account");
  }
  return ReviewedAccount{std::string(parts[3]), std::string(parts[2]),
                         std::string(TextAt(user, "uid"))};
}

}  // namespace

ApiServer::ApiServer(std::string host, std::string ca_pem, SecretBytes reviewer_token,
                     bool use_pod_files, PodFiles pod_files)
    : host_(std::move(host)),
      reviewer_token_(std::move(reviewer_token)),
      use_pod_files_(use_pod_files),
      pod_files_(std::move(pod_files)),
      transport_(MakeStreamTransport(Tls(std::move(ca_pem), use_pod_files, pod_files_))) {}

TlsClientOptions ApiServer::Tls(std::string ca_pem, bool use_pod_files, const PodFiles& pod_files) {
  TlsClientOptions tls;
  if (ca_pem.empty() && use_pod_files && access(pod_files.ca.c_str(), R_OK) == 0) {
    tls.ca_file = pod_files.ca;
  }
  tls.ca_pem = std::move(ca_pem);
  return tls;
}

SecretBytes ApiServer::ReviewerToken() const {
  if (!reviewer_token_.empty()) return reviewer_token_.Copy();
  return use_pod_files_ ? ReadToken(pod_files_.token) : SecretBytes();
}

absl::StatusOr<HttpResponse> ApiServer::Send(std::string method, std::string path,
                                             std::string_view bearer, SecretBytes body) {
  HttpRequest request{.method = std::move(method), .url = host_ + path, .timeout = kTimeout};
  SecretBytes authorization = SecretBytes::CopyOf("Bearer ");
  authorization.Append(bearer);
  request.headers.push_back({"Authorization", std::move(authorization)});
  request.headers.push_back({"Accept", SecretBytes::CopyOf("application/json")});
  if (!body.empty()) {
    request.headers.push_back({"Content-Type", SecretBytes::CopyOf("application/json")});
    request.body = std::move(body);
  }
  auto response = transport_->Send(request);
  if (response.ok()) return response;
  return absl::UnavailableError(
      StrCat("the Kubernetes API server can't be asked: ", Message(response.status())));
}

absl::StatusOr<ReviewedAccount> ApiServer::Review(std::string_view token,
                                                  const std::vector<std::string>& audiences) {
  Json spec = {{"token", token}};
  if (!audiences.empty()) spec["audiences"] = audiences;
  const Json review = {{"apiVersion", "authentication.k8s.io/v1"},
                       {"kind", "TokenReview"},
                       {"spec", std::move(spec)}};
  const SecretBytes own = ReviewerToken();
  ASSIGN_OR_RETURN(const HttpResponse response,
                   Send("POST", "/apis/authentication.k8s.io/v1/tokenreviews",
                        own.empty() ? token : own.view(), DumpJson(review)));
  if (response.status == 401) {
    return Denied(own.empty()
                      ? "service account unauthorized; this could mean it has been deleted or "
                        "recreated with a new token"
                      : "the API server doesn't accept the reviewer's token: is token_reviewer_jwt, "
                        "or the keystore pod's own token, still valid?");
  }
  if (response.status == 403) {
    return Denied("the API server lets ", own.empty() ? "the client's" : "the reviewer's",
                  " token create no TokenReview: bind its ServiceAccount to the ClusterRole "
                  "system:auth-delegator");
  }
  if (response.status < 200 || response.status > 299) {
    return absl::UnavailableError(
        StrCat("the API server answered the TokenReview with ", ErrorText(response)));
  }
  const auto document = ParseJson(response.body.view());
  if (!document.ok()) {
    return absl::UnavailableError(StrCat("the API server's answer to the TokenReview is ",
                                         Message(document.status())));
  }
  return ReadReview(*document, audiences);
}

absl::StatusOr<ApiServer::Texts> ApiServer::NamespaceLabels(std::string_view name_space) {
  return MetadataOf(StrCat("/api/v1/namespaces/", EncodeUrlQuery(name_space)), "labels",
                    "namespace selectors");
}

absl::StatusOr<ApiServer::Texts> ApiServer::AccountAnnotations(std::string_view name_space,
                                                               std::string_view name) {
  return MetadataOf(StrCat("/api/v1/namespaces/", EncodeUrlQuery(name_space), "/serviceaccounts/",
                           EncodeUrlQuery(name)),
                    "annotations", "service account annotations");
}

absl::StatusOr<ApiServer::Texts> ApiServer::MetadataOf(std::string path, std::string_view member,
                                                       std::string_view what) {
  const SecretBytes own = ReviewerToken();
  if (own.empty()) {
    return absl::FailedPreconditionError(
        StrCat("token_reviewer_jwt needs to be configured to use ", what));
  }
  ASSIGN_OR_RETURN(const HttpResponse response, Send("GET", path, own.view(), {}));
  if (response.status == 401 || response.status == 403 || response.status == 404) {
    return Denied("the API server answers GET ", path, " with ", ErrorText(response));
  }
  const auto document = ParseJson(response.body.view());
  if (response.status != 200 || !document.ok()) {
    return absl::UnavailableError(
        StrCat("the API server answers GET ", path, " with ",
               response.status == 200 ? "something else than JSON" : ErrorText(response)));
  }
  Texts texts;
  const Json& members = At(At(*document, "metadata"), member);
  for (auto item = members.begin(); item != members.end() && members.is_object(); ++item) {
    if (!item->is_string()) continue;
    texts.emplace(std::string_view(item.key()),
                  std::string_view(item->get_ref<const Json::string_t&>()));
  }
  return texts;
}

}  // namespace coffer::keystore
