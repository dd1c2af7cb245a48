#include "common/yaml.h"

#include <yaml-cpp/yaml.h>

#include <charconv>
#include <string>

#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer {
namespace {

constexpr std::size_t kMostBytes = 1 << 20;
constexpr int kMostLevels = 32;
constexpr int kMostNodes = 20'000;

absl::Status WrongAt(const YAML::Mark& mark, std::string_view what) {
  return absl::InvalidArgumentError(
      StrCat("line ", mark.line + 1, ", column ", mark.column + 1, ": ", what));
}

template <class Number>
bool ParseWhole(std::string_view text, Number* number, int base) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *number, base);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

Json TypedScalar(std::string_view text) {
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  std::int64_t number = 0;
  if (text.starts_with("0o") && ParseWhole(text.substr(2), &number, 8)) return number;
  if (text.starts_with("0x") && ParseWhole(text.substr(2), &number, 16)) return number;
  // As Go's YAML library has it, which the provider is written in: 0600 is octal.
  if (text.size() > 1 && text[0] == '0' && ParseWhole(text.substr(1), &number, 8)) return number;
  if (ParseWhole(text, &number, 10)) return number;
  double real = 0;
  const bool digit_first = text.find_first_of("0123456789") <= 1;  // not "inf", not "nan"
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), real);
  if (digit_first && error == std::errc() && end == text.data() + text.size()) return real;
  return Json(text);
}

class Converter {
 public:
  explicit Converter(std::string_view typed_below) : typed_below_(typed_below) {}

  absl::StatusOr<Json> Convert(const YAML::Node& node, bool typed, int level = 0) {
    if (level > kMostLevels) {
      return WrongAt(node.Mark(), StrCat("nested deeper than ", kMostLevels, " levels"));
    }
    if (++nodes_ > kMostNodes) {
      return WrongAt(node.Mark(), StrCat("more than ", kMostNodes, " values"));
    }
    switch (node.Type()) {
      case YAML::NodeType::Undefined:
      case YAML::NodeType::Null:
        return Json();
      case YAML::NodeType::Scalar: {
        const bool plain = node.Tag() == "?";
        if (plain && (node.Scalar() == "null" || node.Scalar().empty())) return Json();
        if (plain && typed) return TypedScalar(node.Scalar());
        return Json(std::string_view(node.Scalar()));
      }
      case YAML::NodeType::Sequence: {
        Json list = Json::array();
        for (const YAML::Node& item : node) {
          ASSIGN_OR_RETURN(Json value, Convert(item, typed, level + 1));
          list.push_back(std::move(value));
        }
        return list;
      }
      case YAML::NodeType::Map:
        break;
    }
    Json map = Json::object();
    for (const auto& entry : node) {
      if (!entry.first.IsScalar()) return WrongAt(entry.first.Mark(), "a key must be text");
      const SecretString key(entry.first.Scalar());
      if (map.contains(key)) {
        return WrongAt(entry.first.Mark(),
                       StrCat("the key ", entry.first.Scalar(), " comes twice"));
      }
      ASSIGN_OR_RETURN(map[key], Convert(entry.second,
                                         typed || entry.first.Scalar() == typed_below_, level + 1));
    }
    return map;
  }

 private:
  const std::string_view typed_below_;
  int nodes_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<Json>> ParseYaml(std::string_view text, std::string_view typed_below) {
  if (text.size() > kMostBytes) return absl::InvalidArgumentError("longer than 1 MiB");
  std::vector<Json> documents;
  try {
    Converter converter(typed_below);
    for (const YAML::Node& node : YAML::LoadAll(std::string(text))) {
      ASSIGN_OR_RETURN(Json document, converter.Convert(node, /*typed=*/false));
      if (!document.is_null()) documents.push_back(std::move(document));
    }
  } catch (const YAML::Exception& error) {
    return WrongAt(error.mark, StrCat("not YAML: ", error.msg));
  }
  return documents;
}

}  // namespace coffer
