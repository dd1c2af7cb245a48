// What the plugin and the keeper say to each other, over a Unix socket of type SOCK_SEQPACKET: one
// message a packet, descriptors beside it by SCM_RIGHTS. Nothing but libc is needed to read this.
//
//   message  := Head target facts
//   target   := bytes of the path at which a volume is mounted: its name here, 1..4095
//   facts    := bytes that only the plugin understands, 0..1024
//
//   plugin → keeper                                        keeper → plugin
//     hello   number=oldest<<32|newest version               welcome  number=killed<<32|version
//             [facts="serves"]  [pidfd]
//                                                             standby  another one is served; a
//                                                                      welcome comes after it
//                                                             busy     the same, in version 1, and
//                                                                      the end
//                                                             refuse   number=oldest<<32|newest
//     clear (until version 2)                                (these five have no answer: what was
//     put     target facts number=image's  fuse image         sent is kept, also if the sender
//     add     target number=image's  image                    dies before it is read)
//     remove  target number=image's
//     drop    target
//     take                                                   (volume image*)* end
//                                                             gone     at any time after welcome
//   anyone of root → keeper
//     look                                                   volume* end
//
//   volume := target facts number=its images  [fuse]         end := number=process id of the plugin
//   image  := target number=image's  image                            (0: none) facts=how many stand by
//
// "serves", since version 3: the plugin serves the volumes already. It alone is welcomed by a keeper
// that has just taken the place of another one, and which can't know who was that one's.
//
// killed: 1 where the keeper has seen the plugin before this one die. It may have threads that are
// on their way out of the kernel still; "gone" says that they are, too: what they took in their last
// moment can be asked for again. With 0 it may even live on, having lost its connection: a lock
// tells (csi/volume/keeper_client.h).
//
// Descriptors stand behind the fields. The pidfd is of a thread of the plugin (PIDFD_THREAD) that
// waits for no file system: it tells of a kill that another one, which does, can't follow yet.
// Numbers are in the machine's byte order.
#pragma once

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace coffer::keeper {

inline constexpr uint32_t kOldestVersion = 1;
inline constexpr uint32_t kNewestVersion = 3;
inline constexpr uint32_t kMostTarget = 4095;
inline constexpr uint32_t kMostFacts = 1024;
// Of a plugin whose process has no number here: it is in another PID namespace.
inline constexpr uint64_t kElsewhere = ~uint64_t{0};
inline constexpr char kServesAlready[] = "serves";
inline constexpr char kDefaultSocket[] = "/run/coffer-keeper/keeper.sock";

enum Kind : uint32_t {
  kHello = 1,
  kWelcome,
  kBusy,
  kRefuse,
  kClear,
  kPut,
  kAdd,
  kRemove,
  kDrop,
  kTake,
  kLook,
  kVolume,
  kImage,
  kEnd,
  kStandby,
  kGone,
};

struct Head {
  uint32_t kind;
  uint16_t target_size;
  uint16_t facts_size;
  uint64_t number;
};

inline constexpr uint64_t Versions(uint32_t oldest, uint32_t newest) {
  return static_cast<uint64_t>(oldest) << 32 | newest;
}

// The newest version that both speak; 0: there is none.
inline constexpr uint32_t CommonVersion(uint64_t theirs) {
  const auto oldest = static_cast<uint32_t>(theirs >> 32);
  const auto newest = static_cast<uint32_t>(theirs);
  const uint32_t common = newest < kNewestVersion ? newest : kNewestVersion;
  return common >= oldest && common >= kOldestVersion ? common : 0;
}

struct Packet {
  Head head;
  char target[kMostTarget + 1];  // ends with a NUL
  char facts[kMostFacts + 1];    // the same
  int fds[2];                    // the receiver's to close
  int fd_count;
};

// False: errno says why. EAGAIN: the other side doesn't read, and the socket's patience is over.
inline bool Send(int socket, Kind kind, uint64_t number = 0, const char* target = "",
                 const char* facts = "", const int* fds = nullptr, int fd_count = 0) {
  Head head = {};
  head.kind = kind;
  head.number = number;
  head.target_size = static_cast<uint16_t>(strnlen(target, kMostTarget));
  head.facts_size = static_cast<uint16_t>(strnlen(facts, kMostFacts));
  iovec parts[3] = {{&head, sizeof head},
                    {const_cast<char*>(target), head.target_size},
                    {const_cast<char*>(facts), head.facts_size}};
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = 3;
  if (fd_count > 0) {
    const size_t bytes = static_cast<size_t>(fd_count) * sizeof(int);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(bytes);
    cmsghdr* rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(bytes);
    memcpy(CMSG_DATA(rights), fds, bytes);
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent >= 0;
}

// 1: a packet; 0: the other side has closed; -1: errno says why, EBADMSG that it is no packet of
// ours (one whose descriptors didn't fit into this process is none). `flags` as of recvmsg(2).
inline int Receive(int socket, Packet* packet, int flags = 0) {
  iovec part = {};
  char bytes[sizeof(Head) + kMostTarget + kMostFacts + 1];
  part.iov_base = bytes;
  part.iov_len = sizeof bytes;
  alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))];
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  ssize_t size;
  do {
    size = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  } while (size < 0 && errno == EINTR);
  packet->fd_count = 0;
  if (size <= 0) return static_cast<int>(size);
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    packet->fd_count = static_cast<int>((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(packet->fds, CMSG_DATA(c), static_cast<size_t>(packet->fd_count) * sizeof(int));
  }
  const size_t got = static_cast<size_t>(size);
  bool ours = (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 && got >= sizeof(Head);
  if (ours) {
    memcpy(&packet->head, bytes, sizeof(Head));
    const Head& head = packet->head;
    ours = head.target_size <= kMostTarget && head.facts_size <= kMostFacts &&
           got == sizeof(Head) + head.target_size + head.facts_size;
  }
  if (!ours) {
    for (int i = 0; i < packet->fd_count; ++i) close(packet->fds[i]);
    packet->fd_count = 0;
    errno = EBADMSG;
    return -1;
  }
  memcpy(packet->target, bytes + sizeof(Head), packet->head.target_size);
  packet->target[packet->head.target_size] = 0;
  memcpy(packet->facts, bytes + sizeof(Head) + packet->head.target_size, packet->head.facts_size);
  packet->facts[packet->head.facts_size] = 0;
  return 1;
}

}  // namespace coffer::keeper
