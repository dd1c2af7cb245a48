#include <unistd.h>

#include "cli/csi.h"
#include "cli/values.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/unix_transport.h"

namespace coffer::cli {
namespace {

// In the plugin's container, on a node whose kubelet has its folder where most have it, and by hand.
constexpr const char* kUsualSockets[] = {
    "/csi/admin.sock", "/var/lib/kubelet/plugins/secrets-store.csi.k8s.io/admin.sock",
    "/run/coffer-csi/admin.sock"};
// A publish may take 110 s.
constexpr absl::Duration kPatience = absl::Seconds(130);

absl::StatusOr<std::string> FindSocket(const Session& session) {
  if (session.flags.given("socket")) return std::string(session.flags.text("socket"));
  const std::string_view set = session.environment.Variable("COFFER_CSI_SOCKET");
  if (!set.empty()) return std::string(set);
  std::string looked;
  for (const char* path : kUsualSockets) {
    if (access(path, F_OK) == 0) return std::string(path);
    StrAppend(&looked, looked.empty() ? "" : ", ", path);
  }
  return absl::FailedPreconditionError(
      StrCat("no node plugin's admin socket is at ", looked,
             ": run this on the node or in the plugin's container, and name another place by -socket "
             "(coffer-csi --admin-socket=PATH)"));
}

absl::Status ErrorOf(const HttpResponse& response) {
  const absl::StatusOr<Json> body = ParseJson(response.body.view());
  const std::string_view code = body.ok() ? TextAt(*body, "code") : "";
  if (code.empty()) {
    return absl::UnavailableError(
        StrCat("the socket answers with status ", response.status, " and isn't a node plugin's"));
  }
  return absl::UnknownError(StrCat(code, ": ", TextAt(*body, "error")));
}

}  // namespace

const Flag kAdminSocketFlag = {
    "socket", FlagType::kText,
    "The node plugin's admin socket (coffer-csi --admin-socket). If not set, COFFER_CSI_SOCKET "
    "counts, then /csi/admin.sock and the kubelet's folder are looked at."};

absl::StatusOr<Json> CallPlugin(Session& session, std::string_view method, std::string_view path,
                                const Json* body) {
  ASSIGN_OR_RETURN(const std::string socket, FindSocket(session));
  HttpRequest request{.method = std::string(method),
                      .url = StrCat("http://node", path),
                      .timeout = kPatience};
  if (body != nullptr) request.body = DumpJson(*body);
  const absl::StatusOr<HttpResponse> response = MakeUnixTransport(socket)->Send(request);
  if (!response.ok()) {
    const char* reason = access(socket.c_str(), R_OK | W_OK) == 0
                             ? "is coffer-csi running with --admin-socket?"
                             : "it isn't there, or isn't yours: root alone may ask";
    return absl::UnavailableError(StrCat("no node plugin answers at ", socket, ": ", reason));
  }
  if (response->status != 200) return ErrorOf(*response);
  absl::StatusOr<Json> answer = ParseJson(response->body.view());
  if (answer.ok()) return answer;
  return absl::UnavailableError(StrCat("the answer of ", socket, " is ", Message(answer.status())));
}

}  // namespace coffer::cli
