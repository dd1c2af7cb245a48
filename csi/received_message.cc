#include "csi/received_message.h"

#include <grpcpp/support/proto_buffer_reader.h>
#include <grpcpp/support/slice.h>
#include <openssl/crypto.h>

#include <vector>

#include "common/strings.h"

namespace coffer::csi {

absl::Status ReadAndWipe(const grpc::ByteBuffer& received, google::protobuf::MessageLite* message) {
  grpc::ByteBuffer buffer(received);  // the same bytes
  bool read = false;
  {
    grpc::ProtoBufferReader reader(&buffer);
    read = reader.status().ok() && message->ParseFromZeroCopyStream(&reader);
  }
  std::vector<grpc::Slice> slices;
  if (received.Dump(&slices).ok()) {
    for (const grpc::Slice& slice : slices) {
      OPENSSL_cleanse(const_cast<std::uint8_t*>(slice.begin()), slice.size());
    }
  }
  if (read) return absl::OkStatus();
  return absl::InternalError(StrCat("the request isn't a ", message->GetTypeName()));
}

void Wipe(std::string* text) { OPENSSL_cleanse(text->data(), text->size()); }

}  // namespace coffer::csi
