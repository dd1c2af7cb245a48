// Ceremony: one call of a ceremony of the seal at a time. Sealing doesn't wait for one that waits
// for the disk (it may be the store's own thread that seals): it marks what is to be forgotten, and
// whoever has the ceremonies then forgets it.
#pragma once

#include <mutex>

#include "keystore/barrier/shamir_seal.h"

namespace coffer::keystore {

class ShamirSeal::Ceremony {
 public:
  explicit Ceremony(ShamirSeal& seal) : seal_(seal) {
    seal_.ceremony_mutex_.lock();
    ForgetStale(seal_);
  }
  ~Ceremony() {
    seal_.ceremony_mutex_.unlock();
    Sealed(seal_, /*now=*/false);
  }
  Ceremony(const Ceremony&) = delete;
  Ceremony& operator=(const Ceremony&) = delete;

  // `now`: the barrier was sealed.
  static void Sealed(ShamirSeal& seal, bool now = true) {
    if (now) seal.stale_ = true;
    while (seal.stale_ && seal.ceremony_mutex_.try_lock()) {
      ForgetStale(seal);
      seal.ceremony_mutex_.unlock();
    }
  }

 private:
  static void ForgetStale(ShamirSeal& seal) {
    if (!seal.stale_.exchange(false)) return;
    seal.rekey_.reset();
    seal.generate_root_.reset();
  }

  ShamirSeal& seal_;
};

}  // namespace coffer::keystore
