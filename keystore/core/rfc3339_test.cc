#include "keystore/core/rfc3339.h"

#include <catch2/catch.hpp>

namespace coffer::keystore {
namespace {

TEST_CASE("times are shown as Go shows them") {
  struct Case {
    std::int64_t nanoseconds;
    std::string_view shown;
  };
  for (const Case& c : std::initializer_list<Case>{
           {1'748'950'851'683'275'107, "2025-06-03T11:40:51.683275107Z"},
           {1'748'950'851'683'275'000, "2025-06-03T11:40:51.683275Z"},
           {1'748'950'851'000'000'001, "2025-06-03T11:40:51.000000001Z"},
           {1'748'950'850'000'000'000, "2025-06-03T11:40:50Z"},
           {1'709'164'800'100'000'000, "2024-02-29T00:00:00.1Z"},
           {0, "1970-01-01T00:00:00Z"},
           {-1, "1969-12-31T23:59:59.999999999Z"}}) {
    CHECK(FormatRfc3339(absl::FromUnixNanos(c.nanoseconds)) == c.shown);
  }
  const absl::Time far = absl::FromCivil(absl::CivilSecond(12345, 1, 2, 3, 4, 5), absl::UTCTimeZone());
  CHECK(FormatRfc3339(far) == "12345-01-02T03:04:05Z");
  CHECK(FormatRfc3339(absl::InfiniteFuture()) == "infinite-future");
}

}  // namespace
}  // namespace coffer::keystore
