// Table: the keeper's volumes and the descriptors that belong to each.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "keeper/protocol.h"

namespace coffer::keeper {

// The memory of one version of a volume's content.
struct Image {
  Image* next;
  uint64_t number;
  int fd;
  void* locked;  // null: memfd_secret, which stays where it is by itself
  size_t size;
};

struct Volume {
  Volume* next;  // the one that came before
  Volume* previous;
  Volume* same_hash;
  Image* images;
  uint64_t serial;  // the later it came, the greater
  int fuse;
  uint16_t target_size;
  char text[1];  // target NUL facts NUL

  const char* target() const { return text; }
  const char* facts() const { return text + target_size + 1; }
  uint64_t image_count() const {
    uint64_t count = 0;
    for (const Image* image = images; image != nullptr; image = image->next) ++count;
    return count;
  }
};

class Table {
 public:
  Volume* first() const { return first_; }  // the one that came last

  // These take descriptors out of the packet (leaving -1). False: there is no memory, or no such
  // volume. A volume that is put again replaces the one before.
  bool Put(Packet& packet) {
    Drop(packet.target);
    const size_t text = packet.head.target_size + 1u + packet.head.facts_size + 1u;
    auto* volume = static_cast<Volume*>(calloc(1, sizeof(Volume) + text));
    if (volume == nullptr) return false;
    volume->target_size = packet.head.target_size;
    memcpy(volume->text, packet.target, packet.head.target_size + 1u);
    memcpy(volume->text + packet.head.target_size + 1, packet.facts, packet.head.facts_size + 1u);
    volume->fuse = packet.fds[0];
    packet.fds[0] = -1;
    volume->serial = ++serials_;
    volume->next = first_;
    if (first_ != nullptr) first_->previous = volume;
    first_ = volume;
    *Find(packet.target) = volume;
    return AddTo(*volume, packet.head.number, &packet.fds[1]);
  }

  bool Add(Packet& packet) {
    Volume** at = Find(packet.target);
    return *at != nullptr && AddTo(**at, packet.head.number, &packet.fds[0]);
  }

  void Remove(const char* target, uint64_t number) {
    Volume** at = Find(target);
    if (*at == nullptr) return;
    for (Image** image = &(*at)->images; *image != nullptr; image = &(*image)->next) {
      if ((*image)->number != number) continue;
      Image* gone = *image;
      *image = gone->next;
      Free(gone);
      return;
    }
  }

  void Drop(const char* target) {
    Volume** at = Find(target);
    if (*at == nullptr) return;
    Volume* gone = *at;
    *at = gone->same_hash;
    (gone->previous != nullptr ? gone->previous->next : first_) = gone->next;
    if (gone->next != nullptr) gone->next->previous = gone->previous;
    close(gone->fuse);
    while (gone->images != nullptr) {
      Image* image = gone->images;
      gone->images = image->next;
      Free(image);
    }
    free(gone);
  }

  void Clear() {
    while (first_ != nullptr) Drop(first_->target());
  }

 private:
  static constexpr uint32_t kHashes = 4096;

  // Where it is, or would be, in the list of those with the same hash.
  Volume** Find(const char* target) {
    uint32_t hash = 2166136261;  // FNV-1a
    for (const char* at = target; *at != 0; ++at) hash = (hash ^ static_cast<uint8_t>(*at)) * 16777619;
    Volume** at = &by_hash_[hash % kHashes];
    while (*at != nullptr && strcmp((*at)->target(), target) != 0) at = &(*at)->same_hash;
    return at;
  }

  static bool AddTo(Volume& volume, uint64_t number, int* fd) {
    auto* image = static_cast<Image*>(calloc(1, sizeof(Image)));
    if (image == nullptr) return false;
    image->number = number;
    image->fd = *fd;
    *fd = -1;
    image->next = volume.images;
    volume.images = image;
    // A plain memfd is kept from being swapped out by who has it locked: that must not end with
    // the plugin.
    struct stat facts = {};
    if (fcntl(image->fd, F_GET_SEALS) < 0 || fstat(image->fd, &facts) != 0) return true;
    image->size = static_cast<size_t>(facts.st_size);
    void* pages = mmap(nullptr, image->size, PROT_READ, MAP_SHARED, image->fd, 0);
    if (pages == MAP_FAILED) return false;
    madvise(pages, image->size, MADV_DONTDUMP);
    image->locked = pages;
    return mlock(pages, image->size) == 0;
  }

  static void Free(Image* image) {
    if (image->locked != nullptr) munmap(image->locked, image->size);
    close(image->fd);
    free(image);
  }

  Volume* first_ = nullptr;
  Volume* by_hash_[kHashes] = {};
  uint64_t serials_ = 0;
};

}  // namespace coffer::keeper
