#include "cli/dispatch.h"

#include <sys/stat.h>

#include <cstdlib>

#include "cli/test_shell.h"

namespace coffer::cli {
namespace {

bool Has(const std::vector<std::string>& list, std::string_view item) {
  return std::find(list.begin(), list.end(), item) != list.end();
}

TEST_CASE("exit codes tell local errors from the server's") {
  struct Case {
    std::vector<std::string> args;
    int code;
    std::string_view err;  // how standard error begins
  };
  const Case kCases[] = {
      {{}, 127, ""},
      {{"nope"}, 127, "Usage: vault <command>"},
      {{"kv"}, 1, "Usage: vault kv <subcommand>"},
      {{"kv", "nope"}, 1, "Usage: vault kv <subcommand>"},
      {{"-address=x", "status"}, 1, "Invalid flags before the subcommand."},
      {{"kv", "get"}, 1, "Not enough arguments (expected 1, got 0)"},
      {{"kv", "get", "a", "b"}, 1, "Too many arguments (expected 1, got 2)"},
      {{"kv", "get", "-nope", "a"}, 1, "flag provided but not defined: -nope"},
      {{"kv", "get", "-format=xml", "a"}, 1, "Invalid output format: xml"},
      {{"kv", "get", "-format=raw", "a"}, 1, "This command does not support the -format=raw option."},
      {{"kv", "put", "a"}, 1, "Must supply data"},
      {{"kv", "put", "a", "b"}, 1, "Failed to parse K=V data: format must be key=value"},
      {{"write", "a"}, 1, "Must supply data or use -force"},
      {{"read", "a"}, 2, "Error reading a: can't connect"},
      {{"status"}, 1, "Error checking seal status: can't connect"},
      {{"read", "-address=v:8200", "a"}, 2, "the address \"v:8200\" starts with neither"},
      {{"read", "-client-cert=x", "a"}, 2, "both client cert and client key must be provided"},
      {{"read", "-header=X-Vault-Token=x", "a"}, 2, "failed to setup Headers[X-Vault-Token]"},
      {{"help"}, 0, ""},
      {{"kv", "put", "-help"}, 0, ""},
      {{"kv", "metadata", "-help"}, 0, ""},
      {{"--version"}, 0, ""},
  };
  for (const Case& c : kCases) {
    TestShell shell;
    const Outcome outcome = shell.Run(c.args);
    CAPTURE(c.args, outcome.err);
    CHECK(outcome.code == c.code);
    CHECK(outcome.err.starts_with(c.err));
    CHECK(outcome.out.empty() == (c.code != 0 && !c.args.empty()));
  }
}

TEST_CASE("the server's refusals read as vault prints them") {
  TestShell shell;
  shell.answers = {{403, R"({"errors":["1 error occurred","permission denied"]})"}};
  Outcome outcome = shell.Run({"read", "secret/x y"});
  CHECK(outcome.code == 2);
  CHECK(outcome.err ==
        "Error reading secret/x y: Error making API request.\n\n"
        "URL: GET http://v:8200/v1/secret/x%20y\n"
        "Code: 403. Errors:\n\n* 1 error occurred\n* permission denied\n");

  shell.answers = {{404, R"({"errors":[]})"}};
  outcome = shell.Run({"read", "secret/x"});
  CHECK(outcome.code == 2);
  CHECK(outcome.err == "No value found at secret/x\n");
  shell.answers = {{404, R"({"errors":[]})"}};
  CHECK(shell.Run({"list", "secret/x"}).err == "No value found at secret/x\n");
  shell.answers = {{400, R"({"errors":["invalid lease"]})"}};
  CHECK(shell.Run({"lease", "lookup", "x"}).err.starts_with("error looking up lease id x: "));

  shell.answers = {{502, "<html>"}};
  outcome = shell.Run({"delete", "-namespace=team", "secret/x"});
  CHECK(outcome.err ==
        "Error deleting secret/x: Error making API request.\n\nNamespace: team/\n"
        "URL: DELETE http://v:8200/v1/secret/x\nCode: 502. Raw Message:\n\n<html>\n");
}

TEST_CASE("flags go before the environment, which goes before the token file") {
  char home[] = "/tmp/coffer_cli_home_XXXXXX";
  REQUIRE(mkdtemp(home) != nullptr);
  TestShell shell;
  shell.variables = {{"HOME", home}, {"BAO_ADDR", "https://bao:1/"}, {"BAO_NAMESPACE", "b"}};
  shell.answers = {{200, R"({"data":{"a":1}})"}};

  Outcome outcome = shell.Run({"read", "x"});
  CHECK(outcome.requests[0] == "GET https://bao:1/v1/x");
  CHECK(Has(shell.headers, "X-Vault-Request: true"));
  CHECK(Has(shell.headers, "X-Vault-Namespace: b/"));

  // login keeps the token for later commands, for the owner's eyes alone.
  shell.answers = {{200, R"({"data":{"accessor":"acc","ttl":0,"policies":["root"]}})"}};
  outcome = shell.Run({"login", "hvs.file"});
  CHECK(outcome.code == 0);
  struct stat file {};
  REQUIRE(stat(StrCat(home, "/.vault-token").c_str(), &file) == 0);
  CHECK((file.st_mode & 0777) == 0600);

  shell.answers = {{200, R"({"data":{"a":1}})"}};
  shell.Run({"read", "x"});
  CHECK(Has(shell.headers, "X-Vault-Token: hvs.file"));
  shell.variables["VAULT_ADDR"] = "https://vault:2";
  shell.variables["VAULT_TOKEN"] = "hvs.variable";
  outcome = shell.Run({"read", "x"});
  CHECK(outcome.requests[0] == "GET https://vault:2/v1/x");
  CHECK(Has(shell.headers, "X-Vault-Token: hvs.variable"));
  outcome = shell.Run({"read", "-address", "http://flag:3", "-ns=n/", "-wrap-ttl=90s",
                       "-header=X-Mine=1", "x"});
  CHECK(outcome.requests[0] == "GET http://flag:3/v1/x");
  CHECK(Has(shell.headers, "X-Vault-Namespace: n/"));
  CHECK(Has(shell.headers, "X-Vault-Wrap-TTL: 1m30s"));
  CHECK(Has(shell.headers, "X-Mine: 1"));
  CHECK(shell.Run({"print", "token"}).out == "hvs.variable\n");

  shell.variables["VAULT_TOKEN"] = "hvs.\n";
  CHECK(shell.Run({"read", "x"}).code == 2);
  unlink(StrCat(home, "/.vault-token").c_str());
  rmdir(home);
}

TEST_CASE("TLS options come from flags and environment") {
  TestShell shell;
  shell.variables["VAULT_CACERT"] = "/ca.pem";
  shell.variables["VAULT_CAPATH"] = "/cas";
  shell.variables["VAULT_SKIP_VERIFY"] = "true";
  shell.variables["VAULT_TLS_SERVER_NAME"] = "vault.local";
  shell.Run({"read", "x"});
  CHECK(shell.tls.ca_file == "/ca.pem");
  CHECK(shell.tls.ca_directory.empty());  // -ca-cert takes precedence
  CHECK(shell.tls.server_name == "vault.local");
  CHECK(shell.tls.skip_verify);
  shell.Run({"read", "-tls-skip-verify=false", "-ca-cert=", "-client-cert=c", "-client-key=k", "x"});
  CHECK_FALSE(shell.tls.skip_verify);
  CHECK(shell.tls.ca_directory == "/cas");
  CHECK(shell.tls.client_key_file == "k");
  shell.variables["VAULT_SKIP_VERIFY"] = "maybe";
  CHECK(shell.Run({"read", "x"}).code == 2);
}

TEST_CASE("requests are tried again only where VAULT_MAX_RETRIES asks for it") {
  TestShell shell;
  shell.answers = {{503, ""}, {0, "connection lost"}, {200, R"({"data":{"a":1}})"}};
  CHECK(shell.Run({"read", "x"}).requests.size() == 1);
  shell.variables["VAULT_MAX_RETRIES"] = "1";
  CHECK(shell.Run({"read", "x"}).requests.size() == 2);
  shell.variables["VAULT_MAX_RETRIES"] = "5";
  const Outcome outcome = shell.Run({"read", "x"});
  CHECK(outcome.code == 0);
  CHECK(outcome.requests.size() == 3);
  shell.answers = {{501, ""}, {200, "{}"}};
  CHECK(shell.Run({"read", "x"}).requests.size() == 1);  // 501 won't pass by itself
}

TEST_CASE("one redirect is followed, but never from TLS to plain HTTP") {
  TestShell shell;
  shell.answers = {{307, "", "http://active:8200/v1/x"}, {200, R"({"data":{"a":1}})"}};
  Outcome outcome = shell.Run({"write", "x", "a=b"});
  CHECK(outcome.code == 0);
  CHECK(outcome.requests == std::vector<std::string>{R"(PUT http://v:8200/v1/x {"a":"b"})",
                                                     R"(PUT http://active:8200/v1/x {"a":"b"})"});
  CHECK(shell.Run({"write", "-disable-redirects", "x", "a=b"}).code == 2);
  outcome = shell.Run({"read", "-address=https://v", "x"});
  CHECK(outcome.code == 2);
  CHECK(outcome.requests.size() == 1);
  shell.answers = {{307, "", "http://b/v1/x"}, {307, "", "http://c/v1/x"}};
  CHECK(shell.Run({"read", "x"}).requests.size() == 2);
}

TEST_CASE("a request can be shown instead of sent") {
  TestShell shell;
  shell.variables["VAULT_TOKEN"] = "hvs.secret";
  Outcome outcome = shell.Run({"write", "-output-curl-string", "a/b", "k=it's"});
  CHECK(outcome.code == 0);
  CHECK(outcome.requests.empty());
  CHECK(outcome.err.empty());
  CHECK(outcome.out ==
        "curl -X PUT -H \"X-Vault-Request: true\" -H \"X-Vault-Token: $(vault print token)\" -H "
        "\"Content-Type: application/json\" -d '{\"k\":\"it'\"'\"'s\"}' http://v:8200/v1/a/b\n");
  CHECK(shell.Run({"list", "-output-policy", "sys/auth/x"}).out ==
        "path \"sys/auth/x/\" {\n  capabilities = [\"list\", \"sudo\"]\n}\n");
  // What the command line asks for its own sake is sent all the same.
  shell.answers = {{200, R"({"data":{"path":"secret/","options":{"version":"2"}}})"}};
  outcome = shell.Run({"kv", "get", "-output-policy", "secret/x"});
  CHECK(outcome.requests.size() == 1);
  CHECK(outcome.out == "path \"secret/data/x\" {\n  capabilities = [\"read\"]\n}\n");
}

TEST_CASE("flags behind arguments are warned of") {
  TestShell shell;
  const Outcome outcome = shell.Run({"kv", "get", "a", "-version=1"});
  CHECK(outcome.code == 1);
  CHECK(outcome.err.find("The following arguments will not be parsed as flags: [-version=1]") !=
        std::string::npos);
}

TEST_CASE("every command has help, and none shares a name with a group's flags") {
  for (const char* name : {"status", "operator init", "operator unseal", "operator seal",
                           "operator rekey", "operator rotate", "operator key-status",
                           "operator generate-root", "login", "token create", "token lookup",
                           "token renew", "token revoke", "token capabilities", "secrets enable",
                           "secrets disable", "secrets list", "secrets tune", "secrets move",
                           "auth enable", "auth disable", "auth list", "auth tune", "auth move",
                           "auth help",
                           "kv put", "kv get", "kv list", "kv delete", "kv undelete", "kv destroy",
                           "kv patch", "kv rollback", "kv metadata get", "kv metadata put",
                           "kv metadata patch", "kv metadata delete", "kv enable-versioning", "read",
                           "write", "delete", "list", "patch", "policy write", "policy read",
                           "policy list", "policy delete", "policy fmt", "lease lookup",
                           "lease renew", "lease revoke", "path-help", "print token", "unwrap",
                           "version"}) {
    std::vector<std::string> args;
    for (std::string_view word : Split(name, ' ')) args.emplace_back(word);
    args.emplace_back("-help");
    TestShell shell;
    const Outcome outcome = shell.Run(args);
    CHECK(outcome.code == 0);
    CHECK(outcome.out.starts_with(StrCat("Usage: vault ", name)));
    for (std::string_view line : Split(outcome.out, '\n')) CHECK(line.size() <= 82);
  }
}

}  // namespace
}  // namespace coffer::cli
