// Members of JSON objects that may be missing, or of another type than is looked for.
#pragma once

#include <cstdint>
#include <string_view>

#include "common/json.h"

namespace coffer {

// The member of that name; null where `object` has none or is no object. Valid as long as `object`.
const Json& At(const Json& object, std::string_view name);
// Its text, "" where it is no text. Valid as long as `object`.
std::string_view TextAt(const Json& object, std::string_view name);
// 0 where it is no number.
std::int64_t IntegerAt(const Json& object, std::string_view name);
// Whether it is true.
bool TrueAt(const Json& object, std::string_view name);

}  // namespace coffer
