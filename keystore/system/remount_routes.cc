#include "keystore/system/remount_routes.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "common/log.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

constexpr std::size_t kRemembered = 256;

constexpr std::string_view kAuth = "auth/";
constexpr std::string_view kTokenMount = "auth/token/";
// Where secrets engines neither come from nor go to, as in Vault.
constexpr std::string_view kProtected[] = {"audit/", kAuth, "sys/", "cubbyhole/", "identity/"};

struct Move {
  std::string id;  // a UUID
  std::string from, to;
};

// The latest moves. A move is one transaction, so that what is known of it is that it was done; as
// in Vault that is forgotten with the process.
class Moves {
 public:
  void Add(Move move) {
    std::lock_guard lock(mutex_);
    if (latest_.size() == kRemembered) latest_.pop_front();
    latest_.push_back(std::move(move));
  }
  std::optional<Move> Find(std::string_view id) const {
    std::lock_guard lock(mutex_);
    const auto found = std::find_if(latest_.begin(), latest_.end(),
                                    [&](const Move& move) { return move.id == id; });
    return found == latest_.end() ? std::nullopt : std::optional(*found);
  }

 private:
  mutable std::mutex mutex_;
  std::deque<Move> latest_;
};

// A mount's path from what people write: "/secret" is "secret/".
std::string MountPath(std::string_view given) {
  while (given.starts_with('/')) given.remove_prefix(1);
  return StrCat(given, given.ends_with('/') ? "" : "/");
}

std::string Quoted(std::string_view path) { return StrCat("\"", path, "\""); }

absl::Status CheckAuthMove(std::string_view from, std::string_view to) {
  if (!to.starts_with(kAuth)) {
    return absl::InvalidArgumentError(
        StrCat("cannot remount auth mount to non-auth mount ", Quoted(to)));
  }
  if (from.starts_with(kTokenMount)) {
    return absl::InvalidArgumentError(StrCat("cannot remount ", Quoted(from)));
  }
  if (to.starts_with(kTokenMount)) {
    return absl::InvalidArgumentError(StrCat("cannot remount to destination ", Quoted(to)));
  }
  return absl::OkStatus();
}

// Whether there can be such a move at all, whatever is mounted; in Vault's words.
absl::Status CheckMove(std::string_view from, std::string_view to) {
  for (const auto& [name, path] : {std::pair("from", from), std::pair("to", to)}) {
    if (path.starts_with(' ') || path.ends_with(" /")) {
      return absl::InvalidArgumentError(
          StrCat("'", name, "' path cannot contain trailing whitespace"));
    }
  }
  const absl::Status possible = CheckMountPath(to.substr(0, to.size() - 1));
  if (!possible.ok()) {
    return absl::InvalidArgumentError(StrCat("invalid destination mount: ", Message(possible)));
  }
  if (from.starts_with(kAuth)) return CheckAuthMove(from, to);
  for (const std::string_view path : kProtected) {
    if (from.starts_with(path)) {
      return absl::InvalidArgumentError(StrCat("cannot remount ", Quoted(from)));
    }
    if (to.starts_with(path)) {
      return absl::InvalidArgumentError(StrCat("cannot remount to destination ", to));
    }
  }
  return absl::OkStatus();
}

// The mount keeps its uuid and with it all that it stores; what is under way at the old path has
// read the mount table, so that it comes before the move or is run again after it.
absl::StatusOr<Response> Remount(MountStore& mounts, TokenStore& tokens,
                                 const std::shared_ptr<Moves>& moves, const Request& request,
                                 Txn& txn) {
  if (request.text("from").empty() || request.text("to").empty()) {
    return absl::InvalidArgumentError("both 'from' and 'to' path must be specified as a string");
  }
  Move move = {RandomUuid(), MountPath(request.text("from")), MountPath(request.text("to"))};
  RETURN_IF_ERROR(CheckMove(move.from, move.to));
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const std::shared_ptr<const MountTable> table, mounts.Load(root));
  std::vector<MountEntry> entries = table->entries();
  const auto moved = std::find_if(entries.begin(), entries.end(),
                                  [&](const MountEntry& mount) { return mount.path == move.from; });
  if (moved == entries.end()) {
    return absl::InvalidArgumentError(StrCat("no matching mount at ", Quoted(move.from)));
  }
  if (const MountEntry* other = table->Conflict(move.to)) {
    return absl::InvalidArgumentError(StrCat("path already in use at ", Quoted(other->path)));
  }
  RETURN_IF_ERROR(tokens.CheckNotRevoking(root, move.to));
  moved->path = move.to;
  RETURN_IF_ERROR(mounts.Save(root, entries));
  RETURN_IF_ERROR(tokens.RevokeBelow(root, move.from));
  Response response = Response::Flattened({{"migration_id", move.id}});
  response.revokes = true;
  txn.OnCommit([moves, move = std::move(move)] {
    log::Info("mount moved", {{"from", move.from}, {"to", move.to}, {"migration_id", move.id}});
    moves->Add(move);
  });
  return response;
}

absl::StatusOr<Response> Status(const Moves& moves, const Request& request) {
  const std::optional<Move> move = moves.Find(request.text("migration_id"));
  if (!move) return absl::NotFoundError("");
  return Response::Data(
      {{"migration_id", move->id},
       {"migration_info",
        {{"source_mount", move->from}, {"target_mount", move->to}, {"status", "success"}}}});
}

}  // namespace

std::vector<Route> RemountRoutes(MountStore& mounts, TokenStore& tokens) {
  const auto moves = std::make_shared<Moves>();
  return {
      {"remount",
       "Moves a mount to another path, with all that it holds. The tokens that it made are "
       "revoked.",
       {{"from", FieldType::kString, "Where it is mounted, as \"secret\" or \"auth/kubernetes\"."},
        {"to", FieldType::kString, "Where it is to be: of an auth method below \"auth/\", too."}},
       {{Operation::kUpdate,
         [&mounts, &tokens, moves](const Request& request, Txn& txn) {
           return Remount(mounts, tokens, moves, request, txn);
         }}},
       Access::kSudo},
      {"remount/status/{migration_id+}",
       "What has become of a move: \"success\", since it is done once it is answered. The latest "
       "moves since the keystore was started are known.",
       {{"migration_id", FieldType::kString, "What the move was answered with."}},
       {{Operation::kRead,
         [moves](const Request& request, Txn&) { return Status(*moves, request); }}}}};
}

}  // namespace coffer::keystore
