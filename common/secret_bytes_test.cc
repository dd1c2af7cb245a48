#include "common/secret_bytes.h"

#include "common/json.h"
#include "common/random.h"
#include "common/secret_allocator.h"

namespace coffer {
namespace {

TEST_CASE("base64 and hex are those of RFC 4648") {
  struct Case {
    std::string_view bytes, base64, url, hex;
  };
  const Case cases[] = {{"", "", "", ""},
                        {"f", "Zg==", "Zg", "66"},
                        {"fo", "Zm8=", "Zm8", "666f"},
                        {"foobar", "Zm9vYmFy", "Zm9vYmFy", "666f6f626172"},
                        {"\xfb\xff\xfe", "+//+", "-__-", "fbfffe"}};
  for (const Case& c : cases) {
    const SecretBytes bytes = SecretBytes::CopyOf(c.bytes);
    CHECK(EncodeBase64(bytes.span()).view() == c.base64);
    CHECK(EncodeBase64Url(bytes.span()).view() == c.url);
    CHECK(EncodeHex(bytes.span()).view() == c.hex);
    CHECK(DecodeBase64(c.base64)->view() == c.bytes);
    CHECK(DecodeBase64(c.url)->view() == c.bytes);
    CHECK(DecodeHex(c.hex)->view() == c.bytes);
  }
}

TEST_CASE("wrong base64 and hex are refused") {
  for (const char* text : {"Z", "Zg=", "Z===", "Zm9v!mFy", "Zh==", "Zm8=Zm8="}) {
    CHECK_FALSE(DecodeBase64(text).ok());
  }
  for (const char* text : {"6", "6g", "0x66"}) CHECK_FALSE(DecodeHex(text).ok());
}

TEST_CASE("secret bytes grow, shrink and compare") {
  SecretBytes bytes = SecretBytes::CopyOf("pass");
  bytes.Append("word");
  CHECK(bytes.Equals("password"));
  CHECK_FALSE(bytes.Equals("passwore"));
  bytes.Resize(4);
  CHECK(bytes.view() == "pass");
  bytes.Resize(6);
  CHECK(bytes.view() == std::string_view("pass\0\0", 6));
  const SecretBytes moved = std::move(bytes);
  CHECK(moved.size() == 6);
}

TEST_CASE("a freed block is wiped before it is used again") {
  for (const std::size_t size : {24, 100, 5000, 100'000}) {
    void* block = AllocateSecret(size);
    std::memset(block, 0x5a, size);
    FreeSecret(block, size);
    if (size > 16 * 1024) continue;  // its pages are gone
    // The free list's own pointer takes the first eight bytes.
    const auto* bytes = static_cast<const std::uint8_t*>(block);
    CHECK(std::all_of(bytes + 8, bytes + size, [](std::uint8_t b) { return b == 0; }));
  }
}

TEST_CASE("random text has the length and the alphabet asked for") {
  const SecretBytes token = RandomBase62(95);
  CHECK(token.size() == 95);
  CHECK(token.view().find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                       "0123456789") == std::string_view::npos);
  const std::string uuid = RandomUuid();
  CHECK(uuid.size() == 36);
  CHECK(uuid[14] == '4');
}

TEST_CASE("JSON errors name the place, not the text") {
  CHECK(ParseJson(R"({"a": [1, "x"]})")->at("a").size() == 2);
  const auto broken = ParseJson(R"({"password": hunter2})");
  CHECK(broken.status().message() == "not valid JSON: wrong at byte 14");
  CHECK_FALSE(ParseJson(std::string(100, '[') + std::string(100, ']')).ok());
  CHECK_FALSE(ParseJson("").ok());
  CHECK_FALSE(ParseJson("{} x").ok());
}

}  // namespace
}  // namespace coffer
