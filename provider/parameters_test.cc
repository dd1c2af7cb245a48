#include "provider/parameters.h"

namespace coffer::provider {
namespace {

SecretProviderClass ClassWith(std::map<std::string, std::string> parameters) {
  return {.name = "webapp",
          .kubernetes_namespace = "default",
          .provider = "vault",
          .parameters = std::move(parameters)};
}

// A class whose only object has these fields besides objectName and secretPath.
SecretProviderClass ClassOfObject(std::string_view fields) {
  return ClassWith({{"roleName", "webapp"},
                    {"objects", StrCat("- objectName: a\n  secretPath: secret/data/a\n", fields)}});
}

constexpr char kObjects[] = "- {objectName: a, secretPath: secret/data/a}";

TEST_CASE("a class of the tutorial means what vault-csi-provider makes of it") {
  const auto parsed = ParseParameters(
      ClassWith({{"vaultAddress", "http://vault.vault:8200/"},
                 {"roleName", "webapp"},
                 {"objects",
                  "- objectName: username\n"
                  "  secretPath: secret/data/webapp/config\n"
                  "  secretKey: username\n"
                  "- objectName: cert\n"
                  "  secretPath: /v1/pki/issue/web?x=1\n"
                  "  method: put\n"
                  "  filePermission: 0600\n"
                  "  encoding: BASE64\n"
                  "  secretArgs: {common_name: a.example, ttl: 24h, n: 5, b: true}\n"}}),
      Defaults());
  REQUIRE(parsed.ok());
  CHECK(parsed->login.address == "http://vault.vault:8200");
  CHECK(parsed->login.auth_mount == "kubernetes");
  CHECK(parsed->login.role == "webapp");
  REQUIRE(parsed->objects.size() == 2);
  CHECK(parsed->objects[0].key == "username");
  CHECK(parsed->objects[0].method == "GET");
  CHECK(parsed->objects[0].facts.mode == 0644);
  CHECK(parsed->objects[0].args.is_null());
  CHECK(parsed->objects[1].path == "pki/issue/web");
  CHECK(parsed->objects[1].query == "x=1");
  CHECK(parsed->objects[1].method == "PUT");
  CHECK(parsed->objects[1].facts.mode == 0600);
  CHECK(parsed->objects[1].encoding == Encoding::kBase64);
  CHECK(parsed->objects[1].args ==
        Json({{"common_name", "a.example"}, {"ttl", "24h"}, {"n", 5}, {"b", true}}));
}

TEST_CASE("every parameter of vault-csi-provider reaches its place, and defaults fill the rest") {
  Defaults defaults;
  defaults.vault_namespace = "team";
  auto parsed = ParseParameters(ClassWith({{"roleName", "r"}, {"objects", kObjects}}), defaults);
  REQUIRE(parsed.ok());
  CHECK(parsed->login.address == "https://127.0.0.1:8200");
  CHECK(parsed->login.vault_namespace == "team");

  parsed = ParseParameters(ClassWith({{"vaultAddress", "https://v"},
                                      {"vaultNamespace", "ns"},
                                      {"vaultSkipTLSVerify", "true"},
                                      {"vaultCAPem", "pem"},
                                      {"vaultCACertPath", "/ca"},
                                      {"vaultCADirectory", "/cas"},
                                      {"vaultTLSServerName", "name"},
                                      {"vaultTLSClientCertPath", "/cert"},
                                      {"vaultTLSClientKeyPath", "/key"},
                                      {"vaultKubernetesMountPath", "/k8s/"},
                                      {"audience", "aud"},
                                      {"roleName", "r"},
                                      {"objects", kObjects}}),
                           defaults);
  REQUIRE(parsed.ok());
  const Login& login = parsed->login;
  CHECK(login.vault_namespace == "ns");
  CHECK(login.auth_mount == "k8s");
  CHECK(login.audience == "aud");
  CHECK(login.tls.skip_verify);
  CHECK(login.tls.ca_pem == "pem");
  CHECK(login.tls.ca_file == "/ca");
  CHECK(login.tls.ca_directory.empty());  // a file goes before a folder
  CHECK(login.tls.server_name == "name");
  CHECK(login.tls.client_certificate_file == "/cert");
  CHECK(login.tls.client_key_file == "/key");
}

TEST_CASE("a class that says whom to trust trusts nobody else") {
  Defaults defaults;
  defaults.tls.ca_file = "/default";
  const auto tls = [&](std::map<std::string, std::string> parameters) {
    parameters.insert({{"roleName", "r"}, {"objects", kObjects}});
    return ParseParameters(ClassWith(std::move(parameters)), defaults)->login.tls;
  };
  CHECK(tls({}).ca_file == "/default");
  CHECK(tls({{"vaultCACertPath", ""}}).ca_file == "/default");
  CHECK(tls({{"vaultCACertPath", "/own"}}).ca_file == "/own");
  CHECK(tls({{"vaultCADirectory", "/own"}}).ca_file.empty());
  CHECK(tls({{"vaultCADirectory", "/own"}}).ca_directory == "/own");
  CHECK(tls({{"vaultCAPem", "pem"}}).ca_file.empty());
}

TEST_CASE("a wrong parameter is named") {
  struct Case {
    std::string name;
    std::string value;
    std::string field;  // what the error says
  };
  const std::vector<Case> cases = {
      {"vaultAddress", "vault:8200", "vaultAddress: must be an http:// or https:// URL"},
      {"vaultAddress", "ftp://v", "vaultAddress: must be"},
      {"vaultAddress", "http://", "vaultAddress: has no host"},
      {"vaultAddress", "http://user@v", "vaultAddress: must be scheme"},
      {"vaultAddress", "http://v\n", "vaultAddress: must be scheme"},
      {"vaultSkipTLSVerify", "yes", "vaultSkipTLSVerify: must be true or false"},
      {"vaultAuthMountPath", "a/../b", "vaultAuthMountPath: has an empty"},
      {"vaultTLSClientCertPath", "/c", "vaultTLSClientCertPath: and vaultTLSClientKeyPath"},
      {"roleName", "", "roleName: is missing"},
      {"objects", "", "objects: is missing"},
      {"objects", "{}", "objects: must be one YAML list"},
      {"objects", "[]", "objects: is an empty list"},
      {"objects", "- [", "objects: line 1"},
      {"objects", "- text", "objects[0]: must be a map"},
      {"objects", "- {secretPath: a}", "objects[0].objectName: is missing"},
      {"objects", "- {objectName: a}", "objects[0].secretPath: is missing"},
      {"objects", "- {objectName: a, secretPath: a}\n- {objectName: a, secretPath: b}",
       "objects[1].objectName: \"a\" comes twice"},
      {"objects", "- {objectName: a/b, secretPath: a}\n- {objectName: a, secretPath: b}",
       "objects: \"a/b\" can't make a/b: a is the file of \"a\""},
  };
  for (const Case& c : cases) {
    INFO(c.name << " = " << c.value);
    std::map<std::string, std::string> parameters = {{"roleName", "r"}, {"objects", kObjects}};
    parameters[c.name] = c.value;
    const auto parsed = ParseParameters(ClassWith(parameters), Defaults());
    REQUIRE(absl::IsInvalidArgument(parsed.status()));
    CHECK_THAT(std::string(Message(parsed.status())),
               Catch::Contains("SecretProviderClass default/webapp: spec.parameters." + c.field));
  }
}

TEST_CASE("the auth block of vault-csi-provider says where to log in") {
  struct Case {
    std::string auth;
    std::string mount;  // where OK
    std::string error;
  };
  const Case cases[] = {
      {"type: kubernetes", "own", ""},
      {"type: jwt\nmouthPath: /jwt-k8s/", "jwt-k8s", ""},
      {"{type: jwt, mountPath: jwt-k8s, jwt: {}}", "jwt-k8s", ""},
      {"{type: jwt, mouthPath: a, mountPath: a}", "a", ""},
      {"{type: kubernetes, mouthPath: , k8s: }", "own", ""},
      {"", "own", ""},
      {"{type: aws, mouthPath: aws, aws: {region: eu-west-1}}", "",
       "auth.type: must be kubernetes or jwt: pods log in with their ServiceAccount's token, not "
       "with roles of AWS"},
      {"mouthPath: k8s", "", "auth.type: must be kubernetes or jwt"},
      {"{type: jwt, mouthPath: a, mountPath: b}", "", "auth.mouthPath: differs from mountPath"},
      {"{type: jwt, mouthPath: a/../b}", "", "auth.mouthPath: has an empty"},
      {"{type: [jwt]}", "", "auth.type: must be text"},
      {"kubernetes", "", "auth: must be a YAML map"},
      {"{", "", "auth: line 1"},
  };
  for (const Case& c : cases) {
    INFO(c.auth);
    const auto parsed = ParseParameters(ClassWith({{"roleName", "r"},
                                                   {"objects", kObjects},
                                                   {"vaultAuthMountPath", "own"},
                                                   {"auth", c.auth}}),
                                        Defaults());
    if (c.error.empty()) {
      REQUIRE(parsed.status() == absl::OkStatus());
      CHECK(parsed->login.auth_mount == c.mount);
      CHECK(parsed->unknown.empty());
    } else {
      REQUIRE(absl::IsInvalidArgument(parsed.status()));
      CHECK_THAT(std::string(Message(parsed.status())),
                 Catch::Contains("spec.parameters." + c.error));
    }
  }
  const auto typo = ParseParameters(
      ClassWith({{"roleName", "r"}, {"objects", kObjects}, {"auth", "{type: jwt, path: jwt}"}}),
      Defaults());
  CHECK(typo->unknown == std::vector<std::string>{"spec.parameters.auth.path"});
}

TEST_CASE("an unknown parameter is ignored as by vault-csi-provider, or refused in Coffer's name") {
  SecretProviderClass secret_class =
      ClassWith({{"roleName", "r"}, {"objects", kObjects}, {"vaultAdress", "http://v"}});
  const auto parsed = ParseParameters(secret_class, Defaults());
  REQUIRE(parsed.ok());
  CHECK(parsed->unknown == std::vector<std::string>{"spec.parameters.vaultAdress"});
  secret_class.provider = "coffer";
  CHECK_THAT(std::string(Message(ParseParameters(secret_class, Defaults()).status())),
             Catch::Contains("default/webapp: spec.parameters.vaultAdress: is unknown"));
}

TEST_CASE("an object's name may lead into a folder of the volume") {
  const auto parsed = ParseParameters(
      ClassWith({{"roleName", "r"}, {"objects", "- {objectName: a/b.c, secretPath: a}"}}),
      Defaults());
  REQUIRE(parsed.ok());
  CHECK(parsed->objects[0].name == "a/b.c");
}

TEST_CASE("two names for the auth mount must agree") {
  std::map<std::string, std::string> parameters = {{"roleName", "r"},
                                                   {"objects", kObjects},
                                                   {"vaultKubernetesMountPath", "a"},
                                                   {"vaultAuthMountPath", "b"}};
  CHECK(absl::IsInvalidArgument(ParseParameters(ClassWith(parameters), Defaults()).status()));
  parameters["vaultAuthMountPath"] = "a";
  CHECK(ParseParameters(ClassWith(parameters), Defaults())->login.auth_mount == "a");
}

TEST_CASE("a wrong field of an object is named") {
  struct Case {
    std::string fields;
    std::string error;
  };
  const std::vector<Case> cases = {
      {"  secretkey: x", "objects[0].secretkey: is unknown"},
      {"  method: DELETE", "objects[0].method: must be GET, POST or PUT"},
      {"  encoding: utf-16", "objects[0].encoding: must be"},
      {"  filePermission: 600", "objects[0].filePermission: must be permission bits"},
      {"  filePermission: 01000", "objects[0].filePermission: must be permission bits"},
      {"  filePermission: rw", "objects[0].filePermission: must be permission bits"},
      {"  secretArgs: [1]", "objects[0].secretArgs: must be a map"},
      {"  secretKey: [1]", "objects[0].secretKey: must be text"},
      {"  objectName: b", "comes twice"},
  };
  for (const Case& c : cases) {
    INFO(c.fields);
    const auto parsed = ParseParameters(ClassOfObject(c.fields), Defaults());
    REQUIRE(absl::IsInvalidArgument(parsed.status()));
    CHECK_THAT(std::string(Message(parsed.status())), Catch::Contains(c.error));
  }
}

TEST_CASE("no object name and no secret path leads elsewhere") {
  for (const std::string_view name :
       {"..", "../x", "a/../b", "/etc/passwd", "a//b", "a/", ".", "..data", "a/..b", "a\\u0000b",
        "a\\nb", ""}) {
    INFO(name);
    const auto parsed = ParseParameters(
        ClassWith({{"roleName", "r"},
                   {"objects", StrCat("- {objectName: \"", name, "\", secretPath: a}")}}),
        Defaults());
    REQUIRE(absl::IsInvalidArgument(parsed.status()));
    CHECK_THAT(std::string(Message(parsed.status())), Catch::Contains("objects[0].objectName: "));
  }
  for (const std::string_view path : {"..", "a/../b", "a//b", "a/", "/", "/v1/", ".", "a\\nb"}) {
    INFO(path);
    const auto parsed = ParseParameters(
        ClassWith({{"roleName", "r"},
                   {"objects", StrCat("- {objectName: a, secretPath: \"", path, "\"}")}}),
        Defaults());
    REQUIRE(absl::IsInvalidArgument(parsed.status()));
    CHECK_THAT(std::string(Message(parsed.status())), Catch::Contains("objects[0].secretPath: "));
  }
}

TEST_CASE("file permissions are octal where YAML says so") {
  for (const auto& [text, mode] : std::map<std::string_view, std::uint32_t>{
           {"0600", 0600}, {"0o640", 0640}, {"'0444'", 0444}, {"384", 0600}, {"0", 0}}) {
    INFO(text);
    const auto parsed =
        ParseParameters(ClassOfObject(StrCat("  filePermission: ", text)), Defaults());
    REQUIRE(parsed.ok());
    CHECK(parsed->objects[0].facts.mode == mode);
  }
}

TEST_CASE("logins are alike when every part is") {
  Login a{.address = "http://v", .auth_mount = "kubernetes", .role = "r"};
  Login b = a;
  CHECK(LoginKey(a) == LoginKey(b));
  b.tls.skip_verify = true;
  CHECK(LoginKey(a) != LoginKey(b));
  b = a;
  b.vault_namespace = "r";
  b.role = "";
  CHECK(LoginKey(a) != LoginKey(b));
}

}  // namespace
}  // namespace coffer::provider
