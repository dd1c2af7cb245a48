// What -output-curl-string and -output-policy print in place of sending a request.
#include "cli/client.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

// Paths that ask for "sudo" beside the operation's capability; "*" at the end stands for any rest.
constexpr std::string_view kSudoPaths[] = {
    "auth/token/accessors", "auth/token/revoke-orphan", "sys/audit", "sys/audit/*", "sys/auth/*",
    "sys/config/auditing/*", "sys/config/cors", "sys/config/ui/headers*",
    "sys/leases/lookup/*", "sys/leases/revoke-force/*", "sys/leases/revoke-prefix/*", "sys/raw*",
    "sys/remount", "sys/revoke-force/*", "sys/revoke-prefix/*", "sys/rotate", "sys/seal",
    "sys/step-down"};

bool NeedsSudo(std::string_view path) {
  return std::any_of(std::begin(kSudoPaths), std::end(kSudoPaths), [&](std::string_view known) {
    return known.ends_with('*') ? path.starts_with(known.substr(0, known.size() - 1))
                                : path == known;
  });
}

std::string_view CapabilitiesOf(const ApiRequest& request) {
  if (request.method == "GET") {
    return !request.query.empty() && request.query[0].first == "list" ? "\"list\"" : "\"read\"";
  }
  if (request.method == "DELETE") return "\"delete\"";
  if (request.method == "PATCH") return "\"patch\"";
  return "\"create\", \"update\"";
}

// In single quotes for a shell.
void AppendQuoted(std::string_view text, SecretBytes& out) {
  out.Append("'");
  for (std::string_view rest = text;;) {
    const std::size_t at = rest.find('\'');
    out.Append(rest.substr(0, at));
    if (at == std::string_view::npos) break;
    out.Append("'\"'\"'");
    rest.remove_prefix(at + 1);
  }
  out.Append("'");
}

}  // namespace

void ApiClient::Show(const ApiRequest& request, const HttpRequest& http) {
  shown_.Clear();
  if (settings_.show == ClientSettings::Show::kPolicy) {
    shown_.Append(StrCat("path \"", request.path, "\" {\n  capabilities = [", CapabilitiesOf(request),
                         NeedsSudo(request.path) ? ", \"sudo\"" : "", "]\n}"));
    return;
  }
  shown_.Append("curl ");
  if (settings_.address.starts_with("https://") && settings_.show_skip_verify) {
    shown_.Append("--insecure ");
  }
  if (http.method != "GET") shown_.Append(StrCat("-X ", http.method, " "));
  for (const HttpHeader& header : http.headers) {
    // The token stays out of the shell's history.
    const bool is_token = header.name == "X-Vault-Token";
    shown_.Append(StrCat("-H \"", header.name, ": "));
    shown_.Append(is_token ? "$(vault print token)" : header.value.view());
    shown_.Append("\" ");
  }
  if (!http.body.empty()) {
    shown_.Append("-d ");
    AppendQuoted(http.body.view(), shown_);
    shown_.Append(" ");
  }
  shown_.Append(http.url.find_first_of("?&") == std::string::npos ? http.url
                                                                  : StrCat("'", http.url, "'"));
}

}  // namespace coffer::cli
