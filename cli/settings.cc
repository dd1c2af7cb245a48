// The flags that every command has, and what they and the environment say about the connection.
#include "cli/dispatch.h"
#include "cli/values.h"
#include "common/duration.h"
#include "common/lower_case.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr std::string_view kDefaultAddress = "https://127.0.0.1:8200";

// The flag, else the variable, else "".
std::string Chosen(const Flags& flags, std::string_view flag, const Environment& environment,
                   std::string_view variable) {
  if (flags.given(flag)) return std::string(flags.text(flag));
  return std::string(environment.Setting(variable));
}

absl::StatusOr<bool> ChosenSwitch(const Flags& flags, std::string_view flag,
                                  const Environment& environment, std::string_view variable) {
  if (flags.given(flag)) return flags.on(flag);
  return environment.Switch(variable);
}

absl::StatusOr<std::string> AddressOf(const Flags& flags, const Environment& environment) {
  std::string address = Chosen(flags, "agent-address", environment, "AGENT_ADDR");
  if (address.empty() || flags.given("address")) {
    address = Chosen(flags, "address", environment, "ADDR");
  }
  if (address.empty()) address = kDefaultAddress;
  while (address.ends_with('/')) address.pop_back();
  for (std::string_view scheme : {"http://", "https://"}) {
    if (address.starts_with(scheme) && address.size() > scheme.size()) return address;
  }
  return absl::InvalidArgumentError(
      StrCat("the address \"", address, "\" starts with neither http:// nor https://: set -address ",
             "or VAULT_ADDR"));
}

bool IsPrintable(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

absl::Status AddHeaders(const Flags& flags, ClientSettings& settings) {
  for (const auto& [name, value] : flags.pairs("header")) {
    if (LowerCase(name.substr(0, 8)) == "x-vault-") {
      return absl::InvalidArgumentError(
          StrCat("failed to setup Headers[", name,
                 "]: Header starting by 'X-Vault-' are for internal usage only"));
    }
    settings.headers.emplace_back(name, value);
  }
  return absl::OkStatus();
}

}  // namespace

const std::vector<Flag>& ConnectionFlags() {
  static const std::vector<Flag> kFlags = {
      {"address", FlagType::kText,
       "Address of the server. The default is https://127.0.0.1:8200. This can also be specified via "
       "the VAULT_ADDR environment variable."},
      {"agent-address", FlagType::kText,
       "Address of an agent to ask in the server's place (VAULT_AGENT_ADDR)."},
      {"ca-cert", FlagType::kText,
       "Path to a PEM file of the CA certificates that the server's certificate is checked against "
       "(VAULT_CACERT). Takes precedence over -ca-path."},
      {"ca-path", FlagType::kText,
       "Path to a directory of PEM files of CA certificates (VAULT_CAPATH)."},
      {"client-cert", FlagType::kText,
       "Path to the PEM file of a client certificate (VAULT_CLIENT_CERT). Needs -client-key."},
      {"client-key", FlagType::kText,
       "Path to the PEM file of the private key of -client-cert (VAULT_CLIENT_KEY)."},
      {"tls-server-name", FlagType::kText,
       "Name to ask for and to check in the server's certificate (VAULT_TLS_SERVER_NAME)."},
      {"tls-skip-verify", FlagType::kSwitch,
       "Disable verification of TLS certificates (VAULT_SKIP_VERIFY). Highly discouraged."},
      {"disable-redirects", FlagType::kSwitch,
       "Do not follow the one redirect that a standby may answer with (VAULT_DISABLE_REDIRECTS)."},
      {"namespace", FlagType::kText,
       "The namespace to use for the command (VAULT_NAMESPACE). -ns can be used as shortcut.", "",
       "ns"},
      {"header", FlagType::kPairs,
       "Key-value pair provided as key=value to add an HTTP header to every request. Can be given "
       "more than once; headers that start with X-Vault- are refused."},
      {"wrap-ttl", FlagType::kDuration,
       "Wraps the response in a cubbyhole token with the requested TTL, such as \"30s\" or \"5m\" "
       "(VAULT_WRAP_TTL). The response is available via \"unwrap\"."},
      {"output-curl-string", FlagType::kSwitch,
       "Instead of executing the request, print an equivalent cURL command string and exit."},
      {"output-policy", FlagType::kSwitch,
       "Instead of executing the request, print an example HCL policy that would be required to run "
       "this command, and exit."},
      {"non-interactive", FlagType::kSwitch,
       "Never ask for input: a command that would ask fails instead."},
      {"no-color", FlagType::kSwitch, "Print without colours (VAULT_CLI_NO_COLOR)."},
  };
  return kFlags;
}

const std::vector<Flag>& OutputFlags(Prints prints) {
  static const std::vector<Flag> kNone;
  static const std::vector<Flag> kFormats = {
      {"format", FlagType::kText,
       "Print the output in the given format: \"table\", \"json\", \"yaml\" or \"pretty\"; \"raw\" "
       "for read alone. The default is table (VAULT_FORMAT).",
       "table"}};
  static const std::vector<Flag> kFields = {
      {"field", FlagType::kText,
       "Print only the field with the given name, without a line end where the output is piped."},
      kFormats[0]};
  return prints == Prints::kText ? kNone : prints == Prints::kFormats ? kFormats : kFields;
}

absl::StatusOr<ClientSettings> SettingsOf(const Flags& flags, const Environment& environment) {
  ClientSettings settings;
  ASSIGN_OR_RETURN(settings.address, AddressOf(flags, environment));
  ASSIGN_OR_RETURN(settings.token, environment.Token());
  if (!IsPrintable(settings.token.view())) {
    return absl::InvalidArgumentError(
        "configured Vault token contains non-printable characters and cannot be used: check "
        "VAULT_TOKEN and ~/.vault-token");
  }
  settings.name_space =
      WithSlash(SanitizePath(Chosen(flags, "namespace", environment, "NAMESPACE")));
  RETURN_IF_ERROR(AddHeaders(flags, settings));

  ASSIGN_OR_RETURN(const absl::Duration wrap_ttl,
                   ParseDuration(Chosen(flags, "wrap-ttl", environment, "WRAP_TTL")));
  if (wrap_ttl != absl::ZeroDuration()) settings.wrap_ttl = FormatGoDuration(wrap_ttl);

  const std::string_view timeout = environment.Setting("CLIENT_TIMEOUT");
  if (!timeout.empty()) {
    const absl::StatusOr<absl::Duration> parsed = ParseDuration(timeout);
    if (!parsed.ok() || *parsed <= absl::ZeroDuration()) {
      return absl::InvalidArgumentError(
          StrCat("VAULT_CLIENT_TIMEOUT is \"", timeout, "\": ",
                 parsed.ok() ? "it must be over zero" : Message(parsed.status())));
    }
    settings.timeout = *parsed;
  }
  const std::string_view retries = environment.Setting("MAX_RETRIES");
  if (!retries.empty()) {
    if (retries.size() > 3 || retries.find_first_not_of("0123456789") != std::string_view::npos) {
      return absl::InvalidArgumentError(
          StrCat("VAULT_MAX_RETRIES is \"", retries, "\": it must be a number from 0 to 999"));
    }
    settings.max_retries = std::stoi(std::string(retries));
  }
  ASSIGN_OR_RETURN(const bool no_redirects,
                   ChosenSwitch(flags, "disable-redirects", environment, "DISABLE_REDIRECTS"));
  settings.follow_redirect = !no_redirects;
  if (flags.on("output-curl-string")) settings.show = ClientSettings::Show::kCurl;
  if (flags.on("output-policy")) settings.show = ClientSettings::Show::kPolicy;
  ASSIGN_OR_RETURN(settings.show_skip_verify,
                   ChosenSwitch(flags, "tls-skip-verify", environment, "SKIP_VERIFY"));
  return settings;
}

absl::StatusOr<TlsClientOptions> TlsOptionsOf(const Flags& flags, const Environment& environment) {
  TlsClientOptions tls;
  tls.ca_file = Chosen(flags, "ca-cert", environment, "CACERT");
  // VAULT_CACERT_BYTES holds the PEM text itself.
  tls.ca_pem = environment.Setting("CACERT_BYTES");
  if (tls.ca_file.empty()) tls.ca_directory = Chosen(flags, "ca-path", environment, "CAPATH");
  tls.client_certificate_file = Chosen(flags, "client-cert", environment, "CLIENT_CERT");
  tls.client_key_file = Chosen(flags, "client-key", environment, "CLIENT_KEY");
  tls.server_name = Chosen(flags, "tls-server-name", environment, "TLS_SERVER_NAME");
  ASSIGN_OR_RETURN(tls.skip_verify,
                   ChosenSwitch(flags, "tls-skip-verify", environment, "SKIP_VERIFY"));
  if (tls.client_certificate_file.empty() != tls.client_key_file.empty()) {
    return absl::InvalidArgumentError("both client cert and client key must be provided");
  }
  return tls;
}

}  // namespace coffer::cli
