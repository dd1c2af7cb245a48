// read, write, patch, list, delete, path-help and unwrap: any path of the API.
#include "cli/arguments.h"
#include "cli/output.h"
#include "cli/values.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

// K=V arguments as a query that points into `data`; a list gives its name once for each value.
Query QueryOf(const Json& data) {
  Query query;
  for (const auto& [name, value] : data.get_ref<const Json::object_t&>()) {
    for (const Json& item : value.is_array() ? value : Json::array({value})) {
      query.emplace_back(name, std::string(PrintValue(item).view()));
    }
  }
  return query;
}

absl::StatusOr<Json> DataOf(Session& session) {
  return ParseData(std::span(session.args).subspan(1), session.console);
}

int RefuseData(Session& session, const absl::Status& status) {
  return session.Refuse(StrCat("Failed to parse K=V data: ", Message(status)));
}

int Read(Session& session) {
  const absl::StatusOr<Json> data = DataOf(session);
  if (!data.ok()) return RefuseData(session, data.status());
  const std::string path(SanitizePath(session.args[0]));
  if (session.format == "raw") {
    const absl::StatusOr<SecretBytes> body =
        session.api->CallRaw({.method = "GET", .path = path, .query = QueryOf(*data)});
    if (!body.ok()) return session.Fail(StrCat("Error reading: ", path), body.status());
    session.console.Value(body->view());
    return kDone;
  }
  const absl::StatusOr<Json> secret = session.api->Read(path, QueryOf(*data));
  if (!secret.ok()) return session.Fail(StrCat("Error reading ", path), secret.status());
  if (secret->is_null()) return session.Fail(StrCat("No value found at ", path));
  return PrintAnswer(session, *secret);
}

int WriteOrPatch(Session& session, std::string_view method, std::string_view content_type) {
  const absl::StatusOr<Json> data = DataOf(session);
  if (!data.ok()) return RefuseData(session, data.status());
  if (session.args.size() == 1 && !session.flags.on("force")) {
    return session.Refuse("Must supply data or use -force");
  }
  const std::string path(SanitizePath(session.args[0]));
  const absl::StatusOr<Json> secret = session.api->Call(
      {.method = method, .path = path, .body = &*data, .content_type = content_type});
  if (!secret.ok()) {
    return session.Fail(StrCat("Error writing data to ", path), secret.status());
  }
  return PrintWritten(session, *secret, path);
}

int Write(Session& session) { return WriteOrPatch(session, "PUT", "application/json"); }
int Patch(Session& session) {
  return WriteOrPatch(session, "PATCH", "application/merge-patch+json");
}

int List(Session& session) {
  const std::string path = WithSlash(SanitizePath(session.args[0]));
  return PrintKeysBelow(session, path);
}

int Delete(Session& session) {
  const absl::StatusOr<Json> data = DataOf(session);
  if (!data.ok()) return RefuseData(session, data.status());
  const std::string path(SanitizePath(session.args[0]));
  const absl::StatusOr<Json> secret = session.api->Delete(path, QueryOf(*data));
  if (!secret.ok()) return session.Fail(StrCat("Error deleting ", path), secret.status());
  if (!secret->is_null()) return PrintAnswer(session, *secret);
  if (session.table()) {
    session.console.Line(StrCat("Success! Data deleted (if it existed) at: ", path));
  }
  return kDone;
}

int PathHelp(Session& session) {
  const std::string path(SanitizePath(session.args[0]));
  const absl::StatusOr<Json> answer =
      session.api->Call({.method = "GET", .path = path, .query = {{"help", "1"}}});
  if (!answer.ok()) return session.Fail("Error retrieving help", answer.status());
  if (!session.table()) return PrintDocument(session, *answer);
  // Vault answers at the top; with an envelope it lies in the data.
  std::string_view text = TextAt(*answer, "help");
  if (text.empty()) text = TextAt(At(*answer, "data"), "help");
  session.console.Line(text);
  return kDone;
}

int Unwrap(Session& session) {
  Json body = Json::object();
  if (!session.args.empty()) {
    const std::string_view token = Trim(session.args[0]);
    // Without a token of its own the wrapping token is also what the request is made with.
    if (session.api->token().empty()) {
      session.api->SetToken(SecretBytes::CopyOf(token));
    } else {
      body["token"] = Json::string_t(token);
    }
  }
  const absl::StatusOr<Json> secret = session.api->Write("sys/wrapping/unwrap", body);
  if (!secret.ok()) return session.Fail("Error unwrapping", secret.status());
  if (secret->is_null()) {
    if (session.table()) {
      session.console.Line("Successfully unwrapped. There was no data in the wrapped secret.");
    }
    return kDone;
  }
  return PrintAnswer(session, *secret);
}

}  // namespace

std::vector<Command> LogicalCommands() {
  const Flag force = {"force", FlagType::kSwitch,
                      "Allow the operation to continue with no key=value pairs: for endpoints that "
                      "take no data.",
                      "", "f"};
  return {
      {.name = "read",
       .synopsis = "Read data and retrieves secrets",
       .usage = "[options] PATH [DATA K=V...]",
       .help = "Reads data from the given path: secrets, configuration, credentials that are made on "
               "the spot. K=V pairs go into the query.\n    $ vault read secret/my-secret",
       .min_args = 1,
       .max_args = kAnyNumber,
       .prints = Prints::kFields,
       .run = Read},
      {.name = "write",
       .synopsis = "Write data, configuration, and secrets",
       .usage = "[options] PATH [DATA K=V...]",
       .help = "Writes data to the given path: K=V pairs, K=@file, K=- for standard input, @file or - "
               "for a JSON object.\n    $ vault write auth/kubernetes/role/web policies=web",
       .min_args = 1,
       .max_args = kAnyNumber,
       .prints = Prints::kFields,
       .flags = {force},
       .run = Write},
      {.name = "patch",
       .synopsis = "Patch data, configuration, and secrets",
       .usage = "[options] PATH [DATA K=V...]",
       .help = "Merges data into what the given path holds (HTTP PATCH).",
       .min_args = 1,
       .max_args = kAnyNumber,
       .prints = Prints::kFields,
       .flags = {force},
       .run = Patch},
      {.name = "list",
       .synopsis = "List data or secrets",
       .usage = "[options] PATH",
       .help = "Lists the names at the given path. Folders end with /.\n"
               "    $ vault list auth/kubernetes/role",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFormats,
       .run = List},
      {.name = "delete",
       .synopsis = "Delete secrets and configuration",
       .usage = "[options] PATH [DATA K=V...]",
       .help = "Deletes what the given path holds. K=V pairs go into the query.\n"
               "    $ vault delete secret/my-secret",
       .min_args = 1,
       .max_args = kAnyNumber,
       .prints = Prints::kFields,
       .run = Delete},
      {.name = "path-help",
       .synopsis = "Retrieve API help for paths",
       .usage = "[options] PATH",
       .help = "Retrieves the server's help for a path: what can be done there, with which fields.\n"
               "    $ vault path-help auth/token",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFormats,
       .run = PathHelp},
      {.name = "unwrap",
       .synopsis = "Unwrap a wrapped secret",
       .usage = "[options] [TOKEN]",
       .help = "Unwraps a wrapped secret by the given token, or by the one in use.\n"
               "    $ vault unwrap hvs.CAES…",
       .min_args = 0,
       .max_args = 1,
       .prints = Prints::kFields,
       .run = Unwrap},
  };
}

}  // namespace coffer::cli
