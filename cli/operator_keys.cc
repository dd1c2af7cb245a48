// operator rotate and key-status.
#include "absl/time/time.h"
#include "cli/operator.h"
#include "cli/output.h"
#include "cli/table.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

// Go's RFC 822 form of an RFC 3339 time; what is no time stays as it is.
std::string ShortTime(std::string_view text) {
  absl::Time time;
  if (!absl::ParseTime(absl::RFC3339_full, ToAbsl(text), &time, nullptr)) return std::string(text);
  return absl::FormatTime("%d %b %y %H:%M UTC", time, absl::UTCTimeZone());
}

int ShowKeyStatus(Session& session, std::string_view before) {
  const absl::StatusOr<Json> answer =
      session.api->Call({.method = "GET", .path = "sys/key-status"});
  if (!answer.ok()) return session.Fail("Error reading key status", answer.status());
  // Vault answers both in an envelope and at the top.
  const Json& status = At(*answer, "data").is_object() ? At(*answer, "data") : *answer;
  if (!session.table()) return PrintDocument(session, status);
  Table table;
  table.Add("Key Term", StrCat(IntegerAt(status, "term")));
  table.Add("Install Time", ShortTime(TextAt(status, "install_time")));
  table.Add("Encryption Count", StrCat(IntegerAt(status, "encryptions")));
  if (!before.empty()) session.console.Line(before);
  session.console.Line(table.Print().view());
  return kDone;
}

}  // namespace

int RunKeyStatus(Session& session) { return ShowKeyStatus(session, ""); }

int RunRotate(Session& session) {
  const absl::StatusOr<Json> answer =
      session.api->Call({.method = "PUT", .path = "sys/rotate"});
  if (!answer.ok()) return session.Fail("Error rotating key", answer.status());
  return ShowKeyStatus(session, "Success! Rotated key\n");
}

}  // namespace coffer::cli
