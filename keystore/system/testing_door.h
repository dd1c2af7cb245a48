// DoorKeystore: for tests of mounts, a TestKeystore with a backend that is both an auth method that
// lets everyone in (type "door") and a secrets engine (kv) that keeps what it is told.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/system/testing.h"

namespace coffer::keystore {

class Door : public Backend {
 public:
  const std::vector<Route>& routes() const override { return routes_; }

  // Happens once, in the middle of the next login or write.
  std::function<void()> meanwhile;

 private:
  void Meanwhile() {
    if (meanwhile) std::exchange(meanwhile, nullptr)();
  }
  absl::StatusOr<Response> LogIn(const Request& request) {
    Meanwhile();
    Response response;
    response.login.emplace();
    TokenSpec& token = response.login->token;
    token.path = StrCat(request.mount->path, "login");
    token.ttl = request.duration("ttl");
    token.type = request.text("type");
    token.num_uses = request.integer("num_uses");
    token.policies = request.list("policies");
    return response;
  }
  absl::StatusOr<Response> Keep(const Request& request, Txn& txn) {
    Meanwhile();
    RETURN_IF_ERROR(txn.Put("kept", request.text("value")));
    return Response::Empty();
  }
  static absl::StatusOr<Response> Show(const Request&, Txn& txn) {
    ASSIGN_OR_RETURN(const auto kept, txn.Get("kept"));
    return Response::Data({{"value", kept ? Json(kept->view()) : Json(nullptr)}});
  }
  const std::vector<Route> routes_ = {
      {"login",
       "",
       {{"ttl", FieldType::kDuration, ""},
        {"type", FieldType::kString, ""},
        {"num_uses", FieldType::kInteger, ""},
        {"policies", FieldType::kList, ""}},
       {{Operation::kUpdate, [this](const Request& request, Txn&) { return LogIn(request); }}},
       Access::kUnauthenticated},
      {"kept",
       "",
       {{"value", FieldType::kString, ""}},
       {{Operation::kUpdate,
         [this](const Request& request, Txn& txn) { return Keep(request, txn); }},
        {Operation::kRead, Show}}}};
};

struct DoorKeystore : TestKeystore {
  DoorKeystore() {
    core.Register("door", door);
    core.Register("kv/1", door);
    core.Register("kv/2", door);
  }

  Auth LogIn(std::string_view mount, Json data = Json::object()) {
    auto made = Write(StrCat("auth/", mount, "/login"), std::move(data), "");
    CAPTURE(made.status().ToString());
    REQUIRE(made.ok());
    return *std::move(made->auth);
  }
  // A child of `parent`, as auth/token/create makes it.
  std::string Child(const Auth& parent) {
    auto txn = barrier.Begin();
    Txn root = (*txn)->root();
    TokenSpec spec;
    spec.path = "auth/token/create";
    spec.parent = parent.entry->hash;
    auto made = tokens.Create(root, std::move(spec), MountEntry{.path = "auth/token/"});
    REQUIRE(made.ok());
    REQUIRE(CommitAndWait(barrier, *std::move(txn)).ok());
    return std::string(made->id.view());
  }
  bool Lives(std::string_view token) {
    auto txn = barrier.Begin();
    Txn root = (*txn)->root();
    const auto found = tokens.Lookup(root, token);
    REQUIRE(found.ok());
    return *found != nullptr;
  }
  // How many service tokens there are.
  std::size_t Tokens() {
    auto txn = barrier.Begin();
    Txn root = (*txn)->root();
    const auto accessors = tokens.Accessors(root);
    REQUIRE(accessors.ok());
    return accessors->size();
  }
  bool Lives(const Auth& auth) { return Lives(auth.client_token.view()); }

  Door door;
};

inline absl::StatusCode CodeOf(const absl::StatusOr<Response>& response) {
  return response.status().code();
}
inline std::string MessageOf(const absl::StatusOr<Response>& response) {
  return std::string(Message(response.status()));
}
inline std::string TextOf(const Json& text) {
  return std::string(std::string_view(text.get_ref<const Json::string_t&>()));
}

}  // namespace coffer::keystore
