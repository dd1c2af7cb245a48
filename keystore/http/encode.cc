#include "keystore/http/encode.h"

#include <cstring>

#include "absl/time/time.h"
#include "common/json_writer.h"
#include "common/strings.h"
#include "keystore/core/envelope.h"

namespace coffer::keystore {
namespace {

// The longest head, with a page's headers and content type, is under 700 bytes.
constexpr std::size_t kHeadRoom = 768;
constexpr std::size_t kKeptCapacity = 16 * 1024;
constexpr std::string_view kJsonType = "application/json";

std::string_view Reason(int status) {
  switch (status) {
    case 200: return "OK";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 307: return "Temporary Redirect";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 412: return "Precondition Failed";
    case 413: return "Request Entity Too Large";
    case 415: return "Unsupported Media Type";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 507: return "Insufficient Storage";
    default: return "";  // 472, 473: health codes of Vault's own
  }
}

// RFC 9112 section 6.3: an answer of such a status ends with its head, whatever that says.
bool HasBody(int status) { return status >= 200 && status != 204 && status != 304; }

char* Put(char* at, std::string_view text) { return std::copy(text.begin(), text.end(), at); }

char* PutNumber(char* at, std::size_t number) {
  char digits[20];
  char* first = digits + sizeof(digits);
  do {
    *--first = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number > 0);
  return Put(at, {first, static_cast<std::size_t>(digits + sizeof(digits) - first)});
}

SecretBytes LocationHeader(std::string_view location) {
  SecretBytes header;
  header.Append("Location: ");
  header.Append(location);
  header.Append("\r\n");
  return header;
}

}  // namespace

std::string HttpDate(absl::Time time) {
  // By hand: absl::FormatTime would go by the C locale's names of days and months.
  constexpr std::string_view kDays = "MonTueWedThuFriSatSun";
  constexpr std::string_view kMonths = "JanFebMarAprMayJunJulAugSepOctNovDec";
  const absl::CivilSecond civil = absl::ToCivilSecond(time, absl::UTCTimeZone());
  const auto two = [](int number) {
    return std::string{static_cast<char>('0' + number / 10), static_cast<char>('0' + number % 10)};
  };
  const auto day = static_cast<std::size_t>(absl::GetWeekday(civil));
  return StrCat(kDays.substr(day * 3, 3), ", ", two(civil.day()), " ",
                kMonths.substr((civil.month() - 1) * 3, 3), " ", civil.year(), " ",
                two(civil.hour()), ":", two(civil.minute()), ":", two(civil.second()), " GMT");
}

void HttpAnswer::Begin() {
  bytes_.Clear();
  bytes_.Resize(kHeadRoom);
}

void HttpAnswer::Clear() {
  if (bytes_.size() > kKeptCapacity) {
    bytes_ = SecretBytes();
  } else {
    bytes_.Clear();
  }
  start_ = 0;
}

void HttpAnswer::Finish(int status, std::string_view content_type, const Head& head,
                        std::string_view headers) {
  const std::size_t body_size = bytes_.size() - kHeadRoom;
  char text[kHeadRoom];
  char* at = Put(text, "HTTP/1.1 ");
  at = PutNumber(at, static_cast<std::size_t>(status));
  at = Put(at, " ");
  at = Put(at, Reason(status));
  at = Put(at, "\r\nCache-Control: no-store\r\n");
  at = Put(at, headers);
  if (head.tls) at = Put(at, "Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n");
  at = Put(at, "Date: ");
  at = Put(at, head.date);
  if (HasBody(status)) {
    at = Put(at, "\r\nContent-Type: ");
    at = Put(at, content_type.substr(0, 100));
    at = Put(at, "\r\nContent-Length: ");
    at = PutNumber(at, body_size);
  }
  at = Put(at, head.keep_alive ? "\r\n\r\n" : "\r\nConnection: close\r\n\r\n");

  const auto size = static_cast<std::size_t>(at - text);
  start_ = kHeadRoom - size;
  std::memcpy(bytes_.data() + start_, text, size);
  if (head.head_only || !HasBody(status)) bytes_.Resize(kHeadRoom);
}

void HttpAnswer::Write(const Request& request, const Response& response,
                       std::string_view mount_type, const Head& head) {
  Begin();
  if (!response.content_type.empty()) {
    bytes_.Append(response.raw_body.span());
    return Finish(response.http_status == 0 ? 200 : response.http_status, response.content_type,
                  head);
  }
  const bool empty = IsEmpty(response);
  if (!empty) AppendBody(request, response, mount_type, &bytes_);
  const int status = response.http_status != 0 ? response.http_status : empty ? 204 : 200;
  Finish(status, kJsonType, head);
}

void HttpAnswer::WritePage(std::string_view content_type, std::string_view content,
                           std::string_view location, const Head& head) {
  Begin();
  bytes_.Append(content);
  if (!location.empty()) {
    return Finish(307, content_type, head, LocationHeader(location).view());
  }
  // Scripts and styles of this keystore alone, and nobody's frame.
  Finish(200, content_type, head,
         "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
         "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
         "frame-ancestors 'none'\r\n"
         "X-Content-Type-Options: nosniff\r\n"
         "Referrer-Policy: no-referrer\r\n");
}

void HttpAnswer::WriteError(const HttpRefusal& refusal, const Head& head) {
  Begin();
  bytes_.Append("{\"errors\":[");
  if (!refusal.message.empty()) AppendJsonString(refusal.message, &bytes_);
  bytes_.Append("]}\n");
  if (refusal.location.empty()) return Finish(refusal.status, kJsonType, head);
  Finish(refusal.status, kJsonType, head, LocationHeader(refusal.location.view()).view());
}

}  // namespace coffer::keystore
