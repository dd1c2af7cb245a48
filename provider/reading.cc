#include "provider/reading.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>

#include "common/status_macros.h"
#include "common/status_prefix.h"
#include "common/strings.h"

namespace coffer::provider {
namespace {

std::string RequestKey(const Object& object, std::string_view path) {
  std::string key = StrCat(object.method, " ", path, "?", object.query, " ");
  // Arguments may be secrets, and the key is a plain string: a digest stands for them.
  if (!object.args.is_null()) {
    const SecretBytes args = DumpJson(object.args);
    std::uint8_t digest[32];
    unsigned int size = 0;
    EVP_Digest(args.data(), args.size(), digest, &size, EVP_sha256(), nullptr);
    StrAppend(&key, EncodeHex(std::span(digest, size)).view());
  }
  return key;
}

}  // namespace

absl::StatusOr<Plan> MakePlan(
    const std::vector<Object>& objects,
    const std::function<absl::StatusOr<std::vector<MatchedPath>>(const Object&)>& paths) {
  Plan plan;
  std::vector<Request>& requests = plan.requests;
  for (const Object& object : objects) {
    Reading& reading = plan.readings.emplace_back(Reading{&object});
    absl::StatusOr<std::vector<MatchedPath>> found = paths(object);
    if (!found.ok()) return Prefixed(StrCat("object \"", object.name, "\""), found.status());
    for (MatchedPath& path : *found) {
      std::string key = RequestKey(object, path.path);
      const auto same = std::find_if(requests.begin(), requests.end(),
                                     [&](const Request& request) { return request.key == key; });
      reading.parts.emplace_back(std::move(path.matched), same - requests.begin());
      if (same == requests.end()) requests.push_back({std::move(key), &object, std::move(path.path)});
    }
  }
  return plan;
}

absl::Status Collect(const Reading& reading, const std::vector<Request>& requests,
                     std::string_view address, std::vector<Extracted>* files,
                     std::string* version) {
  const Object& object = *reading.object;
  absl::Status absent;
  for (const auto& [matched, index] : reading.parts) {
    const absl::StatusOr<Json>& response = requests[index].response;
    if (!response.ok() && !absl::IsNotFound(response.status())) return response.status();
    if (!response.ok()) {  // of a pattern: listed, but deleted
      absent = response.status();
      continue;
    }
    absl::StatusOr<std::vector<Extracted>> extracted = ExtractFiles(*response, object, matched);
    if (extracted.ok()) {
      for (Extracted& file : *extracted) files->push_back(std::move(file));
      if (!object.many_paths()) *version = ResponseVersion(*response);
      continue;
    }
    absent = Prefixed(StrCat(object.method, " ", requests[index].path, " at ", address),
                      extracted.status());
    if (!absl::IsNotFound(absent)) return absent;
  }
  if (!files->empty()) return absl::OkStatus();
  if (object.fallback) {
    files->push_back({OneFile(object), SecretBytes::CopyOf(*object.fallback)});
    return absl::OkStatus();
  }
  if (object.optional) return absl::OkStatus();
  return absent.ok() ? absl::NotFoundError(
                           StrCat("nothing at ", address, " matches ", object.path))
                     : absent;
}

std::string ContentVersion(const SecretBytes& key, const Object& object,
                           const std::vector<Extracted>& files) {
  SecretBytes message = SecretBytes::CopyOf(
      StrCat(RequestKey(object, object.path), " ", object.key, " ", object.name, " "));
  for (const Extracted& file : files) {
    message.Append(StrCat(file.path.size(), ":", file.path, file.content.size(), ":"));
    message.Append(file.content.view());
  }
  std::uint8_t mac[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), message.data(), message.size(), mac,
       &size);
  return std::string(EncodeBase64Url(std::span(mac, size)).view());
}

}  // namespace coffer::provider
