#include "cli/import.h"

#include <csignal>

#include "cli/output.h"
#include "cli/values.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::cli {
namespace {

// By Outcome: in the report, and before and after the deed in lines.
constexpr std::string_view kNames[] = {"written", "same", "skipped", "failed"};
constexpr std::string_view kLines[] = {"written  ", "same     ", "skipped  ", "NOT MOVED"};
constexpr std::string_view kWouldWrite = "to write ";
constexpr std::string_view kOrder[] = {"dry_run", "complete", "written", "same", "skipped", "failed", "secrets",
                                       "secrets.outcome", "secrets.source"};

volatile std::sig_atomic_t stopped = 0;

void StopBySignal() {
  struct sigaction action = {};
  action.sa_handler = [](int) { stopped = 1; };
  action.sa_flags = SA_RESTART | static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

absl::Status Conflict(std::string_view what) {
  return absl::FailedPreconditionError(
      StrCat("the mount holds ", what, " there; -overwrite replaces it by a new version"));
}

// In one line: the server's words come in several.
std::string OneLine(std::string_view text) {
  std::string line;
  for (const std::string_view part : Split(text, '\n')) {
    if (!Trim(part).empty()) StrAppend(&line, line.empty() ? "" : " ", Trim(part));
  }
  return line;
}

// Whether `wanted`'s members are what the mount has, whose numbers may be written another way.
bool MetadataSame(const Json& wanted, const Json& held) {
  for (const auto& [name, value] : wanted.items()) {
    if (At(held, name) != value && !(name == "custom_metadata" && value.empty() &&
                                     !At(held, name).is_object())) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::vector<Flag> ImportFlags() {
  return {{"mount", FlagType::kText, "The kv mount to import into: secret.", "secret"},
          {"dry-run", FlagType::kSwitch, "Look at both sides and say what would be done."},
          {"overwrite", FlagType::kSwitch,
           "Write a new version where the mount holds something else at a secret's path. If not set, "
           "that is left alone and reported."}};
}

absl::StatusOr<Importer> Importer::Open(Session& session) {
  ASSIGN_OR_RETURN(KvPath mount, ResolveKvPath(session, ""));
  if (mount.mount.empty()) mount.mount = WithSlash(session.flags.text("mount"));
  StopBySignal();
  return Importer(session, std::move(mount));
}

std::string Importer::Api(std::string_view kind, const ImportSecret& secret) const {
  KvPath path = mount_;
  path.path = StrCat(mount_.mount, secret.path);
  return path.Api(kind);
}

void Importer::Put(const ImportSecret& secret) {
  const absl::StatusOr<Outcome> outcome = mount_.v2 ? PutV2(secret) : PutV1(secret);
  if (outcome.ok()) {
    Tell(*outcome, secret.source, secret.path, secret.note);
  } else {
    Fail(secret.source, secret.path, Message(outcome.status()));
  }
}

void Importer::Skip(std::string_view source, std::string_view why) {
  Tell(Outcome::kSkipped, source, "", why);
}

void Importer::Fail(std::string_view source, std::string_view path, std::string_view why) {
  Tell(Outcome::kFailed, source, path, why);
}

absl::StatusOr<Importer::Outcome> Importer::PutV1(const ImportSecret& secret) {
  if (secret.versions.size() > 1) {
    return absl::FailedPreconditionError(
        StrCat(mount_.mount, " is kv version 1 and keeps one version: import the newest alone"));
  }
  ASSIGN_OR_RETURN(const Json held, session_->api->Read(Api("", secret)));
  if (!held.is_null()) {
    if (At(held, "data") == secret.versions.front()) return Outcome::kSame;
    if (!session_->flags.on("overwrite")) return Conflict("something else");
  }
  if (session_->flags.on("dry-run")) return Outcome::kWritten;
  RETURN_IF_ERROR(session_->api->Write(Api("", secret), secret.versions.front()).status());
  return Outcome::kWritten;
}

absl::StatusOr<std::size_t> Importer::HeldV2(const ImportSecret& secret, std::int64_t* current,
                                             bool* metadata_same) {
  ASSIGN_OR_RETURN(const Json answer, session_->api->Read(Api("metadata", secret)));
  const Json& held = At(answer, "data");
  *metadata_same = secret.metadata.is_null() || MetadataSame(secret.metadata, held);
  *current = IntegerAt(held, "current_version");
  if (*current == 0) return std::size_t{0};
  const auto data_of = [&](std::int64_t version) -> absl::StatusOr<Json> {
    ASSIGN_OR_RETURN(const Json read, session_->api->Read(Api("data", secret),
                                                          {{"version", StrCat(version)}}));
    return At(At(read, "data"), "data");
  };
  if (secret.versions.size() == 1) {
    ASSIGN_OR_RETURN(const Json newest, data_of(*current));
    if (newest == secret.versions.front()) return std::size_t{1};
    return Conflict(newest.is_null() ? "a deleted version" : "something else");
  }
  const auto count = static_cast<std::size_t>(*current);
  if (count > secret.versions.size()) return Conflict("more versions");
  for (std::size_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const Json data, data_of(static_cast<std::int64_t>(i) + 1));
    if (data != secret.versions[i]) return Conflict("other versions");
  }
  return count;
}

absl::Status Importer::WriteV2(const ImportSecret& secret, std::size_t first, std::int64_t cas) {
  for (std::size_t i = first; i < secret.versions.size(); ++i) {
    const Json body = {{"options", {{"cas", cas}}}, {"data", secret.versions[i]}};
    ASSIGN_OR_RETURN(const Json written, session_->api->Write(Api("data", secret), body));
    cas = IntegerAt(At(written, "data"), "version");
  }
  return absl::OkStatus();
}

absl::StatusOr<Importer::Outcome> Importer::PutV2(const ImportSecret& secret) {
  std::int64_t current = 0;
  bool metadata_same = true;
  absl::StatusOr<std::size_t> held = HeldV2(secret, &current, &metadata_same);
  if (absl::IsFailedPrecondition(held.status()) && session_->flags.on("overwrite")) held = 0;
  RETURN_IF_ERROR(held.status());
  if (*held == secret.versions.size() && metadata_same) return Outcome::kSame;
  if (session_->flags.on("dry-run")) return Outcome::kWritten;
  // First: it says how many versions are kept.
  if (!metadata_same) {
    RETURN_IF_ERROR(session_->api->Write(Api("metadata", secret), secret.metadata).status());
  }
  RETURN_IF_ERROR(WriteV2(secret, *held, current));
  return Outcome::kWritten;
}

void Importer::Tell(Outcome outcome, std::string_view source, std::string_view path,
                    std::string_view reason) {
  const std::string why = OneLine(reason);
  const auto index = static_cast<std::size_t>(outcome);
  ++counts_[index];
  if (!session_->table()) {
    Json entry = {{"source", Json::string_t(source)}, {"outcome", Json::string_t(kNames[index])}};
    if (!path.empty()) entry["path"] = Json::string_t(StrCat(mount_.mount, path));
    if (!why.empty()) entry["reason"] = Json::string_t(why);
    entries_.push_back(std::move(entry));
    return;
  }
  const bool would = outcome == Outcome::kWritten && session_->flags.on("dry-run");
  std::string line = StrCat(would ? kWouldWrite : kLines[index], "  ", source);
  if (!path.empty()) StrAppend(&line, " -> ", mount_.mount, path);
  if (!why.empty()) StrAppend(&line, ": ", why);
  if (outcome == Outcome::kFailed) {
    session_->console.Error(line);
  } else {
    session_->console.Line(line);
  }
}

void Importer::Progress(std::size_t done, std::size_t total) {
  session_->console.Progress(total == 0 ? StrCat(done) : StrCat(done, " of ", total));
}

bool Importer::Stopped() { return stopped != 0; }

int Importer::Finish(bool complete) {
  const bool dry_run = session_->flags.on("dry-run");
  complete = complete && !Stopped();
  const bool all = complete && counts_[static_cast<std::size_t>(Outcome::kFailed)] == 0;
  const int code = all ? kDone : kApiError;
  if (Stopped()) session_->console.Error("broken off: run it again to go on");
  if (session_->table()) {
    session_->console.Line(StrCat("\n", counts_[0], dry_run ? " to write, " : " written, ", counts_[1],
                                  " the same already, ", counts_[2], " skipped, ", counts_[3],
                                  " not moved"));
    return code;
  }
  Json report = {{"dry_run", dry_run}, {"complete", complete}, {"secrets", std::move(entries_)}};
  for (std::size_t i = 0; i < std::size(kNames); ++i) report[Json::string_t(kNames[i])] = counts_[i];
  const int printed = PrintDocument(*session_, report, kOrder);
  return printed == kDone ? code : printed;
}

}  // namespace coffer::cli
