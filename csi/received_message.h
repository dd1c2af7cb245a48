// Messages that have secrets in them: gRPC frees the bytes that it has received as they are, and a
// message its texts.
#pragma once

#include <google/protobuf/message_lite.h>
#include <grpcpp/support/byte_buffer.h>

#include <string>

#include "absl/status/status.h"

namespace coffer::csi {

// Reads the message of a raw method, and overwrites the bytes where gRPC has them: nobody else
// looks at these. Internal, as gRPC answers by itself: they are no such message; they are wiped
// then, too.
absl::Status ReadAndWipe(const grpc::ByteBuffer& received, google::protobuf::MessageLite* message);

// Overwrites a text of a message, which nobody reads again.
void Wipe(std::string* text);

}  // namespace coffer::csi
