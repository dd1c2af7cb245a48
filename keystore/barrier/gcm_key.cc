#include "keystore/barrier/gcm_key.h"

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "common/random.h"

namespace coffer::keystore {
namespace {

const std::uint8_t* Bytes(std::string_view text) {
  return reinterpret_cast<const std::uint8_t*>(text.data());
}

// Nonces are drawn from the generator many at a time: a call costs more than an encryption. A child
// process never goes on with its parent's.
std::atomic<std::uint64_t> forks{0};
const int fork_watch = pthread_atfork(nullptr, nullptr, [] { ++forks; });

void DrawNonce(std::uint8_t* nonce) {
  struct Drawn {
    std::array<std::uint8_t, 64 * GcmKey::kNonceSize> bytes;
    std::size_t used = sizeof(bytes);
    std::uint64_t fork = 0;
  };
  thread_local Drawn drawn;
  if (drawn.used == sizeof(drawn.bytes) || drawn.fork != forks) {
    if (fork_watch != 0) std::abort();
    FillRandom(drawn.bytes);
    drawn.used = 0;
    drawn.fork = forks;
  }
  std::memcpy(nonce, drawn.bytes.data() + drawn.used, GcmKey::kNonceSize);
  drawn.used += GcmKey::kNonceSize;
}

// For what fails only where memory or the library is broken.
void Must(bool done) {
  if (!done) std::abort();
}

}  // namespace

GcmKey::GcmKey(SecretBytes key) : key_(std::move(key)) { Must(key_.size() == kKeySize); }

EVP_CIPHER_CTX* GcmKey::NewContext() const {
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  Must(context != nullptr &&
       EVP_CipherInit_ex(context, EVP_aes_256_gcm(), nullptr, key_.data(), nullptr, 1) == 1);
  return context;
}

void GcmKey::Seal(std::string_view associated, std::string_view plaintext, std::string* out) const {
  const std::size_t start = out->size();
  out->resize(start + kOverhead + plaintext.size());
  auto* nonce = reinterpret_cast<std::uint8_t*>(out->data()) + start;
  std::uint8_t* ciphertext = nonce + kNonceSize;
  std::uint8_t* tag = ciphertext + plaintext.size();
  DrawNonce(nonce);
  Contexts::Lease lease(contexts_, [this] { return NewContext(); });
  int size = 0;
  Must(EVP_CipherInit_ex(lease.get(), nullptr, nullptr, nullptr, nonce, 1) == 1 &&
       EVP_CipherUpdate(lease.get(), nullptr, &size, Bytes(associated),
                        static_cast<int>(associated.size())) == 1 &&
       EVP_CipherUpdate(lease.get(), ciphertext, &size, Bytes(plaintext),
                        static_cast<int>(plaintext.size())) == 1 &&
       EVP_CipherFinal_ex(lease.get(), tag, &size) == 1 &&
       EVP_CIPHER_CTX_ctrl(lease.get(), EVP_CTRL_GCM_GET_TAG, kTagSize, tag) == 1);
}

absl::StatusOr<SecretBytes> GcmKey::Open(std::string_view associated,
                                         std::string_view sealed) const {
  if (sealed.size() < kOverhead || sealed.size() > kOverhead + kMaxPlaintext) {
    return absl::DataLossError("a stored entry has a wrong size");
  }
  const std::uint8_t* nonce = Bytes(sealed);
  const std::uint8_t* ciphertext = nonce + kNonceSize;
  SecretBytes plaintext(sealed.size() - kOverhead);
  std::uint8_t tag[kTagSize];
  sealed.copy(reinterpret_cast<char*>(tag), kTagSize, sealed.size() - kTagSize);
  std::uint8_t nothing;
  Contexts::Lease lease(contexts_, [this] { return NewContext(); });
  int size = 0;
  Must(EVP_CipherInit_ex(lease.get(), nullptr, nullptr, nullptr, nonce, 0) == 1 &&
       EVP_CipherUpdate(lease.get(), nullptr, &size, Bytes(associated),
                        static_cast<int>(associated.size())) == 1 &&
       EVP_CipherUpdate(lease.get(), plaintext.empty() ? &nothing : plaintext.data(), &size,
                        ciphertext, static_cast<int>(plaintext.size())) == 1 &&
       EVP_CIPHER_CTX_ctrl(lease.get(), EVP_CTRL_GCM_SET_TAG, kTagSize, tag) == 1);
  if (EVP_CipherFinal_ex(lease.get(), &nothing, &size) != 1) {
    return absl::DataLossError("a stored entry was changed outside of the keystore");
  }
  return plaintext;
}

}  // namespace coffer::keystore
