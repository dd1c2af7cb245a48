// Request: one API call, decoded; what a handler sees.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "common/json.h"
#include "common/secret_bytes.h"

namespace coffer::keystore {

struct Field;
struct MountEntry;
struct Route;
struct TokenEntry;

enum class Operation { kRead, kCreate, kUpdate, kPatch, kDelete, kList, kHelp };

// "read", "create", ...
std::string_view OperationName(Operation operation);

struct Request {
  // What the listener fills in.
  std::string id;  // a UUID, answered as request_id
  // From HTTP: GET read, POST and PUT update, PATCH patch, DELETE delete, LIST and GET ?list=true
  // list, GET ?help=1 help. Core makes it kCreate where the route can tell that nothing is there yet.
  Operation operation = Operation::kRead;
  std::string path;  // below /v1/, percent-decoded: "secret/data/webapp/config"
  // A write's top-level object, or the query's parameters (strings) of what has no body. Always an
  // object.
  Json data = Json::object();
  SecretBytes token;           // empty: none was sent
  std::string remote_address;  // without the port
  absl::Duration wrap_ttl;      // zero: the answer isn't to be wrapped
  bool metrics_for_all = false;  // the listener's unauthenticated_metrics_access

  // What Core fills in before the handler runs.
  std::string relative_path;           // below the mount: "data/webapp/config"
  const MountEntry* mount = nullptr;   // never null in a handler
  const Route* route = nullptr;        // never null in a handler
  std::shared_ptr<const TokenEntry> caller;  // null on routes that need no token
  std::shared_ptr<const void> existing;  // what the route's `exists` loaded, if it hands it on
  // Path captures, and what had to be converted to a field's declared type (see FieldType).
  Json fields = Json::object();
  // True on a worker thread, where a handler may wait for disks and networks.
  bool may_block = false;

  // Declared fields, each of its declared type. A field that wasn't given has its declared default, else "", 0, false, empty.
  bool has(std::string_view name) const;  // given by the caller, even as null
  std::string_view text(std::string_view name) const;
  std::int64_t integer(std::string_view name) const;
  bool boolean(std::string_view name) const;
  absl::Duration duration(std::string_view name) const;
  std::vector<std::string> list(std::string_view name) const;
  const Json& json(std::string_view name) const;  // null where not given

 private:
  const Json* Given(std::string_view name) const;
  const Field* Declared(std::string_view name) const;
};

}  // namespace coffer::keystore
