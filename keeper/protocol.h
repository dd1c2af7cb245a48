// What the plugin and the keeper say to each other, over a Unix socket of type SOCK_SEQPACKET, with
// descriptors beside it by SCM_RIGHTS. Nothing but libc is needed to read this.
//
//   packet   := message, in an answer to "take" since version 4 message+
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
//     clear (until version 2)                                (these six have no answer: what was
//     put     target facts number=image's  fuse image         sent is kept, also if the sender
//     add     target number=image's  image                    dies before it is read)
//     remove  target number=image's
//     drop    target
//     threads [folder]
//     take                                                   (volume image*)* end
//                                                             gone     at any time after welcome
//   anyone of root → keeper
//     look                                                   volume* end
//
//   volume := target facts number=its images  [fuse]
//   image  := target number=image's  image
//   end    := number=process id of the plugin (0: none) facts=how many stand by
//
// "serves", since version 3: the plugin serves the volumes already. It alone is welcomed by a
// keeper that has just taken the place of another one, and which can't know who was that one's.
//
// threads, since version 5: the plugin's /proc/self/task. Of a plugin that was killed the keeper
// frees the threads that wait for a file system; without the folder all whose call has met a
// signal.
//
// killed: 1 where the keeper has seen the plugin before this one die. It may have threads that are
// on their way out of the kernel still; "gone" says that they are, too: what they took in their
// last moment can be asked for again. With 0 it may even live on, having lost its connection: a
// lock tells (csi/volume/keeper_client.h).
//
// Descriptors stand behind the fields; those of a packet come in the order of its messages. The
// pidfd is of a thread of the plugin (PIDFD_THREAD) that waits for no file system: it tells of a
// kill that another one, which does, can't follow yet. Numbers are in the machine's byte order.
#pragma once

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

namespace coffer::keeper {

inline constexpr uint32_t kOldestVersion = 1;
inline constexpr uint32_t kNewestVersion = 5;
inline constexpr uint32_t kMostTarget = 4095;
inline constexpr uint32_t kMostFacts = 1024;
inline constexpr size_t kMostBytes = 16 * 1024;  // of a packet
inline constexpr int kMostFds = 250;             // the kernel takes 253
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
  kThreads,
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

// A packet with several messages.
struct Batch {
  size_t size;
  int fd_count;
  int fds[kMostFds];
  char bytes[kMostBytes];
};

inline Head HeadOf(Kind kind, uint64_t number, const char* target, const char* facts) {
  Head head = {};
  head.kind = kind;
  head.number = number;
  head.target_size = static_cast<uint16_t>(strnlen(target, kMostTarget));
  head.facts_size = static_cast<uint16_t>(strnlen(facts, kMostFacts));
  return head;
}

// False: errno says why. EAGAIN: the other side doesn't read, and the socket's patience is over.
inline bool SendParts(int socket, iovec* parts, size_t part_count, const int* fds, int fd_count) {
  alignas(cmsghdr) char control[CMSG_SPACE(kMostFds * sizeof(int))];
  msghdr message = {};
  message.msg_iov = parts;
  message.msg_iovlen = part_count;
  if (fd_count > 0) {
    const size_t bytes = static_cast<size_t>(fd_count) * sizeof(int);
    memset(control, 0, CMSG_SPACE(bytes));
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

inline bool Send(int socket, Kind kind, uint64_t number = 0, const char* target = "",
                 const char* facts = "", const int* fds = nullptr, int fd_count = 0) {
  Head head = HeadOf(kind, number, target, facts);
  iovec parts[3] = {{&head, sizeof head},
                    {const_cast<char*>(target), head.target_size},
                    {const_cast<char*>(facts), head.facts_size}};
  return SendParts(socket, parts, 3, fds, fd_count);
}

inline bool Send(int socket, Batch& batch) {
  iovec part = {batch.bytes, batch.size};
  return SendParts(socket, &part, 1, batch.fds, batch.fd_count);
}

// Appends a message. False: there is no room for it.
inline bool Append(Batch* batch, Kind kind, uint64_t number, const char* target, const char* facts,
                   const int* fds, int fd_count) {
  const Head head = HeadOf(kind, number, target, facts);
  const size_t size = sizeof head + head.target_size + head.facts_size;
  if (size > sizeof batch->bytes - batch->size || fd_count > kMostFds - batch->fd_count) return false;
  char* const at = batch->bytes + batch->size;
  memcpy(at, &head, sizeof head);
  memcpy(at + sizeof head, target, head.target_size);
  memcpy(at + sizeof head + head.target_size, facts, head.facts_size);
  batch->size += size;
  for (int i = 0; i < fd_count; ++i) batch->fds[batch->fd_count++] = fds[i];
  return true;
}

// How many bytes the first message takes; its descriptors are not looked at. 0: it is none of ours.
inline size_t ReadMessage(const char* bytes, size_t size, Packet* packet) {
  Head& head = packet->head;
  if (size < sizeof head) return 0;
  memcpy(&head, bytes, sizeof head);
  const size_t whole = sizeof head + head.target_size + head.facts_size;
  if (head.target_size > kMostTarget || head.facts_size > kMostFacts || whole > size) return 0;
  memcpy(packet->target, bytes + sizeof head, head.target_size);
  packet->target[head.target_size] = 0;
  memcpy(packet->facts, bytes + sizeof head + head.target_size, head.facts_size);
  packet->facts[head.facts_size] = 0;
  return whole;
}

// The same results as those of Receive. `size`, `fd_count`: the room there is, and then what came.
inline int ReceiveParts(int socket, char* bytes, size_t* size, int* fds, int* fd_count, int flags) {
  iovec part = {bytes, *size};
  alignas(cmsghdr) char control[CMSG_SPACE(kMostFds * sizeof(int))];
  msghdr message = {};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = CMSG_SPACE(static_cast<size_t>(*fd_count) * sizeof(int));
  ssize_t got;
  do {
    got = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  const int most = *fd_count;
  *fd_count = 0;
  if (got <= 0) return static_cast<int>(got);
  *size = static_cast<size_t>(got);
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) continue;
    const int count = static_cast<int>((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(c) + static_cast<size_t>(i) * sizeof(int), sizeof fd);
      if (*fd_count < most) {
        fds[(*fd_count)++] = fd;
      } else {
        close(fd);
      }
    }
  }
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0) return 1;
  for (int i = 0; i < *fd_count; ++i) close(fds[i]);
  *fd_count = 0;
  errno = (message.msg_flags & MSG_TRUNC) != 0 ? EBADMSG : EMFILE;
  return -1;
}

// 1: a packet, without its descriptors where those don't fit into this process; 0: the other side
// has closed; -1: errno says why, EBADMSG that it is no packet of ours. `flags` as of recvmsg(2).
inline int Receive(int socket, Packet* packet, int flags = 0) {
  char bytes[sizeof(Head) + kMostTarget + kMostFacts + 1];
  size_t size = sizeof bytes;
  packet->fd_count = 2;
  int got = ReceiveParts(socket, bytes, &size, packet->fds, &packet->fd_count, flags);
  if (got < 0 && errno == EMFILE) got = 1;
  if (got <= 0 || ReadMessage(bytes, size, packet) == size) return got;
  for (int i = 0; i < packet->fd_count; ++i) close(packet->fds[i]);
  packet->fd_count = 0;
  errno = EBADMSG;
  return -1;
}

// The same, but EMFILE where descriptors don't fit; the messages are still to be read.
inline int Receive(int socket, Batch* batch, int flags = 0) {
  batch->size = sizeof batch->bytes;
  batch->fd_count = kMostFds;
  return ReceiveParts(socket, batch->bytes, &batch->size, batch->fds, &batch->fd_count, flags);
}

}  // namespace coffer::keeper
