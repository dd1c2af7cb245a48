#include "keystore/system/openapi_routes.h"

#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

Json Text(std::string_view text) { return Json::string_t(text); }

Json SchemaOf(FieldType type) {
  switch (type) {
    case FieldType::kString: return {{"type", "string"}};
    case FieldType::kInteger: return {{"type", "integer"}};
    case FieldType::kBoolean: return {{"type", "boolean"}};
    case FieldType::kDuration: return {{"type", "string"}, {"format", "duration"}};
    case FieldType::kList: return {{"type", "array"}, {"items", {{"type", "string"}}}};
    case FieldType::kMap: return {{"type", "object"}};
    case FieldType::kAny: break;
  }
  return Json::object();
}

// "config/{name*}" (or "{name+}") as OpenAPI writes it, and the names of what it captures, which are
// views of it.
std::string PathOf(std::string_view pattern, std::vector<std::string_view>* captures) {
  std::string path;
  for (std::string_view segment : Split(pattern, '/')) {
    if (segment.starts_with('{') && segment.ends_with('}')) {
      std::string_view name = segment.substr(1, segment.size() - 2);
      if (name.ends_with('*') || name.ends_with('+')) name.remove_suffix(1);
      captures->push_back(name);
      StrAppend(&path, "/{", name, "}");
    } else {
      StrAppend(&path, "/", segment);
    }
  }
  return path;
}

bool Contains(const std::vector<std::string_view>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

Json Described(const Field& field) {
  Json schema = SchemaOf(field.type);
  schema["description"] = Text(field.description);
  if (!field.default_value.is_null()) schema["default"] = field.default_value;
  return schema;
}

// The fields that aren't in the path: in the body, or in the query.
Json BodyOf(const Route& route, const std::vector<std::string_view>& captures) {
  Json schema = {{"type", "object"}};
  for (const Field& field : route.fields) {
    if (!Contains(captures, field.name)) {
      schema["properties"][Json::string_t(field.name)] = Described(field);
    }
  }
  return {{"content", {{"application/json", {{"schema", std::move(schema)}}}}}};
}

Json QueryOf(const Route& route, const std::vector<std::string_view>& captures, bool list) {
  Json parameters = Json::array();
  if (list) {
    parameters.push_back({{"name", "list"},
                          {"in", "query"},
                          {"required", true},
                          {"schema", {{"type", "string"}, {"enum", Json::array({"true"})}}}});
  }
  for (const Field& field : route.fields) {
    if (Contains(captures, field.name)) continue;
    parameters.push_back({{"name", Text(field.name)},
                          {"in", "query"},
                          {"description", Text(field.description)},
                          {"schema", SchemaOf(field.type)}});
  }
  return parameters;
}

void AddOperation(const Route& route, Operation operation, std::string_view tag,
                  const std::vector<std::string_view>& captures, Json* item) {
  Json made = {{"tags", Json::array({Text(tag)})},
               {"summary", Text(route.summary)},
               {"responses", {{"200", {{"description", "OK"}}}}}};
  const char* method = "get";
  switch (operation) {
    case Operation::kCreate:
    case Operation::kUpdate:
    case Operation::kPatch:
      method = operation == Operation::kPatch ? "patch" : "post";
      made["requestBody"] = BodyOf(route, captures);
      break;
    case Operation::kDelete:
      method = "delete";
      break;
    default:
      break;
  }
  const bool list = operation == Operation::kList;
  if (std::string_view(method) == "get" || std::string_view(method) == "delete") {
    // Where one path can be read and listed, the reading has the place; "?list=true" is told of both.
    if (list && item->contains("get")) {
      (*item)["x-coffer-list"] = true;
      return;
    }
    if (Json parameters = QueryOf(route, captures, list); !parameters.empty()) {
      made["parameters"] = std::move(parameters);
    }
    if (list) (*item)["x-coffer-list"] = true;
  }
  item->emplace(method, std::move(made));
}

Json ItemOf(const Route& route, std::string_view tag, const std::vector<std::string_view>& captures) {
  Json item = {{"description", Text(route.summary)}};
  switch (route.access) {
    case Access::kSudo: item["x-vault-sudo"] = true; break;
    case Access::kOptionalToken:
    case Access::kUnauthenticated:
    case Access::kBarrierless: item["x-vault-unauthenticated"] = true; break;
    default: break;
  }
  if (route.exists != nullptr) item["x-vault-createSupported"] = true;
  for (const std::string_view name : captures) {
    Json parameter = {{"name", Text(name)},
                      {"in", "path"},
                      {"required", true},
                      {"schema", {{"type", "string"}}}};
    for (const Field& field : route.fields) {
      if (field.name == name) parameter["description"] = Text(field.description);
    }
    item["parameters"].push_back(std::move(parameter));
  }
  for (const RouteOperation& one : route.operations) {
    AddOperation(route, one.operation, tag, captures, &item);
  }
  return item;
}

std::string_view TagOf(const MountEntry& mount) {
  return mount.auth() ? "auth" : mount.type == "system" ? "system" : "secrets";
}

// Routes that lead to one path are one item; what an earlier one has said stays.
void AddMount(const MountEntry& mount, const Backend& backend, Json* paths) {
  for (const Route& route : backend.routes()) {
    const std::string pattern = StrCat(mount.path, route.pattern);
    std::vector<std::string_view> captures;  // of `pattern`
    const std::string path = PathOf(pattern, &captures);
    Json item = ItemOf(route, TagOf(mount), captures);
    const auto [at, fresh] = paths->emplace(Json::string_t(path), item);
    if (fresh) continue;
    for (auto& [name, value] : item.items()) at->emplace(name, std::move(value));
  }
}

}  // namespace

std::vector<Route> OpenApiRoutes(const Core& core, MountStore& mounts, std::string version) {
  const auto read = [&core, &mounts, version = std::move(version)](
                        const Request&, Txn& txn) -> absl::StatusOr<Response> {
    Txn root = txn.Root();
    ASSIGN_OR_RETURN(const std::shared_ptr<const MountTable> table, mounts.Load(root));
    Json paths = Json::object();
    for (const MountEntry& mount : table->entries()) {
      if (const Backend* backend = core.FindBackend(mount); backend != nullptr) {
        AddMount(mount, *backend, &paths);
      }
    }
    return Response::Bare({{"openapi", "3.0.2"},
                           {"info",
                            {{"title", "Coffer, by the Vault HTTP API"},
                             {"version", Text(version)}}},
                           {"paths", std::move(paths)}});
  };
  return {{"internal/specs/openapi",
           "All routes of all mounts, as an OpenAPI document.",
           {},
           {{Operation::kRead, read}}}};
}

}  // namespace coffer::keystore
