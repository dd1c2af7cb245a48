#include "common/random.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "common/strings.h"

namespace coffer {
namespace {

void Draw(std::span<std::uint8_t> bytes) {
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) std::abort();
}

// Random bytes that a thread drew ahead, since each draw costs a system call and several locks: a
// page that is locked, left out of core dumps and, since a child must not draw the same, wiped by
// the kernel in a fork. Bytes are wiped as they are handed out.
class DrawnBytes {
 public:
  static constexpr std::size_t kLargest = 64;  // longer draws are worth their cost

  DrawnBytes() {
    void* page = mmap(nullptr, sizeof(Page), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
    if (page == MAP_FAILED) return;
    if (madvise(page, sizeof(Page), MADV_WIPEONFORK) != 0) {
      munmap(page, sizeof(Page));
      return;
    }
    madvise(page, sizeof(Page), MADV_DONTDUMP);
    mlock(page, sizeof(Page));
    page_ = static_cast<Page*>(page);
  }
  ~DrawnBytes() {
    if (page_ == nullptr) return;
    OPENSSL_cleanse(page_, sizeof(Page));
    munmap(std::exchange(page_, nullptr), sizeof(Page));
  }

  void Take(std::span<std::uint8_t> bytes) {
    if (page_ == nullptr || bytes.size() > kLargest) return Draw(bytes);
    if (page_->left < bytes.size()) {
      Draw(page_->bytes);
      page_->left = page_->bytes.size();
    }
    page_->left -= bytes.size();
    std::uint8_t* drawn = page_->bytes.data() + page_->left;
    std::copy_n(drawn, bytes.size(), bytes.data());
    OPENSSL_cleanse(drawn, bytes.size());
  }

 private:
  struct Page {
    std::size_t left;
    std::array<std::uint8_t, 4096 - sizeof(left)> bytes;
  };
  Page* page_ = nullptr;
};

}  // namespace

void FillRandom(std::span<std::uint8_t> bytes) {
  static thread_local DrawnBytes drawn;
  drawn.Take(bytes);
}

SecretBytes RandomSecret(std::size_t size) {
  SecretBytes secret(size);
  FillRandom(secret.span());
  return secret;
}

std::string RandomUuid() {
  std::array<std::uint8_t, 16> bytes;
  FillRandom(bytes);
  bytes[6] = static_cast<std::uint8_t>((bytes[6] & 0x0f) | 0x40);
  bytes[8] = static_cast<std::uint8_t>((bytes[8] & 0x3f) | 0x80);
  const SecretBytes digits = EncodeHex(bytes);
  const std::string_view hex = digits.view();
  return StrCat(hex.substr(0, 8), "-", hex.substr(8, 4), "-", hex.substr(12, 4), "-",
                      hex.substr(16, 4), "-", hex.substr(20));
}

SecretBytes RandomBase62(std::size_t length) {
  static constexpr char kAlphabet[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
  SecretBytes text;
  text.Reserve(length);
  while (text.size() < length) {
    SecretBytes drawn = RandomSecret(length);
    for (const std::uint8_t byte : drawn.span()) {
      // 248 = 4 * 62: a larger byte would favour the first characters.
      if (byte < 248 && text.size() < length) {
        text.Append(std::string_view(&kAlphabet[byte % 62], 1));
      }
    }
  }
  return text;
}

}  // namespace coffer
