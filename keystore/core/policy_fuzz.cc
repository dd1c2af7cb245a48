// Any bytes as a policy, its first line as the path that is asked: what parses decides the same way
// each time it is asked, and denying wins over granting.
#include <cstdint>
#include <cstdlib>

#include "keystore/core/policy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  using namespace coffer::keystore;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::size_t line = std::min(text.find('\n'), text.size());
  const std::string_view path = text.substr(0, line);
  text.remove_prefix(std::min(line + 1, text.size()));

  const auto policy = Policy::Parse("fuzz", text);
  if (!policy.ok()) return 0;
  const Acl acl({*policy}, false);
  const Json body = {{"a", "x"}, {"b", {1, "y"}}};
  const std::uint32_t operations = static_cast<std::uint32_t>(Operation::kList);
  for (std::uint32_t i = 0; i <= operations; ++i) {
    const auto operation = static_cast<Operation>(i);
    const bool allowed = acl.Allows(operation, path, body);
    // The same policy twice says the same.
    if (Acl({*policy, *policy}, false).Allows(operation, path, body) != allowed) std::abort();
    const auto capabilities = acl.Capabilities(operation == Operation::kList && !path.ends_with('/')
                                                   ? std::string(path) + "/"
                                                   : std::string(path));
    // Capabilities are asked as a list is, so they speak for the others where no "/" ends the path.
    if (allowed && capabilities.front() == "deny" && !path.ends_with('/')) std::abort();
  }
  (void)acl.HasSudo(path);
  (void)acl.GrantsBelow(path);
  (void)DumpJson(acl.Describe());
  return 0;
}
