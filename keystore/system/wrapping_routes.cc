#include "keystore/system/wrapping_routes.h"

#include <utility>

#include "common/status_macros.h"
#include "keystore/core/rfc3339.h"
#include "keystore/core/wrapping.h"

namespace coffer::keystore {
namespace {

// The wrapping token of a request: "token" of its body, else the one that it came with.
std::string_view TokenOf(const Request& request) {
  const std::string_view given = request.text("token");
  return given.empty() ? request.token.view() : given;
}

absl::StatusOr<Response> WrapData(const Request& request) {
  if (request.wrap_ttl == absl::ZeroDuration()) {
    return absl::InvalidArgumentError(
        "endpoint requires response wrapping to be used: set X-Vault-Wrap-TTL");
  }
  return Response::Data(request.data);  // Core wraps it
}

absl::StatusOr<Response> Lookup(TokenStore& tokens, const Request& request, Txn& txn) {
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const auto entry, FindWrapping(tokens, root, TokenOf(request)));
  return Response::Data({{"creation_path", entry->path},
                         {"creation_time", FormatRfc3339(entry->creation_time)},
                         {"creation_ttl", absl::ToInt64Seconds(entry->creation_ttl)}});
}

// Who comes with the wrapping token itself has used it up already: it isn't found again, but its
// entry is the caller's.
absl::StatusOr<std::shared_ptr<const TokenEntry>> WrappingOf(TokenStore& tokens,
                                                             const Request& request, Txn& root) {
  const std::string_view given = request.text("token");
  if (given.empty() || given == request.token.view()) return request.caller;
  return FindWrapping(tokens, root, given);
}

absl::StatusOr<Response> UnwrapData(TokenStore& tokens, const Request& request, Txn& txn) {
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const auto entry, WrappingOf(tokens, request, root));
  Response response;
  ASSIGN_OR_RETURN(SecretBytes text, Unwrap(tokens, root, *entry));
  if (request.wrap_ttl > absl::ZeroDuration()) {
    ASSIGN_OR_RETURN(response.wrapped,
                     WrapText(tokens, root, text.view(), request.path, request.wrap_ttl));
    return response;
  }
  response.raw_body = std::move(text);
  response.content_type = "application/json";
  return response;
}

absl::StatusOr<Response> Rewrap(TokenStore& tokens, const Request& request, Txn& txn) {
  Txn root = txn.Root();
  ASSIGN_OR_RETURN(const auto entry, WrappingOf(tokens, request, root));
  ASSIGN_OR_RETURN(const SecretBytes text, Unwrap(tokens, root, *entry));
  Response response;
  ASSIGN_OR_RETURN(response.wrapped, WrapText(tokens, root, text.view(), entry->path,
                                              entry->creation_ttl));
  return response;
}

}  // namespace

std::vector<Route> WrappingRoutes(TokenStore& tokens) {
  const Field token = {"token", FieldType::kString,
                       "The wrapping token; the one that the request comes with if not given."};
  using Work = absl::StatusOr<Response> (*)(TokenStore&, const Request&, Txn&);
  const auto update = [&tokens](Work work) -> std::vector<RouteOperation> {
    return {{Operation::kUpdate, [&tokens, work](const Request& request, Txn& txn) {
               return work(tokens, request, txn);
             }}};
  };
  std::vector<Route> routes = {
      {"wrapping/wrap",
       "Wraps the data that it is given.",
       {},
       {{Operation::kUpdate, [](const Request& request, Txn&) { return WrapData(request); }}}},
      {"wrapping/lookup", "What a wrapping token is of.", {token}, update(Lookup),
       Access::kUnauthenticated},
      {"wrapping/unwrap", "What a wrapping token holds, once.", {token}, update(UnwrapData),
       Access::kWrappingToken},
      {"wrapping/rewrap", "Puts what a wrapping token holds under a new one.", {token},
       update(Rewrap), Access::kWrappingToken},
  };
  routes[0].open_fields = true;
  routes[1].operations.push_back({Operation::kRead, [&tokens](const Request& request, Txn& txn) {
                                    return Lookup(tokens, request, txn);
                                  }});
  return routes;
}

}  // namespace coffer::keystore
