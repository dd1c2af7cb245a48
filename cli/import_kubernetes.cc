// import k8s-secrets: Secrets of a Kubernetes cluster.
#include <cstdlib>
#include <set>

#include "cli/import.h"
#include "cli/kubernetes_secrets.h"
#include "cli/values.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::cli {

Command ImportVaultCommand();  // import_vault.cc

namespace {

// Which Secrets, and where to.
struct Wanted {
  std::set<std::string, std::less<>> namespaces;  // none: all
  std::set<std::string, std::less<>> types;       // none: all but those that the cluster makes
  LabelSelector selector;
  std::string path;
};

// Types of Secrets that the cluster or its tools make and own.
constexpr std::string_view kOwnedTypes[] = {"kubernetes.io/service-account-token",
                                            "bootstrap.kubernetes.io/token", "helm.sh/release.v1"};

// "": it is wanted.
std::string ReasonToSkip(const Wanted& wanted, const Json& secret) {
  std::string_view type = TextAt(secret, "type");
  if (type.empty()) type = "Opaque";
  if (!wanted.types.empty()) {
    return wanted.types.contains(type) ? "" : StrCat("its type is ", type);
  }
  for (const std::string_view owned : kOwnedTypes) {
    if (type == owned) return StrCat("its type is ", type, ", which the cluster makes");
  }
  const Json& labels = At(At(secret, "metadata"), "labels");
  if (TextAt(labels, "secrets-store.csi.k8s.io/managed") == "true") {
    return "it is a copy that a node plugin made (spec.secretObjects)";
  }
  return "";
}

std::string PathFor(std::string_view pattern, std::string_view name_space, std::string_view name,
                    std::string_view type) {
  const std::pair<std::string_view, std::string_view> marks[] = {
      {"{namespace}", name_space}, {"{name}", name}, {"{type}", type}};
  std::string path;
  while (!pattern.empty()) {
    const auto mark = std::find_if(std::begin(marks), std::end(marks), [&](const auto& candidate) {
      return pattern.starts_with(candidate.first);
    });
    const bool found = mark != std::end(marks);
    StrAppend(&path, found ? mark->second : pattern.substr(0, 1));
    pattern.remove_prefix(found ? mark->first.size() : 1);
  }
  return std::string(SanitizePath(path));
}

std::string Joined(const std::vector<std::string>& texts) {
  std::string joined;
  for (const std::string& text : texts) StrAppend(&joined, joined.empty() ? "" : ", ", text);
  return joined;
}

class KubernetesImport {
 public:
  KubernetesImport(const Wanted& wanted, Importer& importer) : wanted_(wanted), importer_(importer) {}

  // False: enough.
  bool Take(const SecretPage& page) {
    std::size_t done = page.before;
    for (const Json& secret : page.items) {
      if (Importer::Stopped()) return false;
      importer_.Progress(done++, page.total);
      Take(secret);
    }
    return true;
  }

 private:
  void Take(const Json& secret) {
    const Json& metadata = At(secret, "metadata");
    const std::string_view name = TextAt(metadata, "name");
    std::string_view name_space = TextAt(metadata, "namespace");
    if (name_space.empty()) name_space = "default";
    if (!wanted_.namespaces.empty() && !wanted_.namespaces.contains(name_space)) return;
    if (!wanted_.selector.Matches(At(metadata, "labels"))) return;
    const std::string source = StrCat(name_space, "/", name);
    if (name.empty()) return importer_.Fail(source, "", "a Secret has no metadata.name");
    if (!seen_.insert(source).second) return;  // of a list that was begun again
    if (const std::string reason = ReasonToSkip(wanted_, secret); !reason.empty()) {
      return importer_.Skip(source, reason);
    }
    ImportSecret import{.source = source,
                        .path = PathFor(wanted_.path, name_space, name, TextAt(secret, "type"))};
    if (const auto [at, fresh] = paths_.emplace(import.path, source); !fresh) {
      return importer_.Fail(source, import.path, StrCat(at->second, " has that path already: -path"));
    }
    std::vector<std::string> binary;
    absl::StatusOr<Json> contents = SecretContents(secret, &binary);
    if (!contents.ok()) return importer_.Fail(source, import.path, Message(contents.status()));
    if (contents->empty()) return importer_.Skip(source, "it is empty");
    import.versions.push_back(*std::move(contents));
    if (!binary.empty()) {
      import.note = StrCat("not text, kept as base64 (the class takes encoding: base64): ",
                           Joined(binary));
    }
    importer_.Put(import);
  }

  const Wanted& wanted_;
  Importer& importer_;
  std::set<std::string> seen_;
  std::map<std::string, std::string> paths_;  // to the source that has it
};

absl::StatusOr<KubeConfig> ConfigOf(const Session& session) {
  if (session.flags.given("kubeconfig")) {
    return LoadKubeConfig(std::string(session.flags.text("kubeconfig")));
  }
  if (!session.environment.Variable("KUBERNETES_SERVICE_HOST").empty()) return InClusterConfig();
  std::string path(session.environment.Variable("KUBECONFIG"));
  if (path.empty()) path = StrCat(session.environment.Variable("HOME"), "/.kube/config");
  return LoadKubeConfig(path);
}

absl::Status ImportFrom(Session& session, const Wanted& wanted, KubernetesImport& import) {
  if (!session.args.empty()) {
    for (const std::string& file : session.args) {
      absl::StatusOr<SecretBytes> text =
          file == "-" ? session.console.ReadAll() : ReadSecretFile(file);
      RETURN_IF_ERROR(text.status());
      const absl::StatusOr<Json> secrets = ReadSecretDocuments(text->view());
      if (!secrets.ok()) {
        return absl::InvalidArgumentError(
            StrCat(file == "-" ? "standard input" : file, ": ", Message(secrets.status())));
      }
      import.Take(SecretPage{*secrets, 0, secrets->size()});
    }
    return absl::OkStatus();
  }
  ASSIGN_OR_RETURN(const KubeConfig config, ConfigOf(session));
  std::vector<std::string> namespaces(wanted.namespaces.begin(), wanted.namespaces.end());
  if (namespaces.empty()) namespaces.emplace_back();
  for (const std::string& name_space : namespaces) {
    RETURN_IF_ERROR(ListSecrets(config, name_space, wanted.selector,
                                [&](const SecretPage& page) { return import.Take(page); }));
  }
  return absl::OkStatus();
}

int ImportKubernetes(Session& session) {
  Wanted wanted;
  for (const std::string& name : session.flags.texts("from-namespace")) wanted.namespaces.insert(name);
  for (const std::string& type : session.flags.texts("type")) wanted.types.insert(type);
  absl::StatusOr<LabelSelector> selector = LabelSelector::Parse(session.flags.text("selector"));
  if (!selector.ok()) return session.Refuse(StrCat("-selector: ", Message(selector.status())));
  wanted.selector = *std::move(selector);
  wanted.path = session.flags.text("path");
  if (wanted.path.find("{name}") == std::string::npos) {
    return session.Refuse("-path must have {name} in it, or all Secrets had one path");
  }
  absl::StatusOr<Importer> importer = Importer::Open(session);
  if (!importer.ok()) return session.Fail("Error looking at the mount", importer.status());
  KubernetesImport import(wanted, *importer);
  const absl::Status read = ImportFrom(session, wanted, import);
  const int code = importer->Finish(read.ok());
  if (read.ok()) return code;
  return session.Fail("Error reading Secrets, run it again to go on", read);
}

}  // namespace

std::vector<Command> ImportCommands() {
  Command kubernetes = {
      .name = "import k8s-secrets",
      .synopsis = "Import Secrets of a Kubernetes cluster",
      .usage = "[options] [FILE...]",
      .help = "Copies Kubernetes Secrets into a kv mount: those of JSON or YAML files (\"-\" is standard "
              "input), else those that the API server lists, of the kubeconfig's current context or "
              "of the cluster that this runs in. It can be broken off and run again: what is there "
              "already is told by its content and left alone. What can't be moved is said, and the "
              "exit code is 2 then.\n"
              "    $ coffer import k8s-secrets -from-namespace=shop -dry-run\n"
              "    $ kubectl get secrets -A -o json | coffer import k8s-secrets -mount=secret -",
      .max_args = kAnyNumber,
      .prints = Prints::kFormats,
      .flags = ImportFlags(),
      .run = ImportKubernetes};
  for (const Flag& flag : std::initializer_list<Flag>{
           {"path", FlagType::kText,
            "Where in the mount: {namespace}/{name}. Besides, there is {type}.",
            "{namespace}/{name}"},
           {"from-namespace", FlagType::kTexts,
            "Of this namespace alone. Can be given more than once."},
           {"selector", FlagType::kText, "With these labels alone: app=web,tier!=test,owned,!old.",
            "", "l"},
           {"type", FlagType::kTexts,
            "Of this type alone. Can be given more than once. If not set: all but ServiceAccount "
            "tokens, bootstrap tokens and Helm's releases."},
           {"kubeconfig", FlagType::kText,
            "The kubeconfig. If not set: the cluster that this runs in, KUBECONFIG, "
            "~/.kube/config."}}) {
    kubernetes.flags.push_back(flag);
  }
  return {std::move(kubernetes), ImportVaultCommand()};
}

}  // namespace coffer::cli
