#include "keystore/core/token_entry.h"

#include "keystore/core/token_store_ttl.h"

namespace coffer::keystore {
namespace {

TEST_CASE("a token comes out of storage as it went in") {
  TokenEntry full;
  full.hash = "00ff";
  full.accessor = "aCcEsSoR";
  full.parent = "abcd";
  full.policies = {"default", "webapp"};
  full.display_name = "token-x";
  full.path = "auth/token/create";
  full.meta = {{"user", "a\"b"}};
  full.role = "r";
  full.num_uses = -1;
  full.creation_time = absl::FromUnixNanos(1'748'950'851'000'000'123);
  full.creation_ttl = absl::Hours(1);
  full.period = absl::Seconds(90);
  full.explicit_max_ttl = absl::Hours(3);
  full.renewable = true;
  full.bound_cidrs = {"10.0.0.0/8"};
  full.expire_time = absl::FromUnixNanos(1'748'954'451'000'000'123);
  full.last_renewal = absl::FromUnixNanos(1'748'950'852'000'000'000);
  TokenEntry bare;
  bare.hash = "11";
  bare.creation_time = absl::UnixEpoch();

  for (const TokenEntry* entry : {&full, &bare}) {
    const auto decoded = DecodeToken(entry->hash, EncodeToken(*entry).view());
    REQUIRE(decoded.ok());
    const TokenEntry& read = **decoded;
    CHECK(read.hash == entry->hash);
    CHECK(read.accessor == entry->accessor);
    CHECK(read.parent == entry->parent);
    CHECK(read.policies == entry->policies);
    CHECK(read.display_name == entry->display_name);
    CHECK(read.path == entry->path);
    CHECK(read.meta == entry->meta);
    CHECK(read.type == entry->type);
    CHECK(read.role == entry->role);
    CHECK(read.num_uses == entry->num_uses);
    CHECK(read.creation_time == entry->creation_time);
    CHECK(read.creation_ttl == entry->creation_ttl);
    CHECK(read.period == entry->period);
    CHECK(read.explicit_max_ttl == entry->explicit_max_ttl);
    CHECK(read.renewable == entry->renewable);
    CHECK(read.bound_cidrs == entry->bound_cidrs);
    CHECK(read.expire_time == entry->expire_time);
    CHECK(read.last_renewal == entry->last_renewal);
  }
}

TEST_CASE("what isn't a stored token is data loss") {
  for (const char* stored : {"", "{", "[]", "3", R"({"po":3})", R"({"c":"x"})", R"({"po":[1]})",
                             R"({"a":{}})"}) {
    CAPTURE(stored);
    CHECK(absl::IsDataLoss(DecodeToken("00", stored).status()));
  }
}

TEST_CASE("policies are trimmed, in lower case, sorted and each there once; root stands alone") {
  struct Case {
    std::vector<std::string> given;
    bool add_default;
    std::vector<std::string> clean;
  };
  const Case cases[] = {{{}, false, {}},
                        {{}, true, {"default"}},
                        {{" B ", "a", "b", ""}, false, {"a", "b"}},
                        {{"b", "DEFAULT"}, true, {"b", "default"}},
                        {{"x", "Root", "y"}, true, {"root"}}};
  for (const Case& c : cases) CHECK(CleanPolicies(c.given, c.add_default) == c.clean);
}

TEST_CASE("a token lives as long as it asks within what its limits allow") {
  const absl::Time start = absl::FromUnixSeconds(1'000'000);
  struct Case {
    std::string_view name;
    int ttl, max, explicit_max, period, age;  // hours
    int granted;                              // hours; 0: refused
    std::string_view warning;
  };
  const Case cases[] = {
      {"nothing asked: the default", 0, 10, 0, 0, 0, 5, ""},
      {"what is asked", 2, 10, 0, 0, 0, 2, ""},
      {"the maximum caps it", 20, 10, 0, 0, 0, 10,
       "TTL of \"20h\" exceeded the effective max_ttl of \"10h\"; TTL value is capped "
       "accordingly"},
      {"the maximum counts from the start", 5, 10, 0, 0, 7, 3,
       "TTL of \"5h\" exceeded the effective max_ttl of \"3h\"; TTL value is capped "
       "accordingly"},
      {"the explicit maximum caps it", 5, 10, 4, 0, 0, 4,
       "TTL of \"5h\" exceeded the effective max_ttl of \"4h\"; TTL value is capped "
       "accordingly"},
      {"past the maximum nothing is given", 5, 10, 0, 0, 10, 0, ""},
      {"a period takes the place of the TTL", 2, 10, 0, 3, 0, 3, ""},
      {"a period outlives the maximum", 0, 10, 0, 3, 1000, 3, ""},
      {"a period is capped by the maximum", 0, 10, 0, 30, 0, 10,
       "period of \"30h\" exceeded the effective max_ttl of \"10h\"; period value is "
       "capped accordingly"},
      {"a period doesn't outlive the explicit maximum", 0, 10, 8, 3, 7, 1,
       "TTL of \"3h\" exceeded the effective max_ttl of \"1h\"; TTL value is capped "
       "accordingly"},
      {"past the explicit maximum a period gives nothing", 0, 10, 8, 3, 8, 0, ""},
  };
  for (const Case& c : cases) {
    INFO(c.name);
    const auto ttl = ComputeTtl({.ttl = absl::Hours(c.ttl),
                                 .default_ttl = absl::Hours(5),
                                 .max_ttl = absl::Hours(c.max),
                                 .explicit_max_ttl = absl::Hours(c.explicit_max),
                                 .period = absl::Hours(c.period),
                                 .start = start},
                                start + absl::Hours(c.age));
    if (c.granted == 0) {
      CHECK(ttl.status() ==
            absl::InternalError("1 error occurred:\n\t* past the max TTL, cannot renew\n\n"));
      continue;
    }
    REQUIRE(ttl.ok());
    CHECK(ttl->ttl == absl::Hours(c.granted));
    CHECK(ttl->warnings == (c.warning.empty() ? std::vector<std::string>()
                                              : std::vector{std::string(c.warning)}));
  }
}

}  // namespace
}  // namespace coffer::keystore
