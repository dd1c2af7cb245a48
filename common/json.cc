#include "common/json.h"

#include "common/strings.h"
#include "common/secret_bytes.h"

namespace coffer {
namespace {

constexpr int kMaxDepth = 64;

// Builds the document and refuses one that is nested too deep for recursive code.
bool WithinDepth(int depth, Json::parse_event_t, Json&) {
  if (depth > kMaxDepth) throw std::length_error("");
  return true;
}

}  // namespace

absl::StatusOr<Json> ParseJson(std::string_view text) {
  try {
    return Json::parse(text, WithinDepth);
  } catch (const Json::parse_error& error) {
    return absl::InvalidArgumentError(StrCat("not valid JSON: wrong at byte ", error.byte));
  } catch (const Json::exception&) {
    return absl::InvalidArgumentError("not valid JSON: a number is out of range");
  } catch (const std::length_error&) {
    return absl::InvalidArgumentError(
        StrCat("not valid JSON: nested deeper than ", kMaxDepth, " levels"));
  }
}

SecretBytes DumpJson(const Json& document) {
  const SecretString text = document.dump(-1, ' ', false, Json::error_handler_t::replace);
  return SecretBytes::CopyOf(text);
}

}  // namespace coffer
