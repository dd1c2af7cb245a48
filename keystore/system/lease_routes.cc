#include "keystore/system/lease_routes.h"

#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {

// Nothing but tokens is leased, and these can always be revoked: there is nothing to force.
std::vector<Route> LeaseRoutes(TokenStore& tokens) {
  const Handler revoke = [&tokens](const Request& request, Txn& txn) -> absl::StatusOr<Response> {
    std::string_view prefix = request.text("prefix");
    while (prefix.ends_with('/')) prefix.remove_suffix(1);
    if (prefix.empty()) return absl::InvalidArgumentError("the prefix is missing");
    Txn root = txn.Root();
    RETURN_IF_ERROR(tokens.RevokeBelow(root, StrCat(prefix, "/")));
    Response response;
    response.revokes = request.boolean("sync");
    if (!response.revokes) response.http_status = 202;
    return response;
  };
  const std::vector<Field> fields = {
      {"prefix", FieldType::kString, "Of the paths that made the tokens, as \"auth/kubernetes\"."},
      {"sync", FieldType::kBoolean, "Answer once they are revoked.", true}};
  std::vector<Route> routes;
  for (const std::string_view pattern :
       {"leases/revoke-prefix/{prefix*}", "leases/revoke-force/{prefix*}",
        "revoke-prefix/{prefix*}", "revoke-force/{prefix*}"}) {
    routes.push_back({pattern,
                      "Revokes all tokens that were made below a path, and all that descend from them.",
                      fields,
                      {{Operation::kUpdate, revoke}},
                      Access::kSudo});
  }
  return routes;
}

}  // namespace coffer::keystore
