// What commands other than kv ask of the server and what they print of its answers, to the byte.
// tests/cli/tutorial.py runs them against a real keystore.
#include <sys/stat.h>

#include "absl/strings/substitute.h"
#include "cli/test_shell.h"

namespace coffer::cli {
namespace {

TEST_CASE("status says by its exit code whether the server is sealed") {
  TestShell shell;
  constexpr char kSealed[] =
      R"({"type":"shamir","initialized":true,"sealed":true,"t":3,"n":5,"progress":1,"nonce":"no",
      "version":"1.0","build_date":"2025","storage_type":"lmdb","migration":false})";
  constexpr char kOpen[] =
      R"({"type":"shamir","initialized":true,"sealed":false,"t":3,"n":5,"progress":0,"nonce":"",
      "version":"1.0","build_date":"2025","storage_type":"lmdb","cluster_name":"vault-cluster-1",
      "cluster_id":"id"})";
  constexpr char kLeader[] = R"({"ha_enabled":false,"is_self":false})";
  shell.answers = {{200, kOpen}, {200, kLeader}};
  Outcome outcome = shell.Run({"status"});
  CHECK(outcome.code == 0);
  CHECK(outcome.out ==
        "Key             Value\n---             -----\nSeal Type       shamir\n"
        "Initialized     true\nSealed          false\nTotal Shares    5\nThreshold       3\n"
        "Version         1.0\nBuild Date      2025\nStorage Type    lmdb\n"
        "Cluster Name    vault-cluster-1\nCluster ID      id\nHA Enabled      false\n");
  shell.answers = {{200, kSealed}, {200, kLeader}};
  outcome = shell.Run({"status"});
  CHECK(outcome.code == 2);
  CHECK(outcome.out.find("Unseal Progress    1/3\nUnseal Nonce       no\n") != std::string::npos);
  outcome = shell.Run({"operator", "unseal", " KEY "});
  CHECK(outcome.code == 0);
  CHECK(outcome.requests[0] == R"(PUT http://v:8200/v1/sys/unseal {"key":"KEY"})");
  shell.input = "KEY\n";
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"operator", "unseal"}, {"operator", "unseal", "-"}}) {
    CHECK(shell.Run(args).requests[0] == R"(PUT http://v:8200/v1/sys/unseal {"key":"KEY"})");
  }
  CHECK(shell.Run({"operator", "unseal", "-non-interactive"}).code == 1);
  CHECK(shell.Run({"operator", "unseal", "-reset"}).requests[0] ==
        R"(PUT http://v:8200/v1/sys/unseal {"reset":true})");
  CHECK(shell.Run({"status", "-format=json"}).out.starts_with(
      "{\n  \"type\": \"shamir\",\n  \"initialized\": true,\n  \"sealed\": true,\n  \"t\": 3,\n"));
  shell.answers = {{400, R"({"errors":["Vault is not initialized"]})"}};
  CHECK(shell.Run({"status"}).code == 1);
}

TEST_CASE("where 2 is an answer, what keeps a command from asking is 1") {
  char home[] = "/tmp/coffer_cli_home_XXXXXX";
  REQUIRE(mkdtemp(home) != nullptr);
  const std::string token_file = StrCat(home, "/.vault-token");
  REQUIRE(mkdir(token_file.c_str(), 0700) == 0);  // which nobody can read as a file, root neither
  struct Case {
    std::string_view variable, value, says;
    std::vector<std::string> flags = {};
  };
  const Case kCases[] = {
      {"VAULT_ADDR", "nonsense", "nonsense"},
      {"VAULT_NONE", "", "nonsense", {"-address=nonsense"}},
      {"VAULT_CLIENT_TIMEOUT", "soon", "VAULT_CLIENT_TIMEOUT is \"soon\""},
      {"VAULT_CLIENT_TIMEOUT", "0", "VAULT_CLIENT_TIMEOUT"},
      {"VAULT_MAX_RETRIES", "many", "VAULT_MAX_RETRIES"},
      {"VAULT_SKIP_VERIFY", "perhaps", "perhaps"},
      {"VAULT_CLIENT_CERT", "/a.crt", "both client cert and client key"},
      {"VAULT_TOKEN", "a b", "non-printable"},
      {"HOME", home, ".vault-token"},
  };
  for (const Case& c : kCases) {
    for (const auto& [command, code] :
         {std::pair<std::vector<std::string>, int>{{"status"}, 1},
          {{"operator", "init", "-status"}, 1},
          {{"operator", "init"}, 2},
          {{"token", "lookup"}, 2}}) {
      TestShell shell;
      shell.variables[std::string(c.variable)] = c.value;
      std::vector<std::string> args = command;
      args.insert(args.end(), c.flags.begin(), c.flags.end());
      const Outcome outcome = shell.Run(args);
      CAPTURE(args, c.variable, c.value, outcome.err);
      CHECK(outcome.code == code);
      CHECK(outcome.err.find(c.says) != std::string::npos);
      CHECK(outcome.requests.empty());
    }
  }
  rmdir(token_file.c_str());
  rmdir(home);
}

TEST_CASE("audit enables, lists and disables devices") {
  TestShell shell;
  shell.answers = {{204, ""}};
  Outcome outcome = shell.Run({"audit", "enable", "file", "file_path=/var/log/a.log"});
  CHECK(outcome.code == 0);
  CHECK(outcome.requests[0] ==
        R"(PUT http://v:8200/v1/sys/audit/file {"description":"","local":false,)"
        R"("options":{"file_path":"/var/log/a.log"},"type":"file"})");
  CHECK(outcome.out == "Success! Enabled the file audit device at: file/\n");
  outcome = shell.Run({"audit", "disable", "file"});
  CHECK(outcome.requests[0] == "DELETE http://v:8200/v1/sys/audit/file");
  CHECK(outcome.out == "Success! Disabled audit device (if it was enabled) at: file/\n");
  shell.answers = {{200, R"({"data":{"file/":{"type":"file","description":"","local":false,
                    "options":{"file_path":"/a","mode":"0600"}}}})"}};
  CHECK(shell.Run({"audit", "list"}).out ==
        "Path     Type    Description\n----     ----    -----------\nfile/    file    n/a\n");
  CHECK(shell.Run({"audit", "list", "-detailed"}).out.find("file_path=/a mode=0600") !=
        std::string::npos);
  shell.answers = {{200, R"({"data":{}})"}};
  const Outcome none = shell.Run({"audit", "list"});
  CHECK(none.out == "No audit devices are enabled.\n");
  CHECK(none.code == 2);
}

TEST_CASE("operator init prints shares, root token and what to do with them") {
  TestShell shell;
  shell.answers = {{200, R"({"keys":["aa","bb"],"keys_base64":["qg==","uw=="],
                    "root_token":"hvs.root"})"}};
  Outcome outcome = shell.Run({"operator", "init", "-n=2", "-key-threshold", "2"});
  CHECK(outcome.requests[0] ==
        R"(PUT http://v:8200/v1/sys/init {"secret_shares":2,"secret_threshold":2})");
  CHECK(outcome.out ==
        "Unseal Key 1: qg==\nUnseal Key 2: uw==\n\nInitial Root Token: hvs.root\n\n"
        "Vault initialized with 2 key shares and a key threshold of 2. Please securely\n"
        "distribute the key shares printed above. When the Vault is re-sealed,\n"
        "restarted, or stopped, you must supply at least 2 of these keys to unseal it\n"
        "before it can start servicing requests.\n\n"
        "Vault does not store the generated root key. Without at least 2 keys to\n"
        "reconstruct the root key, Vault will remain permanently sealed!\n\n"
        "It is possible to generate new unseal keys, provided you have a quorum of\n"
        "existing unseal keys shares. See \"vault operator rekey\" for more information.\n");
  outcome = shell.Run({"operator", "init", "-format=json"});
  CHECK(outcome.out.starts_with("{\n  \"unseal_keys_b64\": [\n    \"qg==\",\n"));
  CHECK(outcome.out.ends_with("  \"root_token\": \"hvs.root\"\n}\n"));
  shell.answers = {{200, R"({"initialized":false})"}};
  CHECK(shell.Run({"operator", "init", "-status"}).code == 2);
}

TEST_CASE("tokens print in vault's order, root tokens without end") {
  TestShell shell;
  shell.answers = {{200, R"({"auth":{"client_token":"hvs.t","accessor":"acc","policies":
                    ["admin","default"],"token_policies":["admin","default"],"metadata":{"m":"1"},
                    "lease_duration":2764800,"renewable":true}})"}};
  Outcome outcome =
      shell.Run({"token", "create", "-policy=admin", "-ttl=768h", "-metadata=m=1", "-orphan"});
  CHECK(outcome.requests[0] ==
        "POST http://v:8200/v1/auth/token/create {\"meta\":{\"m\":\"1\"},\"no_default_policy\":false,"
        "\"no_parent\":true,\"num_uses\":0,\"policies\":[\"admin\"],\"renewable\":true,\"ttl\":"
        "\"768h0m0s\",\"type\":\"service\"}");
  CHECK(outcome.out ==
        "Key                  Value\n---                  -----\ntoken                hvs.t\n"
        "token_accessor       acc\ntoken_duration       768h\ntoken_renewable      true\n"
        "token_policies       [\"admin\" \"default\"]\nidentity_policies    []\n"
        "policies             [\"admin\" \"default\"]\ntoken_meta_m         1\n");
  CHECK(shell.Run({"token", "create", "-field=token"}).out == "hvs.t");

  char home[] = "/tmp/coffer_cli_home_XXXXXX";
  REQUIRE(mkdtemp(home) != nullptr);
  shell.variables["HOME"] = home;
  shell.answers = {{200, R"({"data":{"accessor":"acc","ttl":0,"policies":["root"]}})"}};
  for (const std::vector<std::string>& args : {std::vector<std::string>{"login", "hvs.root"},
                                               {"login", "-"},
                                               {"login"},
                                               {"login", "token=hvs.root"}}) {
    shell.input = "hvs.root\n";
    outcome = shell.Run(args);
    CHECK(outcome.out ==
          "Success! You are now authenticated. The token information displayed below\n"
          "is already stored in the token helper. You do NOT need to run \"vault login\"\n"
          "again. Future Vault requests will automatically use this token.\n\n"
          "Key                  Value\n---                  -----\ntoken                hvs.root\n"
          "token_accessor       acc\ntoken_duration       ∞\ntoken_renewable      false\n"
          "token_policies       [\"root\"]\nidentity_policies    []\n"
          "policies             [\"root\"]\n");
    CHECK(shell.Run({"print", "token"}).out == "hvs.root\n");
    CHECK(unlink(StrCat(home, "/.vault-token").c_str()) == 0);
  }
  CHECK(shell.Run({"login", "-token-only", "hvs.root"}).out == "hvs.root");
  CHECK(shell.Run({"login", "-no-print", "-no-store", "hvs.root"}).code == 1);
  CHECK(access(StrCat(home, "/.vault-token").c_str(), F_OK) != 0);
  rmdir(home);
}

TEST_CASE("login by a method sends its fields to the method's mount") {
  TestShell shell;
  shell.variables["VAULT_TOKEN"] = "hvs.old";
  shell.answers = {{200, R"({"auth":{"client_token":"hvs.t","policies":[]}})"}};
  shell.input = "pass\n";
  const std::pair<std::vector<std::string>, std::string_view> kCases[] = {
      {{"login", "-no-store", "-method=kubernetes", "role=web", "jwt=j"},
       R"(PUT http://v:8200/v1/auth/kubernetes/login {"jwt":"j","role":"web"})"},
      {{"login", "-no-store", "-method=jwt", "-path=oidc/", "role=web", "jwt=j"},
       R"(PUT http://v:8200/v1/auth/oidc/login {"jwt":"j","role":"web"})"},
      {{"login", "-no-store", "-method=userpass", "username=me"},
       R"(PUT http://v:8200/v1/auth/userpass/login/me {"password":"pass"})"},
  };
  for (const auto& [args, request] : kCases) {
    CHECK(shell.Run(args).requests.at(0) == request);
    for (const std::string& header : shell.headers) CHECK(header != "X-Vault-Token: hvs.old");
  }
}

TEST_CASE("secrets move and auth move ask until the server has moved") {
  const auto status = [](std::string_view status) {
    return ScriptedTransport::Answer{
        200,
        StrCat(R"({"data":{"migration_id":"1","migration_info":{"status":")", status, R"("}}})")};
  };
  const ScriptedTransport::Answer started = {200, R"({"data":{"migration_id":"1"}})"};
  const ScriptedTransport::Answer refused = {400, R"({"errors":["no matching mount"]})"};
  struct Case {
    std::vector<ScriptedTransport::Answer> answers;
    int code;
    std::string_view out, err;  // $0: what is moved
  };
  const Case kCases[] = {
      {{started, status("success")},
       0,
       "Started moving $0, with migration ID 1\nSuccess! Finished moving $0, with migration ID 1\n",
       ""},
      {{started, status("in-progress"), status("in-progress"), status("success")},
       0,
       "Started moving $0, with migration ID 1\n"
       "Waiting for terminal status in migration of $0, with migration ID 1\n"
       "Success! Finished moving $0, with migration ID 1\n",
       ""},
      {{started, status("failure")},
       2,
       "Started moving $0, with migration ID 1\n",
       "Failure! Error encountered moving $0, with migration ID 1\n"},
      {{started, refused},
       2,
       "Started moving $0, with migration ID 1\n",
       "Error checking migration status of $0: "},
      {{refused}, 2, "", "Error moving $0: "},
      {{{204, ""}}, 0, "Success! Finished moving $0\n", ""},
  };
  for (const auto& [group, moved] : {std::pair("secrets", "secrets engine a/ to b/c/"),
                                     std::pair("auth", "auth method a/ to b/c/")}) {
    for (const Case& c : kCases) {
      TestShell shell;
      shell.answers = c.answers;
      const Outcome outcome = shell.Run({group, "move", "a", "b/c/"});
      CAPTURE(group, c.out, c.err);
      CHECK(outcome.code == c.code);
      CHECK(outcome.out == absl::Substitute(ToAbsl(c.out), moved));
      CHECK_THAT(outcome.err, Catch::StartsWith(absl::Substitute(ToAbsl(c.err), moved)));
      CHECK(outcome.err.empty() == c.err.empty());
      REQUIRE(outcome.requests.size() == c.answers.size());
      CHECK(outcome.requests[0] ==
            R"(POST http://v:8200/v1/sys/remount {"from":"a/","to":"b/c/"})");
      if (c.answers.size() == 1) continue;
      CHECK(outcome.requests.back() == "GET http://v:8200/v1/sys/remount/status/1");
    }
  }
}

TEST_CASE("commands that change something say what they did") {
  struct Case {
    std::vector<std::string> args;
    std::string_view request, out;
  };
  const Case kCases[] = {
      {{"secrets", "enable", "-path=secret", "kv-v2"},
       "POST http://v:8200/v1/sys/mounts/secret {\"config\":{},\"description\":\"\",\"local\":false,"
       "\"seal_wrap\":false,\"type\":\"kv-v2\"}",
       "Success! Enabled the kv-v2 secrets engine at: secret/\n"},
      {{"secrets", "enable", "-version=1", "kv"},
       "POST http://v:8200/v1/sys/mounts/kv {\"config\":{},\"description\":\"\",\"local\":false,"
       "\"options\":{\"version\":\"1\"},\"seal_wrap\":false,\"type\":\"kv\"}",
       "Success! Enabled the kv secrets engine at: kv/\n"},
      {{"secrets", "disable", "secret"}, "DELETE http://v:8200/v1/sys/mounts/secret",
       "Success! Disabled the secrets engine (if it existed) at: secret/\n"},
      {{"secrets", "tune", "-max-lease-ttl=1h", "-default-lease-ttl=-1", "secret"},
       R"(POST http://v:8200/v1/sys/mounts/secret/tune {"default_lease_ttl":"system","max_lease_ttl":"1h0m0s"})",
       "Success! Tuned the secrets engine at: secret/\n"},
      {{"auth", "enable", "kubernetes"},
       "POST http://v:8200/v1/sys/auth/kubernetes {\"config\":{},\"description\":\"\",\"local\":false"
       ",\"seal_wrap\":false,\"type\":\"kubernetes\"}",
       "Success! Enabled kubernetes auth method at: kubernetes/\n"},
      {{"auth", "disable", "kubernetes/"}, "DELETE http://v:8200/v1/sys/auth/kubernetes",
       "Success! Disabled the auth method (if it existed) at: kubernetes/\n"},
      {{"write", "auth/kubernetes/config", "kubernetes_host=https://10.0.0.1:443"},
       R"(PUT http://v:8200/v1/auth/kubernetes/config {"kubernetes_host":"https://10.0.0.1:443"})",
       "Success! Data written to: auth/kubernetes/config\n"},
      {{"write", "-f", "sys/x"}, "PUT http://v:8200/v1/sys/x {}",
       "Success! Data written to: sys/x\n"},
      {{"policy", "write", "WebApp", "-"},
       R"(PUT http://v:8200/v1/sys/policies/acl/webapp {"policy":"path \"a\" {}\n"})",
       "Success! Uploaded policy: webapp\n"},
      {{"policy", "delete", "webapp"}, "DELETE http://v:8200/v1/sys/policies/acl/webapp",
       "Success! Deleted policy: webapp\n"},
      {{"delete", "secret/a"}, "DELETE http://v:8200/v1/secret/a",
       "Success! Data deleted (if it existed) at: secret/a\n"},
      {{"token", "revoke", "hvs.x"},
       R"(PUT http://v:8200/v1/auth/token/revoke {"token":"hvs.x"})",
       "Success! Revoked token (if it existed)\n"},
      {{"token", "revoke", "-self"}, "PUT http://v:8200/v1/auth/token/revoke-self {}",
       "Success! Revoked token (if it existed)\n"},
      {{"token", "revoke", "-accessor", "a"},
       R"(PUT http://v:8200/v1/auth/token/revoke-accessor {"accessor":"a"})",
       "Success! Revoked token (if it existed)\n"},
      {{"operator", "seal"}, "PUT http://v:8200/v1/sys/seal", "Success! Vault is sealed.\n"},
      {{"operator", "rekey", "-cancel"}, "DELETE http://v:8200/v1/sys/rekey/init",
       "Success! Canceled rekeying (if it was started)\n"},
      {{"operator", "rekey", "-cancel", "-nonce=abc"},
       R"(DELETE http://v:8200/v1/sys/rekey/init {"nonce":"abc"})",
       "Success! Canceled rekeying (if it was started)\n"},
      {{"operator", "rekey", "-cancel", "-verify", "-nonce=abc"},
       "DELETE http://v:8200/v1/sys/rekey/verify",
       "Success! Canceled rekeying (if it was started)\n"},
      {{"lease", "revoke", "-sync", "id"},
       R"(PUT http://v:8200/v1/sys/leases/revoke {"lease_id":"id","sync":true})",
       "Success! Revoked lease: id\n"},
  };
  for (const Case& c : kCases) {
    TestShell shell;
    shell.input = "path \"a\" {}\n";
    shell.answers = {{204, ""}};
    const Outcome outcome = shell.Run(c.args);
    CAPTURE(c.args, outcome.err);
    CHECK(outcome.code == 0);
    CHECK(outcome.requests.at(0) == c.request);
    CHECK(outcome.out == c.out);
  }
}

TEST_CASE("flags of Vault that aren't supported are refused, and say what to do") {
  struct Case {
    std::vector<std::string> args;
    std::string says;
  };
  const Case kCases[] = {
      {{"operator", "init", "-pgp-keys=a.asc"}, "-pgp-keys: Not supported: "},
      {{"operator", "init", "-root-token-pgp-key", "a.asc"}, "-root-token-pgp-key: Not supported: "},
      {{"operator", "init", "-recovery-shares=1"}, "-recovery-shares: Not supported: "},
      {{"operator", "rekey", "-init", "-pgp-keys=a.asc"}, "-pgp-keys: Not supported: "},
      {{"operator", "rekey", "-init", "-backup"}, "-backup: Not supported: "},
      {{"operator", "generate-root", "-init", "-pgp-key=a.asc"}, "-pgp-key: Not supported: "},
      {{"operator", "unseal", "-migrate"}, "-migrate: Not supported: "},
  };
  for (const Case& c : kCases) {
    TestShell shell;
    const Outcome outcome = shell.Run(c.args);
    CAPTURE(c.args, outcome.err);
    CHECK(outcome.code == 1);
    CHECK(outcome.err.starts_with(c.says));
    CHECK(outcome.err.find("Leave it out") != std::string::npos);
    CHECK(outcome.requests.empty());
  }
}

TEST_CASE("a wrong path of kv version 2 shows the answer's warnings") {
  const std::string answer = R"({"data":null,"warnings":["Use 'vault kv'."]})";
  const std::string warnings =
      "WARNING! The following warnings were returned from Vault:\n\n  * Use 'vault kv'.\n\n";
  const auto refused = [&](std::string_view what, std::string_view request) {
    return StrCat(what, " secret/a: Error making API request.\n\nURL: ", request,
                  " http://v:8200/v1/secret/a\nCode: 404. Errors:\n\n\n", warnings);
  };
  struct Case {
    std::vector<std::string> args;
    int code;
    std::string err;
  };
  const Case kCases[] = {
      {{"read", "secret/a"}, 0, warnings},
      {{"list", "secret/a"}, 0, warnings},
      {{"write", "secret/a", "b=c"}, 2, refused("Error writing data to", "PUT")},
      {{"patch", "secret/a", "b=c"}, 2, refused("Error writing data to", "PATCH")},
      {{"delete", "secret/a"}, 2, refused("Error deleting", "DELETE")},
  };
  for (const Case& c : kCases) {
    TestShell shell;
    shell.answers = {{404, answer}};
    const Outcome outcome = shell.Run(c.args);
    CAPTURE(c.args);
    CHECK(outcome.code == c.code);
    CHECK(outcome.err == c.err);
    CHECK(outcome.out.empty());
  }
  TestShell shell;
  shell.answers = {{404, answer}};
  const Outcome outcome = shell.Run({"list", "-format=json", "secret/a"});
  CHECK(outcome.code == 2);
  CHECK(outcome.out == "{}\n");
}

TEST_CASE("warnings go to standard error, and an answer of nothing else is a success") {
  TestShell shell;
  shell.answers = {{200, R"({"warnings":["Role has no audience"],"data":null})"}};
  Outcome outcome = shell.Run({"write", "auth/kubernetes/role/x", "a=b"});
  CHECK(outcome.code == 0);
  CHECK(outcome.out == "Success! Data written to: auth/kubernetes/role/x\n");
  CHECK(outcome.err ==
        "WARNING! The following warnings were returned from Vault:\n\n  * Role has no audience\n\n");
  outcome = shell.Run({"write", "-format=json", "auth/kubernetes/role/x", "a=b"});
  CHECK(outcome.err.empty());
  CHECK(outcome.out.find("\"warnings\": [\n    \"Role has no audience\"\n  ]") != std::string::npos);
}

TEST_CASE("generate-root decodes what only the starter's password opens") {
  TestShell shell;
  // "hvs.x" XOR "abcde"
  CHECK(shell.Run({"operator", "generate-root", "-decode=CRQQSh0=", "-otp=abcde"}).out == "hvs.x");
  CHECK(shell.Run({"operator", "generate-root", "-decode=CRQQSh0", "-otp=abcd"}).code == 1);
  shell.input = "CRQQSh0\n";
  CHECK(shell.Run({"operator", "generate-root", "-decode=-", "-otp=abcde"}).out == "hvs.x");
  shell.answers = {{200, R"({"nonce":"n","started":true,"progress":0,"required":3,"complete":false,
                    "otp":"abc","otp_length":3})"}};
  CHECK(shell.Run({"operator", "generate-root", "-init"}).out ==
        "Nonce         n\nStarted       true\nProgress      0/3\nComplete      false\n"
        "OTP           abc\nOTP Length    3\n");
  CHECK(shell.Run({"operator", "generate-root", "KEY"}).code == 1);  // no -nonce
}

}  // namespace
}  // namespace coffer::cli
