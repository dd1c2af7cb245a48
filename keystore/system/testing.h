// TestKeystore: a whole keystore in memory, initialised and unsealed, for tests of backends through
// the real Core.
#pragma once

#include <catch2/catch.hpp>
#include <string>
#include <string_view>

#include "common/clock.h"
#include "keystore/barrier/shamir_seal.h"
#include "keystore/core/core.h"
#include "keystore/storage/memory_store.h"
#include "keystore/system/audit_routes.h"
#include "keystore/system/lease_routes.h"
#include "keystore/system/metrics_routes.h"
#include "keystore/system/mount_routes.h"
#include "keystore/system/policy_routes.h"
#include "keystore/system/remount_routes.h"
#include "keystore/system/seal_routes.h"
#include "keystore/system/system_backend.h"
#include "keystore/system/wrapping_routes.h"

namespace coffer::keystore {

struct TestKeystore {
  TestKeystore() {
    core.Register("system", system);
    auto made = seal.Initialize({1, 1}, [this]() -> absl::Status {
      auto token = core.InitializeContents();
      if (!token.ok()) return token.status();
      root_token = std::string(token->view());
      return absl::OkStatus();
    });
    REQUIRE(made.ok());
    share = std::move(made->front());
    Unseal();
  }

  void Unseal() { REQUIRE(seal.Unseal(EncodeHex(share.span()).view()).ok()); }

  absl::StatusOr<Response> Call(Operation operation, std::string_view path,
                                Json data = Json::object(), std::string_view token = "root") {
    Request request;
    request.operation = operation;
    request.path = std::string(path);
    request.data = std::move(data);
    request.token = SecretBytes::CopyOf(token == "root" ? std::string_view(root_token) : token);
    request.remote_address = "127.0.0.1";
    absl::StatusOr<Response> response = core.HandleAndWait(request);
    if (response.ok() && !response->data_text.empty()) {
      response->data = ParseJson(response->data_text.view()).value();
    }
    return response;
  }
  absl::StatusOr<Response> Read(std::string_view path, std::string_view token = "root") {
    return Call(Operation::kRead, path, Json::object(), token);
  }
  absl::StatusOr<Response> Write(std::string_view path, Json data, std::string_view token = "root") {
    return Call(Operation::kUpdate, path, std::move(data), token);
  }
  absl::StatusOr<Response> List(std::string_view path, std::string_view token = "root") {
    return Call(Operation::kList, path, Json::object(), token);
  }
  absl::StatusOr<Response> Delete(std::string_view path, std::string_view token = "root") {
    return Call(Operation::kDelete, path, Json::object(), token);
  }
  // Mounts a backend, with `version` as option for kv.
  void Enable(std::string_view path, std::string_view type, std::string_view version = "") {
    Json data = {{"type", type}};
    if (!version.empty()) data["options"] = {{"version", version}};
    const auto enabled = Write(StrCat(path.starts_with("auth/") ? "sys/" : "sys/mounts/", path),
                               std::move(data));
    CAPTURE(enabled.status().ToString());
    REQUIRE(enabled.ok());
  }

  ManualClock clock;
  MemoryStore store;
  Barrier barrier{store, clock};
  ShamirSeal seal{barrier};
  TokenStore tokens{clock};
  PolicyStore policies;
  MountStore mounts;
  Audit audit{clock};
  Core core{barrier, tokens, policies, mounts, audit};
  SystemBackend system{{SealRoutes(seal, clock, {"0.0.0", "", "inmem"},
                                   {[this] { return core.InitializeContents(); },
                                    [this] { return core.CreateRootToken(); },
                                    [this] { core.Seal(); }}),
                        PolicyRoutes(policies, tokens), MountRoutes(core, mounts, policies, tokens),
                        RemountRoutes(mounts, tokens), LeaseRoutes(tokens), AuditRoutes(audit),
                        WrappingRoutes(tokens),
                        MetricsRoutes(core.telemetry(), clock, {})}};
  SecretBytes share;
  std::string root_token;
};

}  // namespace coffer::keystore
