// coffer-keeper: holds the volumes' /dev/fuse descriptors and their contents' memory for the
// plugin, which may then die: file systems whose descriptor is open somewhere live, and those who
// read wait until the next plugin has taken over. Knows nothing of what it holds. One thread, libc
// alone, so that it needs an update about never.
#include <errno.h>
#include <fcntl.h>
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
constexpr int kRetryMs = 20;
// A plugin that is dead and whose connection still stands has threads that wait in
// the kernel: after that long the next one is let in all the same.
constexpr int kLastRespectMs = 100;
constexpr uint32_t kResend = 7;  // FUSE_NOTIFY_RESEND, Linux 6.9

struct Peer {
  int fd = -1;
  int life = -1;  // pidfd of a thread that dies at once when the plugin is killed
  pid_t pid = 0;
  bool plugin = false;
};

Table table;
Peer peers[kMostPeers];
int dead_ms = 0;  // since the plugin was seen dead

void Say(const char* what, const char* about) {
  fprintf(stderr, "coffer-keeper: %s%s%s\n", what, *about ? ": " : "", about);
}

Peer* Plugin() {
  for (Peer& peer : peers) {
    if (peer.fd >= 0 && peer.plugin) return &peer;
  }
  return nullptr;
}

void Close(Peer& peer) {
  if (peer.plugin) Say("the plugin is gone; its volumes are kept", "");
  close(peer.fd);
  if (peer.life >= 0) close(peer.life);
  peer = Peer();
}

// A thread that is killed while it waits for a file system can't go before what it asked has been
// answered, and if it is one of the plugin's own, whoever starts the next plugin may wait for it.
// The kernel tells of each request whose asker has a signal by an INTERRUPT, also when the request
// is read again: those are answered EINTR. All others stay for the next plugin, which has the
// kernel ask again.
void FreeDeadThreads() {
  alignas(8) static char request[8192];
  for (Volume* volume = table.first(); volume != nullptr; volume = volume->next) {
    fuse_out_header resend = {};
    resend.len = sizeof resend;
    resend.error = kResend;
    if (write(volume->fuse, &resend, sizeof resend) < 0) continue;
    for (int i = 0; i < 4096; ++i) {  // the descriptor doesn't block
      const ssize_t size = read(volume->fuse, request, sizeof request);
      if (size < 0 && (errno == EINTR || errno == ENOENT)) continue;
      if (size <= 0) break;
      const auto* header = reinterpret_cast<const fuse_in_header*>(request);
      if (header->opcode != FUSE_INTERRUPT) continue;
      fuse_out_header answer = {};
      answer.len = sizeof answer;
      answer.error = -EINTR;
      answer.unique = reinterpret_cast<const fuse_interrupt_in*>(header + 1)->unique;
      if (write(volume->fuse, &answer, sizeof answer) < 0) continue;  // nobody waits any more
    }
  }
}

// False: the peer is to be closed.
bool Hello(Peer& peer, const Packet& packet) {
  const uint32_t version = CommonVersion(packet.head.number);
  if (version == 0) {
    Send(peer.fd, kRefuse, Versions(kOldestVersion, kNewestVersion));
    Say("a plugin of another version was refused", "");
    return false;
  }
  if (Plugin() != nullptr) {
    Send(peer.fd, kBusy);
    return false;
  }
  peer.plugin = true;
  if (packet.fd_count == 1) peer.life = dup(packet.fds[0]);
  dead_ms = 0;
  Say("a plugin is here", "");
  return Send(peer.fd, kWelcome, version);
}

bool SendAll(int socket, bool with_descriptors) {
  for (const Volume* volume = table.first(); volume != nullptr; volume = volume->next) {
    if (!Send(socket, kVolume, volume->image_count(), volume->target(), volume->facts(),
              &volume->fuse, with_descriptors)) {
      return false;
    }
    for (const Image* image = volume->images; with_descriptors && image != nullptr;
         image = image->next) {
      if (!Send(socket, kImage, image->number, volume->target(), "", &image->fd, 1)) return false;
    }
  }
  const Peer* plugin = Plugin();
  return Send(socket, kEnd, plugin == nullptr ? 0 : static_cast<uint64_t>(plugin->pid));
}

bool Handle(Peer& peer, Packet& packet) {
  const Kind kind = static_cast<Kind>(packet.head.kind);
  if (kind == kLook) return SendAll(peer.fd, false);
  if (kind == kHello && !peer.plugin) return Hello(peer, packet);
  if (!peer.plugin) return false;
  switch (kind) {
    case kClear:
      table.Clear();
      return true;
    case kPut:
      if (packet.fd_count != 2) return false;
      if (!table.Put(packet)) Say("no memory for a volume", packet.target);
      return true;
    case kAdd:
      if (packet.fd_count != 1) return false;
      if (!table.Add(packet)) Say("can't keep a volume's new content", packet.target);
      return true;
    case kRemove:
      table.Remove(packet.target, packet.head.number);
      return true;
    case kDrop:
      table.Drop(packet.target);
      return true;
    case kTake:
      return SendAll(peer.fd, true);
    default:
      return false;
  }
}

// All that is there to be read. False: closed, or not our language.
bool Serve(Peer& peer) {
  static Packet packet;
  for (;;) {
    const int got = Receive(peer.fd, &packet, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return true;
    if (got <= 0) {
      if (got < 0 && errno == EBADMSG) Say("a packet isn't ours, or its descriptors don't fit", "");
      return false;
    }
    const bool go_on = Handle(peer, packet);
    for (int i = 0; i < packet.fd_count; ++i) {
      if (packet.fds[i] >= 0) close(packet.fds[i]);  // what the table took is -1
    }
    if (!go_on) return false;
  }
}

void Accept(int listener) {
  const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  if (fd < 0) return;
  ucred who = {};
  socklen_t size = sizeof who;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0 || who.uid != 0) {
    Say("somebody who isn't root was sent away", "");
    close(fd);
    return;
  }
  const timeval patience = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
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
  unlink(path);
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
  rlimit files = {};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  const int listener = Listen(path);
  Say("holds volumes for who asks at", path);
  for (;;) {
    pollfd wait[kMostPeers + 2] = {};
    for (int i = 0; i < kMostPeers; ++i) wait[i] = {peers[i].fd, POLLIN, 0};
    Peer* plugin = Plugin();
    wait[kMostPeers] = {plugin == nullptr || dead_ms > 0 ? -1 : plugin->life, POLLIN, 0};
    wait[kMostPeers + 1] = {listener, POLLIN, 0};
    poll(wait, kMostPeers + 2, dead_ms > 0 ? kRetryMs : -1);

    for (int i = 0; i < kMostPeers; ++i) {
      if (wait[i].fd >= 0 && wait[i].revents != 0 && !Serve(peers[i])) Close(peers[i]);
    }
    plugin = Plugin();
    if (plugin == nullptr) {
      dead_ms = 0;
    } else if (dead_ms > 0 || wait[kMostPeers].revents != 0) {
      dead_ms += kRetryMs;
      FreeDeadThreads();
      if (dead_ms > kLastRespectMs) {
        Close(*plugin);
        dead_ms = 0;
      }
    }
    if (wait[kMostPeers + 1].revents != 0) Accept(listener);
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
          printf("no plugin\n");
        } else {
          printf("plugin: process %llu\n", static_cast<unsigned long long>(packet.head.number));
        }
        return 0;
      }
      ++volumes;
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
