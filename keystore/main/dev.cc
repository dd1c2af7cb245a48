#include "keystore/main/dev.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "common/status_macros.h"
#include "common/strings.h"
#include "common/unique_fd.h"

namespace coffer::keystore {
namespace {

void Print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

}  // namespace

absl::StatusOr<DevKeys> SetUpDev(ShamirSeal& seal, Core& core, std::string_view root_token) {
  DevKeys keys;
  ASSIGN_OR_RETURN(const std::vector<SecretBytes> shares, seal.Initialize({1, 1}, [&]() -> absl::Status {
    ASSIGN_OR_RETURN(keys.root_token, core.InitializeContents(root_token));
    return absl::OkStatus();
  }));
  keys.share = EncodeBase64(shares.front().span());
  RETURN_IF_ERROR(seal.Unseal(keys.share.view()).status());

  Request mount;
  mount.operation = Operation::kUpdate;
  mount.path = "sys/mounts/secret";
  mount.data = {{"type", "kv"},
                {"description", "key/value secret storage"},
                {"options", {{"version", "2"}}}};
  mount.token = keys.root_token.Copy();
  RETURN_IF_ERROR(core.HandleAndWait(mount).status());
  return keys;
}

absl::Status StoreTokenForCommandLine(std::string_view token) {
  const char* home = std::getenv("HOME");
  if (home == nullptr) return absl::OkStatus();
  const std::string path = StrCat(home, "/.vault-token");
  const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  // Also where it was there before.
  if (!file || fchmod(file.get(), 0600) != 0 ||
      write(file.get(), token.data(), token.size()) != static_cast<ssize_t>(token.size())) {
    return absl::UnavailableError(StrCat("can't write the root token to ", path, ": ",
                                         std::strerror(errno), "; see -dev-no-store-token"));
  }
  return absl::OkStatus();
}

void PrintDevBanner(const DevKeys& keys, std::string_view address) {
  Print(
      "WARNING! dev mode is enabled! In this mode, Coffer runs entirely in-memory\n"
      "and starts unsealed with a single unseal key. The root token is already\n"
      "authenticated to the CLI, so you can immediately begin using Coffer.\n\n"
      "You may need to set the following environment variables:\n\n"
      "    $ export VAULT_ADDR='");
  Print(address);
  Print(
      "'\n\nThe unseal key and root token are displayed below in case you want to\n"
      "seal/unseal the keystore or re-authenticate.\n\nUnseal Key: ");
  Print(keys.share.view());
  Print("\nRoot Token: ");
  Print(keys.root_token.view());
  Print("\n\nDevelopment mode should NOT be used in production installations!\n\n");
  std::fflush(stdout);
}

}  // namespace coffer::keystore
