#include "keystore/config/settings.h"

#include <charconv>

#include "common/duration.h"
#include "common/lower_case.h"
#include "keystore/config/config.h"

namespace coffer::keystore {
namespace {

using hcl::Value;

std::string_view Text(const Value& value) { return value.scalar.get_ref<const Json::string_t&>(); }

absl::Status Wrong(const hcl::Item& item, std::string_view wanted) {
  if (item.keys.size() > 1) {
    return hcl::ErrorAt(item.keys[1].at, StrCat("\"", item.name(), "\" takes no label"));
  }
  return hcl::ErrorAt(item.value.at, StrCat("\"", item.name(), "\" must be ", wanted, ", not ",
                                            hcl::KindName(item.value.kind)));
}

absl::Status WrongText(const hcl::Item& item, std::string_view message) {
  return hcl::ErrorAt(item.value.at, StrCat("\"", item.name(), "\": ", message));
}

bool IsScalar(const hcl::Item& item, Value::Kind kind) {
  return item.keys.size() == 1 && item.value.kind == kind;
}

bool IsInteger(const hcl::Item& item) {
  return IsScalar(item, Value::Kind::kNumber) && item.value.scalar.is_number_integer();
}

}  // namespace

absl::StatusOr<std::uint64_t> ParseSize(std::string_view text) {
  constexpr struct {
    std::string_view name;
    std::uint64_t bytes;
  } kUnits[] = {{"", 1},
                {"b", 1},
                {"k", 1'000},
                {"kb", 1'000},
                {"m", 1'000'000},
                {"mb", 1'000'000},
                {"g", 1'000'000'000},
                {"gb", 1'000'000'000},
                {"t", 1'000'000'000'000},
                {"tb", 1'000'000'000'000},
                {"kib", std::uint64_t{1} << 10},
                {"mib", std::uint64_t{1} << 20},
                {"gib", std::uint64_t{1} << 30},
                {"tib", std::uint64_t{1} << 40}};
  const absl::Status wrong = absl::InvalidArgumentError(
      "not a size: give bytes, or a unit as in \"32MB\" or \"64MiB\" (kB, MB, GB, TB; KiB, MiB, "
      "GiB, "
      "TiB)");
  const std::string_view trimmed = Trim(text);
  std::uint64_t number = 0;
  const auto [end, error] =
      std::from_chars(trimmed.data(), trimmed.data() + trimmed.size(), number);
  if (error != std::errc()) return wrong;
  const std::string unit = LowerCase(Trim(trimmed.substr(end - trimmed.data())));
  for (const auto& known : kUnits) {
    if (known.name != unit) continue;
    if (number > static_cast<std::uint64_t>(INT64_MAX) / known.bytes) return wrong;
    return number * known.bytes;
  }
  return wrong;
}

absl::Status ReadValue(const hcl::Item& item, bool& value) {
  constexpr std::string_view kTrue[] = {"1", "t", "true"};
  constexpr std::string_view kFalse[] = {"0", "f", "false", ""};
  if (IsScalar(item, Value::Kind::kBoolean)) {
    value = item.value.scalar.get<bool>();
    return absl::OkStatus();
  }
  std::string text;
  if (IsInteger(item)) text = StrCat(item.value.scalar.get<std::int64_t>());
  if (IsScalar(item, Value::Kind::kString)) text = LowerCase(Text(item.value));
  if (IsInteger(item) || IsScalar(item, Value::Kind::kString)) {
    value = std::find(std::begin(kTrue), std::end(kTrue), text) != std::end(kTrue);
    if (value || std::find(std::begin(kFalse), std::end(kFalse), text) != std::end(kFalse)) {
      return absl::OkStatus();
    }
    return WrongText(item, "must be true or false (or 1 or 0)");
  }
  return Wrong(item, "true or false");
}

absl::Status ReadValue(const hcl::Item& item, std::string& value) {
  if (!IsScalar(item, Value::Kind::kString)) return Wrong(item, "a string");
  value = Text(item.value);
  if (value.find("{{") != std::string::npos) {
    return WrongText(item, "templates ({{…}}) aren't supported: give the value itself");
  }
  return absl::OkStatus();
}

absl::Status ReadValue(const hcl::Item& item, absl::Duration& value) {
  if (IsScalar(item, Value::Kind::kString)) {
    const auto parsed = ParseDuration(Text(item.value));
    if (!parsed.ok()) return WrongText(item, Message(parsed.status()));
    value = *parsed;
  } else if (IsInteger(item)) {
    value = absl::Seconds(item.value.scalar.get<std::int64_t>());
  } else {
    return Wrong(item, "a duration (\"1h30m\" or seconds)");
  }
  return value < absl::ZeroDuration() ? WrongText(item, "can't be negative") : absl::OkStatus();
}

absl::Status ReadValue(const hcl::Item& item, std::uint64_t& value) {
  if (IsScalar(item, Value::Kind::kString)) {
    const auto parsed = ParseSize(Text(item.value));
    if (!parsed.ok()) return WrongText(item, Message(parsed.status()));
    value = *parsed;
    return absl::OkStatus();
  }
  if (!IsInteger(item)) return Wrong(item, "a number or a size (\"32MB\")");
  const std::int64_t number = item.value.scalar.get<std::int64_t>();
  if (number < 0) return WrongText(item, "can't be negative");
  value = static_cast<std::uint64_t>(number);
  return absl::OkStatus();
}

absl::Status ReadValue(const hcl::Item& item, std::vector<std::string>& value) {
  if (IsScalar(item, Value::Kind::kString)) {
    for (const std::string_view piece : Split(Text(item.value), ',')) {
      if (!Trim(piece).empty()) value.emplace_back(Trim(piece));
    }
    return absl::OkStatus();
  }
  if (!IsScalar(item, Value::Kind::kList)) return Wrong(item, "a list of strings");
  for (const Value& element : item.value.list) {
    if (element.kind != Value::Kind::kString) {
      return hcl::ErrorAt(element.at, StrCat("\"", item.name(), "\" must be a list of strings, ",
                                             "not of ", hcl::KindName(element.kind)));
    }
    value.emplace_back(Text(element));
  }
  return absl::OkStatus();
}

absl::Status UnknownSetting(const hcl::Item& item, std::string_view where) {
  return hcl::ErrorAt(item.at(), StrCat("there is no setting \"", item.name(), "\" in ", where));
}

absl::Status RefusedSetting(const hcl::Item& item, std::string_view advice) {
  return hcl::ErrorAt(item.at(), StrCat("\"", item.name(), "\" isn't supported: ", advice));
}

std::string NoEffectWarning(const hcl::Item& item) {
  return StrCat("line ", item.at().line, ": \"", item.name(), "\" has no effect in this keystore");
}

}  // namespace coffer::keystore
