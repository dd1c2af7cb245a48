#include "keystore/core/route_table.h"

namespace coffer::keystore {
namespace {

class Table : public Backend {
 public:
  explicit Table(std::vector<Route> routes) : routes_(std::move(routes)) {}
  const std::vector<Route>& routes() const override { return routes_; }

 private:
  std::vector<Route> routes_;
};

TEST_CASE("the first route that fits a path wins, and captures are as declared") {
  const Table backend({{"config", "", {}, {}},
                       {"data/{path*}", "", {}, {}},
                       {"key/{path+}", "", {}, {}},
                       {"mounts/{path*}/tune", "", {}, {}},
                       {"mounts/{path*}", "", {}, {}},
                       {"role/{name}", "", {}, {}},
                       {"role", "", {}, {}}});
  const RouteTable table(backend);
  struct Case {
    std::string_view path, pattern, capture;
  };
  const Case cases[] = {{"config", "config", ""},
                        {"config/", "config", ""},
                        {"config/x", "", ""},
                        {"data/webapp/config", "data/{path*}", "webapp/config"},
                        {"data/webapp/", "data/{path*}", "webapp/"},
                        {"data/", "data/{path*}", ""},
                        {"data", "", ""},
                        {"key/webapp/config", "key/{path+}", "webapp/config"},
                        {"key/webapp/", "", ""},
                        {"key/", "", ""},
                        {"key", "", ""},
                        {"mounts/a/b/tune", "mounts/{path*}/tune", "a/b"},
                        {"mounts/a/b", "mounts/{path*}", "a/b"},
                        {"mounts/a/tune/", "mounts/{path*}/tune", "a"},
                        {"role/web", "role/{name}", "web"},
                        {"role/web/", "role/{name}", "web"},
                        {"role/", "role", ""},
                        {"role/web/x", "", ""},
                        {"", "", ""}};
  for (const Case& c : cases) {
    CAPTURE(c.path);
    const auto match = table.Find(c.path);
    REQUIRE(match.has_value() == !c.pattern.empty());
    if (!match) continue;
    CHECK(match->route->pattern == c.pattern);
    if (!match->captures.empty()) CHECK(match->captures[0].second == c.capture);
  }
}

TEST_CASE("fields take what Vault takes for their type") {
  struct Case {
    FieldType type;
    std::string_view given, decoded;  // "" = refused
  };
  const Case cases[] = {{FieldType::kString, R"("x")", R"("x")"},
                        {FieldType::kString, "5", R"("5")"},
                        {FieldType::kString, "[]", ""},
                        {FieldType::kInteger, "5", "5"},
                        {FieldType::kInteger, R"("5")", "5"},
                        {FieldType::kInteger, "5.0", "5"},
                        {FieldType::kInteger, "5.5", ""},
                        {FieldType::kInteger, R"("five")", ""},
                        {FieldType::kBoolean, "true", "true"},
                        {FieldType::kBoolean, R"("true")", "true"},
                        {FieldType::kBoolean, R"("0")", "false"},
                        {FieldType::kBoolean, R"("yes")", ""},
                        {FieldType::kDuration, R"("1h30m")", "5400"},
                        {FieldType::kDuration, R"("90")", "90"},
                        {FieldType::kDuration, "90", "90"},
                        {FieldType::kDuration, R"("1500ms")", "1"},
                        {FieldType::kDuration, R"("500ms")", "1"},
                        {FieldType::kDuration, R"("0ms")", "0"},
                        {FieldType::kDuration, "-90", ""},
                        {FieldType::kDuration, R"("soon")", ""},
                        {FieldType::kList, R"("a, b,")", R"(["a","b"])"},
                        {FieldType::kList, R"(["a","b,c"])", R"(["a","b,c"])"},
                        {FieldType::kList, "{}", ""},
                        {FieldType::kMap, R"({"a":1})", R"({"a":1})"},
                        {FieldType::kMap, R"("a=b")", R"({"a":"b"})"},
                        {FieldType::kMap, R"(["a=b","c=d=e"])", R"({"a":"b","c":"d=e"})"},
                        {FieldType::kMap, R"("a")", ""},
                        {FieldType::kAny, R"([{"a":null}])", R"([{"a":null}])"}};
  for (const Case& c : cases) {
    CAPTURE(c.given);
    const Route route{"", "", {{"field", c.type, ""}}, {}};
    std::vector<std::string> unknown;
    Request request;
    request.route = &route;
    request.data = {{"field", *ParseJson(c.given)}};
    const auto fields = DecodeFields({&route, {}}, request.data, &unknown);
    REQUIRE(fields.ok() == !c.decoded.empty());
    if (fields.ok()) {
      request.fields = *fields;
      CHECK(request.has("field"));
      CHECK(request.json("field") == *ParseJson(c.decoded));
    }
    if (!fields.ok()) CHECK(Message(fields.status()).find("\"field\"") != std::string_view::npos);
  }
}

TEST_CASE("captures win over data, and unknown fields are named") {
  const Route route{"role/{name}", "", {{"name", FieldType::kString, ""}}, {}};
  std::vector<std::string> unknown;
  const auto fields = DecodeFields({&route, {{"name", "path"}}},
                                   {{"name", "body"}, {"other", 1}}, &unknown);
  CHECK(fields->at("name") == "path");
  CHECK(unknown == std::vector<std::string>{"other"});
}

}  // namespace
}  // namespace coffer::keystore
