#include "keystore/system/seal_routes.h"

#include <catch2/catch.hpp>

#include "common/random.h"
#include "keystore/core/core.h"
#include "keystore/storage/memory_store.h"
#include "keystore/system/mount_routes.h"
#include "keystore/system/policy_routes.h"
#include "keystore/system/system_backend.h"

namespace coffer::keystore {
namespace {

constexpr Operation kRead = Operation::kRead;
constexpr Operation kWrite = Operation::kUpdate;
constexpr Operation kDelete = Operation::kDelete;

// A keystore in memory that isn't initialised, asked through the real Core.
struct Keystore {
  Keystore() { core.Register("system", system); }

  absl::StatusOr<Response> Call(Operation operation, std::string_view path,
                                Json data = Json::object(), std::string_view token = "") {
    Request request;
    request.operation = operation;
    request.path = StrCat("sys/", path);
    request.data = std::move(data);
    request.token = SecretBytes::CopyOf(token);
    request.remote_address = "127.0.0.1";
    return core.HandleAndWait(request);
  }
  // The answer's document.
  Json Ask(Operation operation, std::string_view path, Json data = Json::object(),
           std::string_view token = "") {
    auto response = Call(operation, path, std::move(data), token);
    CAPTURE(path, response.status().ToString());
    REQUIRE(response.ok());
    return std::move(response->data);
  }
  // The refusal's HTTP status and message: "400 message".
  std::string Refused(Operation operation, std::string_view path, Json data = Json::object(),
                      std::string_view token = "") {
    const auto response = Call(operation, path, std::move(data), token);
    return StrCat(HttpStatusFor(response.status()), " ", Message(response.status()));
  }
  void Initialize(int shares = 5, int threshold = 3) {
    Json answer = Ask(kWrite, "init", {{"secret_shares", shares}, {"secret_threshold", threshold}});
    keys = std::move(answer["keys_base64"]);
    root = std::string(std::string_view(answer["root_token"].get_ref<const SecretString&>()));
  }
  Json Unseal(int first = 0, int count = 3) {
    Json status;
    for (int i = first; i < first + count; ++i) status = Ask(kWrite, "unseal", {{"key", keys[i]}});
    return status;
  }

  MemoryStore store;
  ManualClock clock;
  Barrier barrier{store, clock};
  ShamirSeal seal{barrier};
  TokenStore tokens{clock};
  PolicyStore policies;
  MountStore mounts;
  Audit audit{clock};
  Core core{barrier, tokens, policies, mounts, audit};
  SystemBackend system{
      {SealRoutes(seal, clock, {"1.15.0", "2025-06-03T11:40:51Z", "inmem"},
                  {[this] { return core.InitializeContents(); },
                   [this] { return core.CreateRootToken(); }, [this] { core.Seal(); }}),
       PolicyRoutes(policies, tokens), MountRoutes(core, mounts, policies, tokens)}};
  Json keys;  // base64
  std::string root;
};

TEST_CASE("init answers with keys in hex and base64 and a root token that works") {
  Keystore keystore;
  CHECK(keystore.Ask(kRead, "init") == Json({{"initialized", false}}));
  const auto response =
      keystore.Call(kWrite, "init", {{"secret_shares", 5}, {"secret_threshold", 3}});
  REQUIRE(response.ok());
  CHECK(response->bare);
  const Json& answer = response->data;
  REQUIRE(answer["keys"].size() == 5);
  REQUIRE(answer["keys_base64"].size() == 5);
  for (int i = 0; i < 5; ++i) {
    const auto hex = answer["keys"][i].get<SecretString>();
    const auto base64 = answer["keys_base64"][i].get<SecretString>();
    CHECK(base64.size() == 44);
    CHECK(DecodeHex(hex)->Equals(DecodeBase64(base64)->view()));
  }
  const auto token = answer["root_token"].get<SecretString>();
  CHECK(token.size() == 28);
  CHECK(token.starts_with("hvs."));
  CHECK(keystore.Ask(kRead, "init") == Json({{"initialized", true}}));
  CHECK(keystore.Ask(kRead, "seal-status")["sealed"] == true);
  keystore.keys = answer["keys"];
  CHECK(keystore.Unseal()["sealed"] == false);
  CHECK(keystore.Ask(kRead, "key-status", {}, token)["term"] == 1);
}

TEST_CASE("init refuses what it can't do, and then hasn't done anything") {
  Keystore keystore;
  struct Case {
    Json data;
    std::string_view refusal;
  };
  for (const Case& c : std::initializer_list<Case>{
           {{{"secret_shares", 0}, {"secret_threshold", 0}},
            "400 invalid seal configuration: shares must be at least one"},
           {{{"secret_shares", 5}, {"secret_threshold", 1}},
            "400 invalid seal configuration: threshold must be greater than one for multiple "
            "shares"},
           {{{"secret_shares", 3}, {"secret_threshold", 5}},
            "400 invalid seal configuration: threshold cannot be larger than shares"},
           {{{"secret_shares", 4294967301}, {"secret_threshold", 3}},
            "400 invalid seal configuration: shares must be less than 256"},
           {{{"secret_shares", 1}, {"secret_threshold", 1}, {"pgp_keys", {"key"}}},
            "400 'pgp_keys' is not supported: shares and tokens are not encrypted to PGP keys"},
           {{{"secret_shares", 1}, {"secret_threshold", 1}, {"root_token_pgp_key", "key"}},
            "400 'root_token_pgp_key' is not supported: shares and tokens are not encrypted to PGP "
            "keys"},
           {{{"recovery_shares", 1}, {"recovery_threshold", 1}},
            "400 parameters specific to auto unseal seals present"}}) {
    CHECK(keystore.Refused(kWrite, "init", c.data) == c.refusal);
  }
  CHECK(keystore.Ask(kRead, "init")["initialized"] == false);
  // What the command line sends along doesn't matter.
  keystore.Ask(kWrite, "init",
               {{"secret_shares", 1},
                {"secret_threshold", 1},
                {"stored_shares", 1},
                {"pgp_keys", nullptr},
                {"root_token_pgp_key", ""},
                {"recovery_shares", 0},
                {"recovery_threshold", 0},
                {"recovery_pgp_keys", nullptr}});
  CHECK(keystore.Refused(kWrite, "init", {{"secret_shares", 1}, {"secret_threshold", 1}}) ==
        "400 Vault is already initialized");
}

TEST_CASE("seal-status has exactly Vault's fields") {
  Keystore keystore;
  Json expected = {{"type", "shamir"},
                   {"initialized", false},
                   {"sealed", true},
                   {"t", 0},
                   {"n", 0},
                   {"progress", 0},
                   {"nonce", ""},
                   {"version", "1.15.0"},
                   {"build_date", "2025-06-03T11:40:51Z"},
                   {"migration", false},
                   {"recovery_seal", false},
                   {"storage_type", "inmem"}};
  const auto response = keystore.Call(kRead, "seal-status");
  CHECK(response->bare);
  CHECK(response->data == expected);
  keystore.Initialize();
  expected.update({{"initialized", true}, {"t", 3}, {"n", 5}});
  CHECK(keystore.Ask(kRead, "seal-status") == expected);
  Json status = keystore.Unseal(0, 2);
  CHECK(status["progress"] == 2);
  CHECK(status["nonce"] == keystore.Ask(kRead, "seal-status")["nonce"]);
  status = keystore.Unseal(2, 1);
  CHECK(status["cluster_name"].get<SecretString>().starts_with("vault-cluster-"));
  CHECK(status["cluster_id"].get<SecretString>().size() == 36);
  expected.update({{"sealed", false},
                   {"cluster_name", status["cluster_name"]},
                   {"cluster_id", status["cluster_id"]}});
  CHECK(status == expected);
}

TEST_CASE("unseal takes shares, forgets them on reset, and refuses the rest") {
  Keystore keystore;
  const Json wrong = {{"key", Json::string_t(EncodeBase64(RandomSecret(33).span()).view())}};
  CHECK(keystore.Refused(kWrite, "unseal", wrong) == "400 Vault is not initialized");
  keystore.Initialize();
  CHECK(keystore.Refused(kWrite, "unseal") ==
        "400 'key' must be specified in request body as JSON, or 'reset' set to true");
  CHECK(keystore.Refused(kWrite, "unseal", {{"key", "?"}}) ==
        "400 'key' must be a valid hex or base64 string");
  CHECK(keystore.Refused(kWrite, "unseal", {{"key", "c2hvcnQ="}}) ==
        "400 key is shorter than minimum 16 bytes");
  CHECK(keystore.Refused(kWrite, "unseal", {{"key", keystore.keys[0]}, {"migrate", true}}) ==
        "400 'migrate' is not supported");
  CHECK(keystore.Refused(kRead, "unseal").starts_with("405"));
  CHECK(keystore.Unseal(0, 1)["progress"] == 1);
  CHECK(keystore.Unseal(0, 1)["progress"] == 1);
  CHECK(keystore.Ask(kWrite, "unseal", {{"reset", true}})["progress"] == 0);
  keystore.Unseal(0, 2);
  CHECK(keystore.Refused(kWrite, "unseal", wrong) == "400 Unseal failed, invalid key");
  CHECK(keystore.Unseal(2, 3)["sealed"] == false);
  CHECK(keystore.Refused(kWrite, "unseal", {{"reset", true}}) == "400 vault is unsealed");
}

TEST_CASE("seal and rotate need a token with sudo") {
  Keystore keystore;
  keystore.Initialize();
  CHECK(keystore.Refused(kWrite, "seal", {}, keystore.root) == "503 Vault is sealed");
  keystore.Unseal();
  keystore.Ask(kWrite, "policies/acl/plain",
               {{"policy", "path \"sys/*\" { capabilities = [\"read\", \"update\"] }"}},
               keystore.root);
  auto txn = *keystore.barrier.Begin();
  Txn root = txn->root();
  TokenSpec spec;
  spec.policies = {"plain"};
  const MountEntry mount;
  const auto plain = keystore.tokens.Create(root, std::move(spec), mount);
  REQUIRE(plain.ok());
  REQUIRE(CommitAndWait(keystore.barrier, std::move(txn)).ok());
  for (const char* path : {"seal", "rotate"}) {
    CHECK(keystore.Refused(kWrite, path).starts_with("403"));
    CHECK(keystore.Refused(kWrite, path, {}, plain->id.view()).starts_with("403"));
  }
  CHECK(keystore.Ask(kRead, "key-status", {}, plain->id.view())["term"] == 1);
  CHECK(keystore.Ask(kWrite, "rotate", {}, keystore.root).is_null());
  const auto status = keystore.Call(kRead, "key-status", {}, plain->id.view());
  CHECK(status->flattened);
  CHECK(status->data["term"] == 2);
  CHECK(status->data["install_time"] == "2025-06-03T11:40:51Z");
  CHECK(status->data["encryptions"] == 0);
  CHECK(keystore.Ask(kWrite, "seal", {}, keystore.root).is_null());
  CHECK(keystore.barrier.sealed());
  CHECK(keystore.Refused(kRead, "key-status", {}, keystore.root) == "503 Vault is sealed");
  CHECK(keystore.Unseal()["sealed"] == false);
  CHECK(keystore.Ask(kRead, "key-status", {}, keystore.root)["term"] == 2);
}

TEST_CASE("health answers with the code of its state, or with the one that is asked for") {
  Keystore keystore;
  const auto code = [&](Json data = Json::object()) {
    const auto response = keystore.Call(kRead, "health", std::move(data));
    return response.ok() ? response->http_status : HttpStatusFor(response.status());
  };
  const Json all = {{"uninitcode", "241"},      {"sealedcode", "242"},
                    {"activecode", "243"},      {"standbycode", "244"},
                    {"drsecondarycode", "245"}, {"performancestandbycode", "246"},
                    {"haunhealthycode", "247"}, {"removedcode", "248"},
                    {"standbyok", "true"},      {"perfstandbyok", "true"}};
  CHECK(code() == 501);
  CHECK(code(all) == 241);
  keystore.Initialize();
  CHECK(code() == 503);
  CHECK(code(all) == 242);
  Json body = keystore.Ask(kRead, "health");
  CHECK(body["sealed"] == true);
  CHECK(body["standby"] == true);
  CHECK(body["replication_dr_mode"] == "unknown");
  CHECK_FALSE(body.contains("cluster_id"));
  keystore.Unseal();
  CHECK(code() == 200);
  CHECK(code(all) == 243);
  body = keystore.Ask(kRead, "health");
  CHECK(body["initialized"] == true);
  CHECK(body["sealed"] == false);
  CHECK(body["standby"] == false);
  CHECK(body["performance_standby"] == false);
  CHECK(body["replication_performance_mode"] == "disabled");
  CHECK(body["server_time_utc"] == 1748950851);
  CHECK(body["version"] == "1.15.0");
  CHECK(body["cluster_id"].get<SecretString>().size() == 36);
  for (const char* name : {"uninitcode", "sealedcode", "activecode", "standbycode",
                           "drsecondarycode", "performancestandbycode", "haunhealthycode",
                           "removedcode"}) {
    for (const char* wrong : {"x", "99", "100", "199", "600"}) {
      CAPTURE(name, wrong);
      CHECK(code({{name, wrong}}) == 400);
    }
  }
  for (const char* name : {"standbyok", "perfstandbyok"}) CHECK(code({{name, "perhaps"}}) == 400);
}

TEST_CASE("leader tells that there is no cluster, sealed too") {
  Keystore keystore;
  keystore.Initialize();
  for (const bool unsealed : {false, true}) {
    if (unsealed) keystore.Unseal();
    const Json leader = keystore.Ask(kRead, "leader");
    CHECK(leader["ha_enabled"] == false);
    CHECK(leader["is_self"] == false);
    CHECK(leader["leader_address"] == "");
  }
}

TEST_CASE("rekey replaces the shares, with verification where it is asked for") {
  Keystore keystore;
  CHECK(keystore.Refused(kRead, "rekey/init") == "400 Vault is not initialized");
  keystore.Initialize();
  CHECK(keystore.Refused(kRead, "rekey/init") == "503 Vault is sealed");
  keystore.Unseal();
  const Json none = {{"nonce", ""},
                     {"started", false},
                     {"t", 0},
                     {"n", 0},
                     {"progress", 0},
                     {"required", 3},
                     {"pgp_fingerprints", nullptr},
                     {"backup", false},
                     {"verification_required", false}};
  CHECK(keystore.Ask(kRead, "rekey/init") == none);
  CHECK(keystore.Refused(kWrite, "rekey/init",
                         {{"secret_shares", 3}, {"secret_threshold", 2}, {"backup", true}}) ==
        "400 'backup' is not supported");
  CHECK(keystore.Refused(kWrite, "rekey/init", {{"secret_shares", 3}, {"secret_threshold", 1}})
            .starts_with("400 invalid rekey seal configuration"));
  CHECK(keystore.Refused(kWrite, "rekey/update", {{"key", keystore.keys[0]}, {"nonce", ""}}) ==
        "400 no barrier rekey in progress");
  CHECK(keystore.Refused(kRead, "rekey/verify") == "400 no rekey configuration found");

  const bool verify = GENERATE(false, true);
  CAPTURE(verify);
  Json status = keystore.Ask(kWrite, "rekey/init",
                             {{"secret_shares", 3},
                              {"secret_threshold", 2},
                              {"backup", false},
                              {"pgp_keys", nullptr},
                              {"require_verification", verify}});
  CHECK(status["started"] == true);
  CHECK(status["t"] == 2);
  CHECK(status["n"] == 3);
  CHECK(status["required"] == 3);
  CHECK(status["verification_required"] == verify);
  const Json nonce = status["nonce"];
  CHECK(keystore.Refused(kWrite, "rekey/update", {{"nonce", nonce}}) ==
        "400 'key' must be specified in request body as JSON");
  for (int i = 0; i < 2; ++i) {
    status = keystore.Ask(kWrite, "rekey/update", {{"key", keystore.keys[i]}, {"nonce", nonce}});
    CHECK(status["progress"] == i + 1);
  }
  const Json done =
      keystore.Ask(kWrite, "rekey/update", {{"key", keystore.keys[2]}, {"nonce", nonce}});
  CHECK(done["complete"] == true);
  CHECK(done["nonce"] == nonce);
  CHECK(done["keys"].size() == 3);
  CHECK(done["keys_base64"].size() == 3);
  CHECK(done["verification_required"] == verify);
  if (verify) {
    Json verifying = keystore.Ask(kRead, "rekey/verify");
    CHECK(verifying == Json({{"nonce", done["verification_nonce"]},
                             {"started", true},
                             {"t", 2},
                             {"n", 3},
                             {"progress", 0}}));
    verifying = keystore.Ask(kDelete, "rekey/verify");
    CHECK(verifying["nonce"] != done["verification_nonce"]);
    const Json verify_nonce = verifying["nonce"];
    CHECK(keystore.Ask(kWrite, "rekey/verify",
                       {{"key", done["keys"][0]}, {"nonce", verify_nonce}})["progress"] == 1);
    CHECK(
        keystore.Ask(kWrite, "rekey/verify", {{"key", done["keys"][2]}, {"nonce", verify_nonce}}) ==
        Json({{"nonce", verify_nonce}, {"complete", true}}));
  }
  CHECK(keystore.Ask(kRead, "rekey/init")["started"] == false);
  keystore.Ask(kWrite, "seal", {}, keystore.root);
  keystore.keys = done["keys_base64"];
  CHECK(keystore.Unseal(1, 2)["sealed"] == false);
}

TEST_CASE("a rekey can be cancelled") {
  Keystore keystore;
  keystore.Initialize();
  keystore.Unseal();
  const Json asked = {{"secret_shares", 3}, {"secret_threshold", 2}};
  CHECK(keystore.Ask(kDelete, "rekey/init", {{"nonce", "of none"}}).is_null());
  const Json nonce = keystore.Ask(kWrite, "rekey/init", asked)["nonce"];
  CHECK(keystore.Refused(kWrite, "rekey/init", asked) == "400 rekey already in progress");
  keystore.clock.Advance(absl::Minutes(10) - absl::Seconds(1));
  for (const Json& wrong : {Json::object(), Json({{"nonce", ""}}), Json({{"nonce", "another"}})}) {
    CHECK(keystore.Refused(kDelete, "rekey/init", wrong) == "400 invalid request");
  }
  CHECK(keystore.Ask(kDelete, "rekey/init", {{"nonce", nonce}}).is_null());
  CHECK(keystore.Ask(kRead, "rekey/init")["started"] == false);

  keystore.Ask(kWrite, "rekey/init", asked);
  keystore.clock.Advance(absl::Minutes(10));
  CHECK(keystore.Ask(kDelete, "rekey/init").is_null());
  CHECK(keystore.Ask(kRead, "rekey/init")["started"] == false);
}

TEST_CASE("generate-root makes a root token that works, for who has the OTP") {
  Keystore keystore;
  keystore.Initialize();
  CHECK(keystore.Refused(kRead, "generate-root/attempt") == "503 Vault is sealed");
  keystore.Unseal();
  CHECK(keystore.Ask(kRead, "generate-root/attempt") == Json({{"nonce", ""},
                                                              {"started", false},
                                                              {"progress", 0},
                                                              {"required", 3},
                                                              {"complete", false},
                                                              {"encoded_token", ""},
                                                              {"encoded_root_token", ""},
                                                              {"pgp_fingerprint", ""},
                                                              {"otp", ""},
                                                              {"otp_length", 28}}));
  CHECK(keystore.Refused(kWrite, "generate-root/attempt", {{"otp", "short"}})
            .starts_with("400 OTP string is wrong length"));
  CHECK(keystore.Refused(kWrite, "generate-root/attempt", {{"pgp_key", "key"}})
            .starts_with("400 'pgp_key' is not supported"));
  CHECK(keystore.Refused(kWrite, "generate-root/update", {{"key", keystore.keys[0]}}) ==
        "400 no root generation in progress");

  keystore.Ask(kWrite, "generate-root/attempt");
  CHECK(keystore.Ask(kDelete, "generate-root/attempt").is_null());
  const Json started = keystore.Ask(kWrite, "generate-root/attempt");
  const auto otp = started["otp"].get<SecretString>();
  CHECK(otp.size() == 28);
  CHECK(keystore.Ask(kRead, "generate-root/attempt")["otp"] == "");
  Json status;
  for (int i = 0; i < 3; ++i) {
    status = keystore.Ask(kWrite, "generate-root/update",
                          {{"key", keystore.keys[i]}, {"nonce", started["nonce"]}});
    CHECK(status["progress"] == i + 1);
    CHECK(status["complete"] == (i == 2));
  }
  CHECK(status["encoded_token"] == status["encoded_root_token"]);
  SecretBytes token = *DecodeBase64(status["encoded_token"].get<SecretString>());
  REQUIRE(token.size() == otp.size());
  for (std::size_t i = 0; i < token.size(); ++i) token.data()[i] ^= otp[i];
  CHECK(keystore.Ask(kRead, "key-status", {}, token.view())["term"] == 1);
  CHECK(keystore.Ask(kWrite, "seal", {}, token.view()).is_null());
}

}  // namespace
}  // namespace coffer::keystore
