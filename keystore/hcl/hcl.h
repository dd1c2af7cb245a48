// HCL: the part of HashiCorp's configuration language (version 1) that policies and server
// configuration are written in, and its JSON form, as one tree whose nodes know where they stand.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/json.h"

namespace coffer::hcl {

inline constexpr std::size_t kMaxTextSize = 1 << 20;  // bytes
inline constexpr int kMaxDepth = 32;                  // objects and lists within each other

// From 1; columns count characters.
struct Position {
  int line = 1;
  int column = 1;
};

struct Key {
  std::string text;
  Position at;
};

struct Item;

struct Value {
  enum class Kind { kNull, kString, kNumber, kBoolean, kList, kObject };

  Kind kind = Kind::kNull;  // null only in JSON
  Position at;
  Json scalar;                // of kString, kNumber (integer or floating point) and kBoolean
  std::vector<Value> list;    // of kList
  std::vector<Item> members;  // of kObject, in the order of the text, keys perhaps repeated
};

// `key = value`, or a block `key "label" … { … }`, whose value is an object.
struct Item {
  std::vector<Key> keys;  // never empty
  Value value;

  const std::string& name() const { return keys.front().text; }
  Position at() const { return keys.front().at; }
};

// The document as an object. Text whose first character is "{" is JSON (RFC 8259), anything else
// HCL. InvalidArgument: "line 3, column 7: expected … after "key", found …". Messages quote keys,
// never values.
absl::StatusOr<Value> Parse(std::string_view text);

// One block with its label, in whichever form it was written:
//   kind "label" { … }     kind = { "label" = { … } }     and JSON's {"kind": {"label": {…}}}, also
// with lists of objects in place of objects.
struct Block {
  const std::string* label;
  Position at;          // of the label
  const Value* object;  // of kObject
};

// The blocks of `item`. InvalidArgument: it has no label, more than one, or isn't an object.
absl::StatusOr<std::vector<Block>> LabelledBlocks(const Item& item);

// The objects of a value that is an object or a list of objects (as JSON writes repeated blocks);
// InvalidArgument: it is neither, or `item` has labels.
absl::StatusOr<std::vector<const Value*>> PlainBlocks(const Item& item);

// The value as JSON, labels as nested objects; of repeated keys the last counts.
Json ToJson(const Value& value);

// "a string", "a number", …
std::string_view KindName(Value::Kind kind);

// "line 3, column 7".
std::string PlaceText(Position at);
// InvalidArgument: "line 3, column 7: " and the message.
absl::Status ErrorAt(Position at, std::string_view message);

}  // namespace coffer::hcl
