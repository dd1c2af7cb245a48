// Reads bytes as JSON as nlohmann does, but for depth and numbers out of range, and writes them so
// that they read the same.
#include <cstdlib>

#include "common/json.h"

using namespace coffer;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<Json> read = ParseJson(text);
  if (!read.ok()) return 0;
  const Json expected = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (expected.is_discarded() || *read != expected) std::abort();
  const absl::StatusOr<Json> again = ParseJson(DumpJson(*read).view());
  if (!again.ok() || *again != *read) std::abort();
  return 0;
}
