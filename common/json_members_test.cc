#include "common/json_members.h"

#include "common/go_bool.h"

namespace coffer {
namespace {

TEST_CASE("a member that is missing, or of another type, is nothing") {
  const absl::StatusOr<Json> object =
      ParseJson(R"({"text":"a","number":7,"true":true,"false":false,"null":null,"within":{"b":"c"}})");
  REQUIRE(object.ok());
  CHECK(TextAt(*object, "text") == "a");
  CHECK(IntegerAt(*object, "number") == 7);
  CHECK(TrueAt(*object, "true"));
  CHECK(TextAt(At(*object, "within"), "b") == "c");
  for (const char* name : {"number", "true", "null", "within", "missing"}) {
    CAPTURE(name);
    CHECK(TextAt(*object, name) == "");
  }
  for (const char* name : {"text", "false", "null", "missing"}) {
    CAPTURE(name);
    CHECK(IntegerAt(*object, name) == 0);
    CHECK_FALSE(TrueAt(*object, name));
  }
  for (const Json& other : {Json(), Json("text"), Json::array({"text"}), Json(7)}) {
    CHECK(At(other, "text").is_null());
    CHECK(TextAt(At(other, "text"), "text") == "");
  }
}

TEST_CASE("truth values are those of Go") {
  for (const char* yes : {"1", "t", "T", "true", "TRUE", "True"}) CHECK(ParseGoBool(yes) == true);
  for (const char* no : {"0", "f", "F", "false", "FALSE", "False"}) CHECK(ParseGoBool(no) == false);
  for (const char* neither : {"", "yes", "tRUE", "2", " true"}) {
    CHECK(ParseGoBool(neither) == std::nullopt);
  }
}

}  // namespace
}  // namespace coffer
