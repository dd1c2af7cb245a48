// Reading: which requests the objects of a class need, and which files become of the answers.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "common/secret_bytes.h"
#include "provider/extract.h"
#include "provider/objects.h"
#include "provider/path_pattern.h"

namespace coffer::provider {

// One request that one or more objects wait for.
struct Request {
  std::string key;      // equal for equal requests; holds no secret
  const Object* first;  // an object that asks for it
  std::string path;
  absl::StatusOr<Json> response = absl::UnknownError("not sent");
};

// An object with what it is read from: for each path what it is called and which request reads it.
struct Reading {
  const Object* object;
  std::vector<std::pair<std::string, std::size_t>> parts = {};
};

struct Plan {
  std::vector<Reading> readings;  // one an object
  std::vector<Request> requests;  // all different
};

// `paths`: what an object's path stands for. Errors name the object.
absl::StatusOr<Plan> MakePlan(
    const std::vector<Object>& objects,
    const std::function<absl::StatusOr<std::vector<MatchedPath>>(const Object&)>& paths);

// The files of one object, and its version ("" where it has none of its own); neither where it is
// absent and may be.
absl::Status Collect(const Reading& reading, const std::vector<Request>& requests,
                     std::string_view address, std::vector<Extracted>* files, std::string* version);

// A version for what has none: a MAC over the files.
std::string ContentVersion(const SecretBytes& key, const Object& object,
                           const std::vector<Extracted>& files);

}  // namespace coffer::provider
