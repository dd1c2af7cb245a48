#include "common/descriptor_limit.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <string>

namespace coffer {
namespace {

// How many descriptors the kernel has room for in this process.
int Room() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("FDSize:", 0) == 0) return std::stoi(line.substr(7));
  }
  return 0;
}

TEST_CASE("the limit is the hard one, and there is room for thousands, or for all that may be") {
  for (const rlim_t hard : {rlim_t{4096}, rlim_t{100}}) {
    INFO(hard);
    const pid_t child = fork();
    if (child == 0) {
      const rlimit low = {64, hard};
      rlimit now = {};
      if (setrlimit(RLIMIT_NOFILE, &low) != 0 || RaiseDescriptorLimit() != 0) _exit(1);
      if (getrlimit(RLIMIT_NOFILE, &now) != 0 || now.rlim_cur != hard) _exit(2);
      _exit(Room() >= static_cast<int>(hard) ? 0 : 3);
    }
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(WEXITSTATUS(status) == 0);
  }
}

}  // namespace
}  // namespace coffer
