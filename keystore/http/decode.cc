#include "keystore/http/decode.h"

#include <array>

#include "absl/strings/ascii.h"
#include "common/duration.h"
#include "common/go_bool.h"
#include "common/strings.h"
#include "common/utf8.h"

namespace coffer::keystore {
namespace {

constexpr std::string_view kPrefix = "/v1/";
// The one deletion with a body, also in Vault: the nonce of the rekey that is to be cancelled.
constexpr std::string_view kCancelRekey = "sys/rekey/init";
// What is longer is refused: an answer's head has little room.
constexpr std::size_t kLongestRedirect = 300;
constexpr std::string_view kMergePatch = "application/merge-patch+json";

struct Method {
  std::string_view name;
  Operation operation;
  bool takes_body;
};
// HEAD is answered as GET, without the body. A query counts for what takes no body, as in Vault:
// proxies log it, so that no secret belongs there.
constexpr std::array<Method, 7> kMethods = {{{"GET", Operation::kRead, false},
                                             {"HEAD", Operation::kRead, false},
                                             {"LIST", Operation::kList, false},
                                             {"POST", Operation::kUpdate, true},
                                             {"PUT", Operation::kUpdate, true},
                                             {"PATCH", Operation::kPatch, true},
                                             {"DELETE", Operation::kDelete, false}}};

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Undoes percent-encoding (RFC 3986 section 2.1); false on a "%" without two hex digits.
template <class String>
bool PercentDecode(std::string_view text, bool plus_is_space, String* out) {
  out->reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      if (i + 2 >= text.size()) return false;
      const int high = HexValue(text[i + 1]);
      const int low = HexValue(text[i + 2]);
      if (high < 0 || low < 0) return false;
      out->push_back(static_cast<char>(high << 4 | low));
      i += 2;
    } else {
      out->push_back(plus_is_space && text[i] == '+' ? ' ' : text[i]);
    }
  }
  return true;
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) {
           return absl::ascii_tolower(static_cast<unsigned char>(x)) ==
                  absl::ascii_tolower(static_cast<unsigned char>(y));
         });
}

// Whether `text` is UTF-8 without control characters.
bool IsPrintableUtf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    const std::size_t length = Utf8Length(text.substr(i));
    if (length == 0 || c < 0x20 || c == 0x7f) return false;
    i += length;
  }
  return true;
}

// `path` without "//", "." and "..", as Go's server has it.
SecretBytes CleanPath(std::string_view path) {
  std::vector<std::string_view> kept;
  for (const std::string_view segment : Split(path, '/')) {
    if (segment == "..") {
      if (!kept.empty()) kept.pop_back();
    } else if (!segment.empty() && segment != ".") {
      kept.push_back(segment);
    }
  }
  SecretBytes clean;
  for (const std::string_view segment : kept) {
    clean.Append("/");
    clean.Append(segment);
  }
  if (kept.empty() || path.ends_with('/')) clean.Append("/");
  return clean;
}

// Sends who asks for "//v1/x" to "/v1/x", as Vault does: addresses that end in "/" are common.
std::optional<HttpRefusal> Redirect(std::string_view path, std::string_view query) {
  if (!path.starts_with('/') || path.size() + query.size() > kLongestRedirect ||
      (path.find("//") == path.npos && path.find("/.") == path.npos)) {
    return std::nullopt;
  }
  HttpRefusal refusal{307, "the path isn't clean: see Location"};
  refusal.location = CleanPath(path);
  const std::string_view clean = refusal.location.view();
  if (clean == path || !clean.starts_with(kPrefix)) return std::nullopt;  // never to another host
  refusal.location.Append(query);
  return refusal;
}

std::optional<HttpRefusal> DecodePath(std::string_view encoded, std::string* path) {
  if (!encoded.starts_with(kPrefix)) {
    return HttpRefusal{404, "no handler for this path: the API is below /v1/"};
  }
  encoded.remove_prefix(kPrefix.size());
  if (!PercentDecode(encoded, /*plus_is_space=*/false, path)) {
    return HttpRefusal{400, "the path is not percent-encoded rightly"};
  }
  if (!IsPrintableUtf8(*path)) {
    return HttpRefusal{400, "path contains control characters or is not UTF-8"};
  }
  const std::vector<std::string_view> segments = Split(*path, '/');
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (segments[i] == ".." || segments[i] == ".") {
      return HttpRefusal{400, "path cannot contain parent references"};
    }
    if (segments[i].empty() && i + 1 < segments.size()) {
      return HttpRefusal{400, "path contains an empty segment (\"//\")"};
    }
  }
  return std::nullopt;
}

// Adds "a=1&b=2&b=3" to `data`, as {"a": "1", "b": ["2", "3"]}.
bool DecodePairs(std::string_view query, Json* data) {
  for (const std::string_view pair : Split(query, '&')) {
    if (pair.empty()) continue;
    const std::size_t equals = pair.find('=');
    SecretString name;
    SecretString value;
    if (!PercentDecode(pair.substr(0, equals), /*plus_is_space=*/true, &name)) return false;
    if (equals != pair.npos &&
        !PercentDecode(pair.substr(equals + 1), /*plus_is_space=*/true, &value)) {
      return false;
    }
    const auto found = data->find(name);
    if (found == data->end()) {
      data->emplace(std::move(name), std::move(value));
    } else {
      if (found->is_string()) *found = Json::array({std::move(*found)});
      found->push_back(std::move(value));
    }
  }
  return true;
}

// "application/json" of "application/json; charset=utf-8".
std::string_view MediaType(std::string_view content_type) {
  return Trim(content_type.substr(0, content_type.find(';')));
}

// As Vault: forms only where the body doesn't look like JSON, since many clients (curl -d) send
// JSON under a form's content type.
bool IsForm(const HttpMessage& message) {
  if (!EqualsIgnoringCase(MediaType(message.content_type), "application/x-www-form-urlencoded")) {
    return false;
  }
  const std::string_view body = Trim(message.body.view());
  return !body.starts_with('{') && !body.starts_with('[');
}

std::optional<HttpRefusal> DecodeBody(const HttpMessage& message, Operation operation,
                                      Json* data) {
  if (operation == Operation::kPatch) {
    const std::string_view type = MediaType(message.content_type);
    if (type.empty()) return HttpRefusal{400, "mime: no media type"};
    if (!EqualsIgnoringCase(type, kMergePatch)) {
      return HttpRefusal{415, StrCat("PATCH requires Content-Type of ", kMergePatch, ", provided ",
                                     type)};
    }
  }
  if (Trim(message.body.view()).empty()) return std::nullopt;
  if (IsForm(message)) {
    if (!DecodePairs(Trim(message.body.view()), data)) {
      return HttpRefusal{400, "error parsing form data"};
    }
    return std::nullopt;
  }
  absl::StatusOr<Json> body = ParseJson(message.body.view());
  if (!body.ok()) {
    return HttpRefusal{400, StrCat("error parsing JSON: ", Message(body.status()))};
  }
  if (body->is_null()) return std::nullopt;
  if (!body->is_object()) {
    return HttpRefusal{400, "error parsing JSON: the body must be an object"};
  }
  *data = *std::move(body);
  return std::nullopt;
}

// Takes "list" and "help" out of a read's query.
std::optional<HttpRefusal> TakeSwitch(const char* name, Operation meaning, Json* data,
                                      Operation* operation) {
  const auto given = data->find(name);
  if (given == data->end()) return std::nullopt;
  const SecretString value = given->is_string() ? given->get<SecretString>() : SecretString();
  const std::optional<bool> on = value.empty() ? false : ParseGoBool(value);
  if (!on) {
    return HttpRefusal{400, StrCat("the query parameter \"", name, "\" must be true or false")};
  }
  if (*on) *operation = meaning;
  data->erase(given);
  return std::nullopt;
}

std::optional<HttpRefusal> DecodeHeaders(const HttpMessage& message, Request* request) {
  const std::string_view name_space = message.name_space;
  if (!name_space.empty() && name_space != "root" && name_space != "root/" && name_space != "/") {
    return HttpRefusal{400, "this keystore has no namespaces: leave X-Vault-Namespace out, or set "
                            "it to \"root\""};
  }
  const absl::StatusOr<absl::Duration> wrap_ttl = ParseDuration(message.wrap_ttl);
  if (!wrap_ttl.ok() || *wrap_ttl < absl::ZeroDuration()) {
    return HttpRefusal{400, "X-Vault-Wrap-TTL must be a duration, as \"5m\" or a number of seconds"};
  }
  request->wrap_ttl = absl::Ceil(*wrap_ttl, absl::Seconds(1));
  return std::nullopt;
}

}  // namespace

std::optional<HttpRefusal> DecodeRequest(HttpMessage& message, Request* request) {
  const std::string_view target = message.target.view();
  const std::size_t question = target.find('?');
  const std::string_view path = target.substr(0, question);
  if (auto redirect = Redirect(path, target.substr(path.size()))) return redirect;
  if (auto refusal = DecodePath(path, &request->path)) return refusal;

  const auto method = std::find_if(kMethods.begin(), kMethods.end(), [&](const Method& candidate) {
    return candidate.name == message.method;
  });
  if (method == kMethods.end()) return HttpRefusal{405, "unsupported operation"};
  request->operation = method->operation;
  if (auto refusal = DecodeHeaders(message, request)) return refusal;

  const bool cancels_rekey =
      request->operation == Operation::kDelete && request->path == kCancelRekey;
  if (method->takes_body || cancels_rekey) {
    if (auto refusal = DecodeBody(message, request->operation, &request->data)) return refusal;
  } else if (question != target.npos) {
    if (!DecodePairs(target.substr(question + 1), &request->data)) {
      return HttpRefusal{400, "the query is not percent-encoded rightly"};
    }
    if (request->operation == Operation::kRead) {
      Operation* operation = &request->operation;
      for (const auto& [name, meaning] : {std::pair("list", Operation::kList),
                                          std::pair("help", Operation::kHelp)}) {
        if (auto refusal = TakeSwitch(name, meaning, &request->data, operation)) return refusal;
      }
    }
  }
  // What is listed is a directory, and policies are written for it as one.
  if (request->operation == Operation::kList && !request->path.empty() &&
      !request->path.ends_with('/')) {
    request->path += '/';
  }
  request->token = std::move(message.token);
  return std::nullopt;
}

}  // namespace coffer::keystore
