// KeeperClient: the plugin's side of the dialog with coffer-keeper (keeper/protocol.h). What is to
// be kept is told as it changes; a keeper that restarts is told everything again. Works, keeping
// nothing, where there is no keeper.
//
// One plugin of a node serves, others stand by. Who serves has a lock on the folder of the keeper's
// socket, so that a keeper which has just started, or has lost a connection, makes no second one.
// Only where the keeper has seen the one before die the lock isn't waited for: a dead process holds
// it as long as one of its threads is in the kernel.
//
// A keeper is believed dead when nobody listens at its socket any more. One that is slow is waited
// for, since it may hold everything; and it is never told to drop what this plugin hasn't taken.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/unique_fd.h"
#include "csi/volume/volume.h"

namespace coffer::volume {

class KeeperClient {
 public:
  // What a keeper holds of one volume.
  struct Kept {
    std::string target;
    std::string facts;
    UniqueFd fuse;
    std::map<std::uint64_t, UniqueFd> images;
  };

  explicit KeeperClient(std::string socket);
  ~KeeperClient() { Leave(); }

  // Waits for a keeper, and for the plugin before this one to be gone, and takes what there is; the
  // keeper goes on to hold it. To be called first, once. Unavailable: no keeper within `patience`;
  // FailedPrecondition: one of another version. Then, too, what comes later is kept when one
  // answers. Of a keeper that dies while it gives, what came whole is taken.
  absl::StatusOr<std::vector<Kept>> Take(absl::Duration patience, const StandBy& stand_by);
  absl::StatusOr<std::vector<Kept>> Take(absl::Duration patience) {
    return Take(patience, StandBy());
  }
  // Called on a thread of this object's when nothing of a plugin that was killed runs any more,
  // after Take() has returned: requests that it took in its last moment are to be asked for again.
  void OnGone(std::function<void()> on_gone);
  // Called on such a thread with each volume of a keeper that comes after Take() was in vain, and
  // that this plugin hasn't mounted anew: whether it is taken over now. Not to call this object.
  void OnLate(std::function<bool(Kept)> on_late);

  // What the keeper holds that is no volume, of names that start so. After Take, once: that of a
  // keeper which comes late is left to the next plugin, which does with it what this one would have
  // done.
  std::vector<Kept> TakeOthers(std::string_view prefix);
  // Whether the plugin before this one was killed, as far as the keeper knows. After Take.
  bool after_kill() const { return after_kill_; }

  // Descriptors stay the caller's, and open until they are removed, dropped, or Leave().
  void Put(const std::string& target, const std::string& facts, int fuse, std::uint64_t number,
           int image);
  // What is no volume, under a name that is no path: memory alone.
  void PutOther(const std::string& name, int memory) {
    Put(name, "", nothing_.get(), 1, memory);
  }
  void Add(const std::string& target, std::uint64_t number, int image);
  void Remove(const std::string& target, std::uint64_t number);
  void Drop(const std::string& target);
  // Whether a keeper holds what it was told at the moment.
  bool connected() {
    std::lock_guard lock(mutex_);
    return static_cast<bool>(connection_);
  }
  // The keeper goes on to hold everything; nothing is told from here on.
  void Leave();

 private:
  struct Volume {
    std::string facts;
    int fuse;
    std::map<std::uint64_t, int> images;
  };

  using Holdings = std::map<std::string, Kept>;  // by target

  enum class Answer { kWelcome, kAfterKill, kStandBy, kBusy };
  // A connection over which hello is said. Without the lock, as all that may take its time.
  absl::StatusOr<UniqueFd> Greet(bool serves) const;
  absl::StatusOr<Answer> AwaitWelcome(int connection, int stop_fd, int ms) const;
  // Both, for as long as somebody listens at the socket; `begin`: called where that takes long.
  absl::StatusOr<Answer> Connect(const StandBy& stand_by, bool serves,
                                 const std::function<void()>& begin);
  absl::Status AwaitTurn(absl::Duration patience, const StandBy& stand_by, Holdings* kept);
  // Adds what the keeper holds to `kept`, or puts it in the place of what is there; also where it
  // breaks off, what came whole.
  absl::Status Ask(int connection, int stop_fd, Holdings* kept) const;
  // Whether this plugin has the lock, or nobody can have it.
  bool LockTurn();
  // False: the connection has ended. `gone`: the keeper has said so.
  bool Listen(bool* gone);
  // Does `send` over the connection, if there is one; ends it if that fails.
  template <class Send>
  void Tell(const Send& send);
  // These are false where the connection fails. `kept`: what the keeper holds, of which nothing is
  // told that it knows: whoever is killed in the middle leaves it no less than there was.
  bool Reconcile(Holdings kept);
  bool TellAll(const Holdings& kept) const;
  bool Tell(const std::string& target, const Volume& volume, const Kept& kept) const;
  void Hold(const Kept& kept);
  void Reconnect(std::unique_lock<std::mutex>& lock, UniqueFd* greeted);
  void ReconnectLoop();

  const std::string socket_;
  std::mutex mutex_;
  std::condition_variable wake_;
  UniqueFd connection_;  // none: no keeper at the moment
  UniqueFd lock_;
  const UniqueFd stop_;  // eventfd
  const UniqueFd nothing_;  // stands where a volume has its /dev/fuse
  std::function<void()> on_gone_ = [] {};
  std::function<bool(Kept)> on_late_ = [](Kept) { return false; };
  std::map<std::string, Volume> volumes_;
  std::vector<Kept> others_;  // until TakeOthers, or the end
  bool taken_ = false, left_ = false;
  std::atomic<bool> after_kill_ = false;
  bool knows_all_ = false;  // that a keeper could hold: once one has given everything
  int thread_id_ = 0;  // thread_'s; 0: not yet
  std::thread thread_;
};

}  // namespace coffer::volume
