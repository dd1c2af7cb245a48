// text  = [sign] ( "0" | digits | component+ )
// component = ( digits ["." [digits]] | "." digits ) unit
#include "common/duration.h"

#include <cstdint>
#include <limits>

#include "common/strings.h"

namespace coffer {
namespace {

constexpr std::uint64_t kMaxNanos = std::numeric_limits<std::int64_t>::max();
constexpr std::uint64_t kSecond = 1'000'000'000;

struct Unit {
  std::string_view name;
  std::uint64_t nanos;
};
// Tried in this order: "ms" before its prefix "m".
constexpr Unit kUnits[] = {{"ns", 1},           {"us", 1'000},         {"\u00b5s", 1'000},
                           {"\u03bcs", 1'000},  {"ms", 1'000'000},     {"s", kSecond},
                           {"m", 60 * kSecond}, {"h", 3600 * kSecond}, {"d", 86400 * kSecond}};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Takes digits off the front of `text` and adds them to `value`; false when it overflows.
bool TakeDigits(std::string_view& text, std::uint64_t& value) {
  for (; !text.empty() && IsDigit(text.front()); text.remove_prefix(1)) {
    const std::uint64_t digit = static_cast<std::uint64_t>(text.front() - '0');
    if (value > (kMaxNanos - digit) / 10) return false;
    value = value * 10 + digit;
  }
  return true;
}

// Takes the digits after a decimal point. Digits too far right to make a nanosecond of a day are
// dropped.
double TakeFraction(std::string_view& text) {
  double fraction = 0;
  double scale = 1;
  for (; !text.empty() && IsDigit(text.front()); text.remove_prefix(1)) {
    if (scale > 1e-17) {
      scale /= 10;
      fraction += (text.front() - '0') * scale;
    }
  }
  return fraction;
}

const Unit* TakeUnit(std::string_view& text) {
  for (const Unit& unit : kUnits) {
    if (text.starts_with(unit.name)) {
      text.remove_prefix(unit.name.size());
      return &unit;
    }
  }
  return nullptr;
}

// Nanoseconds, or nullopt where `text` is no duration or too long a one.
std::optional<std::uint64_t> ParseUnsigned(std::string_view text) {
  std::uint64_t total = 0;
  bool first = true;
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    const std::string_view start = text;
    std::uint64_t whole = 0;
    if (!TakeDigits(text, whole)) return std::nullopt;
    if (text.empty() && first) {  // seconds
      if (whole > kMaxNanos / kSecond) return std::nullopt;
      return whole * kSecond;
    }
    std::size_t digits = start.size() - text.size();
    double fraction = 0;
    if (!text.empty() && text.front() == '.') {
      text.remove_prefix(1);
      const std::size_t before = text.size();
      fraction = TakeFraction(text);
      digits += before - text.size();
    }
    if (digits == 0) return std::nullopt;
    const Unit* unit = TakeUnit(text);
    if (unit == nullptr || whole > kMaxNanos / unit->nanos) return std::nullopt;
    const std::uint64_t nanos =
        whole * unit->nanos +
        static_cast<std::uint64_t>(fraction * static_cast<double>(unit->nanos) + 1e-3);
    if (nanos > kMaxNanos - total) return std::nullopt;
    total += nanos;
    first = false;
  }
  return total;
}

// "1.5" from 1500 thousandths: without zeros at the end.
std::string Decimal(std::uint64_t value, std::uint64_t unit) {
  std::string text = StrCat(value / unit);
  if (value % unit == 0) return text;
  text += '.';
  for (std::uint64_t rest = value % unit; rest != 0; rest %= unit) {
    unit /= 10;
    text += static_cast<char>('0' + rest / unit);
  }
  return text;
}

}  // namespace

absl::StatusOr<absl::Duration> ParseDuration(std::string_view text) {
  if (text.empty()) return absl::ZeroDuration();
  std::string_view rest = text;
  const bool negative = rest.front() == '-';
  if (negative || rest.front() == '+') rest.remove_prefix(1);
  const std::optional<std::uint64_t> nanos = ParseUnsigned(rest);
  if (!nanos) {
    return absl::InvalidArgumentError(
        "not a duration: give seconds, or units as in \"1h30m\" (ns, us, ms, s, m, h, d; at most "
        "292 years)");
  }
  const absl::Duration duration = absl::Nanoseconds(static_cast<std::int64_t>(*nanos));
  return negative ? -duration : duration;
}

std::string FormatGoDuration(absl::Duration duration) {
  const bool negative = duration < absl::ZeroDuration();
  const absl::Duration limit = absl::Nanoseconds(static_cast<std::int64_t>(kMaxNanos));
  const absl::Duration length = std::min(negative ? -duration : duration, limit);
  const std::uint64_t nanos = static_cast<std::uint64_t>(absl::ToInt64Nanoseconds(length));
  std::string text = negative && nanos != 0 ? "-" : "";
  if (nanos == 0) return "0s";
  if (nanos < 1'000) return StrCat(text, nanos, "ns");
  if (nanos < 1'000'000) return StrCat(text, Decimal(nanos, 1'000), "µs");
  if (nanos < kSecond) return StrCat(text, Decimal(nanos, 1'000'000), "ms");
  const std::uint64_t minutes = nanos / (60 * kSecond);
  if (minutes >= 60) StrAppend(&text, minutes / 60, "h");
  if (minutes > 0) StrAppend(&text, minutes % 60, "m");
  return StrCat(text, Decimal(nanos % (60 * kSecond), kSecond), "s");
}

std::string FormatBriefDuration(absl::Duration duration) {
  std::string text = FormatGoDuration(duration);
  if (text.ends_with("m0s")) text.resize(text.size() - 2);
  if (const std::size_t at = text.find("h0m"); at != std::string::npos) text.erase(at + 1, 2);
  return text;
}

}  // namespace coffer
