#include "keystore/core/cidr.h"

namespace coffer::keystore {
namespace {

TEST_CASE("an address is inside the blocks that hold it") {
  struct Case {
    std::string_view address;
    std::string block;
    bool inside;
  };
  const Case cases[] = {{"10.1.2.3", "10.0.0.0/8", true},     {"11.1.2.3", "10.0.0.0/8", false},
                        {"10.1.2.3", "10.1.2.3", true},       {"10.1.2.4", "10.1.2.3/32", false},
                        {"10.1.2.3", "0.0.0.0/0", true},      {"::1", "0.0.0.0/0", false},
                        {"::ffff:10.1.2.3", "10.0.0.0/9", true},
                        {"2001:db8::5", "2001:db8::/33", true},
                        {"2001:db8:8000::5", "2001:db8::/33", false},
                        {"nonsense", "0.0.0.0/0", false}};
  for (const Case& c : cases) {
    CAPTURE(c.address, c.block);
    CHECK(InAnyCidr(c.address, {"192.0.2.1", c.block}) == c.inside);
  }
}

TEST_CASE("what isn't an address block is refused") {
  for (const char* block : {"", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/-1", "::/129", "10.0.0.0/x"}) {
    CAPTURE(block);
    CHECK_FALSE(CheckCidr(block).ok());
  }
  CHECK(CheckCidr("10.0.0.0/8").ok());
  CHECK(CheckCidr("::1").ok());
}

}  // namespace
}  // namespace coffer::keystore
