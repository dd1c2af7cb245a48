// The kv commands: what they ask of the server and what they print, the tutorial's tables to the byte.
#include "cli/test_shell.h"

namespace coffer::cli {
namespace {

constexpr char kMount2[] =
    R"({"data":{"path":"secret/","type":"kv","options":{"version":"2"}}})";
constexpr char kMount1[] = R"({"data":{"path":"old/","type":"kv","options":null}})";

TEST_CASE("kv put prints the path and the version's metadata") {
  TestShell shell;
  shell.answers = {{200, kMount2},
                   {200, R"({"request_id":"r","data":{"created_time":
                     "2025-06-03T11:40:51.683275107Z","custom_metadata":null,"deletion_time":"",
                     "destroyed":false,"version":1}})"}};
  const Outcome outcome = shell.Run({"kv", "put", "secret/webapp/config", "username=static-user",
                                     "password=static-password"});
  CHECK(outcome.code == 0);
  CHECK(outcome.requests ==
        std::vector<std::string>{
            "GET http://v:8200/v1/sys/internal/ui/mounts/secret/webapp/config",
            "PUT http://v:8200/v1/secret/data/webapp/config "
            R"({"data":{"password":"static-password","username":"static-user"},"options":{}})"});
  CHECK(outcome.out ==
        "====== Secret Path ======\n"
        "secret/data/webapp/config\n"
        "\n"
        "======= Metadata =======\n"
        "Key                Value\n"
        "---                -----\n"
        "created_time       2025-06-03T11:40:51.683275107Z\n"
        "custom_metadata    <nil>\n"
        "deletion_time      n/a\n"
        "destroyed          false\n"
        "version            1\n");
}

constexpr char kSecret[] =
    R"({"request_id":"r","lease_id":"","lease_duration":0,"renewable":false,"data":{"data":
    {"password":"static-password","username":"static-user"},"metadata":{"created_time":
    "2025-06-03T11:40:51.683275107Z","custom_metadata":null,"deletion_time":"","destroyed":false,
    "version":1}},"wrap_info":null,"warnings":null,"auth":null,"mount_type":"kv"})";

TEST_CASE("kv get prints path, metadata and data") {
  TestShell shell;
  shell.answers = {{200, kMount2}, {200, kSecret}};
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"kv", "get", "secret/webapp/config"},
        {"kv", "get", "/secret/webapp/config/"},
        {"kv", "get", "-mount=secret", "webapp/config"},
        {"kv", "get", "--mount", "secret/", "webapp/config"}}) {
    const Outcome outcome = shell.Run(args);
    CHECK(outcome.requests[1] == "GET http://v:8200/v1/secret/data/webapp/config");
    CHECK(outcome.out ==
          "====== Secret Path ======\nsecret/data/webapp/config\n\n"
          "======= Metadata =======\n"
          "Key                Value\n---                -----\n"
          "created_time       2025-06-03T11:40:51.683275107Z\ncustom_metadata    <nil>\n"
          "deletion_time      n/a\ndestroyed          false\nversion            1\n\n"
          "====== Data ======\n"
          "Key         Value\n---         -----\n"
          "password    static-password\nusername    static-user\n");
  }
}

TEST_CASE("kv get in other forms") {
  TestShell shell;
  shell.answers = {{200, kMount2}, {200, kSecret}};
  const std::vector<std::string> kGet = {"kv", "get", "", "secret/webapp/config"};
  const auto run = [&](const std::string& flag) {
    std::vector<std::string> args = kGet;
    args[2] = flag;
    return shell.Run(args);
  };
  CHECK(run("-field=password").out == "static-password");
  CHECK(run("-field=nope").code == 1);
  CHECK(run("-field=nope").err == "Field \"nope\" not present in secret\n");
  CHECK(run("-field=data").out == "map[password:static-password username:static-user]");
  CHECK(run("-version=3").requests[1] ==
        "GET http://v:8200/v1/secret/data/webapp/config?version=3");
  CHECK(run("-format=json").out ==
        "{\n  \"request_id\": \"r\",\n  \"lease_id\": \"\",\n  \"lease_duration\": 0,\n"
        "  \"renewable\": false,\n  \"data\": {\n    \"data\": {\n"
        "      \"password\": \"static-password\",\n      \"username\": \"static-user\"\n    },\n"
        "    \"metadata\": {\n      \"created_time\": \"2025-06-03T11:40:51.683275107Z\",\n"
        "      \"custom_metadata\": null,\n      \"deletion_time\": \"\",\n"
        "      \"destroyed\": false,\n      \"version\": 1\n    }\n  },\n  \"warnings\": null,\n"
        "  \"mount_type\": \"kv\"\n}\n");
  CHECK(run("-format=yaml").out ==
        "data:\n  data:\n    password: static-password\n    username: static-user\n  metadata:\n"
        "    created_time: \"2025-06-03T11:40:51.683275107Z\"\n    custom_metadata: null\n"
        "    deletion_time: \"\"\n    destroyed: false\n    version: 1\nlease_duration: 0\n"
        "lease_id: \"\"\nmount_type: kv\nrenewable: false\nrequest_id: r\nwarnings: null\n");
  shell.variables["VAULT_FORMAT"] = "json";
  CHECK(run("-field=password").out == "\"static-password\"");

  shell.variables.erase("VAULT_FORMAT");
  shell.answers = {{200, kMount2}, {404, R"({"errors":[]})"}};
  CHECK(run("-version=9").code == 2);
  CHECK(run("-version=9").err == "No value found at secret/data/webapp/config\n");
  // A deleted version: 404 with metadata and no data.
  shell.answers = {{200, kMount2},
                   {404, R"({"data":{"data":null,"metadata":{"destroyed":false,"version":2}}})"}};
  CHECK(run("-version=2").out ==
        "====== Secret Path ======\nsecret/data/webapp/config\n\n==== Metadata ====\n"
        "Key          Value\n---          -----\ndestroyed    false\nversion      2\n\n");
  CHECK(run("-field=x").err == "No data found at secret/webapp/config\n");
}

TEST_CASE("kv on a version 1 mount leaves paths and bodies as they are") {
  TestShell shell;
  shell.answers = {{200, kMount1}, {204, ""}};
  Outcome outcome = shell.Run({"kv", "put", "old/a", "k=v"});
  CHECK(outcome.requests[1] == R"(PUT http://v:8200/v1/old/a {"k":"v"})");
  CHECK(outcome.out == "Success! Data written to: old/a\n");
  shell.answers = {{200, kMount1}, {200, R"({"lease_duration":2764800,"data":{"k":"v"}})"}};
  outcome = shell.Run({"kv", "get", "-mount=old", "a"});
  CHECK(outcome.requests[1] == "GET http://v:8200/v1/old/a");
  CHECK(outcome.out == "== Data ==\nKey    Value\n---    -----\nk      v\n");
  CHECK(shell.Run({"kv", "destroy", "-versions=1", "old/a"}).code == 1);
}

TEST_CASE("kv versions, lists and metadata go to their endpoints") {
  struct Case {
    std::vector<std::string> args;
    std::string_view request, out;
  };
  const Case kCases[] = {
      {{"kv", "delete", "secret/a"}, "DELETE http://v:8200/v1/secret/data/a",
       "Success! Data deleted (if it existed) at: secret/data/a\n"},
      {{"kv", "delete", "-versions=1,2", "-versions=3", "secret/a"},
       R"(PUT http://v:8200/v1/secret/delete/a {"versions":["1","2","3"]})",
       "Success! Data deleted (if it existed) at: secret/data/a\n"},
      {{"kv", "undelete", "-versions=2", "secret/a"},
       R"(PUT http://v:8200/v1/secret/undelete/a {"versions":["2"]})",
       "Success! Data written to: secret/undelete/a\n"},
      {{"kv", "destroy", "-mount=secret", "-versions=2", "a"},
       R"(PUT http://v:8200/v1/secret/destroy/a {"versions":["2"]})",
       "Success! Data written to: secret/destroy/a\n"},
      {{"kv", "metadata", "delete", "secret/a"}, "DELETE http://v:8200/v1/secret/metadata/a",
       "Success! Data deleted (if it existed) at: secret/metadata/a\n"},
      {{"kv", "metadata", "put", "-max-versions=5", "-cas-required", "-delete-version-after=3h",
        "-custom-metadata=a=b", "secret/a"},
       "PUT http://v:8200/v1/secret/metadata/a {\"cas_required\":true,\"custom_metadata\":{\"a\":"
       "\"b\"},\"delete_version_after\":\"3h0m0s\",\"max_versions\":5}",
       "Success! Data written to: secret/metadata/a\n"},
      {{"kv", "metadata", "patch", "-remove-custom-metadata=a", "secret/a"},
       R"(PATCH http://v:8200/v1/secret/metadata/a {"custom_metadata":{"a":null}})",
       "Success! Data written to: secret/metadata/a\n"},
      {{"kv", "put", "-cas=0", "secret/a", "b=c"},
       R"(PUT http://v:8200/v1/secret/data/a {"data":{"b":"c"},"options":{"cas":0}})",
       "Success! Data written to: secret/data/a\n"},
      {{"kv", "patch", "-method=patch", "-remove-data=x", "secret/a", "b=c"},
       R"(PATCH http://v:8200/v1/secret/data/a {"data":{"b":"c","x":null},"options":{}})",
       "Success! Data written to: secret/data/a\n"},
  };
  for (const Case& c : kCases) {
    TestShell shell;
    shell.answers = {{200, kMount2}, {204, ""}};
    const Outcome outcome = shell.Run(c.args);
    CAPTURE(c.args, outcome.err);
    CHECK(outcome.code == 0);
    CHECK(outcome.requests.back() == c.request);
    CHECK(outcome.out == c.out);
  }
  TestShell shell;
  shell.answers = {{200, kMount2}, {200, R"({"data":{"keys":["b/","a"]}})"}};
  Outcome outcome = shell.Run({"kv", "list", "secret"});
  CHECK(outcome.requests[1] == "GET http://v:8200/v1/secret/metadata?list=true");
  CHECK(outcome.out == "Keys\n----\na\nb/\n");
  CHECK(shell.Run({"kv", "list", "-format=json", "secret/x"}).out == "[\n  \"b/\",\n  \"a\"\n]\n");
  shell.answers = {{200, kMount2}, {404, R"({"errors":[]})"}};
  CHECK(shell.Run({"kv", "list", "secret/x"}).err == "No value found at secret/metadata/x\n");
  outcome = shell.Run({"kv", "list", "-format=json", "secret/x"});
  CHECK(outcome.code == 2);
  CHECK(outcome.out == "{}\n");

  shell.answers = {{200, kMount2},
                   {200, R"({"data":{"current_version":10,"versions":{"10":{"version_data":1},
                     "9":{"version_data":2}}}})"}};
  CHECK(shell.Run({"kv", "metadata", "get", "secret/a"}).out ==
        "= Metadata Path =\nsecret/metadata/a\n\n======= Metadata =======\n"
        "Key                Value\n---                -----\ncurrent_version    10\n\n"
        "===== Version 9 =====\nKey             Value\n---             -----\nversion_data    2\n\n"
        "===== Version 10 =====\nKey             Value\n---             -----\nversion_data    1\n");
}

TEST_CASE("kv patch without the patch capability reads and writes, with check-and-set") {
  TestShell shell;
  shell.answers = {{200, kMount2},
                   {403, R"({"errors":["permission denied"]})"},
                   {200, R"({"data":{"data":{"a":"1","b":"2"},"metadata":{"version":7}}})"},
                   {204, ""}};
  const Outcome outcome = shell.Run({"kv", "patch", "-remove-data=a", "secret/x", "c=3"});
  CHECK(outcome.code == 0);
  CHECK(outcome.requests.back() ==
        R"(PUT http://v:8200/v1/secret/data/x {"data":{"b":"2","c":"3"},"options":{"cas":7}})");
}

}  // namespace
}  // namespace coffer::cli
