#include "keystore/secrets/raw_routes.h"

#include "common/duration.h"
#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

using View = std::function<absl::StatusOr<Txn>(const Request&, Txn&)>;
using Changed = std::function<void(const Request&, Txn&, std::string_view)>;

absl::StatusOr<std::string_view> ObjectPath(const Request& request) {
  const std::string_view path = request.text("path");
  if (path.empty()) return absl::InvalidArgumentError("missing path");
  if (path.find("..") != path.npos) {
    return absl::InvalidArgumentError("path cannot contain parent references");
  }
  if (path.ends_with('/')) {
    return absl::InvalidArgumentError("cannot write to a path ending in '/'");
  }
  if (path.starts_with('/') || path.find("//") != path.npos) {
    return absl::InvalidArgumentError("the path cannot have empty segments");
  }
  return path;
}

absl::Duration LeaseOf(const Json& object, const LeaseTtls& ttls, const MountEntry& mount) {
  auto given = object.find("ttl");
  if (given == object.end()) given = object.find("lease");
  if (given != object.end()) {
    if (given->is_number_integer()) return absl::Seconds(given->get<std::int64_t>());
    if (given->is_string()) {
      const auto lease = ParseDuration(given->get_ref<const Json::string_t&>());
      if (lease.ok()) return *lease;
    }
  }
  return ttls.DefaultOf(mount);
}

}  // namespace

std::vector<Route> RawRoutes(View view, std::optional<LeaseTtls> leases, Changed changed) {
  using enum Operation;
  const auto read = [view, leases](const Request& request, Txn& txn) -> absl::StatusOr<Response> {
    const absl::StatusOr<std::string_view> path = ObjectPath(request);
    if (!path.ok()) return absl::NotFoundError("");
    ASSIGN_OR_RETURN(Txn own, view(request, txn));
    ASSIGN_OR_RETURN(std::optional<Json> object, own.GetJson(*path));
    if (!object) return absl::NotFoundError("");
    Response response;
    if (leases) response.lease_duration = LeaseOf(*object, *leases, *request.mount);
    response.data = *std::move(object);
    return response;
  };
  const auto write = [view, changed](const Request& request, Txn& txn) -> absl::StatusOr<Response> {
    ASSIGN_OR_RETURN(const std::string_view path, ObjectPath(request));
    if (request.data.empty()) return absl::InvalidArgumentError("missing data fields");
    ASSIGN_OR_RETURN(Txn own, view(request, txn));
    RETURN_IF_ERROR(own.PutJson(path, request.data));
    if (changed) changed(request, txn, "write");
    return Response::Empty();
  };
  const auto erase = [view, changed](const Request& request, Txn& txn) -> absl::StatusOr<Response> {
    ASSIGN_OR_RETURN(const std::string_view path, ObjectPath(request));
    ASSIGN_OR_RETURN(Txn own, view(request, txn));
    RETURN_IF_ERROR(own.Delete(path));
    if (changed) changed(request, txn, "delete");
    return Response::Empty();
  };
  const auto list = [view](const Request& request, Txn& txn) -> absl::StatusOr<Response> {
    std::string directory(request.text("path"));
    if (!directory.empty() && !directory.ends_with('/')) directory += '/';
    if (directory == "/" || directory.find("//") != directory.npos) return absl::NotFoundError("");
    ASSIGN_OR_RETURN(Txn own, view(request, txn));
    ASSIGN_OR_RETURN(const std::vector<std::string> keys, own.List(directory));
    if (keys.empty()) return absl::NotFoundError("");
    return Response::Data({{"keys", keys}});
  };
  const auto exists = [view](const Request& request, Txn& txn) -> absl::StatusOr<bool> {
    const absl::StatusOr<std::string_view> path = ObjectPath(request);
    if (!path.ok()) return false;
    ASSIGN_OR_RETURN(Txn own, view(request, txn));
    ASSIGN_OR_RETURN(const auto tag, own.Tag(*path));
    return tag.has_value();
  };
  Route route{"{path*}", "Reads, writes, deletes and lists objects.",
              {{"path", FieldType::kString, "Location of the object"}},
              {{kRead, read}, {kUpdate, write}, {kDelete, erase}, {kList, list}},
              Access::kToken, exists};
  route.open_fields = true;
  return {std::move(route)};
}

}  // namespace coffer::keystore
