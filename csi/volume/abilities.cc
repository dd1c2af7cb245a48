#include "csi/volume/abilities.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "common/status_macros.h"
#include "csi/volume/dialog.h"
#include "csi/volume/mount.h"

namespace coffer::volume {
namespace {

// Tries it with a file system that nobody ever sees.
void TryFuse(Abilities* abilities) {
  abilities->fuse = abilities->resend = false;
  const UniqueFd fuse(open("/dev/fuse", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!fuse) {
    abilities->fuse_refusal =
        StrCat("/dev/fuse can't be opened: ", std::string_view(strerrordesc_np(errno)));
    return;
  }
  if (const auto mount = MakeMount(fuse.get(), "try"); !mount.ok()) {
    abilities->fuse_refusal = Message(mount.status());
    return;
  }
  abilities->fuse = true;
  const Resend resend;
  abilities->resend = write(fuse.get(), resend.bytes, sizeof resend.bytes) >= 0 || errno != EINVAL;
}

}  // namespace

std::string Abilities::Backend() const {
  if (fuse) return "FUSE";
  return StrCat(noswap ? "tmpfs, never swapped out" : "tmpfs, which may be swapped out",
                fuse_refusal.empty() ? "" : StrCat(" (", fuse_refusal, ")"));
}

std::string Abilities::Memory() const {
  return memory == MemoryKind::kMemfdSecret ? "memfd_secret" : "locked memfd (no memfd_secret)";
}

std::string Abilities::HandOver() const {
  if (!fuse) return "tmpfs needs none";
  return resend ? "after a kill and a stop" : "after a stop, after a kill if idle (before Linux 6.9)";
}

std::vector<std::string> Abilities::Fallbacks(bool kept) const {
  std::vector<std::string> lines;
  if (!fuse) {
    lines.push_back(StrCat(
        "volumes are plain tmpfs, without rules of files, audit and secret memory",
        fuse_refusal.empty() ? "" : StrCat(": ", fuse_refusal)));
    if (!noswap) {
      lines.emplace_back("tmpfs can't be kept from being swapped out before Linux 6.4: turn swap off");
    }
    return lines;
  }
  if (memory != MemoryKind::kMemfdSecret) {
    lines.emplace_back(
        "contents lie in locked memory, which the kernel maps: memfd_secret is missing (Linux 5.14, "
        "and secretmem.enable=1 up to 6.4)");
  }
  if (!resend && kept) {
    lines.emplace_back(
        "a volume whose plugin is killed in the middle of an answer is made anew: the kernel can't "
        "ask again (Linux 6.9)");
  }
  return lines;
}

Abilities FindAbilities() {
  Abilities found;
  TryFuse(&found);
  const auto pages = SecretMapping::Make(1);
  if (pages.ok()) found.memory = pages->kind();
  found.noswap = MakeTmpfs("try", /*noswap=*/true).ok();
  return found;
}

}  // namespace coffer::volume
