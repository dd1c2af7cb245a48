// Feeds bytes to the way from a connection to a Request, and its data back out as JSON. The first
// byte says into how large pieces the rest is cut.
#include <cstdlib>

#include "common/json_writer.h"
#include "keystore/http/decode.h"
#include "keystore/http/encode.h"
#include "keystore/http/request_parser.h"

using namespace coffer;
using namespace coffer::keystore;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::size_t piece = data[0] == 0 ? size : data[0];
  std::string_view left(reinterpret_cast<const char*>(data) + 1, size - 1);
  std::size_t come = 0;
  while (!left.empty()) {
    HttpMessage message;
    std::optional<HttpRefusal> refusal;
    RequestParser parser(message, 4096);
    while (true) {
      const std::size_t taken = come == 0 ? 0 : parser.Take(left.substr(0, come), &refusal);
      if (taken > come) std::abort();
      left.remove_prefix(taken);
      come -= taken;
      if (refusal || parser.done()) break;
      if (come == left.size()) return 0;  // the rest doesn't come
      come = std::min(left.size(), come + piece);
    }
    if (message.body.size() > 4096) std::abort();
    Request request;
    HttpAnswer answer;
    if (!refusal) refusal = DecodeRequest(message, &request);
    if (refusal) {
      const bool sent_on = refusal->status == 307 && refusal->location.view().starts_with("/v1/");
      if (!sent_on && (refusal->status < 400 || refusal->status > 499)) std::abort();
      answer.WriteError(*refusal, {});
      return 0;
    }
    const std::string bounded = "/" + request.path + "/";
    if (bounded.find("/../") != bounded.npos || request.path.starts_with('/')) std::abort();
    if (!request.data.is_object()) std::abort();
    SecretBytes written;
    AppendJson(request.data, &written);
    if (!ParseJson(written.view()).ok()) std::abort();
    answer.Write(request, Response::Data(std::move(request.data)), "kv", {});
  }
  return 0;
}
