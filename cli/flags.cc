#include "cli/flags.h"

#include <charconv>

#include "common/duration.h"
#include "common/go_bool.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

const Flag* Find(const std::vector<Flag>& known, std::string_view name) {
  for (const Flag& flag : known) {
    if (flag.name == name || (!flag.alias.empty() && flag.alias == name)) return &flag;
  }
  return nullptr;
}

bool ParseInteger(std::string_view text, std::int64_t* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

// Whether a value fits the flag's type.
bool Fits(FlagType type, std::string_view value) {
  std::int64_t number = 0;
  switch (type) {
    case FlagType::kSwitch:
      return ParseGoBool(value).has_value();
    case FlagType::kInteger:
      return ParseInteger(value, &number);
    case FlagType::kDuration:
      return ParseDuration(value).ok();
    case FlagType::kPairs:
      return value.find('=') != std::string_view::npos;
    case FlagType::kText:
    case FlagType::kTexts:
      return true;
    case FlagType::kRefused:
      return false;
  }
  return false;
}

}  // namespace

absl::Status Flags::Set(const Flag& flag, std::string_view value) {
  if (!Fits(flag.type, value)) {
    return absl::InvalidArgumentError(
        StrCat("invalid ", flag.type == FlagType::kSwitch ? "boolean " : "", "value \"", value,
               "\" for flag -", flag.name,
               flag.type == FlagType::kPairs ? ": missing = in KV pair" : ": parse error"));
  }
  values_[flag.name].emplace_back(value);
  return absl::OkStatus();
}

absl::Status Flags::Parse(const std::vector<Flag>& known, std::vector<std::string>& args,
                          Flags* flags) {
  for (const Flag& flag : known) flags->fallbacks_[flag.name] = flag.fallback;
  std::size_t next = 0;
  while (next < args.size()) {
    const std::string_view arg = args[next];
    if (arg.size() < 2 || arg[0] != '-') break;
    ++next;
    if (arg == "--") break;
    std::string_view name = arg.substr(arg[1] == '-' ? 2 : 1);
    if (name.empty() || name[0] == '-' || name[0] == '=') {
      return absl::InvalidArgumentError(StrCat("bad flag syntax: ", arg));
    }
    const std::size_t equals = name.find('=');
    const bool has_value = equals != std::string_view::npos;
    const std::string_view value = has_value ? name.substr(equals + 1) : "";
    name = name.substr(0, equals);
    const Flag* flag = Find(known, name);
    if (flag == nullptr && (name == "h" || name == "help")) return absl::AbortedError("");
    if (flag == nullptr) {
      return absl::InvalidArgumentError(StrCat("flag provided but not defined: -", name));
    }
    if (flag->type == FlagType::kRefused) {
      return absl::InvalidArgumentError(StrCat("-", name, ": ", flag->usage));
    }
    if (has_value) {
      RETURN_IF_ERROR(flags->Set(*flag, value));
    } else if (flag->type == FlagType::kSwitch) {
      RETURN_IF_ERROR(flags->Set(*flag, "true"));
    } else if (next < args.size()) {
      RETURN_IF_ERROR(flags->Set(*flag, args[next++]));
    } else {
      return absl::InvalidArgumentError(StrCat("flag needs an argument: -", name));
    }
  }
  args.erase(args.begin(), args.begin() + static_cast<std::ptrdiff_t>(next));
  return absl::OkStatus();
}

std::string_view Flags::text(std::string_view name) const {
  if (const auto found = values_.find(name); found != values_.end()) return found->second.back();
  const auto fallback = fallbacks_.find(name);
  return fallback == fallbacks_.end() ? std::string_view() : fallback->second;
}

const std::vector<std::string>& Flags::texts(std::string_view name) const {
  static const std::vector<std::string> kNone;
  const auto found = values_.find(name);
  return found == values_.end() ? kNone : found->second;
}

bool Flags::on(std::string_view name) const { return ParseGoBool(text(name)).value_or(false); }

std::int64_t Flags::integer(std::string_view name) const {
  std::int64_t value = 0;
  return ParseInteger(text(name), &value) ? value : 0;
}

absl::Duration Flags::duration(std::string_view name) const {
  return ParseDuration(text(name)).value_or(absl::ZeroDuration());
}

std::vector<std::pair<std::string_view, std::string_view>> Flags::pairs(
    std::string_view name) const {
  std::vector<std::pair<std::string_view, std::string_view>> pairs;
  for (const std::string& pair : texts(name)) {
    const std::string_view view = pair;
    const std::size_t equals = view.find('=');
    pairs.emplace_back(view.substr(0, equals), view.substr(equals + 1));
  }
  return pairs;
}

}  // namespace coffer::cli
