#include "keystore/core/request.h"

#include "keystore/core/backend.h"

namespace coffer::keystore {
namespace {

const Json kNull = nullptr;

}  // namespace

std::string_view OperationName(Operation operation) {
  switch (operation) {
    case Operation::kRead: return "read";
    case Operation::kCreate: return "create";
    case Operation::kUpdate: return "update";
    case Operation::kPatch: return "patch";
    case Operation::kDelete: return "delete";
    case Operation::kList: return "list";
    case Operation::kHelp: return "help";
  }
  return "unknown";
}

const Field* Request::Declared(std::string_view name) const {
  if (route == nullptr) return nullptr;
  for (const Field& field : route->fields) {
    if (field.name == name) return &field;
  }
  return nullptr;
}

const Json* Request::Given(std::string_view name) const {
  if (const auto found = fields.find(name); found != fields.end()) return &*found;
  if (Declared(name) == nullptr) return nullptr;
  const auto found = data.find(name);
  return found == data.end() ? nullptr : &*found;
}

bool Request::has(std::string_view name) const { return Given(name) != nullptr; }

const Json& Request::json(std::string_view name) const {
  if (const Json* given = Given(name)) return *given;
  const Field* declared = Declared(name);
  return declared == nullptr ? kNull : declared->default_value;
}

std::string_view Request::text(std::string_view name) const {
  const Json& value = json(name);
  if (!value.is_string()) return {};
  return value.get_ref<const Json::string_t&>();
}

std::int64_t Request::integer(std::string_view name) const {
  const Json& value = json(name);
  return value.is_number() ? value.get<std::int64_t>() : 0;
}

bool Request::boolean(std::string_view name) const {
  const Json& value = json(name);
  return value.is_boolean() && value.get<bool>();
}

absl::Duration Request::duration(std::string_view name) const {
  return absl::Seconds(integer(name));
}

std::vector<std::string> Request::list(std::string_view name) const {
  std::vector<std::string> texts;
  const Json& value = json(name);
  if (!value.is_array()) return texts;
  for (const Json& item : value) {
    if (!item.is_string()) continue;
    texts.emplace_back(std::string_view(item.get_ref<const Json::string_t&>()));
  }
  return texts;
}

}  // namespace coffer::keystore
