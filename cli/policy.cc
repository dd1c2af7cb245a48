// policy: write, read, list, delete, fmt.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "cli/output.h"
#include "cli/policy_format.h"
#include "cli/values.h"
#include "common/lower_case.h"
#include "common/strings.h"
#include "common/unique_fd.h"

namespace coffer::cli {
namespace {

// Names of policies are in lower case.
std::string NameOf(std::string_view arg) { return LowerCase(Trim(arg)); }

std::string PathOf(const std::string& name) { return StrCat("sys/policies/acl/", name); }

int Write(Session& session) {
  const std::string name = NameOf(session.args[0]);
  const std::string& file = session.args[1];
  const absl::StatusOr<SecretBytes> text =
      file == "-" ? session.console.ReadAll() : ReadSecretFile(file);
  if (!text.ok()) {
    return session.Refuse(StrCat("Error reading policy: ", Message(text.status())));
  }
  const absl::StatusOr<Json> answer = session.api->Write(
      PathOf(name), Json{{"policy", Json::string_t(text->view())}});
  if (!answer.ok()) return session.Fail("Error uploading policy", answer.status());
  PrintWarnings(session, *answer);
  session.console.Line(StrCat("Success! Uploaded policy: ", name));
  return kDone;
}

int Read(Session& session) {
  const std::string name = NameOf(session.args[0]);
  const absl::StatusOr<Json> answer = session.api->Read(PathOf(name));
  if (!answer.ok()) {
    return session.Fail(StrCat("Error reading policy named ", name), answer.status());
  }
  const Json& policy = At(At(*answer, "data"), "policy");
  if (!policy.is_string()) return session.Fail(StrCat("No policy named: ", name));
  if (!session.table()) return PrintDocument(session, Json{{"policy", policy}});
  session.console.Line(Trim(policy.get_ref<const Json::string_t&>()));
  return kDone;
}

int List(Session& session) {
  const absl::StatusOr<Json> answer = session.api->List("sys/policies/acl");
  if (!answer.ok()) return session.Fail("Error listing policies", answer.status());
  const Json& keys = At(At(*answer, "data"), "keys");
  if (!session.table()) return PrintDocument(session, keys);
  for (const Json& key : keys) session.console.Line(PrintValue(key).view());
  return kDone;
}

int Delete(Session& session) {
  const std::string name = NameOf(session.args[0]);
  const absl::StatusOr<Json> answer = session.api->Delete(PathOf(name));
  if (!answer.ok()) return session.Fail("Error deleting policy", answer.status());
  session.console.Line(StrCat("Success! Deleted policy: ", name));
  return kDone;
}

// Replaces a file's contents with its rights kept: all of it or nothing of it.
absl::Status Replace(const std::string& path, std::string_view text) {
  const std::string draft = StrCat(path, ".", getpid(), ".tmp");
  struct stat before {};
  const auto failed = [&] {
    const int error = errno;
    unlink(draft.c_str());
    return absl::ErrnoToStatus(error, ToAbsl(StrCat("write ", path)));
  };
  if (stat(path.c_str(), &before) != 0) return failed();
  UniqueFd fd(open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd || fchmod(fd.get(), before.st_mode & 07777) != 0) return failed();
  while (!text.empty()) {
    const ssize_t count = write(fd.get(), text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return failed();
    text.remove_prefix(static_cast<std::size_t>(count));
  }
  if (fsync(fd.get()) != 0 || rename(draft.c_str(), path.c_str()) != 0) return failed();
  return absl::OkStatus();
}

int Format(Session& session) {
  const std::string& path = session.args[0];
  const absl::StatusOr<SecretBytes> text = ReadSecretFile(path);
  if (!text.ok()) return session.Refuse(StrCat("Error reading source file: ", Message(text.status())));
  const absl::StatusOr<std::string> formatted = FormatPolicy(text->view());
  if (!formatted.ok()) {
    return session.Refuse(StrCat("failed to parse policy: ", path, ": ",
                                 Message(formatted.status())));
  }
  if (const absl::Status written = Replace(path, *formatted); !written.ok()) {
    return session.Refuse(StrCat("Error writing result: ", Message(written)));
  }
  session.console.Line(StrCat("Success! Formatted policy: ", path));
  return kDone;
}

}  // namespace

std::vector<Command> PolicyCommands() {
  return {
      {.name = "policy write",
       .synopsis = "Uploads a named policy from a file",
       .usage = "[options] NAME PATH",
       .help = "Uploads a policy of the given name from a file, or from standard input for \"-\". "
               "Names of policies are in lower case.\n"
               "    $ vault policy write my-policy /tmp/policy.hcl\n"
               "    $ cat my-policy.hcl | vault policy write my-policy -",
       .min_args = 2,
       .max_args = 2,
       .run = Write},
      {.name = "policy read",
       .synopsis = "Prints the contents of a policy",
       .usage = "[options] NAME",
       .help = "Prints the contents of the policy of the given name.",
       .min_args = 1,
       .max_args = 1,
       .prints = Prints::kFormats,
       .run = Read},
      {.name = "policy list",
       .synopsis = "Lists the installed policies",
       .usage = "[options]",
       .help = "Lists the names of the policies.",
       .prints = Prints::kFormats,
       .run = List},
      {.name = "policy delete",
       .synopsis = "Deletes a policy by name",
       .usage = "[options] NAME",
       .help = "Deletes the policy of the given name. Tokens that name it lose what it allowed.",
       .min_args = 1,
       .max_args = 1,
       .run = Delete},
      {.name = "policy fmt",
       .synopsis = "Formats a policy on disk",
       .usage = "[options] PATH",
       .help = "Lays a local policy file out anew, in place.\n    $ vault policy fmt my-policy.hcl",
       .min_args = 1,
       .max_args = 1,
       .run = Format,
       .local = true},
  };
}

}  // namespace coffer::cli
