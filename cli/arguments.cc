#include "cli/arguments.h"

#include "cli/environment.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

absl::Status Merge(std::string_view text, Json& data) {
  ASSIGN_OR_RETURN(Json document, ParseJson(text));
  if (!document.is_object()) {
    return absl::InvalidArgumentError("the JSON data isn't an object");
  }
  data.update(document);
  return absl::OkStatus();
}

// "@file", or "-" for standard input. Absent where `text` is neither.
absl::StatusOr<std::optional<SecretBytes>> Elsewhere(std::string_view text, Console& console) {
  if (text == "-") {
    ASSIGN_OR_RETURN(SecretBytes input, console.ReadAll());
    return std::optional(std::move(input));
  }
  if (text.starts_with('@')) {
    absl::StatusOr<SecretBytes> contents = ReadSecretFile(std::string(text.substr(1)));
    if (contents.ok()) return std::optional(*std::move(contents));
    return absl::Status(contents.status().code(),
                        ToAbsl(StrCat("error reading file: ", Message(contents.status()))));
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<SecretBytes> TextOrFile(std::string_view text) {
  if (text.starts_with('@')) return ReadSecretFile(std::string(text.substr(1)));
  return SecretBytes::CopyOf(text);
}

absl::StatusOr<Json> ParseData(std::span<const std::string> args, Console& console) {
  Json data = Json::object();
  for (const std::string_view arg : args) {
    if (arg.empty()) continue;
    const std::size_t equals = arg.find('=');
    if (equals == std::string_view::npos) {
      ASSIGN_OR_RETURN(const std::optional<SecretBytes> text, Elsewhere(arg, console));
      if (!text) return absl::InvalidArgumentError("format must be key=value");
      RETURN_IF_ERROR(Merge(text->view(), data));
      continue;
    }
    std::string_view value = arg.substr(equals + 1);
    ASSIGN_OR_RETURN(const std::optional<SecretBytes> text, Elsewhere(value, console));
    if (text) value = text->view();
    if (!text && value.starts_with("\\@")) value.remove_prefix(1);

    const Json::string_t key(arg.substr(0, equals));
    const auto before = data.find(key);
    if (before == data.end()) {
      data[key] = Json::string_t(value);
    } else {
      if (!before->is_array()) *before = Json::array({std::move(*before)});
      before->push_back(Json::string_t(value));
    }
  }
  return data;
}

}  // namespace coffer::cli
