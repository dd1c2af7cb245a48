#include "csi/received_message.h"

#include <grpcpp/support/slice.h>

#include <algorithm>
#include <string>
#include <vector>

#include "proto/csi.pb.h"

namespace coffer::csi {
namespace {

// In pieces of `size` bytes, as they come from a socket; their memory is `text`'s.
grpc::ByteBuffer Received(std::string& text, std::size_t size) {
  std::vector<grpc::Slice> slices;
  for (std::size_t at = 0; at < text.size(); at += size) {
    slices.emplace_back(text.data() + at, std::min(size, text.size() - at),
                        grpc::Slice::STATIC_SLICE);
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

TEST_CASE("a message is read, and wiped where it was received") {
  ::csi::v1::NodePublishVolumeRequest request;
  request.set_volume_id("csi-1");
  (*request.mutable_volume_context())["tokens"] = std::string(1000, 't');
  for (const std::size_t size : {1, 100, 5000}) {
    INFO(size);
    std::string text = request.SerializeAsString();
    ::csi::v1::NodePublishVolumeRequest read;
    CHECK(ReadAndWipe(Received(text, size), &read).ok());
    CHECK(read.SerializeAsString() == request.SerializeAsString());
    CHECK(text == std::string(text.size(), '\0'));
  }
  ::csi::v1::NodePublishVolumeRequest read;
  CHECK(ReadAndWipe(grpc::ByteBuffer(nullptr, 0), &read).ok());  // all fields are optional
}

TEST_CASE("what is no such message is wiped, too") {
  std::string text = "no message, but a secret";
  ::csi::v1::NodePublishVolumeRequest read;
  CHECK(absl::IsInternal(ReadAndWipe(Received(text, 100), &read)));
  CHECK(text == std::string(text.size(), '\0'));
}

}  // namespace
}  // namespace coffer::csi
