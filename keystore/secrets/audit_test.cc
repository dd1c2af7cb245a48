// Audit devices in a whole keystore with secrets: what the log holds, and what follows when it can't
// be written. Here, since kv may be used by this room and by those to the right alone.
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <filesystem>
#include <fstream>

#include "common/strings.h"
#include "keystore/secrets/kv_v1.h"
#include "keystore/system/testing.h"

namespace coffer::keystore {
namespace {

class Audited {
 public:
  Audited() {
    char name[] = "/tmp/coffer-audit-XXXXXX";
    REQUIRE(mkdtemp(name) != nullptr);
    folder_ = name;
    file = folder_ + "/audit.log";
    keystore.core.Register("kv/1", kv);
    keystore.Enable("kv", "kv", "1");
  }
  ~Audited() { std::filesystem::remove_all(folder_); }

  absl::Status Enable(Json options) {
    return keystore.Write("sys/audit/file", {{"type", "file"}, {"options", std::move(options)}})
        .status();
  }
  std::vector<Json> Lines() const { return Lines(file); }
  static std::vector<Json> Lines(const std::string& name) {
    std::vector<Json> lines;
    std::ifstream in(name);
    for (std::string line; std::getline(in, line);) {
      absl::StatusOr<Json> document = ParseJson(line);
      CAPTURE(line);
      REQUIRE(document.ok());
      lines.push_back(*std::move(document));
    }
    return lines;
  }
  std::string Text() const {
    std::ifstream in(file);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  TestKeystore keystore;
  KvV1 kv{nullptr};
  std::string file;

 private:
  std::string folder_;
};

TEST_CASE("Each request and each answer is a line; secrets and tokens stand there as HMACs") {
  Audited audited;
  REQUIRE(audited.Enable({{"file_path", Json::string_t(audited.file)}}).ok());
  struct stat facts = {};
  REQUIRE(stat(audited.file.c_str(), &facts) == 0);
  CHECK((facts.st_mode & 0777) == 0600);

  REQUIRE(audited.keystore.Write("kv/app", {{"password", "hunter2"}, {"port", 5432}}).ok());
  REQUIRE(audited.keystore.Read("kv/app").ok());
  REQUIRE_FALSE(audited.keystore.Read("kv/app", "hvs.wrong").ok());

  const std::vector<Json> lines = audited.Lines();
  REQUIRE(lines.size() == 6);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    CAPTURE(i);
    CHECK(lines[i].at("type") == (i % 2 == 0 ? "request" : "response"));
    CHECK(lines[i].at("request").at("path") == "kv/app");
    CHECK(lines[i].at("request").at("mount_type") == "kv");
    CHECK(lines[i].at("request").at("remote_address") == "127.0.0.1");
  }
  CHECK(lines[0].at("auth").at("display_name") == "root");
  CHECK(lines[0].at("request").at("data").at("port") == 5432);
  CHECK(lines[5].at("error").get_ref<const Json::string_t&>().find("permission denied") !=
        Json::string_t::npos);

  const auto hash = audited.keystore.Write("sys/audit-hash/file", {{"input", "hunter2"}});
  REQUIRE(hash.ok());
  CHECK(lines[0].at("request").at("data").at("password") == hash->data.at("hash"));
  CHECK(lines[3].at("response").at("data").at("password") == hash->data.at("hash"));

  const std::string text = audited.Text();
  for (const std::string& secret : {std::string("hunter2"), audited.keystore.root_token,
                                    std::string("hvs.wrong")}) {
    CHECK(text.find(secret) == text.npos);
  }
}

TEST_CASE("The options of a device and of a mount say what stands there in the clear") {
  Audited audited;
  REQUIRE(audited.Enable({{"file_path", Json::string_t(audited.file)}, {"prefix", "@cee: "},
                          {"mode", "0640"}, {"hmac_accessor", "false"}})
              .ok());
  REQUIRE(audited.keystore
              .Write("sys/mounts/kv/tune", {{"audit_non_hmac_request_keys", {"user"}}})
              .ok());
  REQUIRE(audited.keystore.Write("kv/app", {{"user", "anna"}, {"password", "hunter2"}}).ok());
  const std::string text = audited.Text();
  CHECK(text.starts_with("@cee: {\"time\":\""));
  CHECK(text.find("\"user\":\"anna\"") != text.npos);
  CHECK(text.find("hunter2") == text.npos);
  CHECK(text.find("\"accessor\":\"hmac-sha256:") == text.npos);
  struct stat facts = {};
  REQUIRE(stat(audited.file.c_str(), &facts) == 0);
  CHECK((facts.st_mode & 0777) == 0640);
}

TEST_CASE("What no device takes is neither done nor answered") {
  Audited audited;
  REQUIRE(audited.Enable({{"file_path", "/dev/full"}, {"mode", "0"}}).ok());
  const auto refused = audited.keystore.Write("kv/app", {{"a", "b"}});
  CHECK(refused.status().code() == absl::StatusCode::kInternal);
  audited.keystore.audit.OnSeal();  // the table is read again, and says the same
  CHECK_FALSE(audited.keystore.Read("kv/app").ok());
  CHECK_FALSE(audited.keystore.Delete("sys/audit/file").ok());
}

TEST_CASE("One device that takes a request is enough") {
  Audited audited;
  REQUIRE(audited.Enable({{"file_path", Json::string_t(audited.file)}}).ok());
  REQUIRE(audited.keystore
              .Write("sys/audit/full",
                     {{"type", "file"}, {"options", {{"file_path", "/dev/full"}, {"mode", "0"}}}})
              .ok());
  CHECK(audited.keystore.Write("kv/app", {{"a", "b"}}).ok());
  CHECK(audited.keystore.Read("kv/app").ok());
}

TEST_CASE("Devices are listed, survive a seal, and are gone once disabled") {
  Audited audited;
  REQUIRE(audited.Enable({{"file_path", Json::string_t(audited.file)}}).ok());
  audited.keystore.core.Seal();
  audited.keystore.Unseal();
  const auto listed = audited.keystore.Read("sys/audit");
  REQUIRE(listed.ok());
  CHECK(listed->data.at("file/").at("options").at("file_path") == Json::string_t(audited.file));
  CHECK_FALSE(listed->data.at("file/").contains("salt"));
  CHECK(audited.Lines().size() == 2);  // the list that was asked for
  REQUIRE(audited.keystore.Delete("sys/audit/file").ok());
  const std::size_t lines = audited.Lines().size();
  REQUIRE(audited.keystore.Write("kv/app", {{"a", "b"}}).ok());
  CHECK(audited.Lines().size() == lines);
}

TEST_CASE("A file that was moved is made again at SIGHUP") {
  Audited audited;
  REQUIRE(audited.Enable({{"file_path", Json::string_t(audited.file)}}).ok());
  REQUIRE(rename(audited.file.c_str(), (audited.file + ".1").c_str()) == 0);
  REQUIRE(audited.keystore.Read("sys/mounts").ok());
  CHECK(Audited::Lines(audited.file + ".1").size() == 2);
  audited.keystore.audit.Reopen();
  REQUIRE(audited.keystore.Read("sys/mounts").ok());
  CHECK(audited.Lines().size() == 2);
}

TEST_CASE("A device that makes no sense is refused with the reason") {
  Audited audited;
  const std::pair<Json, std::string_view> cases[] = {
      {{{"type", "syslog"}}, "unknown audit backend type: \"syslog\""},
      {{{"type", "file"}}, "\"file_path\" is required"},
      {{{"type", "file"}, {"options", {{"file_path", "relative"}}}}, "an absolute path"},
      {{{"type", "file"}, {"options", {{"file_path", "/nonexistent/a"}}}}, "No such file"},
      {{{"type", "file"}, {"options", {{"file_path", "stdout"}, {"mode", "rw"}}}}, "\"mode\""},
      {{{"type", "file"}, {"options", {{"file_path", "stdout"}, {"log_raw", "x"}}}}, "\"log_raw\""},
      {{{"type", "file"}, {"options", {{"file_path", "stdout"}, {"format", "jsonx"}}}}, "\"format\""},
      {{{"type", "file"}, {"options", {{"file_path", "stdout"}, {"pace", "x"}}}}, "\"pace\""},
  };
  for (const auto& [body, reason] : cases) {
    const auto refused = audited.keystore.Write("sys/audit/x", body);
    CAPTURE(reason, refused.status().ToString());
    CHECK(refused.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(Message(refused.status()).find(reason) != std::string_view::npos);
  }
  CHECK(audited.keystore.Read("sys/audit")->data.empty());
}

}  // namespace
}  // namespace coffer::keystore
