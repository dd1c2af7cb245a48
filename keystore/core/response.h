// Response: what a handler answers; the listener makes Vault's JSON document of it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/json.h"
#include "keystore/core/event_stream.h"
#include "keystore/core/token_entry.h"

namespace coffer::keystore {

// A token that was made or renewed, as the answer's "auth" object shows it.
struct Auth {
  SecretBytes client_token;
  std::shared_ptr<const TokenEntry> entry;
  Json::string_t alias = {};  // of a login, for the audit log
};

// What an auth method asks for when it lets someone in; Core makes the token in the same transaction
// and puts it into `auth`.
struct Login {
  TokenSpec token;
  Json::string_t alias;  // by what name the method knows whom it lets in
};

// The token that an answer was wrapped in.
struct WrapInfo {
  SecretBytes token;
  std::shared_ptr<const TokenEntry> entry;  // its path is that of the request
  std::string accessor;                     // of the token within, where that is what was wrapped
};

struct Response {
  int http_status = 0;  // 0: 200 with a body, 204 without
  Json data;            // null: no "data"
  // The text of "data" in place of `data`, where it is at hand: saves the reading and writing of what
  // isn't looked at. A JSON document, or empty.
  SecretBytes data_text;
  // The answer is `data` itself, not wrapped in Vault's envelope (sys/health, sys/seal-status).
  bool bare = false;
  // Each member of `data` also stands beside it at the top (sys/mounts, sys/policy: as Vault does).
  bool flattened = false;
  absl::Duration lease_duration;  // for how long kv version 1 says that a secret may be used
  std::vector<std::string> warnings;
  std::optional<Auth> auth;
  std::optional<Login> login;
  std::optional<WrapInfo> wrapped;
  // The answer waits until what TokenStore::RevokeBelow noted is done.
  bool revokes = false;
  std::string content_type;  // "" = application/json; else `raw_body` is the body
  SecretBytes raw_body;
  // The answer goes on, over a WebSocket: nothing else here counts.
  std::shared_ptr<EventStream> events;

  static Response Empty() { return {}; }
  static Response Data(Json data) {
    Response response;
    response.data = std::move(data);
    return response;
  }
  static Response Flattened(Json data) {
    Response response = Data(std::move(data));
    response.flattened = true;
    return response;
  }
  static Response Bare(Json document, int http_status = 200) {
    Response response;
    response.data = std::move(document);
    response.bare = true;
    response.http_status = http_status;
    return response;
  }
  // 404 with an envelope that tells more, as kv-v2 answers for a deleted version.
  static Response NotFoundWith(Json data) {
    Response response = Data(std::move(data));
    response.http_status = 404;
    return response;
  }
};

}  // namespace coffer::keystore
