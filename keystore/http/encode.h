// From a Response to the bytes of an HTTP answer: Vault's envelope, written once, in secret memory.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/secret_bytes.h"
#include "keystore/core/request.h"
#include "keystore/core/response.h"
#include "keystore/http/http_message.h"

namespace coffer::keystore {

// One answer. Head and body lie next to each other, so that one write (one TLS record) sends both:
// the body is written first, behind room for the head, and the head goes in when the length is
// known.
class HttpAnswer {
 public:
  // What the head says apart from the body.
  struct Head {
    std::string_view date;  // IMF-fixdate (RFC 9110 section 5.6.7)
    bool keep_alive = true;
    bool head_only = false;  // the request was HEAD: the body is announced and left out
    bool tls = false;
  };

  // What the handler answered. `mount_type` is that of the mount which served the request: "kv".
  void Write(const Request& request, const Response& response, std::string_view mount_type,
             const Head& head);
  // A page that isn't of the API: 200, or 307 where `location` isn't empty.
  void WritePage(std::string_view content_type, std::string_view content,
                 std::string_view location, const Head& head);
  // {"errors": [message]}, or {"errors": []} where the message is empty.
  void WriteError(const HttpRefusal& refusal, const Head& head);

  // The bytes to send; valid until the next Write.
  std::string_view view() const { return bytes_.view().substr(start_); }
  // Wipes, and keeps no more memory than an answer of common size needs.
  void Clear();

 private:
  void Begin();
  // `headers`: more of them, each with its line end.
  void Finish(int status, std::string_view content_type, const Head& head,
              std::string_view headers = {});

  SecretBytes bytes_;
  std::size_t start_ = 0;
};

// "Tue, 03 Jun 2025 11:40:51 GMT".
std::string HttpDate(absl::Time time);

}  // namespace coffer::keystore
