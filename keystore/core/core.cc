#include "keystore/core/core.h"

#include <chrono>
#include <future>

#include "common/log.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/core/cidr.h"
#include "keystore/core/envelope.h"
#include "keystore/core/wrapping.h"

namespace coffer::keystore {
namespace {

constexpr std::chrono::seconds kTellOfStorageEvery(10);
constexpr std::string_view kSystemPath = "sys/";

MountEntry SystemMount() {
  MountEntry mount;
  mount.path = std::string(kSystemPath);
  mount.type = "system";
  return mount;
}

absl::Status InvalidToken() {
  return absl::PermissionDeniedError(
      "2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n");
}

const Handler* FindHandler(const Route& route, Operation operation) {
  const Handler* update = nullptr;
  for (const RouteOperation& candidate : route.operations) {
    if (candidate.operation == operation) return &candidate.handler;
    if (candidate.operation == Operation::kUpdate) update = &candidate.handler;
  }
  return operation == Operation::kCreate ? update : nullptr;
}

bool IsLogin(const Request& request) {
  return request.route != nullptr && request.route->access == Access::kUnauthenticated &&
         request.mount->auth();
}

bool NeedsNoBarrier(const Route& route, const Request& request) {
  return route.access == Access::kBarrierless ||
         (route.access == Access::kMetrics && request.metrics_for_all);
}

bool IsOpen(const Route& route, const Request& request) {
  return route.access == Access::kUnauthenticated ||
         (route.access == Access::kOptionalToken && request.token.empty());
}

bool NeedsPolicy(const Route& route, const Request& request) {
  return route.access == Access::kToken || route.access == Access::kSudo ||
         (route.access == Access::kMetrics && !request.metrics_for_all);
}

// Whether the caller's own token is the one that is to be unwrapped.
bool ComesWithWrappingToken(const Route& route, const Request& request) {
  if (route.access != Access::kWrappingToken || request.token.empty()) return false;
  const auto given = request.data.find("token");
  return given == request.data.end() ||
         (given->is_string() && given->get_ref<const Json::string_t&>() == request.token.view());
}

int StatusOf(const absl::StatusOr<Response>& response) {
  if (!response.ok()) return HttpStatusFor(response.status());
  return response->http_status == 0 ? 200 : response->http_status;
}

// What tokens a mount's method gives where its role asks for `asked`: the mount's own type is the last
// word, its default only fills in.
std::string_view TokenTypeOn(const MountEntry& mount, std::string_view asked) {
  const auto found = mount.config.find("token_type");
  std::string_view tuned;
  if (found != mount.config.end() && found->is_string()) {
    tuned = found->get_ref<const Json::string_t&>();
  }
  if (tuned == "service" || tuned == "batch") return tuned;
  if (asked == "batch" || asked == "default-batch") return "batch";
  const bool open = asked.empty() || asked == "default";
  return open && tuned == "default-batch" ? "batch" : asked;
}

// A mount's own path may come without its "/".
std::string_view BelowMount(std::string_view path, const MountEntry& mount) {
  return path.substr(std::min(mount.path.size(), path.size()));
}

// Who asks for "a/" may mean a secret or a folder: a write must say.
bool WritesToFolder(const Request& request) {
  switch (request.operation) {
    case Operation::kCreate:
    case Operation::kUpdate:
    case Operation::kPatch: return request.path.ends_with('/');
    default: return false;
  }
}

absl::Status NoRoute(std::string_view path) {
  return absl::NotFoundError(
      StrCat("no handler for route \"", path, "\". route entry not found."));
}

Response Help(std::string text) {
  return Response::Bare({{"help", std::move(text)}, {"see_also", nullptr}});
}

absl::Status UnsupportedPath(std::string_view path) {
  return absl::NotFoundError(StrCat("1 error occurred:\n\t* unsupported path \"", path, "\"\n\n"));
}

}  // namespace

int HttpStatusFor(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kOk: return 200;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange: return 400;
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated: return 403;
    case absl::StatusCode::kNotFound: return 404;
    case absl::StatusCode::kUnimplemented: return 405;
    case absl::StatusCode::kResourceExhausted: return 507;
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kUnavailable: return 503;
    default: return 500;
  }
}

absl::Status PermissionDenied() {
  return absl::PermissionDeniedError("1 error occurred:\n\t* permission denied\n\n");
}

// One request on its way. The transaction and what was found within it are of the latest attempt.
struct Core::Call {
  Request& request;
  Done done;
  const Operation asked;  // before Core tells create from update
  int attempts = 0;
  std::shared_ptr<const MountTable> mounts;
  std::unique_ptr<BarrierTxn> txn;
  bool counted_use = false;
  std::shared_ptr<const AuditDevices> devices;  // null: it doesn't get to the barrier
  bool audited = false;
  const std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
};

Core::Core(Barrier& barrier, TokenStore& tokens, PolicyStore& policies, MountStore& mounts,
           Audit& audit, int workers)
    : barrier_(barrier),
      tokens_(tokens),
      policies_(policies),
      mounts_(mounts),
      audit_(audit),
      system_mount_(SystemMount()),
      workers_(workers) {}

Core::~Core() {
  std::unique_lock lock(mutex_);
  ending_ = true;
  changed_.notify_all();
  changed_.wait(lock, [this] { return under_way_ == 0; });
  lock.unlock();
  if (expiry_.joinable()) expiry_.join();
}

void Core::Register(std::string type, Backend& backend) {
  served_.insert_or_assign(std::move(type), Served{&backend, RouteTable(backend)});
}

const Core::Served* Core::FindServed(const MountEntry& mount) const {
  if (const auto found = served_.find(mount.type); found != served_.end()) return &found->second;
  const auto version = mount.options.find("version");
  const auto found = served_.find(
      StrCat(mount.type, "/", version == mount.options.end() ? "1" : version->second));
  return found == served_.end() ? nullptr : &found->second;
}

Backend* Core::FindBackend(const MountEntry& mount) const {
  const Served* served = FindServed(mount);
  return served == nullptr ? nullptr : served->backend;
}

void Core::Handle(Request& request, Done done) {
  {
    std::lock_guard lock(mutex_);
    ++under_way_;
  }
  Attempt(std::shared_ptr<Call>(new Call{request, std::move(done), request.operation}));
}

absl::StatusOr<Response> Core::HandleAndWait(Request& request) {
  std::promise<absl::StatusOr<Response>> answer;
  Handle(request, [&](absl::StatusOr<Response> response) { answer.set_value(std::move(response)); });
  return answer.get_future().get();
}

void Core::Finish(std::shared_ptr<Call> call, absl::StatusOr<Response> response) {
  call->txn.reset();
  if (IsStorageError(response.status())) response = WithoutPlace(response.status());
  response = AuditAnswer(*call, std::move(response));
  telemetry_.Count(call->asked, IsLogin(call->request), StatusOf(response),
                   absl::FromChrono(std::chrono::steady_clock::now() - call->started));
  call->done(std::move(response));
  std::lock_guard lock(mutex_);
  --under_way_;
  if (ending_) changed_.notify_all();
}

absl::Status Core::WithoutPlace(const absl::Status& failed) {
  const auto now = std::chrono::steady_clock::now();
  bool tell = false;
  {
    std::lock_guard lock(mutex_);
    tell = !storage_told_ || now >= *storage_told_ + kTellOfStorageEvery;
    if (tell) storage_told_ = now;
  }
  if (tell) log::Error("a request failed for want of storage", {{"error", failed}});
  return {failed.code(), absl::IsResourceExhausted(failed)
                             ? "the storage is full: delete secrets, or give it more room"
                             : "the storage failed: the keystore's log says how"};
}

void Core::Attempt(std::shared_ptr<Call> call) {
  ++call->attempts;
  call->request.operation = call->asked;
  call->txn.reset();
  absl::StatusOr<Response> response = Run(*call);
  if (!response.ok() && IsNeedsWorker(response.status()) && !call->request.may_block) {
    return AttemptOnWorker(std::move(call));
  }
  if (!response.ok()) {
    if (call->counted_use) return CountUse(call, response.status());
    return Finish(std::move(call), std::move(response));
  }
  if (call->txn == nullptr || (call->txn->read_only() && !response->revokes)) {
    return Finish(std::move(call), std::move(response));
  }

  auto answer = std::make_shared<Response>(*std::move(response));
  barrier_.Commit(std::move(call->txn), [this, call, answer](absl::Status committed) {
    if (committed.ok() && answer->revokes) {
      return workers_.Run([this, call, answer] {
        const absl::Status revoked = RevokeNoted();
        Finish(call, revoked.ok() ? absl::StatusOr<Response>(std::move(*answer)) : revoked);
      });
    }
    if (committed.ok()) return Finish(call, std::move(*answer));
    if (!absl::IsAborted(committed) || call->attempts >= kAttempts) {
      return Finish(call, std::move(committed));
    }
    AttemptOnWorker(call);
  });
}

void Core::AttemptOnWorker(std::shared_ptr<Call> call) {
  workers_.Run([this, call = std::move(call)] {
    call->request.may_block = true;
    Attempt(call);
  });
}

void Core::CountUse(std::shared_ptr<Call> call, absl::Status failure) {
  auto txn = barrier_.Begin();
  if (!txn.ok()) return Finish(std::move(call), std::move(failure));
  Txn root = (*txn)->root();
  // Counted without being run again: when others use the token at this moment they count too.
  if (const absl::Status used = tokens_.Use(root, *call->request.caller); !used.ok()) {
    return Finish(std::move(call), std::move(failure));
  }
  barrier_.Commit(*std::move(txn), [this, call, failure](const absl::Status&) {
    Finish(call, failure);
  });
}

absl::StatusOr<Response> Core::Run(Call& call) {
  Request& request = call.request;
  request.route = nullptr;
  request.caller = nullptr;
  request.existing = nullptr;
  call.counted_use = false;
  const std::string_view path = request.path;
  if (WritesToFolder(request)) {
    return absl::InvalidArgumentError("cannot write to a path ending in '/'");
  }
  const Served* served = nullptr;
  std::optional<RouteTable::Match> match;
  if (path.starts_with(kSystemPath)) {
    request.mount = &system_mount_;
    served = FindServed(system_mount_);
    if (served != nullptr) match = served->routes.Find(path.substr(kSystemPath.size()));
    if (match && NeedsNoBarrier(*match->route, request)) {
      Txn none;
      return RunHandler(call, *match, none);
    }
  }

  ASSIGN_OR_RETURN(call.txn, barrier_.Begin());
  Txn root = call.txn->root();
  ASSIGN_OR_RETURN(call.devices, audit_.Devices(root));
  ASSIGN_OR_RETURN(call.mounts, mounts_.Load(root));
  request.mount = call.mounts->Find(path);
  if (request.mount != nullptr && !match) {
    served = FindServed(*request.mount);
    if (served != nullptr) match = served->routes.Find(BelowMount(path, *request.mount));
  }
  const Route* route = match ? match->route : nullptr;
  if (route == nullptr || !IsOpen(*route, request)) {
    const absl::Status identified = Identify(call, root);
    // Used already, perhaps by a thief: that is told apart from a want of rights.
    if (absl::IsPermissionDenied(identified) && request.caller == nullptr && route != nullptr &&
        ComesWithWrappingToken(*route, request)) {
      return NotWrapping();
    }
    RETURN_IF_ERROR(identified);
    if (route == nullptr) RETURN_IF_ERROR(Authorize(call, nullptr, root));
  }
  if (request.mount == nullptr) return NoRoute(path);
  if (served == nullptr) {
    return absl::InternalError(
        StrCat("the mount \"", request.mount->path, "\" has the type \"", request.mount->type,
               "\", which this build doesn't serve"));
  }
  if (route == nullptr) {
    if (request.operation == Operation::kHelp && BelowMount(path, *request.mount).empty()) {
      return Help(served->routes.Help());
    }
    std::optional<Response> answer =
        served->backend->AnswerUnrouted(request.operation, BelowMount(path, *request.mount));
    if (!answer) return UnsupportedPath(path);
    return *std::move(answer);
  }
  Txn txn = root.Under(MountStorage(*request.mount));
  return RunHandler(call, *match, txn);
}

absl::StatusOr<Response> Core::RunHandler(Call& call, const RouteTable::Match& match, Txn& txn) {
  Request& request = call.request;
  const Route& route = *match.route;
  request.route = &route;
  request.relative_path = BelowMount(request.path, *request.mount);
  if (request.operation == Operation::kHelp) {
    return Help(RouteTable::Help(route));
  }
  std::vector<std::string> unknown;
  absl::StatusOr<Json> fields = DecodeFields(match, request.data, &unknown);
  request.fields = fields.ok() ? *std::move(fields) : Json::object();
  if (NeedsPolicy(route, request)) {
    if (fields.ok() && request.operation == Operation::kUpdate && route.exists) {
      ASSIGN_OR_RETURN(const bool exists, route.exists(request, txn));
      if (!exists) request.operation = Operation::kCreate;
    }
    Txn root = txn.Root();
    RETURN_IF_ERROR(Authorize(call, &route, root));
  }
  RETURN_IF_ERROR(AuditRequest(call, absl::OkStatus()));
  RETURN_IF_ERROR(fields.status());
  const Handler* handler = FindHandler(route, request.operation);
  if (handler == nullptr) {
    return absl::UnimplementedError("1 error occurred:\n\t* unsupported operation\n\n");
  }
  ASSIGN_OR_RETURN(Response response, (*handler)(request, txn));
  if (response.login) {
    Txn root = txn.Root();
    RETURN_IF_ERROR(LogIn(call, root, &response));
  }
  // As in Vault, an answer that is otherwise empty stays so.
  if (!unknown.empty() && !route.open_fields && !IsEmpty(response)) {
    std::string names;
    for (const std::string& name : unknown) StrAppend(&names, names.empty() ? "" : " ", name);
    response.warnings.push_back(
        StrCat("Endpoint ignored these unrecognized parameters: [", names, "]"));
  }
  if (request.wrap_ttl > absl::ZeroDuration() && !IsEmpty(response) && !response.wrapped &&
      response.content_type.empty() && route.access != Access::kBarrierless) {
    Txn root = txn.Root();
    RETURN_IF_ERROR(Wrap(tokens_, root, request, &response));
  }
  return response;
}

absl::Status Core::AuditRequest(Call& call, const absl::Status& error) {
  if (call.devices == nullptr || std::exchange(call.audited, true)) return absl::OkStatus();
  return audit_.LogRequest(*call.devices, call.request, error);
}

absl::StatusOr<Response> Core::AuditAnswer(Call& call, absl::StatusOr<Response> response) {
  if (call.devices == nullptr || call.devices->empty()) return response;
  RETURN_IF_ERROR(AuditRequest(call, response.status()));
  static const Response kNone;
  RETURN_IF_ERROR(audit_.LogResponse(*call.devices, call.request,
                                     response.ok() ? *response : kNone, response.status()));
  return response;
}

absl::Status Core::Identify(Call& call, Txn& root) {
  Request& request = call.request;
  if (request.token.empty()) return absl::PermissionDeniedError("permission denied");
  ASSIGN_OR_RETURN(request.caller, tokens_.Lookup(root, request.token.view()));
  if (request.caller == nullptr) return InvalidToken();
  if (!request.caller->bound_cidrs.empty() &&
      !InAnyCidr(request.remote_address, request.caller->bound_cidrs)) {
    return PermissionDenied();
  }
  if (request.caller->num_uses > 0) {
    RETURN_IF_ERROR(tokens_.Use(root, *request.caller));
    call.counted_use = true;
  }
  return absl::OkStatus();
}

absl::Status Core::Authorize(Call& call, const Route* route, Txn& root) {
  const Request& request = call.request;
  ASSIGN_OR_RETURN(const std::shared_ptr<const Acl> acl,
                   policies_.AclFor(root, request.caller->policies));
  if (acl->root()) return absl::OkStatus();
  const bool slash = request.operation == Operation::kList && !request.path.ends_with('/');
  if (!acl->Allows(request.operation, slash ? request.path + "/" : request.path, request.data,
                   request.wrap_ttl)) {
    return PermissionDenied();
  }
  if (route != nullptr && route->access == Access::kSudo && !acl->HasSudo(request.path)) {
    return PermissionDenied();
  }
  return absl::OkStatus();
}

absl::Status Core::LogIn(const Call& call, Txn& root, Response* response) {
  const MountEntry& mount = *call.request.mount;
  TokenSpec& token = response->login->token;
  token.type = TokenTypeOn(mount, token.type);
  ASSIGN_OR_RETURN(TokenStore::Created created, tokens_.Create(root, std::move(token), mount));
  response->auth =
      Auth{std::move(created.id), std::move(created.entry), std::move(response->login->alias)};
  for (std::string& warning : created.warnings) response->warnings.push_back(std::move(warning));
  response->login.reset();
  return absl::OkStatus();
}

absl::StatusOr<SecretBytes> Core::InitializeContents(std::string_view id) {
  ASSIGN_OR_RETURN(std::unique_ptr<BarrierTxn> txn, barrier_.Begin());
  Txn root = txn->root();
  RETURN_IF_ERROR(policies_.Initialize(root));
  RETURN_IF_ERROR(mounts_.Initialize(root));
  ASSIGN_OR_RETURN(SecretBytes token, AddRootToken(root, id));
  RETURN_IF_ERROR(CommitAndWait(barrier_, std::move(txn)));
  return token;
}

absl::StatusOr<SecretBytes> Core::CreateRootToken() {
  ASSIGN_OR_RETURN(std::unique_ptr<BarrierTxn> txn, barrier_.Begin());
  Txn root = txn->root();
  ASSIGN_OR_RETURN(SecretBytes token, AddRootToken(root, {}));
  RETURN_IF_ERROR(CommitAndWait(barrier_, std::move(txn)));
  return token;
}

absl::StatusOr<SecretBytes> Core::AddRootToken(Txn& root, std::string_view id) {
  TokenSpec spec;
  spec.policies = {"root"};
  spec.no_default_policy = true;
  spec.display_name = "root";
  spec.path = kRootTokenPath;
  spec.renewable = false;
  spec.id = SecretBytes::CopyOf(id);
  MountEntry token_mount;
  token_mount.path = "auth/token/";
  ASSIGN_OR_RETURN(TokenStore::Created created,
                   tokens_.Create(root, std::move(spec), token_mount));
  return std::move(created.id);
}

void Core::Seal() {
  barrier_.Seal();
  tokens_.OnSeal();
  policies_.OnSeal();
  mounts_.OnSeal();
  audit_.OnSeal();
  for (auto& [type, served] : served_) served.backend->OnSeal();
}

}  // namespace coffer::keystore
