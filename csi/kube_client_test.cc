#include "csi/kube_client.h"

#include <atomic>

#include "absl/time/clock.h"
#include "common/http_client_test_server.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

// An API server that answers what the case wants, attempt by attempt.
struct Fixture {
  std::vector<std::pair<int, std::string>> answers;  // status and Retry-After; then 200
  std::atomic<std::size_t> requests{0};
  TestHttpServer server{[this](const TestHttpRequest&) {
    const std::size_t number = requests++;
    if (number >= answers.size()) return TestHttpAnswer(200, R"({"kind":"Pod"})");
    const auto& [status, after] = answers[number];
    return TestHttpAnswer(status, R"({"kind":"Status","message":"too many"})",
                          after.empty() ? "" : StrCat("Retry-After: ", after, "\r\n"));
  }};
  KubeClient client{KubeConfig{.server = server.address()}};
};

TEST_CASE("an API server that asks to come again is asked again, when it said so") {
  struct Case {
    std::vector<std::pair<int, std::string>> answers;
    absl::Duration time;
    bool ok;
    std::size_t requests;
  };
  const Case cases[] = {
      {{{429, "1"}, {503, "1"}}, absl::Seconds(120), true, 3},
      {{{429, ""}}, absl::Seconds(120), false, 1},
      {{{429, "soon"}}, absl::Seconds(120), false, 1},
      {{{429, "3600"}}, absl::Seconds(120), false, 1},
      {{{500, "1"}}, absl::Seconds(120), false, 1},
      {{{429, "9"}}, absl::Seconds(5), false, 1},  // no time for that
  };
  for (const Case& c : cases) {
    Fixture f;
    f.answers = c.answers;
    const auto got = f.client.Get("/api/v1/pods", absl::Now() + c.time);
    INFO(got.status());
    CHECK(got.ok() == c.ok);
    CHECK(f.requests == c.requests);
    if (!c.ok) CHECK(absl::IsUnavailable(got.status()));
  }
}

TEST_CASE("a watch waits, too, before it begins") {
  Fixture f;
  f.answers = {{429, "1"}};
  f.client.Watch("/watch", [](const Json&) { return false; }).IgnoreError();
  CHECK(f.requests == 2);
}

}  // namespace
}  // namespace coffer::csi
