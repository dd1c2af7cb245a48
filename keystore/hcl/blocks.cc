// Blocks: the forms in which HCL and JSON write the same block, brought together.
#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/hcl/hcl.h"

namespace coffer::hcl {
namespace {

absl::StatusOr<std::vector<const Value*>> Objects(const Key& key, const Value& value) {
  if (value.kind == Value::Kind::kObject) return std::vector<const Value*>{&value};
  if (value.kind != Value::Kind::kList) {
    return ErrorAt(value.at,
                   StrCat("\"", key.text, "\" must be a block { … }, not ", KindName(value.kind)));
  }
  std::vector<const Value*> objects;
  for (const Value& element : value.list) {
    if (element.kind != Value::Kind::kObject) {
      return ErrorAt(element.at, StrCat("\"", key.text, "\" must be a list of objects, not of ",
                                        KindName(element.kind)));
    }
    objects.push_back(&element);
  }
  return objects;
}

bool HoldsObjects(const Value& value) {
  return value.kind == Value::Kind::kObject ||
         (value.kind == Value::Kind::kList &&
          std::all_of(value.list.begin(), value.list.end(),
                      [](const Value& element) { return element.kind == Value::Kind::kObject; }));
}

}  // namespace

absl::StatusOr<std::vector<Block>> LabelledBlocks(const Item& item) {
  if (item.keys.size() > 2) {
    return ErrorAt(item.keys[2].at, StrCat("\"", item.name(), "\" takes one label"));
  }
  std::vector<Block> blocks;
  if (item.keys.size() == 2) {
    blocks.push_back({&item.keys[1].text, item.keys[1].at, &item.value});
    return blocks;
  }
  ASSIGN_OR_RETURN(const auto outer, Objects(item.keys[0], item.value));
  for (const Value* object : outer) {
    for (const Item& member : object->members) {
      // In HCL what has no label has settings in its place.
      if (member.keys.size() > 1 || !HoldsObjects(member.value)) {
        return ErrorAt(item.at(), StrCat("\"", item.name(), "\" needs a label: ", item.name(),
                                         " \"…\" { … }"));
      }
      ASSIGN_OR_RETURN(const auto inner, Objects(member.keys[0], member.value));
      for (const Value* body : inner) {
        blocks.push_back({&member.keys[0].text, member.keys[0].at, body});
      }
    }
  }
  return blocks;
}

absl::StatusOr<std::vector<const Value*>> PlainBlocks(const Item& item) {
  if (item.keys.size() > 1) {
    return ErrorAt(item.keys[1].at, StrCat("\"", item.name(), "\" takes no label"));
  }
  return Objects(item.keys[0], item.value);
}

Json ToJson(const Value& value) {
  switch (value.kind) {
    case Value::Kind::kList: {
      Json list = Json::array();
      for (const Value& element : value.list) list.push_back(ToJson(element));
      return list;
    }
    case Value::Kind::kObject: {
      Json object = Json::object();
      for (const Item& member : value.members) {
        Json* place = &object;
        for (const Key& key : member.keys) {
          if (!place->is_object()) *place = Json::object();
          place = &(*place)[Json::string_t(std::string_view(key.text))];
        }
        *place = ToJson(member.value);
      }
      return object;
    }
    default:
      return value.scalar;
  }
}

std::string_view KindName(Value::Kind kind) {
  switch (kind) {
    case Value::Kind::kNull:
      return "null";
    case Value::Kind::kString:
      return "a string";
    case Value::Kind::kNumber:
      return "a number";
    case Value::Kind::kBoolean:
      return "a boolean";
    case Value::Kind::kList:
      return "a list";
    case Value::Kind::kObject:
      return "an object";
  }
  return "";
}

std::string PlaceText(Position at) { return StrCat("line ", at.line, ", column ", at.column); }

absl::Status ErrorAt(Position at, std::string_view message) {
  return absl::InvalidArgumentError(StrCat(PlaceText(at), ": ", message));
}

}  // namespace coffer::hcl
