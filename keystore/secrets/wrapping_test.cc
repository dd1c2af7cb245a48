// Wrapped answers in a whole keystore: opened once, by who has the token, within their time.
#include <catch2/catch.hpp>

#include "common/strings.h"
#include "keystore/secrets/kv_v1.h"
#include "keystore/system/testing.h"

namespace coffer::keystore {
namespace {

class Wrapping {
 public:
  Wrapping() {
    keystore.core.Register("kv/1", kv);
    keystore.Enable("kv", "kv", "1");
    REQUIRE(keystore.Write("kv/app", {{"password", "hunter2"}}).ok());
  }

  absl::StatusOr<Response> Wrapped(Operation operation, std::string_view path,
                                   Json data = Json::object(),
                                   absl::Duration ttl = absl::Minutes(5)) {
    Request request;
    request.operation = operation;
    request.path = std::string(path);
    request.data = std::move(data);
    request.token = SecretBytes::CopyOf(keystore.root_token);
    request.wrap_ttl = ttl;
    return keystore.core.HandleAndWait(request);
  }
  // The wrapping token of kv/app.
  std::string Wrap(absl::Duration ttl = absl::Minutes(5)) {
    const auto answer = Wrapped(Operation::kRead, "kv/app", Json::object(), ttl);
    REQUIRE(answer.ok());
    REQUIRE(answer->wrapped);
    CHECK(answer->data.is_null());
    CHECK(answer->data_text.empty());
    return std::string(answer->wrapped->token.view());
  }
  // What unwrapping says of the password, or the error's words.
  std::string Unwrap(std::string_view as, Json data) {
    const auto answer =
        keystore.Call(Operation::kUpdate, "sys/wrapping/unwrap", std::move(data), as);
    if (!answer.ok()) return std::string(Message(answer.status()));
    const absl::StatusOr<Json> document = ParseJson(answer->raw_body.view());
    REQUIRE(document.ok());
    return std::string(std::string_view(
        document->at("data").at("password").get_ref<const Json::string_t&>()));
  }

  TestKeystore keystore;
  KvV1 kv{nullptr};
};

constexpr std::string_view kInvalid = "wrapping token is not valid or does not exist";

TEST_CASE("A wrapped answer opens once, with its token alone or with another's") {
  Wrapping wrapping;
  const std::string own = wrapping.Wrap();
  CHECK(wrapping.Unwrap(own, Json::object()) == "hunter2");
  CHECK(wrapping.Unwrap(own, Json::object()) == kInvalid);
  CHECK(wrapping.Unwrap(own, {{"token", Json::string_t(own)}}) == kInvalid);
  CHECK(wrapping.Unwrap("root", {{"token", Json::string_t(own)}}) == kInvalid);

  const std::string other = wrapping.Wrap();
  CHECK(wrapping.Unwrap("root", {{"token", Json::string_t(other)}}) == "hunter2");
  CHECK(wrapping.Unwrap("root", {{"token", Json::string_t(other)}}) == kInvalid);

  CHECK_THAT(wrapping.Unwrap("none", {{"token", Json::string_t(wrapping.Wrap())}}),
             Catch::Contains("permission denied"));

  const std::string both = wrapping.Wrap();
  CHECK(wrapping.Unwrap(both, {{"token", Json::string_t(both)}}) == "hunter2");
}

TEST_CASE("A wrapping token opens nothing but its own answer, and ends with its time") {
  Wrapping wrapping;
  CHECK(wrapping.keystore.Read("kv/app", wrapping.Wrap()).status().code() ==
        absl::StatusCode::kPermissionDenied);
  CHECK(wrapping.Unwrap("root", {{"token", Json::string_t(wrapping.keystore.root_token)}}) ==
        kInvalid);
  CHECK(wrapping.Unwrap("root", Json::object()) == kInvalid);

  const std::string late = wrapping.Wrap(absl::Seconds(30));
  wrapping.keystore.clock.Advance(absl::Seconds(31));
  CHECK(wrapping.Unwrap("root", {{"token", Json::string_t(late)}}) == kInvalid);
}

TEST_CASE("A wrapping token can be looked up without being used, and wrapped anew") {
  Wrapping wrapping;
  const std::string token = wrapping.Wrap(absl::Minutes(2));
  const auto facts = wrapping.keystore.Call(Operation::kUpdate, "sys/wrapping/lookup",
                                            {{"token", Json::string_t(token)}}, "");
  REQUIRE(facts.ok());
  CHECK(facts->data.at("creation_path") == "kv/app");
  CHECK(facts->data.at("creation_ttl") == 120);

  const auto again = wrapping.keystore.Call(Operation::kUpdate, "sys/wrapping/rewrap",
                                            {{"token", Json::string_t(token)}});
  REQUIRE(again.ok());
  REQUIRE(again->wrapped);
  CHECK(again->wrapped->entry->path == "kv/app");
  CHECK(wrapping.Unwrap("root", {{"token", Json::string_t(token)}}) == kInvalid);
  CHECK(wrapping.Unwrap(again->wrapped->token.view(), Json::object()) == "hunter2");
}

TEST_CASE("What is unwrapped is wrapped anew where the caller asks for wrapping") {
  Wrapping wrapping;
  const auto again = wrapping.Wrapped(Operation::kUpdate, "sys/wrapping/unwrap",
                                      {{"token", Json::string_t(wrapping.Wrap())}});
  REQUIRE(again.ok());
  REQUIRE(again->wrapped);
  CHECK(again->raw_body.empty());
  CHECK(again->wrapped->entry->path == "sys/wrapping/unwrap");
  CHECK(wrapping.Unwrap(again->wrapped->token.view(), Json::object()) == "hunter2");
}

TEST_CASE("Data of one's own is wrapped only where a TTL is given") {
  Wrapping wrapping;
  const auto refused = wrapping.keystore.Write("sys/wrapping/wrap", {{"password", "x"}});
  CHECK(refused.status().code() == absl::StatusCode::kInvalidArgument);
  const auto wrapped =
      wrapping.Wrapped(Operation::kUpdate, "sys/wrapping/wrap", {{"password", "mine"}});
  REQUIRE(wrapped.ok());
  REQUIRE(wrapped->wrapped);
  CHECK(wrapping.Unwrap(wrapped->wrapped->token.view(), Json::object()) == "mine");
}

TEST_CASE("What has no body and what fails isn't wrapped") {
  Wrapping wrapping;
  const auto written = wrapping.Wrapped(Operation::kUpdate, "kv/b", {{"a", "b"}});
  REQUIRE(written.ok());
  CHECK_FALSE(written->wrapped);
  CHECK(wrapping.Wrapped(Operation::kRead, "kv/none").status().code() ==
        absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace coffer::keystore
