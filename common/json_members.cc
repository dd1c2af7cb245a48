#include "common/json_members.h"

namespace coffer {

const Json& At(const Json& object, std::string_view name) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(name);
  return found == object.end() ? kNull : *found;
}

std::string_view TextAt(const Json& object, std::string_view name) {
  const Json& member = At(object, name);
  return member.is_string() ? std::string_view(member.get_ref<const Json::string_t&>()) : "";
}

std::int64_t IntegerAt(const Json& object, std::string_view name) {
  const Json& member = At(object, name);
  return member.is_number() ? member.get<std::int64_t>() : 0;
}

bool TrueAt(const Json& object, std::string_view name) {
  const Json& member = At(object, name);
  return member.is_boolean() && member.get<bool>();
}

}  // namespace coffer
