// Backend: a secrets engine, auth method or the system as a table of routes. Decoding, type errors,
// path help and the OpenAPI document come from the table; handlers hold only meaning.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "keystore/barrier/txn.h"
#include "keystore/core/mount_entry.h"
#include "keystore/core/request.h"
#include "keystore/core/response.h"
#include "keystore/core/token_store_ttl.h"

namespace coffer::keystore {

enum class FieldType {
  kString,
  kInteger,
  kBoolean,
  kDuration,  // seconds as a number or a string, or "1h30m" (Go's form, with "d" too); kept as seconds
  kList,      // an array of strings, or one string parted by commas; kept as an array of strings
  kMap,       // an object, or (from a command line) an array of "key=value"
  kAny,       // as given
};

struct Field {
  std::string_view name;
  FieldType type = FieldType::kString;
  std::string_view description;
  Json default_value = nullptr;
};

// Status codes reach the client as: InvalidArgument and FailedPrecondition 400, PermissionDenied and
// Unauthenticated 403, NotFound 404 (with `{"errors":[]}` where the message is empty), Unimplemented
// 405, ResourceExhausted 507, Unavailable 503, anything else 500. Messages go into "errors": they
// hold no secret. A handler may run more than once for one request (see Store::Commit), so it changes
// nothing but the transaction; what must follow goes into Txn::OnCommit.
using Handler = std::function<absl::StatusOr<Response>(const Request&, Txn&)>;

struct RouteOperation {
  Operation operation;
  Handler handler;
};

enum class Access {
  kToken,            // a token whose policies allow the operation
  kSudo,             // and the "sudo" capability
  kAnyToken,         // any token that is valid, whatever its policies
  kWrappingToken,    // as kAnyToken; "token" of the body, else the caller's own, is a wrapping token
  kOptionalToken,    // no token, or any that is valid
  kUnauthenticated,  // login routes
  kMetrics,          // as kToken; no token, and works sealed, where request.metrics_for_all
  kBarrierless,      // no token, and works sealed: the Txn is empty
};

struct Route {
  // Segments parted by "/"; "{name}" captures one, "{name*}" any number of them, also none, but not
  // without the "/" before them where they end the pattern (the capture keeps a trailing "/"
  // there); "{name+}", which ends a pattern, at least one, and no trailing "/". The first route
  // that fits wins. No leading "/"; a trailing "/" of the request is ignored where the pattern has
  // no such capture.
  std::string_view pattern;
  std::string_view summary;
  std::vector<Field> fields;
  std::vector<RouteOperation> operations;  // an update handler serves create too
  Access access = Access::kToken;
  // Whether what an update would write is there already; without it every write is an update. May
  // leave what it loaded in request.existing for the handler, which runs in the same transaction.
  std::function<absl::StatusOr<bool>(Request&, Txn&)> exists = nullptr;
  // The handler takes all of request.data: no warning about fields that aren't declared.
  bool open_fields = false;
};

// One object per type serves all its mounts: what differs comes from request.mount and from the
// transaction, which is rooted at the mount's own storage.
class Backend {
 public:
  virtual ~Backend() = default;
  virtual const std::vector<Route>& routes() const = 0;
  // The answer where no route fits `path`, which is relative to the mount; none: "unsupported
  // path".
  virtual std::optional<Response> AnswerUnrouted(Operation, std::string_view /*path*/) const {
    return std::nullopt;
  }
  // Called while the mount is made. InvalidArgument: an option is wrong.
  virtual absl::Status OnMount(const MountEntry&, Txn&) { return absl::OkStatus(); }
  // By what terms a token that this made is renewed now. `txn` is rooted at the mount's storage.
  virtual absl::StatusOr<TtlTerms> RenewalTerms(const TokenEntry& token, Txn& txn);
  // Forgets what was parsed from storage: at seal.
  virtual void OnSeal() {}
};

// What RenewalTerms returns where there are none: 500, as in Vault.
absl::Status NotRenewed(std::string_view why);

// What a handler returns to be run again on a worker thread, with may_block set.
absl::Status NeedsWorker();
bool IsNeedsWorker(const absl::Status& status);

}  // namespace coffer::keystore
