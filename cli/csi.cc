// csi status, csi unused, csi publish, csi unpublish: a node's plugin, asked by its admin socket. The plugin does
// the publish itself, by the code that serves the kubelet: so nothing here speaks gRPC.
#include "cli/csi.h"

#include "cli/output.h"
#include "cli/table.h"
#include "cli/values.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr std::string_view kStatusOrder[] = {"node", "driver", "version", "pid", "facts", "volumes"};
constexpr std::string_view kUnusedOrder[] = {"days", "files"};
constexpr std::string_view kCallOrder[] = {"target", "volume_id"};

std::string PodOf(const Json& volume) {
  const std::string_view pod = TextAt(volume, "pod");
  return pod.empty() ? "" : StrCat(TextAt(volume, "namespace"), "/", pod);
}

// A secret's number, without the time that it was made at; the beginning of a hash.
std::string_view ShortVersion(std::string_view version) {
  const std::size_t digits = std::min(version.find_first_not_of("0123456789"), version.size());
  const bool number = digits > 0 && (digits == version.size() || version[digits] == '-');
  return version.substr(0, number ? digits : 8);
}

std::string ObjectsOf(const Json& volume, bool whole) {
  std::string text;
  for (const Json& object : At(volume, "objects")) {
    const std::string_view version = TextAt(object, "version");
    StrAppend(&text, text.empty() ? "" : ", ", TextAt(object, "id"), "=",
              whole ? version : ShortVersion(version));
  }
  return text;
}

// To the second: a table is for people.
std::string TimeOf(const Json& volume, std::string_view name) {
  const std::string_view time = TextAt(volume, name);
  const std::size_t dot = time.find('.');
  return dot == time.npos ? std::string(time) : StrCat(time.substr(0, dot), "Z");
}

std::string_view StateOf(const Json& volume) {
  if (!TextAt(volume, "error").empty()) return TrueAt(volume, "mounted") ? "stale" : "failed";
  return TextAt(volume, "fetched").empty() ? "taken over" : "ok";
}

SecretBytes NodeTable(const Json& status) {
  Table table = Table::WithHeader("Key", "Value");
  table.Add("Node", TextAt(status, "node"));
  table.Add("Driver", TextAt(status, "driver"));
  table.Add("Version", TextAt(status, "version"));
  table.Add("Process", StrCat(IntegerAt(status, "pid")));
  for (const auto& [name, value] : At(status, "facts").items()) {
    std::string title(name);
    title[0] = static_cast<char>(std::toupper(title[0]));
    table.Add(title, TextAt(At(status, "facts"), name));
  }
  table.Add("Published", StrCat(At(status, "volumes").size()));
  return table.Print();
}

SecretBytes VolumeTable(const Json& volumes) {
  Table table = Table::WithHeader("Pod", "Class", "State", "Last Fetch", "Last Rotation", "Objects");
  for (const Json& volume : volumes) {
    table.Add(PodOf(volume), TextAt(volume, "class"), StateOf(volume), TimeOf(volume, "fetched"),
              TimeOf(volume, "rotated"), ObjectsOf(volume, /*whole=*/false));
  }
  return table.Print();
}

// "app (pid 4711, uid 1000) opened password at 2026-11-24 20:31:00"
std::string ReaderOf(const Json& reader) {
  const std::string_view command = TextAt(reader, "command");
  std::string who;
  for (const char* id : {"pid", "uid"}) {
    if (At(reader, id).is_number()) {
      StrAppend(&who, who.empty() ? "" : ", ", id, " ", At(reader, id).get<std::uint64_t>());
    }
  }
  return StrCat(command.empty() ? "somebody" : command, who.empty() ? "" : StrCat(" (", who, ")"),
                " opened ", TextAt(reader, "file"), " at ", TimeOf(reader, "time"));
}

SecretBytes DetailTable(const Json& volume) {
  Table table;
  table.Add("Target", TextAt(volume, "target"));
  table.Add("Volume", TextAt(volume, "volume_id"));
  table.Add("Pod", PodOf(volume));
  table.Add("Service Account", TextAt(volume, "service_account"));
  table.Add("Class", TextAt(volume, "class"));
  table.Add("State", StateOf(volume));
  table.Add("Objects", ObjectsOf(volume, /*whole=*/true));
  table.Add("Published", TimeOf(volume, "published"));
  table.Add("Last Fetch", TimeOf(volume, "fetched"));
  table.Add("Last Rotation", TimeOf(volume, "rotated"));
  table.Add("Last Read", TimeOf(volume, "last_read"));
  if (const Json& reader = At(volume, "reader"); reader.is_object()) {
    table.Add("Last Reader", ReaderOf(reader));
  }
  if (!TextAt(volume, "error").empty()) {
    table.Add("Failed", TimeOf(volume, "failed"));
    table.Add("Error", TextAt(volume, "error"));
  }
  return table.Print();
}

int Status(Session& session) {
  const absl::StatusOr<Json> status = CallPlugin(session, "GET", "/v1/status");
  if (!status.ok()) return session.Fail("Error asking the node plugin", status.status());
  if (!session.table()) return PrintDocument(session, *status, kStatusOrder);
  session.console.Line(NodeTable(*status).view());
  const Json& volumes = At(*status, "volumes");
  if (volumes.empty()) return kDone;
  if (session.flags.on("detailed")) {
    for (const Json& volume : volumes) {
      session.console.Line("");
      session.console.Line(DetailTable(volume).view());
    }
    return kDone;
  }
  session.console.Line("");
  session.console.Line(VolumeTable(volumes).view());
  for (const Json& volume : volumes) {
    const std::string_view error = TextAt(volume, "error");
    if (error.empty()) continue;
    session.console.Line("");
    session.console.Line(StrCat(PodOf(volume), ": ", TimeOf(volume, "failed"), ": ", error));
  }
  return kDone;
}

int Unused(Session& session) {
  const std::int64_t days = session.flags.integer("days");
  if (days < 1) return session.Refuse("-days must be a whole number above 0");
  const absl::StatusOr<Json> unused =
      CallPlugin(session, "GET", StrCat("/v1/unused?days=", days));
  if (!unused.ok()) return session.Fail("Error asking the node plugin", unused.status());
  if (!session.table()) return PrintDocument(session, *unused, kUnusedOrder);
  const Json& files = At(*unused, "files");
  if (files.empty()) {
    session.console.Line(StrCat("No file of an audited volume was left unread for ", days, " days."));
    return kDone;
  }
  Table table = Table::WithHeader("Class", "File", "Published", "Last Read");
  for (const Json& file : files) {
    const std::string read = TimeOf(file, "last_read");
    table.Add(StrCat(TextAt(file, "namespace"), "/", TextAt(file, "class")), TextAt(file, "file"),
              TimeOf(file, "published"), read.empty() ? "never" : read);
  }
  session.console.Line(table.Print().view());
  return kDone;
}

// [AUDIENCE=]FILE, where "-" is standard input.
absl::Status AddToken(Session& session, std::string_view text, Json* tokens) {
  const std::size_t equals = text.find('=');
  const std::string_view audience = equals == text.npos ? "" : text.substr(0, equals);
  const std::string file(equals == text.npos ? text : text.substr(equals + 1));
  ASSIGN_OR_RETURN(const SecretBytes token,
                   file == "-" ? session.console.ReadAll() : ReadSecretFile(file));
  if (Trim(token.view()).empty()) {
    return absl::InvalidArgumentError(StrCat("the token file ", file, " is empty"));
  }
  (*tokens)[Json::string_t(audience)] = Json::string_t(Trim(token.view()));
  return absl::OkStatus();
}

int Done(Session& session, std::string_view done, const absl::StatusOr<Json>& answer) {
  if (!answer.ok()) return session.Fail(StrCat("Error: not ", done), answer.status());
  if (!session.table()) return PrintDocument(session, *answer, kCallOrder);
  session.console.Line(StrCat("Success! Volume ", TextAt(*answer, "volume_id"), " is ", done, ": ",
                              TextAt(*answer, "target")));
  return kDone;
}

void AddFlagTexts(const Session& session, std::initializer_list<std::pair<const char*, const char*>> names,
                  Json* body) {
  for (const auto& [flag, member] : names) {
    const std::string_view text = session.flags.text(flag);
    if (!text.empty()) (*body)[member] = Json::string_t(text);
  }
}

int Publish(Session& session) {
  for (const char* flag : {"class", "target"}) {
    if (session.flags.text(flag).empty()) return session.Refuse(StrCat("-", flag, " is missing"));
  }
  Json body = {{"namespace", "default"}};
  AddFlagTexts(session,
               {{"class", "class"},
                {"namespace", "namespace"},
                {"pod", "pod"},
                {"pod-uid", "pod_uid"},
                {"service-account", "service_account"},
                {"fs-group", "fs_group"},
                {"target", "target"},
                {"volume-id", "volume_id"}},
               &body);
  for (const std::string& token : session.flags.texts("token-file")) {
    if (const absl::Status read = AddToken(session, token, &body["tokens"]); !read.ok()) {
      return session.Refuse(Message(read));
    }
  }
  return Done(session, "published", CallPlugin(session, "POST", "/v1/publish", &body));
}

int Unpublish(Session& session) {
  if (session.flags.text("target").empty()) return session.Refuse("-target is missing");
  Json body = Json::object();
  AddFlagTexts(session, {{"target", "target"}, {"volume-id", "volume_id"}}, &body);
  return Done(session, "unpublished", CallPlugin(session, "POST", "/v1/unpublish", &body));
}

}  // namespace

std::vector<Command> CsiCommands() {
  const Flag target = {"target", FlagType::kText,
                       "Where: a path below the kubelet's folder, as the plugin sees it; its parent "
                       "must exist."};
  const Flag volume = {"volume-id", FlagType::kText,
                       "The volume's name; if not set, that of the volume at the target, or a new "
                       "one."};
  return {
      {.name = "csi status",
       .synopsis = "Print the node's volumes and what is in force",
       .usage = "[options]",
       .help = "Asks the node plugin of this machine for its volumes: pods, classes, versions of "
               "objects, the last rotation, the last error; and for what it runs on. A volume is ok, "
               "stale (the last rotation failed, the old content stays), failed (it was never "
               "mounted), or taken over from a plugin before this one and not yet asked for again.\n"
               "    $ coffer csi status -detailed\n"
               "    $ kubectl exec -n vault daemonset/vault-csi -- coffer csi status -format=json",
       .prints = Prints::kFormats,
       .flags = {kAdminSocketFlag,
                 {"detailed", FlagType::kSwitch, "All that is known of each volume."}},
       .run = Status,
       .local = true},
      {.name = "csi unused",
       .synopsis = "List secrets that nobody has read for days",
       .usage = "[options]",
       .help = "Lists the files of this node's volumes that were published days ago and not opened "
               "since, the longest unread first. Opens are known of classes with the parameter "
               "audit: \"opens\" alone, and over restarts of the plugin where it has a --state-dir.\n"
               "    $ coffer csi unused -days=14",
       .prints = Prints::kFormats,
       .flags = {kAdminSocketFlag,
                 {"days", FlagType::kInteger, "For how long: 30.", "30"}},
       .run = Unused,
       .local = true},
      {.name = "csi publish",
       .synopsis = "Publish a volume as the kubelet would",
       .usage = "[options] -class=NAME -target=PATH",
       .help = "Has the node plugin of this machine publish a volume for a pod: class, login, fetch, "
               "mount, or says what is wrong. Where one is published already, it is read again.\n"
               "    $ kubectl create token web -n shop --audience=vault --duration=10m |\n"
               "        coffer csi publish -namespace=shop -service-account=web -class=db \\\n"
               "          -token-file=vault=- -target=/var/lib/kubelet/pods/try/mount",
       .prints = Prints::kFormats,
       .flags = {kAdminSocketFlag,
                 {"class", FlagType::kText, "The SecretProviderClass, in the pod's namespace."},
                 target,
                 {"namespace", FlagType::kText, "The pod's namespace: default."},
                 {"service-account", FlagType::kText, "The pod's ServiceAccount: default.",
                  "default"},
                 {"token-file", FlagType::kTexts,
                  "[AUDIENCE=]FILE with a token of the ServiceAccount, - for standard input. Can be "
                  "given more than once. If not set, the plugin asks the API server for one, which "
                  "needs a pod that exists."},
                 {"pod", FlagType::kText, "The pod's name: coffer-csi-publish.",
                  "coffer-csi-publish"},
                 {"pod-uid", FlagType::kText, "The pod's uid: all zero.",
                  "00000000-0000-0000-0000-000000000000"},
                 {"fs-group", FlagType::kText,
                  "The pod's fsGroup; if not set, that of the volume at the target, or none."},
                 volume},
       .run = Publish,
       .local = true},
      {.name = "csi unpublish",
       .synopsis = "Unpublish a volume as the kubelet would",
       .usage = "[options] -target=PATH",
       .help = "Has the node plugin of this machine unmount a volume, remove its folder and revoke "
               "its token. There being none is no error.",
       .prints = Prints::kFormats,
       .flags = {kAdminSocketFlag, target, volume},
       .run = Unpublish,
       .local = true},
  };
}

}  // namespace coffer::cli
