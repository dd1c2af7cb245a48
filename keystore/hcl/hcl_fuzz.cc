// Any bytes: the parser takes them or says why not, and what it takes can be walked.
#include <cstdint>

#include "keystore/hcl/hcl.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto document = hcl::Parse({reinterpret_cast<const char*>(data), size});
  if (!document.ok()) return 0;
  (void)DumpJson(hcl::ToJson(*document));
  for (const hcl::Item& item : document->members) {
    (void)hcl::LabelledBlocks(item);
    (void)hcl::PlainBlocks(item);
  }
  return 0;
}
