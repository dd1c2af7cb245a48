#include "csi/flags.h"

#include "csi/socket_server.h"

namespace coffer::csi {
namespace {

absl::StatusOr<Flags> Parse(const std::vector<const char*>& arguments) {
  return ParseFlags(std::span<const char* const>(arguments));
}

TEST_CASE("flags are taken as Go writes them, the upstream driver's too") {
  const auto flags = Parse(
      {"--endpoint=unix:///x/csi.sock", "-nodeid", "n1", "--drivername=d.example",
       "-log-format-json", "--vault-addr=http://v", "--vault-tls-skip-verify",
       "--provider-volume=/p", "--enable-secret-rotation", "--rotation-poll-interval", "2m",
       "--metrics-addr=:8095", "--kubelet-root=/k/", "-v=5", "--provider-health-check=false"});
  INFO(flags.status());
  REQUIRE(flags.ok());
  CHECK(flags->endpoint == "unix:///x/csi.sock");
  CHECK(flags->node_id == "n1");
  CHECK(flags->kubelet_root == "/k");
  CHECK(flags->driver_name == "d.example");
  CHECK(flags->log_format == log::Format::kJson);
  CHECK(flags->log_level == log::Level::kDebug);
  CHECK(flags->defaults.address == "http://v");
  CHECK(flags->defaults.tls.skip_verify);
  CHECK(flags->metrics_address == ":8095");
  CHECK(flags->without_effect ==
        "--provider-health-check (providers are asked when a class needs them)");
  CHECK(flags->provider_dirs ==
        std::vector<std::string>{"/p", "/etc/kubernetes/secrets-store-csi-providers"});
  const auto folders = Parse({"--nodeid=n", "--additional-provider-volume-paths=/a,/b",
                              "--provider-volume=/p", "--max-call-recv-msg-size=1000"});
  CHECK(folders->provider_dirs == std::vector<std::string>{"/p", "/a", "/b"});
  CHECK(folders->most_answer_bytes == 1000);
}

TEST_CASE("flags of upstream's programs are taken, and why they mean nothing is said") {
  const auto flags = Parse({"--nodeid=n", "--grpc-supported-providers=gcp;vault",
                            "--csi-address=/csi/csi.sock", "--provider-health-check",
                            "--provider-health-check-interval=2m", "--filtered-watch-secret=false",
                            "--plugin-registration-path=/r", "--health-port=9809",
                            "--probe-timeout=3s", "--automaxprocs"});
  INFO(flags.status());
  REQUIRE(flags.ok());
  for (const char* words :
       {"--grpc-supported-providers (all are", "--provider-health-check-interval (",
        "--plugin-registration-path (use --plugin-registration-dir)",
        "--health-port (--metrics-addr serves"}) {
    CHECK_THAT(flags->without_effect, Catch::Contains(words));
  }
}

TEST_CASE("rotation is the kubelet's, unless flags of the upstream driver say more") {
  struct Case {
    std::vector<const char*> flags;
    bool on;
    absl::Duration interval;
  };
  const Case cases[] = {
      {{}, true, absl::ZeroDuration()},
      {{"--enable-secret-rotation"}, true, absl::Minutes(2)},
      {{"--enable-secret-rotation=true", "--rotation-poll-interval=30s"}, true, absl::Seconds(30)},
      {{"--rotation-poll-interval=0s", "--enable-secret-rotation"}, true, absl::ZeroDuration()},
      {{"--rotation-poll-interval=5m"}, true, absl::Minutes(5)},
      {{"--enable-secret-rotation=false", "--rotation-poll-interval=1m"}, false, absl::Minutes(1)},
  };
  for (Case c : cases) {
    c.flags.push_back("--nodeid=n");
    const auto flags = Parse(c.flags);
    REQUIRE(flags.ok());
    CHECK(flags->rotation().on == c.on);
    CHECK(flags->rotation().interval == c.interval);
  }
}

TEST_CASE("the environment of the Vault provider counts, a flag counts more") {
  setenv("VAULT_ADDR", "http://env", 1);
  setenv("VAULT_NAMESPACE", "team", 1);
  setenv("VAULT_MOUNT", "k8s", 1);
  const auto flags = Parse({"--nodeid=n", "--vault-addr=http://flag"});
  CHECK(flags->defaults.address == "http://flag");
  CHECK(flags->defaults.vault_namespace == "team");
  CHECK(flags->defaults.auth_mount == "k8s");
  CHECK(Parse({"--nodeid=n"})->defaults.address == "http://env");
  unsetenv("VAULT_ADDR");
  unsetenv("VAULT_NAMESPACE");
  unsetenv("VAULT_MOUNT");
}

TEST_CASE("vault-csi-provider's command line and environment count, or it is said why not") {
  setenv("VAULT_ADDR", "unix:///var/run/vault/agent.sock", 1);
  setenv("VAULT_PROXY_ADDR", "http://p", 1);
  const auto flags = Parse({"--nodeid=n", "-debug=true", "-health-addr=:8080", "-cache-size=0",
                            "-hmac-secret-name=h", "-vault-mount=jwt", "-vault-auth-type=jwt",
                            "-vault-namespace=ns",
                            "-vault-tls-ca-cert=/ca", "-vault-tls-ca-directory=/cas",
                            "-vault-tls-server-name=s", "-vault-tls-client-cert=/c",
                            "-vault-tls-client-key=/k", "-write-secrets=false"});
  unsetenv("VAULT_ADDR");
  unsetenv("VAULT_PROXY_ADDR");
  INFO(flags.status());
  REQUIRE(flags.ok());
  CHECK(flags->log_level == log::Level::kDebug);
  CHECK(flags->health_address == ":8080");
  CHECK(flags->defaults.address == "https://127.0.0.1:8200");
  CHECK(flags->defaults.auth_mount == "jwt");
  CHECK(flags->defaults.vault_namespace == "ns");
  CHECK(flags->defaults.tls.ca_file == "/ca");
  CHECK(flags->defaults.tls.ca_directory == "/cas");
  CHECK(flags->defaults.tls.server_name == "s");
  CHECK(flags->defaults.tls.client_certificate_file == "/c");
  CHECK(flags->defaults.tls.client_key_file == "/k");
  for (const char* words : {"unix:///var/run/vault/agent.sock (no agent is needed",
                            "VAULT_PROXY_ADDR (set HTTPS_PROXY", "--cache-size (each pod",
                            "--hmac-secret-name (versions", "--write-secrets (files"}) {
    CHECK_THAT(flags->without_effect, Catch::Contains(words));
  }
  CHECK(Parse({"--nodeid=n", "-log-level=trace"})->log_level == log::Level::kDebug);
  CHECK(Parse({"--nodeid=n", "-log-level=off"})->log_level == log::Level::kError);
  CHECK(Parse({"--nodeid=n", "-debug=false"})->log_level == log::Level::kInfo);
  CHECK(Parse({"-version"})->version);
}

TEST_CASE("a wrong command line is one clear line") {
  const std::vector<std::pair<std::vector<const char*>, std::string>> cases = {
      {{}, "--nodeid is missing"},
      {{"--nodeid=n", "--nonsense"}, "unknown flag --nonsense"},
      {{"--nodeid=n", "file"}, "unexpected argument \"file\""},
      {{"--nodeid"}, "--nodeid needs a value"},
      {{"--nodeid=n", "--log-level=loud"}, "--log-level: unknown log level"},
      {{"--nodeid=n", "--vault-tls-skip-verify=maybe"}, "--vault-tls-skip-verify: must be true"},
      {{"--nodeid=n", "--rotation-poll-interval=often"}, "--rotation-poll-interval: must be"},
      {{"--nodeid=n", "--rotation-poll-interval=-1s"}, "--rotation-poll-interval: must be"},
      {{"--nodeid=n", "--driver-name=a/b"}, "--driver-name \"a/b\" must be"},
      {{"--nodeid=n", "--seccomp=yes"}, "--seccomp: must be enforce, log or off"},
      {{"--nodeid=n", "--endpoint=/provider/vault.sock"}, "--endpoint is the CSI socket"},
      {{"--nodeid=n", "--vault-auth-type=aws"}, "--vault-auth-type: must be kubernetes or jwt"},
      {{"--nodeid=n", "--debug=maybe"}, "--debug: must be true or false"},
      {{"--nodeid=n", "--kubelet-root=var"}, "--kubelet-root must be an absolute path"},
      {{"--nodeid=n", "--plugin-registration-dir=/r"}, "belong together"},
      {{"--nodeid=n", "--kubeconfig=/k", "--secret-provider-class-dir=/d"}, "exclude each other"},
  };
  for (const auto& [arguments, error] : cases) {
    const auto flags = Parse(arguments);
    INFO(error);
    REQUIRE(absl::IsInvalidArgument(flags.status()));
    CHECK_THAT(std::string(Message(flags.status())), Catch::Contains(error));
    CHECK_THAT(std::string(Message(flags.status())), !Catch::Contains("\n"));
  }
}

TEST_CASE("endpoints are Unix sockets") {
  for (const char* endpoint : {"unix:///a/b.sock", "unix:/a/b.sock", "/a/b.sock"}) {
    CHECK(*SocketPath(endpoint) == "/a/b.sock");
  }
  for (const std::string& endpoint : {std::string("unix://a"), std::string("tcp://1.2.3.4:5"),
                                      std::string(), "unix:///" + std::string(107, 'a')}) {
    CHECK(absl::IsInvalidArgument(SocketPath(endpoint).status()));
  }
}

TEST_CASE("volumes are made of FUSE, tmpfs, or what there is") {
  CHECK(Parse({"--nodeid=n"})->volume_backend == "auto");
  CHECK(Parse({"--nodeid=n", "--volume-backend=tmpfs"})->volume_backend == "tmpfs");
  CHECK(absl::IsInvalidArgument(Parse({"--nodeid=n", "--volume-backend=nfs"}).status()));
}

}  // namespace
}  // namespace coffer::csi
