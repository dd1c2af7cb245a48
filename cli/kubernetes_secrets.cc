#include "cli/kubernetes_secrets.h"

#include "cli/environment.h"
#include "cli/values.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "common/utf8.h"
#include "common/yaml.h"

namespace coffer::cli {
namespace {

constexpr int kPageSize = 250;
constexpr int kMostBeginnings = 5;

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = Utf8Length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

absl::StatusOr<SecretBytes> Authorization(const KubeConfig& config) {
  SecretBytes value = SecretBytes::CopyOf("Bearer ");
  if (config.token_file.empty()) {
    value.Append(config.token.view());
    return value;
  }
  ASSIGN_OR_RETURN(const SecretBytes token, ReadSecretFile(config.token_file));
  value.Append(Trim(token.view()));
  return value;
}

absl::Status Refusal(const HttpResponse& response) {
  const absl::StatusOr<Json> body = ParseJson(response.body.view());
  const std::string_view message = body.ok() ? TextAt(*body, "message") : "";
  const std::string text = StrCat("the API server answers ", response.status,
                                  message.empty() ? "" : ": ", message.substr(0, 300));
  if (response.status == 410) return absl::OutOfRangeError(text);
  if (response.status == 401 || response.status == 403) return absl::PermissionDeniedError(text);
  return absl::UnavailableError(text);
}

// One list, from its beginning to its end. OutOfRange: it can't be gone on with.
absl::Status ListOnce(const KubeConfig& config, HttpTransport& transport, std::string_view path,
                      const LabelSelector& selector,
                      const std::function<bool(const SecretPage&)>& take) {
  std::string next;
  std::size_t before = 0;
  do {
    HttpRequest request{.url = StrCat(config.server, path, "?limit=", kPageSize)};
    if (!selector.text().empty()) {
      StrAppend(&request.url, "&labelSelector=", EncodeUrlQuery(selector.text()));
    }
    if (!next.empty()) StrAppend(&request.url, "&continue=", EncodeUrlQuery(next));
    request.headers.push_back({"Accept", SecretBytes::CopyOf("application/json")});
    if (!config.token_file.empty() || !config.token.empty()) {
      ASSIGN_OR_RETURN(SecretBytes authorization, Authorization(config));
      request.headers.push_back({"Authorization", std::move(authorization)});
    }
    ASSIGN_OR_RETURN(const HttpResponse response, transport.Send(request));
    if (response.status != 200) return Refusal(response);
    ASSIGN_OR_RETURN(const Json page, ParseJson(response.body.view()));
    const Json& items = At(page, "items");
    next = TextAt(At(page, "metadata"), "continue");
    const auto left = static_cast<std::size_t>(IntegerAt(At(page, "metadata"), "remainingItemCount"));
    const bool known = next.empty() || left > 0;
    if (!take({items, before, known ? before + items.size() + left : 0})) break;
    before += items.size();
  } while (!next.empty());
  return absl::OkStatus();
}

absl::Status AddDocument(Json document, Json* secrets) {
  const std::string_view kind = TextAt(document, "kind");
  if (kind == "Secret") {
    secrets->push_back(std::move(document));
    return absl::OkStatus();
  }
  if (kind != "List" && kind != "SecretList") {
    return absl::InvalidArgumentError(
        StrCat("a document is of kind \"", kind, "\": it must be a Secret or a list of Secrets"));
  }
  if (!document.contains("items") || !document["items"].is_array()) {
    return absl::InvalidArgumentError(StrCat("a ", kind, " has no items"));
  }
  for (Json& item : document["items"]) {
    // Items of a SecretList don't say what they are.
    if (kind == "SecretList") item["kind"] = "Secret";
    RETURN_IF_ERROR(AddDocument(std::move(item), secrets));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<LabelSelector> LabelSelector::Parse(std::string_view text) {
  LabelSelector selector;
  selector.text_ = text;
  if (Trim(text).empty()) return selector;
  for (std::string_view part : Split(text, ',')) {
    part = Trim(part);
    if (part.empty() || part.find_first_of("() ") != part.npos) {
      return absl::InvalidArgumentError(
          StrCat("\"", part, "\" isn't key=value, key!=value, key or !key"));
    }
    Term term{};
    const std::size_t equals = part.find('=');
    if (equals == part.npos) {
      term.equal = !part.starts_with('!');
      term.present = true;
      term.key = part.substr(term.equal ? 0 : 1);
    } else {
      const bool differs = equals > 0 && part[equals - 1] == '!';
      const bool twice = equals + 1 < part.size() && part[equals + 1] == '=';
      term.equal = !differs;
      term.key = part.substr(0, equals - (differs ? 1 : 0));
      term.value = part.substr(equals + (twice ? 2 : 1));
    }
    if (term.key.empty()) {
      return absl::InvalidArgumentError(StrCat("\"", part, "\" names no label"));
    }
    selector.terms_.push_back(std::move(term));
  }
  return selector;
}

bool LabelSelector::Matches(const Json& labels) const {
  for (const Term& term : terms_) {
    const bool present = At(labels, term.key).is_string();
    const bool holds = term.present ? present : present && TextAt(labels, term.key) == term.value;
    if (holds != term.equal) return false;
  }
  return true;
}

absl::StatusOr<Json> ReadSecretDocuments(std::string_view text) {
  std::vector<Json> documents;
  if (Trim(text).starts_with('{')) {
    ASSIGN_OR_RETURN(Json document, ParseJson(text));
    documents.push_back(std::move(document));
  } else {
    ASSIGN_OR_RETURN(documents, ParseYaml(text));
  }
  Json secrets = Json::array();
  for (Json& document : documents) {
    RETURN_IF_ERROR(AddDocument(std::move(document), &secrets));
  }
  return secrets;
}

absl::Status ListSecrets(const KubeConfig& config, std::string_view name_space,
                         const LabelSelector& selector,
                         const std::function<bool(const SecretPage&)>& take) {
  const std::string path = name_space.empty()
                               ? "/api/v1/secrets"
                               : StrCat("/api/v1/namespaces/", EncodeUrlQuery(name_space), "/secrets");
  const std::unique_ptr<HttpTransport> transport =
      config.proxy.empty() ? MakeCurlTransport(config.tls)
                           : MakeCurlTransportThrough(config.proxy.view(), config.tls);
  absl::Status listed;
  for (int i = 0; i < kMostBeginnings; ++i) {
    listed = ListOnce(config, *transport, path, selector, take);
    if (!absl::IsOutOfRange(listed)) break;
  }
  return listed;
}

absl::StatusOr<Json> SecretContents(const Json& secret, std::vector<std::string>* binary) {
  Json contents = Json::object();
  for (const auto& [key, value] : At(secret, "data").items()) {
    const std::string_view text =
        value.is_string() ? std::string_view(value.get_ref<const Json::string_t&>()) : "";
    const absl::StatusOr<SecretBytes> bytes = DecodeBase64(text);
    if (!bytes.ok()) {
      return absl::InvalidArgumentError(
          StrCat("data.", std::string_view(key), " ", Message(bytes.status())));
    }
    const bool is_text = IsUtf8(bytes->view());
    if (!is_text) binary->emplace_back(std::string_view(key));
    contents[key] = Json::string_t(is_text ? bytes->view() : text);
  }
  // What isn't sent to an API server yet counts more, as it does there.
  for (const auto& [key, value] : At(secret, "stringData").items()) contents[key] = value;
  return contents;
}

}  // namespace coffer::cli
