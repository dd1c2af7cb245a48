#include "common/secret_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "common/strings.h"

namespace coffer {
namespace {

TEST_CASE("a secret file is read whole; what can't be read is named") {
  char folder[] = "/tmp/coffer-secret-file.XXXXXX";
  REQUIRE(mkdtemp(folder) != nullptr);
  const std::string path = StrCat(folder, "/token");
  for (const std::size_t size : {0, 1, 16 << 10, (16 << 10) + 1, 200'000}) {
    const std::string text(size, 'x');
    std::ofstream(path) << text;
    const absl::StatusOr<SecretBytes> read = ReadSecretFile(path);
    REQUIRE(read.ok());
    CHECK(read->view() == text);
  }
  unlink(path.c_str());
  CHECK(absl::IsNotFound(ReadSecretFile(path).status()));
  CHECK(Message(ReadSecretFile(path).status()).find(path) != std::string_view::npos);
  CHECK_FALSE(ReadSecretFile(folder).ok());
  rmdir(folder);
}

}  // namespace
}  // namespace coffer
