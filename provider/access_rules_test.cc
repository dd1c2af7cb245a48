#include "provider/access_rules.h"

#include <catch2/catch.hpp>

#include "common/strings.h"
#include "provider/parameters.h"

namespace coffer::provider {
namespace {

using Uids = std::vector<std::uint32_t>;
using Paths = std::vector<std::string>;

absl::StatusOr<Parameters> Parse(std::map<std::string, std::string> parameters,
                                 std::string_view fields = "") {
  parameters.emplace("roleName", "r");
  parameters.emplace("objects", StrCat("- objectName: a\n  secretPath: kv/a\n", fields));
  return ParseParameters({.name = "webapp",
                          .kubernetes_namespace = "default",
                          .provider = "vault",
                          .parameters = std::move(parameters)},
                         Defaults());
}

TEST_CASE("without a word about it everyone is let in and nobody is told") {
  const auto parsed = Parse({});
  REQUIRE(parsed.ok());
  CHECK_FALSE(parsed->audit);
  CHECK_FALSE(parsed->objects[0].facts.access.any());
  CHECK_FALSE(Parse({{"audit", "off"}})->audit);
  CHECK(Parse({{"audit", "opens"}})->audit);
}

TEST_CASE("lists are read as YAML writes them, and as one text") {
  for (const char* text : {"[1000, 0]", "1000, 0", "[\"1000\",'0']", " 1000 ,0 "}) {
    INFO(text);
    const auto of_class = Parse({{"allowUIDs", text}});
    REQUIRE(of_class.ok());
    CHECK(of_class->objects[0].facts.access.allow_uids == Uids{1000, 0});
  }
  for (const char* fields : {"  allowUIDs: [1000, 0]\n", "  allowUIDs:\n  - 1000\n  - 0\n",
                             "  allowUIDs: 1000, 0\n"}) {
    INFO(fields);
    const auto of_object = Parse({}, fields);
    REQUIRE(of_object.ok());
    CHECK(of_object->objects[0].facts.access.allow_uids == Uids{1000, 0});
  }
  CHECK(Parse({}, "  allowExecutables: [/usr/bin/app, \"/opt/a b\"]\n")
            ->objects[0]
            .facts.access.allow_executables == Paths{"/usr/bin/app", "/opt/a b"});
}

TEST_CASE("an object says otherwise than its class") {
  const auto parsed = Parse({{"allowUIDs", "[1]"}, {"readOnce", "true"}, {"availableFor", "5m"}},
                            "  allowUIDs: [2]\n  readOnce: false\n  canary: true\n"
                            "- {objectName: b, secretPath: kv/b}\n");
  REQUIRE(parsed.ok());
  const AccessRules& a = parsed->objects[0].facts.access;
  const AccessRules& b = parsed->objects[1].facts.access;
  CHECK(a.allow_uids == Uids{2});
  CHECK_FALSE(a.read_once);
  CHECK(a.canary);
  CHECK(a.available_for == absl::Minutes(5));
  CHECK(b.allow_uids == Uids{1});
  CHECK(b.read_once);
  CHECK_FALSE(b.canary);
  CHECK(b.any());
}

TEST_CASE("a wrong rule is named") {
  struct Case {
    const char* field;
    const char* value;
    const char* error;
  };
  const Case cases[] = {
      {"audit", "reads", "audit: must be opens or off"},
      {"allowUIDs", "[]", "allowUIDs: must be a list of 1 to 100 entries, e.g. [1000]"},
      {"allowUIDs", "[root]", "allowUIDs: must be numbers between 0 and 4294967294: \"root\""},
      {"allowUIDs", "[-1]", "allowUIDs: must be numbers"},
      {"allowUIDs", "[4294967295]", "allowUIDs: must be numbers"},
      {"allowExecutables", "", "allowExecutables: must be a list"},
      {"allowExecutables", "[app]", "allowExecutables: must be absolute paths of files: \"app\""},
      {"allowExecutables", "[/usr/bin/]", "allowExecutables: must be absolute paths"},
      {"readOnce", "yes", "readOnce: must be true or false"},
      {"canary", "1x", "canary: must be true or false"},
      {"availableFor", "soon", "availableFor: must be a duration above zero"},
      {"availableFor", "0", "availableFor: must be a duration above zero"},
      {"availableFor", "-5s", "availableFor: must be a duration above zero"},
  };
  for (const Case& c : cases) {
    INFO(c.field << " = " << c.value);
    const auto of_class = Parse({{c.field, c.value}});
    REQUIRE(absl::IsInvalidArgument(of_class.status()));
    CHECK_THAT(std::string(Message(of_class.status())),
               Catch::Contains(StrCat("spec.parameters.", c.error)));
    if (std::string_view(c.field) == "audit") continue;
    const auto of_object = Parse({}, StrCat("  ", c.field, ": '", c.value, "'\n"));
    REQUIRE(absl::IsInvalidArgument(of_object.status()));
    CHECK_THAT(std::string(Message(of_object.status())),
               Catch::Contains(StrCat("spec.parameters.objects[0].", c.error)));
  }
  CHECK_THAT(std::string(Message(Parse({}, "  allowUIDs: [[1]]\n").status())),
             Catch::Contains("objects[0].allowUIDs: must be a list of texts"));
  CHECK_THAT(std::string(Message(Parse({}, "  audit: opens\n").status())),
             Catch::Contains("objects[0].audit: is unknown"));
}

}  // namespace
}  // namespace coffer::provider
