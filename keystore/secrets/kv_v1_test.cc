#include "keystore/secrets/kv_v1.h"

#include "keystore/system/testing.h"

namespace coffer::keystore {
namespace {

TEST_CASE("kv version 1 keeps objects as they are") {
  KvV1 v1;
  TestKeystore f;
  f.core.Register("kv/1", v1);
  f.Enable("kv", "kv", "1");
  CHECK(f.Read("kv/a").status() == absl::NotFoundError(""));
  CHECK(f.List("kv").status() == absl::NotFoundError(""));
  const Json data = {{"path", "is not special"}, {"n", 1}, {"o", {{"p", nullptr}}}};
  REQUIRE(f.Write("kv/a/b", data).ok());
  CHECK(f.Write("kv/a/b", data)->data.is_null());
  CHECK(f.Write("kv/a/b", data)->warnings.empty());
  CHECK(f.Read("kv/a/b")->data == data);
  CHECK(f.List("kv")->data == Json{{"keys", {"a/"}}});
  CHECK(f.List("kv/a")->data == Json{{"keys", {"b"}}});
  CHECK(absl::IsNotFound(f.Read("kv/a").status()));
  CHECK(f.Delete("kv/a/b").ok());
  CHECK(absl::IsNotFound(f.Read("kv/a/b").status()));
  CHECK(absl::IsNotFound(f.List("kv").status()));

  struct Refused {
    std::string_view path;
    Json data;
    std::string_view message;
  };
  const Refused refused[] = {{"kv/a", Json::object(), "missing data fields"},
                             {"kv/", {{"a", 1}}, "cannot write to a path ending in '/'"},
                             {"kv/a/", {{"a", 1}}, "cannot write to a path ending in '/'"},
                             {"kv/../a", {{"a", 1}}, "path cannot contain parent references"},
                             {"kv/a//b", {{"a", 1}}, "the path cannot have empty segments"}};
  for (const Refused& c : refused) {
    CHECK(f.Write(c.path, c.data).status() == absl::InvalidArgumentError(std::string(c.message)));
  }

  struct Lease {
    Json data;
    absl::Duration lease;
  };
  const Lease leases[] = {{{{"a", 1}}, kSystemLeaseTtl},
                          {{{"ttl", "30m"}}, absl::Minutes(30)},
                          {{{"ttl", 90}}, absl::Seconds(90)},
                          {{{"lease", "1h"}}, absl::Hours(1)},
                          {{{"ttl", "soon"}}, kSystemLeaseTtl}};
  for (const Lease& c : leases) {
    REQUIRE(f.Write("kv/l", c.data).ok());
    CHECK(f.Read("kv/l")->lease_duration == c.lease);
  }
}

}  // namespace
}  // namespace coffer::keystore
