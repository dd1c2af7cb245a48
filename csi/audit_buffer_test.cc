#include "csi/audit_buffer.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <string>

#include "common/strings.h"

namespace coffer::csi {
namespace {

// As another process has it.
absl::StatusOr<AuditBuffer> Taken(const AuditBuffer& buffer) {
  return AuditBuffer::Open(UniqueFd(fcntl(buffer.fd(), F_DUPFD_CLOEXEC, 0)));
}

TEST_CASE("lines wait in order until they are written, and the next process finds those that aren't") {
  auto buffer = AuditBuffer::Make();
  REQUIRE(buffer.ok());
  CHECK(buffer->waiting().empty());
  CHECK(buffer->Append("one\n"));
  CHECK(buffer->Append("two\n"));
  CHECK(buffer->waiting() == "one\ntwo\n");
  const auto next = Taken(*buffer);
  REQUIRE(next.ok());
  CHECK(next->waiting() == "one\ntwo\n");
  buffer->Written(4);
  CHECK(buffer->Append("three\n"));
  CHECK(buffer->waiting() == "two\nthree\n");
  CHECK(next->waiting() == "two\nthree\n");
  buffer->Written(1'000'000);
  CHECK(next->waiting().empty());
}

TEST_CASE("a buffer fills up, and has room again for as much as was written") {
  auto buffer = AuditBuffer::Make();
  REQUIRE(buffer.ok());
  std::string all;
  const auto line = [](int i) { return StrCat("line ", i, std::string(1000, 'x'), "\n"); };
  int count = 0;
  for (; buffer->Append(line(count)); ++count) all += line(count);
  CHECK(all.size() > AuditBuffer::kBytes - 2000);
  CHECK(buffer->waiting() == all);
  for (int written = 0; !all.empty(); ++written) {
    const std::size_t size = line(written).size();
    buffer->Written(size);
    all.erase(0, size);
    if (buffer->waiting() != all) FAIL("after " << written << " lines");
    if (written % 3 == 0 && buffer->Append(line(count))) all += line(count++);
  }
  for (int i = 0; i < 4000; ++i) CHECK(buffer->Append(line(i)));
}

TEST_CASE("memory that holds something else is refused") {
  const UniqueFd small(memfd_create("small", MFD_CLOEXEC));
  REQUIRE(ftruncate(small.get(), 4096) == 0);
  CHECK_FALSE(AuditBuffer::Open(UniqueFd(dup(small.get()))).ok());
  REQUIRE(ftruncate(small.get(), AuditBuffer::kBytes) == 0);
  CHECK_FALSE(AuditBuffer::Open(UniqueFd(dup(small.get()))).ok());
  const std::uint64_t heads[][2] = {{2, 0}, {1, 5ull << 32 | 4}, {1, AuditBuffer::kBytes}};
  for (const auto& head : heads) {
    REQUIRE(pwrite(small.get(), head, sizeof head, 0) == sizeof head);
    CHECK_FALSE(AuditBuffer::Open(UniqueFd(dup(small.get()))).ok());
  }
  const std::uint64_t good[] = {1, 4};
  REQUIRE(pwrite(small.get(), good, sizeof good, 0) == sizeof good);
  CHECK(AuditBuffer::Open(UniqueFd(dup(small.get()))).ok());
}

}  // namespace
}  // namespace coffer::csi
