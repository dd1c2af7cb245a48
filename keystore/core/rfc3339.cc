#include "keystore/core/rfc3339.h"

#include <cstdint>

namespace coffer::keystore {
namespace {

char* PutDigits(char* at, std::int64_t number, int digits) {
  for (int i = digits - 1; i >= 0; --i, number /= 10) at[i] = static_cast<char>('0' + number % 10);
  return at + digits;
}

}  // namespace

// By hand: absl::FormatTime takes as long as all the rest of describing a secret.
std::string FormatRfc3339(absl::Time time) {
  const absl::TimeZone::CivilInfo at = absl::UTCTimeZone().At(time);
  const absl::CivilSecond civil = at.cs;
  if (civil.year() < 0 || civil.year() > 9999) {
    return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", time, absl::UTCTimeZone());
  }
  char text[] = "0000-00-00T00:00:00.000000000Z";
  PutDigits(text, civil.year(), 4);
  PutDigits(text + 5, civil.month(), 2);
  PutDigits(text + 8, civil.day(), 2);
  PutDigits(text + 11, civil.hour(), 2);
  PutDigits(text + 14, civil.minute(), 2);
  PutDigits(text + 17, civil.second(), 2);
  char* end = PutDigits(text + 20, absl::ToInt64Nanoseconds(at.subsecond), 9);
  while (end[-1] == '0') --end;
  if (end[-1] == '.') --end;
  *end++ = 'Z';
  return {text, end};
}

}  // namespace coffer::keystore
