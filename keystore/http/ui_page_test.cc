#include "keystore/http/ui_page.h"

#include <catch2/catch.hpp>

#include "keystore/http/encode.h"

namespace coffer::keystore {
namespace {

TEST_CASE("The page has its files, and the API keeps its paths") {
  struct Case {
    std::string_view method, target, location, type;
  };
  const Case cases[] = {
      {"GET", "/", "/ui/", ""},
      {"GET", "/ui", "/ui/", ""},
      {"GET", "/ui/", "", "text/html; charset=utf-8"},
      {"HEAD", "/ui/?x=y", "", "text/html; charset=utf-8"},
      {"GET", "/ui/app.js", "", "text/javascript; charset=utf-8"},
      {"GET", "/ui/style.css?v=1", "", "text/css; charset=utf-8"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.method, c.target);
    const std::optional<UiPage> page = FindUiPage(c.method, c.target);
    REQUIRE(page);
    CHECK(page->location == c.location);
    CHECK((page->asset == nullptr ? "" : page->asset->content_type) == c.type);
  }
  for (const auto& [method, target] :
       {std::pair{"POST", "/ui/"}, {"GET", "/ui/nothing.js"}, {"GET", "/ui/../v1/sys/health"},
        {"GET", "/v1/sys/health"}, {"GET", "/uiapp.js"}}) {
    CAPTURE(method, target);
    CHECK_FALSE(FindUiPage(method, target));
  }
}

TEST_CASE("A page brings nothing from elsewhere, and says so to the browser") {
  for (const char* file : {"index.html", "style.css", "api.js", "app.js", "dom.js", "policies.js",
                           "secrets.js"}) {
    const ui::Asset* const asset = ui::FindAsset(file);
    CAPTURE(file);
    REQUIRE(asset != nullptr);
    for (const std::string_view elsewhere : {"http:", "https:", "innerHTML", "eval("}) {
      CHECK(asset->content.find(elsewhere) == std::string_view::npos);
    }
  }
  HttpAnswer answer;
  answer.WritePage("text/html; charset=utf-8", "<p>", {}, {.date = "now", .tls = true});
  CHECK(answer.view().find("Content-Security-Policy: default-src 'none'; script-src 'self';") !=
        std::string_view::npos);
  CHECK(answer.view().find("X-Content-Type-Options: nosniff\r\n") != std::string_view::npos);
  CHECK(answer.view().ends_with("\r\n\r\n<p>"));
  answer.WritePage("text/plain", "", "/ui/", {.date = "now"});
  CHECK(answer.view().starts_with("HTTP/1.1 307 Temporary Redirect\r\n"));
  CHECK(answer.view().find("Location: /ui/\r\n") != std::string_view::npos);
}

}  // namespace
}  // namespace coffer::keystore
