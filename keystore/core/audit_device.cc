#include "keystore/core/audit_device.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "common/json_writer.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/core/rfc3339.h"

namespace coffer::keystore {
namespace {

constexpr std::size_t kMacSize = 32;

void Key(std::string_view name, SecretBytes* line) {
  const std::span<std::uint8_t> so_far = line->span();
  const bool first = so_far.empty() || so_far.back() == '{';
  line->Append(first ? "\"" : ",\"");
  line->Append(name);
  line->Append("\":");
}

void Text(std::string_view name, std::string_view value, SecretBytes* line) {
  if (value.empty()) return;
  Key(name, line);
  AppendJsonString(value, line);
}

void Texts(std::string_view name, const std::vector<std::string>& values, SecretBytes* line) {
  Key(name, line);
  AppendJsonStrings(values, line);
}

bool Lists(const Json* names, std::string_view name) {
  if (names == nullptr || !names->is_array()) return false;
  for (const Json& listed : *names) {
    if (listed.is_string() && listed.get_ref<const Json::string_t&>() == name) return true;
  }
  return false;
}

// A mount's audit_non_hmac_request_keys or …_response_keys.
const Json* PlainKeys(const MountEntry* mount, const char* which) {
  if (mount == nullptr) return nullptr;
  const auto found = mount->config.find(which);
  return found == mount->config.end() ? nullptr : &*found;
}

absl::StatusOr<bool> Switch(std::string_view name, std::string_view text) {
  if (text == "true" || text == "1") return true;
  if (text == "false" || text == "0") return false;
  return absl::InvalidArgumentError(StrCat("the option \"", name, "\" must be true or false"));
}

}  // namespace

absl::StatusOr<std::shared_ptr<AuditDevice>> AuditDevice::Make(AuditEntry entry) {
  if (entry.type != "file") {
    return absl::InvalidArgumentError(
        StrCat("unknown audit backend type: \"", entry.type,
               "\"; this keystore has \"file\", which also writes to standard output "
               "(file_path=stdout)"));
  }
  Options options;
  bool has_path = false;
  for (const auto& [name, value] : entry.options) {
    if (name == "file_path" || name == "path") {
      has_path = !value.empty();
      options.discard = value == "discard";
      if (value != "stdout" && value != "discard") options.file = value;
    } else if (name == "log_raw") {
      ASSIGN_OR_RETURN(options.raw, Switch(name, value));
    } else if (name == "hmac_accessor") {
      ASSIGN_OR_RETURN(options.hash_accessors, Switch(name, value));
    } else if (name == "prefix") {
      options.prefix = value;
    } else if (name == "mode") {
      const auto [end, error] =
          std::from_chars(value.data(), value.data() + value.size(), options.mode, 8);
      if (error != std::errc() || end != value.data() + value.size() || options.mode > 0777) {
        return absl::InvalidArgumentError("the option \"mode\" must be an octal file mode: 0600");
      }
    } else if (name == "format" && value != "json") {
      return absl::InvalidArgumentError(
          StrCat("the option \"format\" must be json: \"", value, "\" is not supported"));
    } else if (name != "format") {
      return absl::InvalidArgumentError(
          StrCat("unknown option \"", name, "\" of a file audit device: it takes file_path, "
                 "log_raw, hmac_accessor, mode, format and prefix"));
    }
  }
  if (!has_path) return absl::InvalidArgumentError("the option \"file_path\" is required");
  if (!options.file.empty() && !options.file.starts_with('/')) {
    return absl::InvalidArgumentError("the option \"file_path\" must be an absolute path");
  }
  return std::shared_ptr<AuditDevice>(new AuditDevice(std::move(entry), std::move(options)));
}

AuditDevice::AuditDevice(AuditEntry entry, Options options)
    : entry_(std::move(entry)), options_(std::move(options)) {
  EVP_MAC* const mac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
  mac_ = EVP_MAC_CTX_new(mac);
  EVP_MAC_free(mac);
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_END};
  if (mac_ == nullptr ||
      EVP_MAC_init(mac_, entry_.salt.data(), entry_.salt.size(), parameters) != 1) {
    std::abort();
  }
}

AuditDevice::~AuditDevice() { EVP_MAC_CTX_free(mac_); }

absl::StatusOr<UniqueFd> AuditDevice::OpenFile() const {
  if (options_.file.empty()) return UniqueFd(fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3));
  const auto failed = [this](std::string_view what) {
    return absl::UnavailableError(StrCat("the audit file ", options_.file, " can't be ", what, ": ",
                                         std::strerror(errno)));
  };
  UniqueFd file(open(options_.file.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                     options_.mode == 0 ? 0600 : options_.mode));
  if (!file) return failed("opened");
  if (options_.mode != 0 && fchmod(file.get(), options_.mode) != 0) return failed("given its mode");
  return file;
}

absl::Status AuditDevice::Reopen() {
  if (options_.discard) return absl::OkStatus();
  ASSIGN_OR_RETURN(UniqueFd file, OpenFile());
  std::lock_guard lock(mutex_);
  file_ = std::move(file);
  return absl::OkStatus();
}

std::string AuditDevice::Hash(std::string_view text) {
  std::lock_guard lock(mutex_);
  return HashLocked(text);
}

std::string AuditDevice::HashLocked(std::string_view text) {
  std::uint8_t mac[kMacSize];
  std::size_t size = 0;
  // Without a key: begins again under the one that it has.
  if (EVP_MAC_init(mac_, nullptr, 0, nullptr) != 1 ||
      EVP_MAC_update(mac_, reinterpret_cast<const std::uint8_t*>(text.data()), text.size()) != 1 ||
      EVP_MAC_final(mac_, mac, &size, sizeof(mac)) != 1) {
    std::abort();
  }
  return StrCat("hmac-sha256:", EncodeHex(mac).view());
}

void AuditDevice::AppendText(std::string_view text, bool plain, SecretBytes* line) {
  if (plain || options_.raw) return AppendJsonString(text, line);
  AppendJsonString(HashLocked(text), line);
}

// Names stay, texts are hashed, numbers and switches stay: as in Vault.
void AuditDevice::AppendData(const Json& value, const Json* plain_keys, bool plain,
                             SecretBytes* line) {
  if (value.is_string()) return AppendText(value.get_ref<const Json::string_t&>(), plain, line);
  if (value.is_array()) {
    line->Append("[");
    for (std::size_t i = 0; i < value.size(); ++i) {
      if (i > 0) line->Append(",");
      AppendData(value[i], plain_keys, plain, line);
    }
    return line->Append("]");
  }
  if (!value.is_object()) return AppendJson(value, line);
  line->Append("{");
  bool first = true;
  for (auto member = value.begin(); member != value.end(); ++member) {
    if (!std::exchange(first, false)) line->Append(",");
    AppendJsonString(member.key(), line);
    line->Append(":");
    AppendData(member.value(), plain_keys, plain || Lists(plain_keys, member.key()), line);
  }
  line->Append("}");
}

void AuditDevice::AppendCaller(const TokenEntry& caller, std::string_view token,
                               std::string_view alias, SecretBytes* line) {
  Key("auth", line);
  line->Append("{");
  if (!token.empty()) {
    Key("client_token", line);
    AppendText(token, false, line);
  }
  Key("accessor", line);
  AppendText(caller.accessor, !options_.hash_accessors, line);
  Text("display_name", caller.display_name, line);
  if (!alias.empty()) Text("alias_name", alias, line);
  Texts("policies", caller.policies, line);
  Texts("token_policies", caller.policies, line);
  if (caller.meta.is_object()) {
    Key("metadata", line);
    AppendJson(caller.meta, line);
  }
  Text("token_type", caller.type, line);
  Text("token_issue_time", FormatRfc3339(caller.creation_time), line);
  Key("token_ttl", line);
  AppendJsonInteger(absl::ToInt64Seconds(caller.creation_ttl), line);
  line->Append("}");
}

void AuditDevice::AppendRequest(const Request& request, SecretBytes* line) {
  Key("request", line);
  line->Append("{");
  Text("id", request.id, line);
  Text("operation", OperationName(request.operation), line);
  if (request.mount != nullptr) {
    Text("mount_point", request.mount->path, line);
    Text("mount_type", request.mount->type, line);
    Text("mount_accessor", request.mount->accessor, line);
    Text("mount_class", request.mount->auth() ? "auth" : "secret", line);
  }
  if (!request.token.empty()) {
    Key("client_token", line);
    AppendText(request.token.view(), false, line);
  }
  if (request.caller != nullptr) {
    Key("client_token_accessor", line);
    AppendText(request.caller->accessor, !options_.hash_accessors, line);
  }
  Key("namespace", line);
  line->Append("{\"id\":\"root\"}");
  Text("path", request.path, line);
  if (!request.data.empty()) {
    Key("data", line);
    AppendData(request.data, PlainKeys(request.mount, "audit_non_hmac_request_keys"), false, line);
  }
  Text("remote_address", request.remote_address, line);
  line->Append("}");
}

void AuditDevice::AppendResponse(const Request& request, const Response& response,
                                 SecretBytes* line) {
  Key("response", line);
  line->Append("{");
  if (response.auth) {
    AppendCaller(*response.auth->entry, response.auth->client_token.view(), response.auth->alias,
                 line);
  }
  const Json* const plain = PlainKeys(request.mount, "audit_non_hmac_response_keys");
  if (!response.data_text.empty()) {
    const absl::StatusOr<Json> data = ParseJson(response.data_text.view());
    Key("data", line);
    AppendData(data.ok() ? *data : Json(), plain, false, line);
  } else if (!response.data.is_null()) {
    Key("data", line);
    AppendData(response.data, plain, false, line);
  }
  if (response.wrapped) {
    const TokenEntry& wrapping = *response.wrapped->entry;
    Key("wrap_info", line);
    line->Append("{");
    Key("ttl", line);
    AppendJsonInteger(absl::ToInt64Seconds(wrapping.creation_ttl), line);
    Key("token", line);
    AppendText(response.wrapped->token.view(), false, line);
    Key("accessor", line);
    AppendText(wrapping.accessor, !options_.hash_accessors, line);
    Text("creation_time", FormatRfc3339(wrapping.creation_time), line);
    Text("creation_path", wrapping.path, line);
    line->Append("}");
  }
  if (!response.warnings.empty()) Texts("warnings", response.warnings, line);
  line->Append("}");
}

absl::Status AuditDevice::Log(const AuditRecord& record) {
  SecretBytes line;
  line.Append(options_.prefix);
  std::lock_guard lock(mutex_);
  line.Append("{");
  Text("time", FormatRfc3339(record.time), &line);
  Text("type", record.response == nullptr ? "request" : "response", &line);
  if (record.request.caller != nullptr) {
    AppendCaller(*record.request.caller, record.request.token.view(), {}, &line);
  }
  AppendRequest(record.request, &line);
  if (record.response != nullptr) AppendResponse(record.request, *record.response, &line);
  if (!record.error.ok()) Text("error", Message(record.error), &line);
  line.Append("}\n");
  if (options_.discard) return absl::OkStatus();
  const ssize_t written = write(file_.get(), line.data(), line.size());
  if (written == static_cast<ssize_t>(line.size())) return absl::OkStatus();
  return absl::UnavailableError(StrCat("the audit device ", entry_.path, " took ",
                                       std::max<ssize_t>(written, 0), " of ", line.size(),
                                       " bytes: ", std::strerror(written < 0 ? errno : ENOSPC)));
}

}  // namespace coffer::keystore
