// ContextPool: OpenSSL contexts that are set up for a key: as many as threads have used at once.
// They are kept with the key, not with the thread, so that they are wiped with it.
#pragma once

#include <mutex>
#include <vector>

namespace coffer::keystore {

template <class Context, void (*kFree)(Context*)>
class ContextPool {
 public:
  ContextPool() = default;
  ~ContextPool() {
    for (Context* context : idle_) kFree(context);
  }
  ContextPool(const ContextPool&) = delete;
  ContextPool& operator=(const ContextPool&) = delete;

  // A context for one use.
  class Lease {
   public:
    // `make()` sets one up where none is idle.
    template <class Make>
    Lease(ContextPool& pool, Make make) : pool_(pool), context_(pool.Take()) {
      if (context_ == nullptr) context_ = make();
    }
    ~Lease() { pool_.Give(context_); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Context* get() { return context_; }

   private:
    ContextPool& pool_;
    Context* context_;
  };

 private:
  Context* Take() {
    std::lock_guard lock(mutex_);
    if (idle_.empty()) return nullptr;
    Context* context = idle_.back();
    idle_.pop_back();
    return context;
  }
  void Give(Context* context) {
    std::lock_guard lock(mutex_);
    idle_.push_back(context);
  }

  std::mutex mutex_;
  std::vector<Context*> idle_;
};

}  // namespace coffer::keystore
