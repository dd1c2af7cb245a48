#include "csi/socket_server.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>

#include "common/strings.h"
#include "csi/registration_service.h"

namespace coffer::csi {
namespace {

class Folder {
 public:
  Folder() {
    char name[] = "/tmp/coffer-socket-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string socket() const { return StrCat(path_, "/driver-reg.sock"); }

 private:
  std::string path_;
};

// As upstream's registrar does it: removes what is there, and binds.
UniqueFd OtherProgramAt(const std::string& path) {
  unlink(path.c_str());
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof address.sun_path - 1);
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  return fd;
}

TEST_CASE("a server notices that its socket isn't found any more") {
  const Folder folder;
  RegistrationService service("driver", "/csi/csi.sock", [] {});
  auto server = SocketServer::Start({folder.socket()}, {&service});
  REQUIRE(server.ok());
  CHECK((*server)->InPlace().ok());

  SECTION("removed") {
    unlink(folder.socket().c_str());
    const absl::Status status = (*server)->InPlace();
    CHECK(absl::IsFailedPrecondition(status));
    CHECK(Message(status).starts_with(StrCat("somebody removed ", folder.socket())));
  }
  SECTION("replaced: the other one's stays when the server stops") {
    const UniqueFd other = OtherProgramAt(folder.socket());
    const absl::Status status = (*server)->InPlace();
    CHECK(absl::IsFailedPrecondition(status));
    CHECK(Message(status).starts_with("another program has put its socket in the place of"));
    CHECK(Message(status).find("--driver-name") != std::string_view::npos);
    (*server)->StopListening();
    CHECK(std::filesystem::exists(folder.socket()));
  }
  SECTION("its own goes with it") {
    (*server)->StopListening();
    CHECK_FALSE(std::filesystem::exists(folder.socket()));
  }
}

}  // namespace
}  // namespace coffer::csi
