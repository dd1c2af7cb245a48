// import vault: a kv mount of another Vault, OpenBao or Coffer.
#include "cli/import.h"
#include "cli/values.h"
#include "common/duration.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

// The mount that is read.
class Source {
 public:
  Source(ClientSettings settings, const TlsClientOptions& tls, bool all_versions)
      : transport_(MakeCurlTransport(tls)),
        api_(std::move(settings), *transport_),
        all_versions_(all_versions) {}

  // FailedPrecondition: it is no kv mount.
  absl::Status Open(std::string_view mount) {
    mount_.mount = WithSlash(SanitizePath(mount));
    ASSIGN_OR_RETURN(const Json answer,
                     api_.Call({.method = "GET",
                                .path = StrCat("sys/internal/ui/mounts/", SanitizePath(mount)),
                                .preflight = true}));
    const std::string_view type = TextAt(At(answer, "data"), "type");
    if (type != "kv" && type != "generic") {
      return absl::FailedPreconditionError(
          StrCat(mount_.mount, " holds secrets of type \"", type, "\": kv alone can be imported"));
    }
    mount_.v2 = TextAt(At(At(answer, "data"), "options"), "version") == "2";
    return absl::OkStatus();
  }

  // Imports all below `folder`, "" or with a slash at the end.
  void Import(const std::string& folder, Importer& importer) {
    std::vector<std::string> paths;
    Walk(folder, importer, &paths);
    for (std::size_t i = 0; i < paths.size() && !Importer::Stopped(); ++i) {
      importer.Progress(i, paths.size());
      ImportOne(paths[i], importer);
    }
  }

 private:
  void Walk(const std::string& folder, Importer& importer, std::vector<std::string>* paths) {
    const absl::StatusOr<Json> listed = api_.List(Api("metadata", folder));
    if (!listed.ok()) return importer.Fail(StrCat(mount_.mount, folder), "", Message(listed.status()));
    for (const Json& key : At(At(*listed, "data"), "keys")) {
      if (!key.is_string() || Importer::Stopped()) continue;
      std::string path = StrCat(folder, std::string_view(key.get_ref<const Json::string_t&>()));
      if (path.ends_with('/')) {
        Walk(path, importer, paths);
      } else {
        paths->push_back(std::move(path));
      }
    }
  }

  void ImportOne(const std::string& path, Importer& importer) {
    ImportSecret secret{.source = StrCat(mount_.mount, path), .path = path};
    const absl::Status read = mount_.v2 ? ReadV2(secret) : ReadV1(secret);
    if (!read.ok()) {
      importer.Fail(secret.source, "", Message(read));
    } else if (secret.versions.empty()) {
      importer.Skip(secret.source, "there is no version that isn't deleted");
    } else {
      if (!importer.v2()) secret.metadata = Json();
      importer.Put(secret);
    }
  }

  std::string Api(std::string_view kind, std::string_view path) const {
    KvPath api = mount_;
    api.path = StrCat(mount_.mount, path);
    std::string text = api.Api(kind);
    if (path.ends_with('/') && !text.ends_with('/')) text += '/';
    return text;
  }

  absl::Status ReadV1(ImportSecret& secret) {
    ASSIGN_OR_RETURN(const Json answer, api_.Read(Api("", secret.path)));
    if (!answer.is_null()) secret.versions.push_back(At(answer, "data"));
    return absl::OkStatus();
  }

  absl::Status ReadV2(ImportSecret& secret) {
    ASSIGN_OR_RETURN(const Json answer, api_.Read(Api("metadata", secret.path)));
    const Json& metadata = At(answer, "data");
    secret.metadata = MetadataOf(metadata);
    // By number, which as text would come in another order.
    std::vector<std::int64_t> numbers;
    for (const auto& [number, version] : At(metadata, "versions").items()) {
      if (!TrueAt(version, "destroyed")) {
        numbers.push_back(std::strtoll(std::string(std::string_view(number)).c_str(), nullptr, 10));
      }
    }
    std::sort(numbers.begin(), numbers.end());
    if (!all_versions_) numbers = {IntegerAt(metadata, "current_version")};
    std::size_t gone = 0;
    for (const std::int64_t number : numbers) {
      ASSIGN_OR_RETURN(const Json read,
                       api_.Read(Api("data", secret.path), {{"version", StrCat(number)}}));
      const Json& data = At(At(read, "data"), "data");
      if (data.is_object()) {
        secret.versions.push_back(data);
      } else {
        ++gone;
      }
    }
    if (all_versions_ && !numbers.empty() &&
        (gone > 0 || numbers.back() != static_cast<std::int64_t>(numbers.size()))) {
      secret.note = StrCat(secret.versions.size(), " versions, numbered anew: others are gone");
    }
    return absl::OkStatus();
  }

  // What differs from a new secret's.
  static Json MetadataOf(const Json& metadata) {
    Json kept = Json::object();
    if (IntegerAt(metadata, "max_versions") > 0) kept["max_versions"] = At(metadata, "max_versions");
    if (TrueAt(metadata, "cas_required")) kept["cas_required"] = true;
    if (const std::string_view after = TextAt(metadata, "delete_version_after");
        !after.empty() && after != "0s") {
      kept["delete_version_after"] = Json::string_t(after);
    }
    if (const Json& custom = At(metadata, "custom_metadata"); custom.is_object() && !custom.empty()) {
      kept["custom_metadata"] = custom;
    }
    return kept.empty() ? Json() : kept;
  }

  const std::unique_ptr<HttpTransport> transport_;
  ApiClient api_;
  const bool all_versions_;
  KvPath mount_;
};

absl::StatusOr<SecretBytes> SourceToken(const Session& session) {
  if (session.flags.given("from-token-file")) {
    ASSIGN_OR_RETURN(const SecretBytes text,
                     ReadSecretFile(std::string(session.flags.text("from-token-file"))));
    return SecretBytes::CopyOf(Trim(text.view()));
  }
  const std::string_view token = session.environment.Variable("COFFER_FROM_TOKEN");
  if (token.empty()) {
    return absl::FailedPreconditionError(
        "no token for the source: give -from-token-file or set COFFER_FROM_TOKEN");
  }
  return SecretBytes::CopyOf(token);
}

int ImportVault(Session& session) {
  const Flags& flags = session.flags;
  std::string address(flags.text("from-address"));
  while (address.ends_with('/')) address.pop_back();
  if (address.empty()) return session.Refuse("-from-address is missing");
  const bool all = flags.text("versions") == "all";
  if (!all && flags.text("versions") != "newest") {
    return session.Refuse("-versions must be newest or all");
  }
  absl::StatusOr<SecretBytes> token = SourceToken(session);
  if (!token.ok()) return session.Refuse(Message(token.status()));
  ClientSettings settings{.address = address, .token = *std::move(token), .max_retries = 2};
  settings.name_space = WithSlash(flags.text("from-namespace"));
  const TlsClientOptions tls{.ca_file = std::string(flags.text("from-ca-cert")),
                             .skip_verify = flags.on("from-tls-skip-verify")};
  Source source(std::move(settings), tls, all);
  if (const absl::Status opened = source.Open(flags.text("from-mount")); !opened.ok()) {
    return session.Fail("Error looking at the source", opened);
  }
  absl::StatusOr<Importer> importer = Importer::Open(session);
  if (!importer.ok()) return session.Fail("Error looking at the mount", importer.status());
  source.Import(WithSlash(flags.text("prefix")), *importer);
  return importer->Finish(/*complete=*/true);
}

}  // namespace

Command ImportVaultCommand() {
  Command command = {
      .name = "import vault",
      .synopsis = "Import a kv mount of another Vault",
      .usage = "[options] -from-address=URL",
      .help = "Copies all secrets of a kv mount, version 1 or 2, of a Vault, OpenBao or Coffer into a kv "
              "mount of this one, with their metadata. It can be broken off and run again: what is "
              "there already is told by its content and left alone. What can't be moved is said, and "
              "the exit code is 2 then.\n"
              "    $ coffer import vault -from-address=https://vault.example.com:8200 \\\n"
              "        -from-token-file=token -from-mount=secret -mount=secret -versions=all",
      .prints = Prints::kFormats,
      .flags = ImportFlags(),
      .run = ImportVault};
  for (const Flag& flag : std::initializer_list<Flag>{
           {"from-address", FlagType::kText, "The address of the server to import from."},
           {"from-token-file", FlagType::kText,
            "A file with a token of that server, which may read and list the mount. If not set, "
            "COFFER_FROM_TOKEN counts."},
           {"from-namespace", FlagType::kText, "The namespace there."},
           {"from-ca-cert", FlagType::kText, "A PEM file of the CA of its certificate."},
           {"from-tls-skip-verify", FlagType::kSwitch, "Trust any certificate of it."},
           {"from-mount", FlagType::kText, "The mount there: secret.", "secret"},
           {"prefix", FlagType::kText, "Import what lies below this folder alone."},
           {"versions", FlagType::kText,
            "newest, or all that aren't deleted, in their order; their numbers begin at 1 again.",
            "newest"}}) {
    command.flags.push_back(flag);
  }
  return command;
}

}  // namespace coffer::cli
