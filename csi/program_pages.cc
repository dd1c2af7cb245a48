#include "csi/program_pages.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string>

namespace coffer::csi {

void LetGoOfProgramPages() {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0, end = 0;
    int path = 0;
    // Only code, which nobody has written to: a page that isn't as in its file would be lost.
    if (std::sscanf(line.c_str(), "%lx-%lx r-xp %*x %*s %*d %n", &begin, &end, &path) != 2 ||
        path == 0 || line[static_cast<std::size_t>(path)] != '/') {
      continue;
    }
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  }
}

}  // namespace coffer::csi
