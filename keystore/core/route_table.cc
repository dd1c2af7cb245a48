#include "keystore/core/route_table.h"

#include <cstdlib>

#include "absl/strings/numbers.h"
#include "common/duration.h"
#include "common/go_bool.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

std::string_view Text(const Json& value) { return value.get_ref<const Json::string_t&>(); }

absl::Status WrongType(std::string_view field, std::string_view wanted) {
  return absl::InvalidArgumentError(
      StrCat("Field validation failed: error converting input for field \"", field,
             "\": give ", wanted));
}

absl::StatusOr<Json> ToText(const Field& field, const Json& value) {
  if (value.is_string()) return value;
  if (value.is_number() || value.is_boolean()) return Json(value.dump());
  return WrongType(field.name, "a string");
}

absl::StatusOr<Json> ToInteger(const Field& field, const Json& value) {
  if (value.is_number_integer()) return value;
  std::int64_t number = 0;
  if (value.is_string() && absl::SimpleAtoi(ToAbsl(Text(value)), &number)) return Json(number);
  if (value.is_string() && Text(value).empty()) return Json(0);
  if (value.is_number_float()) {
    const double given = value.get<double>();
    if (given >= -9e15 && given <= 9e15 && given == static_cast<double>(static_cast<std::int64_t>(given))) {
      return Json(static_cast<std::int64_t>(given));
    }
  }
  return WrongType(field.name, "a whole number");
}

absl::StatusOr<Json> ToBoolean(const Field& field, const Json& value) {
  if (value.is_boolean()) return value;
  if (value.is_number_integer()) return Json(value.get<std::int64_t>() != 0);
  if (value.is_string()) {
    const std::string_view text = Text(value);
    if (text.empty()) return Json(false);
    if (const std::optional<bool> parsed = ParseGoBool(text)) return Json(*parsed);
  }
  return WrongType(field.name, "true or false");
}

absl::StatusOr<Json> ToDuration(const Field& field, const Json& value) {
  absl::StatusOr<absl::Duration> duration = absl::InvalidArgumentError("");
  if (value.is_number_integer()) {
    duration = absl::Seconds(value.get<std::int64_t>());
  } else if (value.is_string()) {
    duration = Text(value).empty() ? absl::ZeroDuration() : ParseDuration(Text(value));
  }
  if (!duration.ok() || *duration < absl::ZeroDuration()) {
    return WrongType(field.name, "a duration like \"1h30m\", or seconds, not negative");
  }
  // Zero would mean that it isn't set.
  const bool shorter = *duration > absl::ZeroDuration() && *duration < absl::Seconds(1);
  return Json(shorter ? 1 : absl::ToInt64Seconds(*duration));
}

absl::StatusOr<Json> ToList(const Field& field, const Json& value) {
  Json list = Json::array();
  if (value.is_string()) {
    for (const std::string_view piece : Split(Text(value), ',')) {
      if (!Trim(piece).empty()) list.push_back(Json(Trim(piece)));
    }
    return list;
  }
  if (!value.is_array()) return WrongType(field.name, "a list of strings");
  for (const Json& item : value) {
    ASSIGN_OR_RETURN(Json text, ToText(field, item));
    list.push_back(std::move(text));
  }
  return list;
}

absl::StatusOr<Json> ToMap(const Field& field, const Json& value) {
  if (value.is_object()) return value;
  Json map = Json::object();
  // A command line gives one "key=value", or a list of them.
  const Json pairs = value.is_string() ? Json::array({value}) : value;
  if (!pairs.is_array()) return WrongType(field.name, "an object");
  for (const Json& pair : pairs) {
    if (!pair.is_string()) return WrongType(field.name, "an object, or a list of key=value");
    const std::string_view text = Text(pair);
    const std::size_t equals = text.find('=');
    if (equals == 0 || equals == text.npos) {
      return WrongType(field.name, "an object, or a list of key=value");
    }
    map[Json::string_t(text.substr(0, equals))] = text.substr(equals + 1);
  }
  return map;
}

// Whether Convert would give `value` itself.
bool IsAsDeclared(const Field& field, const Json& value) {
  if (value.is_null()) return true;
  switch (field.type) {
    case FieldType::kString: return value.is_string();
    case FieldType::kInteger: return value.is_number_integer();
    case FieldType::kBoolean: return value.is_boolean();
    case FieldType::kMap: return value.is_object();
    case FieldType::kAny: return true;
    case FieldType::kDuration:
    case FieldType::kList: return false;
  }
  return false;
}

absl::StatusOr<Json> Convert(const Field& field, const Json& value) {
  switch (field.type) {
    case FieldType::kString: return ToText(field, value);
    case FieldType::kInteger: return ToInteger(field, value);
    case FieldType::kBoolean: return ToBoolean(field, value);
    case FieldType::kDuration: return ToDuration(field, value);
    case FieldType::kList: return ToList(field, value);
    case FieldType::kMap: return ToMap(field, value);
    case FieldType::kAny: return value;
  }
  return value;
}

std::string_view TypeName(FieldType type) {
  switch (type) {
    case FieldType::kString: return "string";
    case FieldType::kInteger: return "integer";
    case FieldType::kBoolean: return "boolean";
    case FieldType::kDuration: return "duration";
    case FieldType::kList: return "list of strings";
    case FieldType::kMap: return "object";
    case FieldType::kAny: return "any";
  }
  return "any";
}

}  // namespace

RouteTable::RouteTable(const Backend& backend) {
  for (const Route& route : backend.routes()) {
    Pattern pattern{&route, {}};
    int rests = 0;
    for (const std::string_view text : Split(route.pattern, '/')) {
      if (!text.starts_with('{')) {
        pattern.segments.push_back({Segment::kLiteral, text});
      } else if (text.ends_with("*}") || text.ends_with("+}")) {
        pattern.segments.push_back(
            {Segment::kRest, text.substr(1, text.size() - 3), text.ends_with("+}")});
        ++rests;
      } else {
        pattern.segments.push_back({Segment::kOne, text.substr(1, text.size() - 2)});
      }
    }
    if (rests > 1) std::abort();
    patterns_.push_back(std::move(pattern));
  }
}

bool RouteTable::Fits(const Pattern& pattern, const std::vector<std::string_view>& path,
                      Match* match) {
  const auto& segments = pattern.segments;
  bool has_rest = false;
  for (const Segment& segment : segments) has_rest |= segment.kind == Segment::kRest;
  // A trailing "/" gives an empty last segment: only a rest at the end of the pattern keeps it.
  std::size_t count = path.size();
  const bool rest_at_end = segments.back().kind == Segment::kRest;
  if (!rest_at_end && count > 1 && path.back().empty()) --count;
  const std::size_t empty = has_rest && !rest_at_end ? 1 : 0;
  if (has_rest ? count + empty < segments.size() : count != segments.size()) return false;

  match->captures.clear();
  std::size_t at = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = segments[i];
    if (segment.kind == Segment::kRest) {
      const std::size_t end = count - (segments.size() - i - 1);
      std::string_view rest;
      if (end > at) {
        const char* start = path[at].data();
        rest = {start, static_cast<std::size_t>(path[end - 1].data() + path[end - 1].size() - start)};
      }
      if (segment.filled && (rest.empty() || rest.ends_with('/'))) return false;
      match->captures.emplace_back(segment.text, rest);
      at = end;
    } else {
      if (segment.kind == Segment::kLiteral ? path[at] != segment.text : path[at].empty()) {
        return false;
      }
      if (segment.kind == Segment::kOne) match->captures.emplace_back(segment.text, path[at]);
      ++at;
    }
  }
  match->route = pattern.route;
  return true;
}

std::optional<RouteTable::Match> RouteTable::Find(std::string_view path) const {
  const std::vector<std::string_view> segments = Split(path, '/');
  Match match{};
  for (const Pattern& pattern : patterns_) {
    if (Fits(pattern, segments, &match)) return match;
  }
  return std::nullopt;
}

std::string RouteTable::Help(const Route& route) {
  std::string text = StrCat(route.pattern, "\n\n    ", route.summary, "\n");
  if (!route.fields.empty()) StrAppend(&text, "\n## PARAMETERS\n");
  for (const Field& field : route.fields) {
    StrAppend(&text, "\n    ", field.name, " (", TypeName(field.type), ")\n        ",
              field.description, "\n");
  }
  return text;
}

std::string RouteTable::Help() const {
  std::string text = "## PATHS\n\nAsk for the help of any path that fits one of these.\n";
  for (const Pattern& pattern : patterns_) {
    StrAppend(&text, "\n    ", pattern.route->pattern, "\n        ", pattern.route->summary, "\n");
  }
  return text;
}

absl::StatusOr<Json> DecodeFields(const RouteTable::Match& match, const Json& data,
                                  std::vector<std::string>* unknown) {
  Json fields = Json::object();
  for (auto member = data.begin(); member != data.end(); ++member) {
    const std::string_view name = member.key();
    const Field* declared = nullptr;
    for (const Field& field : match.route->fields) {
      if (field.name == name) declared = &field;
    }
    if (declared == nullptr) {
      unknown->emplace_back(name);
      continue;
    }
    if (IsAsDeclared(*declared, member.value())) continue;
    ASSIGN_OR_RETURN(Json value, Convert(*declared, member.value()));
    fields[member.key()] = std::move(value);
  }
  for (const auto& [name, value] : match.captures) fields[Json::string_t(name)] = value;
  return fields;
}

}  // namespace coffer::keystore
