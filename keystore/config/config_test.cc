#include "keystore/config/config.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "common/strings.h"
#include "keystore/hcl/hcl.h"

namespace coffer::keystore {
namespace {

constexpr std::string_view kStorage = "storage \"lmdb\" { path = \"/data\" }\n";
constexpr std::string_view kListener = "listener \"tcp\" { tls_disable = 1 }\n";

ServerConfig Parsed(std::string_view text) {
  const auto config = ParseServerConfig("coffer.hcl", text);
  CAPTURE(text, config.status().ToString());
  REQUIRE(config.ok());
  return *config;
}

std::string Error(std::string_view text) {
  const auto config = ParseServerConfig("coffer.hcl", text);
  if (config.ok()) return "taken";
  CHECK(config.status().code() == absl::StatusCode::kInvalidArgument);
  return std::string(Message(config.status()));
}

TEST_CASE("every setting is read from HCL") {
  const ServerConfig config = Parsed(R"(
    storage "lmdb" {
      path     = "/var/lib/coffer"
      map_size = "1GiB"
    }
    listener "tcp" {
      address                            = "[::]:8200"
      cluster_address                    = "[::]:8201"
      max_request_size                   = 1048576
      max_request_duration               = "2m"
      require_request_header             = true
      tls_cert_file                      = "/tls.crt"
      tls_key_file                       = "/tls.key"
      tls_client_ca_file                 = "/ca.crt"
      tls_require_and_verify_client_cert = "true"
      tls_min_version                    = "tls13"
      tls_cipher_suites = "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
      http_read_header_timeout           = "5s"
      http_read_timeout                  = 20
      http_idle_timeout                  = "1h"
      x_forwarded_for_authorized_addrs      = ["10.0.0.0/8", "::1"]
      x_forwarded_for_hop_skips             = "1"
      x_forwarded_for_reject_not_authorized = false
      x_forwarded_for_reject_not_present    = "false"
      telemetry { unauthenticated_metrics_access = true }
    }
    seal "shamir" {}
    telemetry {
      prometheus_retention_time = "30s"
      disable_hostname          = true
      metrics_prefix            = "coffer"
    }
    ui                = true
    disable_mlock     = true
    api_addr          = "https://a:8200"
    cluster_addr      = "https://a:8201"
    cluster_name      = "c"
    log_level         = "WARNING"
    log_format        = "JSON"
    pid_file          = "/run/coffer.pid"
    plugin_directory  = "/plugins"
    default_lease_ttl = "24h"
    max_lease_ttl     = 2764800
    default_max_request_duration = "30s"
  )");
  REQUIRE(config.storage);
  CHECK(config.storage->type == "lmdb");
  CHECK(config.storage->path == "/var/lib/coffer");
  CHECK(config.storage->map_size == std::uint64_t{1} << 30);
  REQUIRE(config.listeners.size() == 1);
  const ListenerConfig& listener = config.listeners[0];
  CHECK(listener.place == "coffer.hcl: line 6, column 14");
  CHECK(listener.address == "[::]:8200");
  CHECK(listener.cluster_address == "[::]:8201");
  CHECK(listener.max_request_size == 1048576);
  CHECK(listener.max_request_duration == absl::Minutes(2));
  CHECK(listener.require_request_header);
  CHECK_FALSE(listener.tls_disable);
  CHECK(listener.tls_cert_file == "/tls.crt");
  CHECK(listener.tls_key_file == "/tls.key");
  CHECK(listener.tls_client_ca_file == "/ca.crt");
  CHECK(listener.tls_require_and_verify_client_cert);
  CHECK(listener.tls_min_version == "tls13");
  CHECK(listener.tls_cipher_suites == "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384");
  CHECK(listener.http_read_header_timeout == absl::Seconds(5));
  CHECK(listener.http_read_timeout == absl::Seconds(20));
  CHECK(listener.http_idle_timeout == absl::Hours(1));
  CHECK(listener.x_forwarded_for_authorized_addrs == std::vector<std::string>{"10.0.0.0/8", "::1"});
  CHECK(listener.x_forwarded_for_hop_skips == 1);
  CHECK_FALSE(listener.x_forwarded_for_reject_not_authorized);
  CHECK_FALSE(listener.x_forwarded_for_reject_not_present);
  CHECK(listener.unauthenticated_metrics_access);
  REQUIRE(config.telemetry);
  CHECK(config.telemetry->prometheus_retention_time == absl::Seconds(30));
  CHECK(config.telemetry->disable_hostname);
  CHECK(config.telemetry->metrics_prefix == "coffer");
  CHECK(config.ui);
  CHECK(config.disable_mlock);
  CHECK(config.api_addr == "https://a:8200");
  CHECK(config.cluster_addr == "https://a:8201");
  CHECK(config.cluster_name == "c");
  CHECK(config.log_level == "warn");
  CHECK(config.log_format == "json");
  CHECK(config.pid_file == "/run/coffer.pid");
  CHECK(config.plugin_directory == "/plugins");
  CHECK(config.default_lease_ttl == absl::Hours(24));
  CHECK(config.max_lease_ttl == absl::Hours(768));
  CHECK(config.default_max_request_duration == absl::Seconds(30));
  CHECK(config.warnings.empty());
  CHECK(CheckServerConfig(config).ok());
}

TEST_CASE("JSON means the same") {
  for (const std::string_view text : {R"({"storage": {"lmdb": {"path": "/data"}},
            "listener": [{"tcp": {"address": "0.0.0.0:8200", "tls_disable": "true"}},
                         {"tcp": {"address": "[::1]:8300", "tls_disable": 1}}], "ui": true})",
                                      R"({"backend": [{"lmdb": [{"path": "/data"}]}],
            "listener": {"tcp": [{"address": "0.0.0.0:8200", "tls_disable": true},
                                 {"address": "[::1]:8300", "tls_disable": "1"}]}, "ui": "true"})"}) {
    const ServerConfig config = Parsed(text);
    CHECK(config.storage->path == "/data");
    REQUIRE(config.listeners.size() == 2);
    CHECK(config.listeners[0].address == "0.0.0.0:8200");
    CHECK(config.listeners[1].address == "[::1]:8300");
    CHECK(config.listeners[1].tls_disable);
    CHECK(config.ui);
  }
}

TEST_CASE("what isn't given has Vault's defaults") {
  const ServerConfig config =
      Parsed("listener \"tcp\" { tls_disable = true }\nstorage \"inmem\" {}");
  CHECK(config.storage->type == "inmem");
  CHECK(config.listeners[0].address == "127.0.0.1:8200");
  CHECK(config.listeners[0].max_request_size == 33554432);
  CHECK(config.listeners[0].http_read_header_timeout == absl::Seconds(10));
  CHECK(config.listeners[0].http_read_timeout == absl::Seconds(30));
  CHECK(config.listeners[0].http_idle_timeout == absl::Minutes(5));
  CHECK(config.listeners[0].tls_min_version == "tls12");
  CHECK_FALSE(config.ui);
  CHECK_FALSE(config.telemetry);
}

TEST_CASE("the Helm chart's settings that don't matter are taken with a warning") {
  const ServerConfig config = Parsed(R"(
ui = true
listener "tcp" {
  tls_disable = 1
  address = "[::]:8200"
  cluster_address = "[::]:8201"
  http_write_timeout = 5
}
storage "lmdb" {
  path = "/vault/data"
}
service_registration "kubernetes" {}
raw_storage_endpoint = true
)");
  CHECK(config.warnings ==
        std::vector<std::string>{
            "coffer.hcl: line 7: \"http_write_timeout\" has no effect in this keystore",
            "coffer.hcl: line 12: \"service_registration\" has no effect in this keystore",
            "coffer.hcl: line 13: \"raw_storage_endpoint\" has no effect in this keystore"});
}

TEST_CASE("what is wrong is named with file, line and key") {
  const struct {
    std::string_view text;
    std::string_view error;
  } cases[] = {
      {"ui = true\nlistner \"tcp\" {}",
       "line 2, column 1: there is no setting \"listner\" in the configuration"},
      {"listener \"tcp\" {\n  tls_disable = true\n  adress = \"x\"\n}",
       "line 3, column 3: there is no setting \"adress\" in listener \"tcp\""},
      {"storage \"lmdb\" {\n  paht = \"x\"\n}",
       "line 2, column 3: there is no setting \"paht\" in storage \"lmdb\""},
      {"telemetry { x = 1 }", "line 1, column 13: there is no setting \"x\" in \"telemetry\""},
      {"listener \"tcp\" { telemetry { x = 1 } }",
       "line 1, column 30: there is no setting \"x\" in \"telemetry\""},
      {"ui = true\nui = false", "line 2, column 1: \"ui\" is there twice"},
      {"ui = \"maybe\"", "line 1, column 6: \"ui\": must be true or false (or 1 or 0)"},
      {"ui = 2", "line 1, column 6: \"ui\": must be true or false (or 1 or 0)"},
      {"ui = [true]", "line 1, column 6: \"ui\" must be true or false, not a list"},
      {"ui { }", "line 1, column 4: \"ui\" must be true or false, not an object"},
      {"ui \"x\" { }", "line 1, column 4: \"ui\" takes no label"},
      {"api_addr = 5", "line 1, column 12: \"api_addr\" must be a string, not a number"},
      {"api_addr = \"http://{{ GetPrivateIP }}:8200\"",
       "line 1, column 12: \"api_addr\": templates ({{…}}) aren't supported: give the value "
       "itself"},
      {"max_lease_ttl = \"soon\"",
       "line 1, column 17: \"max_lease_ttl\": not a duration: give seconds, or units as in "
       "\"1h30m\" (ns, us, ms, s, m, h, d; at most 292 years)"},
      {"max_lease_ttl = -5", "line 1, column 17: \"max_lease_ttl\": can't be negative"},
      {"max_lease_ttl = true",
       "line 1, column 17: \"max_lease_ttl\" must be a duration (\"1h30m\" or seconds), not a "
       "boolean"},
      {"log_level = \"loud\"",
       "line 1, column 13: \"log_level\" must be trace, debug, info, warn or error"},
      {"log_format = \"xml\"", "line 1, column 14: \"log_format\" must be standard or json"},
      {"storage \"file\" { path = \"/x\" }",
       "line 1, column 9: storage \"file\" isn't supported: use storage \"lmdb\" { path = \"…\" } "
       "with an empty folder"},
      {"storage \"raft\" { path = \"/x\" }",
       "line 1, column 9: storage \"raft\" isn't supported: use storage \"lmdb\" { path = \"…\" } "
       "with an empty folder"},
      {"storage \"consul\" {}",
       "line 1, column 9: there is no storage \"consul\"; use storage \"lmdb\" { path = \"…\" }, "
       "or "
       "\"inmem\", which forgets everything at its end"},
      {"storage \"lmdb\" {}",
       "line 1, column 9: storage \"lmdb\": \"path\" is missing; it names the folder"},
      {"storage \"lmdb\" { path = \"/x\" map_size = 4096 }",
       "line 1, column 9: storage \"lmdb\": \"map_size\" must be at least 1MiB"},
      {"storage \"lmdb\" { path = \"/x\" map_size = \"big\" }",
       "line 1, column 41: \"map_size\": not a size: give bytes, or a unit as in \"32MB\" or "
       "\"64MiB\" (kB, MB, GB, TB; KiB, MiB, GiB, TiB)"},
      {"storage \"inmem\" {}\nstorage \"inmem\" {}",
       "line 2, column 9: there is more than one storage"},
      {"storage {}\nstorage = 5",
       "line 2, column 11: \"storage\" must be a block { … }, not a number"},
      {"seal \"awskms\" {}",
       "line 1, column 6: seal \"awskms\" isn't supported: leave it out, or use seal \"shamir\""},
      {"seal \"shamir\" { x = 1 }",
       "line 1, column 17: there is no setting \"x\" in seal \"shamir\""},
      {"ha_storage \"consul\" {}",
       "line 1, column 1: \"ha_storage\" isn't supported: every node uses the one storage; leave "
       "it "
       "out"},
      {"listener \"unix\" {}",
       "line 1, column 10: there is no listener \"unix\"; use listener \"tcp\""},
      {"listener \"tcp\" {}",
       "line 1, column 10: listener \"tcp\": \"tls_cert_file\" and \"tls_key_file\" are missing; "
       "for "
       "a listener without TLS set tls_disable = true"},
      {"listener \"tcp\" { tls_cert_file = \"/c\" }",
       "line 1, column 10: listener \"tcp\": \"tls_cert_file\" and \"tls_key_file\" are missing; "
       "for "
       "a listener without TLS set tls_disable = true"},
      {"listener \"tcp\" { tls_disable = 1 tls_min_version = \"tls10\" }",
       "line 1, column 10: listener \"tcp\": \"tls_min_version\" and \"tls_max_version\" must be "
       "tls12 or tls13 (older ones aren't safe)"},
      {"listener \"tcp\" { tls_disable = 1 tls_min_version = \"tls13\" tls_max_version = \"tls12\" "
       "}",
       "line 1, column 10: listener \"tcp\": \"tls_max_version\" is less than \"tls_min_version\""},
      {"listener \"tcp\" { tls_disable = 1 tls_cipher_suites = \"RC4\" }",
       "line 1, column 10: listener \"tcp\": tls_cipher_suites holds a name that isn't known; they "
       "are as in TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, parted by commas"},
      {"listener \"tcp\" { tls_disable = 1 max_request_size = 0 }",
       "line 1, column 10: listener \"tcp\": \"max_request_size\" must be at least 1"},
      {"listener \"tcp\" { proxy_protocol_behavior = \"use_always\" }",
       "line 1, column 18: \"proxy_protocol_behavior\" isn't supported: the PROXY protocol isn't "
       "spoken; let the proxy send X-Forwarded-For"},
      {"listener \"tcp\" { tls_disable = 1\n tls_require_and_verify_client_cert = 1\n "
       "tls_disable_client_certs = 1 }",
       "line 1, column 10: listener \"tcp\": \"tls_require_and_verify_client_cert\" and "
       "\"tls_disable_client_certs\" exclude each other"},
      {"listener \"tcp\" { x_forwarded_for_authorized_addrs = [1] }",
       "line 1, column 54: \"x_forwarded_for_authorized_addrs\" must be a list of strings, not of "
       "a "
       "number"},
      {"listener { tls_disable = 1 }",
       "line 1, column 1: \"listener\" needs a label: listener \"…\" { … }"},
      {"ui = ", "line 1, column 6: expected a value for \"ui\", found the end of the text"},
  };
  for (const auto& c : cases) {
    INFO(c.text);
    CHECK(Error(c.text) == StrCat("coffer.hcl: ", c.error));
  }
}

TEST_CASE("addresses are host and port") {
  const struct {
    std::string_view address;
    bool good;
  } cases[] = {{"0.0.0.0:8200", true},
               {"[::]:8200", true},
               {":8200", true},
               {"localhost:0", true},
               {"127.0.0.1", false},
               {"127.0.0.1:", false},
               {"127.0.0.1:x", false},
               {"127.0.0.1:65536", false},
               {"::1:8200", false},
               {"[::1]", false},
               {"", false}};
  for (const auto& c : cases) {
    INFO(c.address);
    const std::string text =
        StrCat("listener \"tcp\" { tls_disable = 1 address = \"", c.address, "\" }");
    CHECK((Error(text) == "taken") == c.good);
  }
}

TEST_CASE("no message holds a value") {
  for (const std::string_view text :
       {"telemetry { circonus_api_token = [\"hunter2\" }", "api_addr = hunter2",
        "max_lease_ttl = \"hunter2\"", "ui = \"hunter2\"", "log_level = \"hunter2\"",
        "storage \"lmdb\" { path = \"/x\" map_size = \"hunter2\" }",
        "listener \"tcp\" { address = \"hunter2\" }",
        "listener \"tcp\" { tls_disable = 1 tls_cipher_suites = \"hunter2\" }"}) {
    INFO(text);
    CHECK(Error(text).find("hunter2") == std::string::npos);
    CHECK(Error(text) != "taken");
  }
}

TEST_CASE("sizes have units of 1000 and of 1024") {
  const struct {
    std::string_view text;
    std::uint64_t bytes;
  } cases[] = {{"0", 0},
               {"512", 512},
               {"1b", 1},
               {"32MB", 32000000},
               {"32mb", 32000000},
               {"32 MB", 32000000},
               {"64MiB", 67108864},
               {"2k", 2000},
               {"1GiB", 1073741824},
               {"1TB", 1000000000000},
               {" 7 ", 7}};
  for (const auto& c : cases) {
    INFO(c.text);
    const auto size = ParseSize(c.text);
    REQUIRE(size.ok());
    CHECK(*size == c.bytes);
  }
  for (const std::string_view text :
       {"", "MB", "-1", "1.5GB", "1PB", "1 2", "99999999999999999999", "99999999TiB"}) {
    INFO(text);
    CHECK_FALSE(ParseSize(text).ok());
  }
}

// A folder that goes with the test.
struct Folder {
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "coffer-config-XXXXXX").string();
    path = ::mkdtemp(name.data());
  }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string Write(std::string_view name, std::string_view text) const {
    const std::string file = StrCat(path, "/", name);
    std::ofstream(file) << text;
    return file;
  }
  std::string path;
};

TEST_CASE("files of a folder merge as in Vault") {
  const Folder folder;
  folder.Write("a.hcl",
               StrCat(kListener, "ui = true\nmax_lease_ttl = \"2h\"\ncluster_name = \"a\"\n",
                      "storage \"inmem\" {}\ndisable_cache = true\n"));
  folder.Write("b.json", R"({"listener": {"tcp": {"address": "[::]:9000", "tls_disable": true}},
                             "ui": false, "max_lease_ttl": "1h", "cluster_name": "b",
                             "storage": {"lmdb": {"path": "/data"}}})");
  folder.Write("c.hcl", "default_lease_ttl = \"30m\"\nlog_level = \"debug\"");
  folder.Write("c.hcl~", "broken");
  folder.Write(".hidden.hcl", "broken");
  folder.Write("notes.txt", "broken");
  const auto config = LoadServerConfig({folder.path});
  CAPTURE(config.status().ToString());
  REQUIRE(config.ok());
  CHECK(config->ui);
  CHECK(config->cluster_name == "b");
  CHECK(config->max_lease_ttl == absl::Hours(2));
  CHECK(config->default_lease_ttl == absl::Minutes(30));
  CHECK(config->log_level == "debug");
  CHECK(config->storage->type == "lmdb");
  REQUIRE(config->listeners.size() == 2);
  CHECK(config->listeners[1].address == "[::]:9000");
  REQUIRE(config->warnings.size() == 1);
  CHECK(config->warnings[0].starts_with(folder.path + "/a.hcl: line 6: "));

  const std::string more = folder.Write("more.hcl", "cluster_name = \"last\"");
  const auto both = LoadServerConfig({folder.path, more});
  REQUIRE(both.ok());
  CHECK(both->cluster_name == "last");
}

TEST_CASE("what can't be loaded is named") {
  const Folder folder;
  const auto message = [](std::vector<std::string> paths) {
    const auto config = LoadServerConfig(paths);
    return config.ok() ? "loaded" : std::string(Message(config.status()));
  };
  CHECK(message({}) == "no configuration: give -config=FILE");
  CHECK(message({folder.path + "/none.hcl"}) == StrCat("can't read the configuration ", folder.path,
                                                       "/none.hcl: No such file or directory"));
  CHECK(message({folder.path}) ==
        StrCat("the folder ", folder.path, " holds no *.hcl or *.json file"));
  const std::string only_storage = folder.Write("a.hcl", kStorage);
  CHECK(message({only_storage}) ==
        StrCat(only_storage,
               ": the configuration names no listener: add listener \"tcp\" { address = "
               "\"…\" }"));
  const std::string only_listener = folder.Write("b.hcl", kListener);
  CHECK(message({only_listener}) ==
        StrCat(only_listener,
               ": the configuration names no storage: add storage \"lmdb\" { path = \"…\" }"));
  CHECK(message({only_storage, only_listener}) == "loaded");
  const std::string ttl =
      folder.Write("c.hcl", "default_lease_ttl = \"2h\"\nmax_lease_ttl = \"1h\"");
  CHECK(message({only_storage, only_listener, ttl}) ==
        StrCat(only_storage, ", ", only_listener, ", ", ttl,
               ": default_lease_ttl is longer than max_lease_ttl"));
  const std::string alone = folder.Write("c.hcl", "default_lease_ttl = \"769h\"");
  CHECK(message({only_storage, only_listener, alone}) ==
        StrCat(only_storage, ", ", only_listener, ", ", alone,
               ": default_lease_ttl is longer than max_lease_ttl, which is 768h"));
  const std::string wrong = folder.Write("d.hcl", "\n\nx = 1");
  CHECK(message({wrong}) ==
        StrCat(wrong, ": line 3, column 1: there is no setting \"x\" in the configuration"));
  const std::string large = folder.Write("e.hcl", std::string(hcl::kMaxTextSize + 10, '#'));
  CHECK(message({large}).starts_with(StrCat(large, ": the text has ")));
}

TEST_CASE("the example in deploy/ is a configuration") {
  const std::string example = COFFER_SOURCE_DIR "/deploy/keystore.hcl";
  const auto config = LoadServerConfig({example});
  CAPTURE(config.status().ToString());
  REQUIRE(config.ok());
  CHECK(config->storage->type == "lmdb");
  CHECK(config->warnings.empty());
}

}  // namespace
}  // namespace coffer::keystore
