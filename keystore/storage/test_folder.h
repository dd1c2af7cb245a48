// TestFolder: an empty folder for one test, gone with it. In memory where the machine has /dev/shm,
// unless the test is about the disk.
#pragma once

#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace coffer {

class TestFolder {
 public:
  enum Kind { kFast, kOnDisk };
  explicit TestFolder(Kind kind = kFast) {
    std::filesystem::path base = std::filesystem::temp_directory_path();
    if (kind == kFast && access("/dev/shm", W_OK) == 0) base = "/dev/shm";
    std::string pattern = (base / "coffer-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace coffer
