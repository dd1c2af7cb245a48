#include "common/duration.h"

namespace coffer {
namespace {

TEST_CASE("durations are read as Go and Vault read them") {
  const struct {
    std::string_view text;
    absl::Duration value;
  } cases[] = {
      {"", absl::ZeroDuration()},
      {"0", absl::ZeroDuration()},
      {"3600", absl::Hours(1)},
      {"-5", -absl::Seconds(5)},
      {"1h30m", absl::Minutes(90)},
      {"+1h", absl::Hours(1)},
      {"-1h30m", -absl::Minutes(90)},
      {"1.5h", absl::Minutes(90)},
      {".5s", absl::Milliseconds(500)},
      {"2.s", absl::Seconds(2)},
      {"0.1s", absl::Milliseconds(100)},
      {"0.3ms", absl::Microseconds(300)},
      {"1.000000001s", absl::Seconds(1) + absl::Nanoseconds(1)},
      {"30d", absl::Hours(720)},
      {"1d12h", absl::Hours(36)},
      {"250ms", absl::Milliseconds(250)},
      {"7us", absl::Microseconds(7)},
      {"7\u00b5s", absl::Microseconds(7)},
      {"7\u03bcs", absl::Microseconds(7)},
      {"9ns", absl::Nanoseconds(9)},
      {"9223372036", absl::Seconds(9223372036)},
      {"2562047h47m16.854775807s", absl::Nanoseconds(INT64_MAX)},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    const auto parsed = ParseDuration(c.text);
    REQUIRE(parsed.ok());
    CHECK(*parsed == c.value);
  }
}

TEST_CASE("what is no duration is refused") {
  for (const std::string_view text : {"-",
                                      "+",
                                      "h",
                                      ".",
                                      ".s",
                                      "1x",
                                      "1h30",
                                      "1 h",
                                      " 1h",
                                      "1h ",
                                      "--1h",
                                      "1e3s",
                                      "1.5",
                                      "0x10",
                                      "9223372037",
                                      "2562048h",
                                      "99999999999999999999",
                                      "99999999999999999999h",
                                      "2562047h47m17s",
                                      "106752d"}) {
    INFO(text);
    CHECK(ParseDuration(text).status().code() == absl::StatusCode::kInvalidArgument);
  }
}

TEST_CASE("durations print as Go prints them") {
  const struct {
    absl::Duration value;
    std::string_view text;
  } cases[] = {
      {absl::ZeroDuration(), "0s"},
      {absl::Hours(768), "768h0m0s"},
      {absl::Hours(24), "24h0m0s"},
      {absl::Minutes(90), "1h30m0s"},
      {absl::Seconds(90), "1m30s"},
      {absl::Seconds(1), "1s"},
      {absl::Milliseconds(1500), "1.5s"},
      {absl::Milliseconds(250), "250ms"},
      {absl::Microseconds(1500), "1.5ms"},
      {absl::Nanoseconds(1001), "1.001µs"},
      {absl::Nanoseconds(9), "9ns"},
      {-absl::Minutes(90), "-1h30m0s"},
      {absl::Minutes(1) + absl::Milliseconds(50), "1m0.05s"},
      {absl::Nanoseconds(INT64_MAX), "2562047h47m16.854775807s"},
      {absl::InfiniteDuration(), "2562047h47m16.854775807s"},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    CHECK(FormatGoDuration(c.value) == c.text);
    if (c.value < absl::InfiniteDuration()) {
      const auto again = ParseDuration(c.text);
      REQUIRE(again.ok());
      CHECK(*again == c.value);
    }
  }
}

TEST_CASE("people are shown no units that are zero") {
  for (const auto& [seconds, text] : {std::pair(0, "0s"),
                                      {90, "1m30s"},
                                      {60, "1m"},
                                      {3600, "1h"},
                                      {3605, "1h5s"},
                                      {3660, "1h1m"},
                                      {36'000, "10h"},
                                      {768 * 3600, "768h"},
                                      {90'061, "25h1m1s"},
                                      {-3600, "-1h"}}) {
    CHECK(FormatBriefDuration(absl::Seconds(seconds)) == text);
  }
}

}  // namespace
}  // namespace coffer
