// coffer-keeper: holds the volumes' /dev/fuse descriptors and their contents' memory for the
// plugin, which may then die: file systems whose descriptor is open somewhere live, and those who
// read wait until the next plugin has taken over. Knows nothing of what it holds. One thread, libc
// alone, so that it needs an update about never.
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/fuse.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "common/hardening.h"
#include "keeper/table.h"

namespace coffer::keeper {
namespace {

constexpr int kMostPeers = 16;
constexpr rlim_t kReserved = 2 * kMostPeers;  // descriptors
constexpr int kRetryMs = 20;
// Where nobody stands by, threads of a dead plugin that wait in the kernel are freed for that long.
constexpr int kLastRespectMs = 100;
// So long a keeper that has taken the place of another one waits for the plugin that serves.
constexpr int64_t kYouthMs = 1000;
constexpr uint32_t kResend = 7;  // FUSE_NOTIFY_RESEND, Linux 6.9

enum class Role { kGuest, kStandsBy, kServes, kDying };

// In an answer to what is kept: what comes next.
struct Place {
  uint64_t serial = UINT64_MAX;  // of the volume; later ones were before it
  uint64_t told = 0;             // messages about it that went before
};

struct Peer {
  int fd = -1;
  int life = -1;  // pidfd of a thread that dies at once when the plugin is killed
  int threads = -1;  // folder of the plugin's threads
  pid_t pid = 0;
  Role role = Role::kGuest;
  uint32_t version = 0;
  uint64_t arrival = 0;
  bool asked = false, with_descriptors = false;
  Place place;  // where it has been asked
};

Table table;
Peer peers[kMostPeers];
uint64_t arrivals = 0;
int dead_ms = 0;      // since the plugin was seen dead, where nobody has taken over
bool killed = false;  // so the last one that served ended
int64_t young_until = 0;

int64_t NowMs() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1000} + now.tv_nsec / 1'000'000;
}

bool Young() { return NowMs() < young_until; }

// Unheard where nobody reads standard error: volumes hang on this thread.
void Say(const char* what, const char* about) {
  char line[PIPE_BUF];
  const int size = snprintf(line, sizeof line, "coffer-keeper: %s%s%s\n", what,
                            *about ? ": " : "", about);
  pollfd out = {STDERR_FILENO, POLLOUT, 0};
  if (poll(&out, 1, 0) != 1 || (out.revents & POLLOUT) == 0) return;
  const size_t length = size < PIPE_BUF ? static_cast<size_t>(size) : PIPE_BUF - 1;
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line, length);
}

Peer* Find(Role role) {
  Peer* last = nullptr;
  for (Peer& peer : peers) {
    if (peer.fd < 0 || peer.role != role) continue;
    if (last == nullptr || peer.arrival > last->arrival) last = &peer;
  }
  return last;
}

Peer* Plugin() { return Find(Role::kServes); }

bool Dead(const Peer& peer) {
  pollfd life = {peer.life, POLLIN, 0};
  return peer.life >= 0 && poll(&life, 1, 0) == 1;
}

void Forget(Peer& peer) {
  close(peer.fd);
  if (peer.life >= 0) close(peer.life);
  if (peer.threads >= 0) close(peer.threads);
  peer = Peer();
}

bool Welcome(Peer& peer) {
  peer.role = Role::kServes;
  dead_ms = 0;
  young_until = 0;
  Say("a plugin is here", "");
  return Send(peer.fd, kWelcome, static_cast<uint64_t>(killed) << 32 | peer.version);
}

// Has the one that came last take over: it is the newest build.
void Promote() {
  while (Plugin() == nullptr && !Young()) {
    Peer* next = Find(Role::kStandsBy);
    if (next == nullptr) return;
    if (!Welcome(*next)) Forget(*next);
  }
}

void Close(Peer& peer) {
  const Role role = peer.role;
  if (role == Role::kServes) {
    Say("the plugin is gone; its volumes are kept", "");
    killed = Dead(peer);
  }
  Forget(peer);
  if (role == Role::kServes) Promote();
  Peer* plugin = Plugin();
  if (role == Role::kDying && plugin != nullptr && plugin->version >= 2) Send(plugin->fd, kGone);
}

// By the number that the kernel gives who asks, in the PID namespace of plugin and folder alike.
bool OfTheDying(uint32_t thread) {
  char name[16];
  struct stat facts = {};
  snprintf(name, sizeof name, "%u", thread);
  for (const Peer& peer : peers) {
    if (peer.fd < 0 || peer.role != Role::kDying) continue;
    if (peer.threads < 0 || fstatat(peer.threads, name, &facts, 0) == 0) return true;
  }
  return false;
}

// A thread that is killed while it waits for a file system can't go before what it asked has been
// answered, and if it is one of the plugin's own, whoever starts the next plugin may wait for it.
// The kernel tells of a request whose asker has a signal by an INTERRUPT, also when the request
// is read again, right after it: of the plugin's own threads those are answered EINTR. All others
// stay for the next plugin, which has the kernel ask again.
void FreeDeadThreads(const Volume& volume) {
  alignas(8) static char request[8192];
  fuse_out_header resend = {};
  resend.len = sizeof resend;
  resend.error = kResend;
  if (write(volume.fuse, &resend, sizeof resend) < 0) return;
  fuse_in_header last = {};
  for (int i = 0; i < 4096; ++i) {  // the descriptor doesn't block
    const ssize_t size = read(volume.fuse, request, sizeof request);
    if (size < 0 && (errno == EINTR || errno == ENOENT)) continue;
    if (size <= 0) break;
    const auto* header = reinterpret_cast<const fuse_in_header*>(request);
    if (header->opcode != FUSE_INTERRUPT) {
      last = *header;
      continue;
    }
    fuse_out_header answer = {};
    answer.len = sizeof answer;
    answer.error = -EINTR;
    answer.unique = reinterpret_cast<const fuse_interrupt_in*>(header + 1)->unique;
    if (answer.unique != last.unique || !OfTheDying(last.pid)) continue;
    if (write(volume.fuse, &answer, sizeof answer) < 0) continue;  // nobody waits any more
  }
}

// The same with all volumes, for as long as nobody has something to say: the next plugin must not
// wait for it. Goes on behind `*place`. False: there are more.
bool FreeDeadThreads(pollfd* wait, nfds_t count, uint64_t* place) {
  for (const Volume* volume = table.first(); volume != nullptr; volume = volume->next) {
    if (volume->serial >= *place) continue;
    if (poll(wait, count, 0) != 0) return false;
    *place = volume->serial;
    FreeDeadThreads(*volume);
  }
  *place = UINT64_MAX;
  return true;
}

// False: the peer is to be closed.
bool Hello(Peer& peer, const Packet& packet) {
  const uint32_t version = CommonVersion(packet.head.number);
  if (version == 0) {
    Send(peer.fd, kRefuse, Versions(kOldestVersion, kNewestVersion));
    Say("a plugin of another version was refused", "");
    return false;
  }
  if (peer.life < 0 && packet.fd_count == 1) peer.life = dup(packet.fds[0]);
  peer.version = version;
  peer.arrival = ++arrivals;
  const bool respect = version == 1 && Find(Role::kDying) != nullptr && dead_ms <= kLastRespectMs;
  const bool waits = Young() && strcmp(packet.facts, kServesAlready) != 0;
  if (Plugin() == nullptr && !respect && !waits) return Welcome(peer);
  if (version == 1) {
    Send(peer.fd, kBusy);
    return false;
  }
  peer.role = Role::kStandsBy;
  return Send(peer.fd, kStandby);
}

// The `index`th message about a volume; before the last of them there is one for each image. False:
// there is no room for it.
bool AppendPiece(Batch* batch, const Peer& peer, const Volume& volume, uint64_t index) {
  if (index == 0) {
    return Append(batch, kVolume, volume.image_count(), volume.target(), volume.facts(),
                  &volume.fuse, peer.with_descriptors);
  }
  const Image* image = volume.images;
  while (--index > 0) image = image->next;
  return Append(batch, kImage, image->number, volume.target(), "", &image->fd, 1);
}

bool SendEnd(const Peer& peer) {
  char stand_by[16];
  int count = 0;
  for (const Peer& other : peers) count += other.fd >= 0 && other.role == Role::kStandsBy;
  snprintf(stand_by, sizeof stand_by, "%d", count);
  const Peer* plugin = Plugin();
  uint64_t serves = 0;
  if (plugin != nullptr) serves = plugin->pid > 0 ? static_cast<uint64_t>(plugin->pid) : kElsewhere;
  return Send(peer.fd, kEnd, serves, "", stand_by);
}

// Tells the peer what is kept, as far as it has room for it; the rest when it has read. False: the
// peer is to be closed.
bool Answer(Peer& peer) {
  static Batch batch;
  batch.size = 0;
  batch.fd_count = 0;
  Place at = peer.place;  // behind what is in the batch
  const auto send = [&] {
    if (batch.size > 0 && !Send(peer.fd, batch)) return false;
    batch.size = 0;
    batch.fd_count = 0;
    peer.place = at;
    return true;
  };
  const bool one_each = !peer.with_descriptors || peer.version < 4;
  for (const Volume* volume = table.first(); volume != nullptr; volume = volume->next) {
    if (volume->serial > at.serial) continue;
    if (volume->serial < at.serial) at = {volume->serial, 0};
    const uint64_t pieces = 1 + (peer.with_descriptors ? volume->image_count() : 0);
    while (at.told < pieces) {
      const bool fits = AppendPiece(&batch, peer, *volume, at.told);
      at.told += fits;
      if ((!fits || one_each) && !send()) return errno == EAGAIN;
    }
  }
  if (!send() || !SendEnd(peer)) return errno == EAGAIN;
  peer.asked = false;
  return true;
}

bool Ask(Peer& peer, bool with_descriptors) {
  peer.asked = true;
  peer.with_descriptors = with_descriptors;
  peer.place = Place();
  return Answer(peer);
}

bool Handle(Peer& peer, Packet& packet) {
  const Kind kind = static_cast<Kind>(packet.head.kind);
  if (kind == kLook) return Ask(peer, false);
  if (peer.role == Role::kDying) return true;  // too late
  if (kind == kHello && peer.role == Role::kGuest) return Hello(peer, packet);
  if (peer.role != Role::kServes) return false;
  switch (kind) {
    case kClear:
      table.Clear();
      return true;
    case kPut:
    case kAdd:
      // Half of a volume is worse than none.
      if (packet.fd_count != (kind == kPut ? 2 : 1)) {
        Say("no descriptor is left: a volume isn't kept", packet.target);
        table.Drop(packet.target);
      } else if (kind == kPut ? !table.Put(packet) : !table.Add(packet)) {
        Say("can't keep a volume, or its new content", packet.target);
      }
      return true;
    case kRemove:
      table.Remove(packet.target, packet.head.number);
      return true;
    case kDrop:
      table.Drop(packet.target);
      return true;
    case kThreads:
      if (packet.fd_count != 1 || peer.threads >= 0) return true;
      peer.threads = packet.fds[0];
      packet.fds[0] = -1;
      return true;
    case kTake:
      return Ask(peer, true);
    default:
      return false;
  }
}

// All that is there to be read; who has asked is answered first. False: closed, or not our
// language.
bool Serve(Peer& peer) {
  static Packet packet;
  if (peer.asked && !Answer(peer)) return false;
  while (!peer.asked) {
    const int got = Receive(peer.fd, &packet, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return true;
    if (got <= 0) {
      if (got < 0 && errno == EBADMSG) Say("a packet isn't ours", "");
      return false;
    }
    const bool go_on = Handle(peer, packet);
    for (int i = 0; i < packet.fd_count; ++i) {
      if (packet.fds[i] >= 0) close(packet.fds[i]);  // what the table took is -1
    }
    if (!go_on) return false;
  }
  return true;
}

// The plugin was killed. What it said before is heard, then who stands by takes over, though threads
// of the dead may still be on their way out of the kernel.
void Bury(Peer& peer) {
  peer.asked = false;
  if (!Serve(peer)) return Close(peer);
  Say("the plugin was killed; its volumes are kept", "");
  killed = true;
  dead_ms = 0;
  peer.role = Role::kDying;
  close(peer.life);
  peer.life = -1;
  Promote();
}

// Volumes leave some descriptors to those who connect.
void LimitDescriptors(bool all) {
  rlimit files = {};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur =
      all || files.rlim_max < 2 * kReserved ? files.rlim_max : files.rlim_max - kReserved;
  setrlimit(RLIMIT_NOFILE, &files);
}

void Accept(int listener) {
  LimitDescriptors(true);
  const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  LimitDescriptors(false);
  if (fd < 0) return;
  ucred who = {};
  socklen_t size = sizeof who;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 || who.uid != 0) {
    Say("somebody who isn't root was sent away", "");
    close(fd);
    return;
  }
  for (Peer& peer : peers) {
    if (peer.fd >= 0) continue;
    peer.fd = fd;
    peer.pid = who.pid;
    return;
  }
  close(fd);
}

// The socket, 0600. Exits where that fails, or another keeper answers.
int Listen(const char* path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (strlen(path) >= sizeof address.sun_path) {
    Say("the socket's path is too long", path);
    exit(2);
  }
  strcpy(address.sun_path, path);
  const auto* where = reinterpret_cast<const sockaddr*>(&address);

  char folder[sizeof address.sun_path];
  strcpy(folder, path);
  if (char* slash = strrchr(folder, '/'); slash != nullptr && slash != folder) {
    *slash = 0;
    mkdir(folder, 0700);
  }
  const int old = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (connect(old, where, sizeof address) == 0) {
    Say("another keeper answers there", path);
    exit(1);
  }
  close(old);
  if (unlink(path) == 0) young_until = NowMs() + kYouthMs;
  umask(0177);
  const int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (bind(listener, where, sizeof address) != 0 || listen(listener, kMostPeers) != 0) {
    fprintf(stderr, "coffer-keeper: can't listen at %s: %s\n", path, strerror(errno));
    exit(1);
  }
  return listener;
}

void SayRefused(const char* what, int error) {
  fprintf(stderr, "coffer-keeper: the kernel refuses %s: %s\n", what, strerror(error));
}

[[noreturn]] void Run(const char* path, Seccomp seccomp) {
  // Contents that lie in no memfd_secret are locked, whatever RLIMIT_MEMLOCK says.
  Harden({.program = "coffer-keeper",
          .capabilities = uint64_t{1} << CAP_IPC_LOCK,
          .seccomp = seccomp},
         SayRefused);
  signal(SIGPIPE, SIG_IGN);
  LimitDescriptors(false);
  const int listener = Listen(path);
  Say("holds volumes for who asks at", path);
  uint64_t freed = UINT64_MAX;  // of the last volume whose dead threads were freed in this round
  for (;;) {
    pollfd wait[kMostPeers + 2] = {};
    for (int i = 0; i < kMostPeers; ++i) {
      wait[i] = {peers[i].fd, static_cast<short>(peers[i].asked ? POLLOUT : POLLIN), 0};
    }
    Peer* plugin = Plugin();
    wait[kMostPeers] = {plugin == nullptr ? -1 : plugin->life, POLLIN, 0};
    wait[kMostPeers + 1] = {listener, POLLIN, 0};
    const bool freeing =
        plugin == nullptr && Find(Role::kDying) != nullptr && dead_ms <= kLastRespectMs;
    const bool halfway = freeing && freed != UINT64_MAX;
    poll(wait, kMostPeers + 2, halfway ? 0 : freeing || Young() ? kRetryMs : -1);

    for (int i = 0; i < kMostPeers; ++i) {
      // One that has closed and whose place was taken since is looked at next time.
      if (wait[i].fd >= 0 && wait[i].fd == peers[i].fd && wait[i].revents != 0 &&
          !Serve(peers[i])) {
        Close(peers[i]);
      }
    }
    if (plugin != nullptr && plugin == Plugin() && Dead(*plugin)) Bury(*plugin);
    if (wait[kMostPeers + 1].revents != 0) Accept(listener);
    Promote();  // who stands by since this one was young
    if (Plugin() != nullptr || Find(Role::kDying) == nullptr || dead_ms > kLastRespectMs) {
      freed = UINT64_MAX;
    } else if (FreeDeadThreads(wait, kMostPeers + 2, &freed)) {
      dead_ms += kRetryMs;
    }
  }
}

// Prints what the keeper at `path` holds.
int Status(const char* path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  const timeval patience = {5, 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  static Packet packet;
  uint64_t volumes = 0;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
      Send(fd, kLook)) {
    while (Receive(fd, &packet) == 1) {
      if (packet.head.kind == kEnd) {
        printf("%llu volumes; ", static_cast<unsigned long long>(volumes));
        if (packet.head.number == 0) {
          printf("no plugin");
        } else if (packet.head.number == kElsewhere) {
          printf("plugin: in another container");
        } else {
          printf("plugin: process %llu", static_cast<unsigned long long>(packet.head.number));
        }
        printf("; %s stand(s) by\n", packet.facts[0] == 0 ? "0" : packet.facts);
        return 0;
      }
      // What goes with volumes has a name that is no path.
      if (packet.target[0] == '/') ++volumes;
      printf("%s\t%llu content(s)\t%s\n", packet.target,
             static_cast<unsigned long long>(packet.head.number), packet.facts);
    }
  }
  fprintf(stderr, "coffer-keeper: no keeper answers at %s: %s\n", path, strerror(errno));
  return 1;
}

int Main(int argc, char** argv) {
  const char* path = kDefaultSocket;
  bool status = false;
  Seccomp seccomp = kDefaultSeccomp;
  for (int i = 1; i < argc; ++i) {
    const char* flag = argv[i];
    if (flag[0] == '-' && flag[1] == '-') ++flag;
    if (strncmp(flag, "-socket=", 8) == 0) {
      path = flag + 8;
    } else if (strncmp(flag, "-seccomp=", 9) == 0 && ParseSeccomp(flag + 9, &seccomp)) {
      continue;
    } else if (strcmp(flag, "-status") == 0) {
      status = true;
    } else if (strcmp(flag, "-version") == 0) {
      printf("coffer-keeper %s, protocol %u to %u\n", COFFER_VERSION, kOldestVersion,
             kNewestVersion);
      return 0;
    } else {
      const bool help = strcmp(flag, "-help") == 0 || strcmp(flag, "-h") == 0;
      fprintf(help ? stdout : stderr,
              "coffer-keeper: holds the volumes of coffer-csi while that restarts\n"
              "  -socket=PATH  where: %s\n"
              "  -seccomp=MODE system calls beyond its list: enforce (refused), log, off: %s\n"
              "  -status       prints what the keeper there holds\n"
              "  -version\n",
              kDefaultSocket, SeccompName(kDefaultSeccomp));
      return help ? 0 : 2;
    }
  }
  if (status) return Status(path);
  Run(path, seccomp);
}

}  // namespace
}  // namespace coffer::keeper

int main(int argc, char** argv) { return coffer::keeper::Main(argc, argv); }
