// AuditDevice: a file of what was asked and answered, one JSON object a line, with every text of a
// secret as a salted HMAC. Field names are those of Vault's audit log:
// https://developer.hashicorp.com/vault/docs/audit/schema
#pragma once

#include <openssl/types.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/unique_fd.h"
#include "keystore/core/mount_entry.h"
#include "keystore/core/request.h"
#include "keystore/core/response.h"
#include "keystore/core/token_entry.h"

namespace coffer::keystore {

// What is stored of a device.
struct AuditEntry {
  std::string path;  // its name: "file/"
  std::string type;  // "file"
  std::string description;
  std::map<std::string, std::string> options;  // as given: file_path, log_raw, …
  SecretBytes salt;                            // key of the HMACs
  bool local = false;
};

// What an entry of the log tells.
struct AuditRecord {
  absl::Time time;
  const Request& request;
  const Response* response = nullptr;  // null: of the request, before it is handled
  absl::Status error;                  // why it failed, or OK
};

// Safe on any thread.
class AuditDevice {
 public:
  // Not open before Reopen(). InvalidArgument: the type or an option, by name.
  static absl::StatusOr<std::shared_ptr<AuditDevice>> Make(AuditEntry entry);
  ~AuditDevice();

  const AuditEntry& entry() const { return entry_; }
  // Appends one line in one write. Unavailable: it could not.
  absl::Status Log(const AuditRecord& record);
  // "hmac-sha256:…" of a text, as it stands in the log.
  std::string Hash(std::string_view text);
  // Opens the file, again where it may have been moved. Unavailable: it goes on with the old one.
  absl::Status Reopen();

 private:
  struct Options {
    bool raw = false;            // texts as they are
    bool hash_accessors = true;
    std::uint32_t mode = 0600;   // of a file that is made; 0: its mode is left alone
    std::string prefix;          // of each line
    std::string file;            // "" = standard output
    bool discard = false;
  };
  explicit AuditDevice(AuditEntry entry, Options options);

  std::string HashLocked(std::string_view text);
  void AppendText(std::string_view text, bool plain, SecretBytes* line);
  void AppendData(const Json& value, const Json* plain_keys, bool plain, SecretBytes* line);
  void AppendCaller(const TokenEntry& caller, std::string_view token, std::string_view alias,
                    SecretBytes* line);
  void AppendRequest(const Request& request, SecretBytes* line);
  void AppendResponse(const Request& request, const Response& response, SecretBytes* line);
  absl::StatusOr<UniqueFd> OpenFile() const;

  const AuditEntry entry_;
  const Options options_;
  std::mutex mutex_;
  UniqueFd file_;
  EVP_MAC_CTX* mac_;  // keyed with the salt
};

}  // namespace coffer::keystore
