#include "csi/kube_writer.h"

#include <algorithm>

#include "absl/time/clock.h"
#include "common/log.h"
#include "common/strings.h"

namespace coffer::csi {
namespace {

using std::chrono::steady_clock;

constexpr absl::Duration kAttempt = absl::Seconds(10);
constexpr absl::Duration kFirstPause = absl::Milliseconds(200);
constexpr absl::Duration kLongestPause = absl::Minutes(5);

SteadyTime After(absl::Duration pause) {
  return steady_clock::now() + absl::ToChronoNanoseconds(pause);
}

bool IsFinal(const absl::Status& status) {
  return status.ok() || absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status) ||
         absl::IsNotFound(status) || absl::IsOutOfRange(status);
}

}  // namespace

KubeWriter::KubeWriter(Metrics& metrics) : metrics_(metrics), thread_([this] { Run(); }) {}

KubeWriter::~KubeWriter() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

void KubeWriter::Put(std::string key, Job job, std::function<void()> ended) {
  std::lock_guard lock(mutex_);
  Entry& entry = entries_[std::move(key)];
  entry.replaced = entry.running;
  entry.job = std::move(job);
  entry.due = steady_clock::now();
  entry.pause = kFirstPause;
  entry.turn = ++turns_;
  if (ended) entry.ended.push_back(std::move(ended));
  changed_.notify_all();
}

bool KubeWriter::Drain(absl::Time deadline) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, absl::ToChronoNanoseconds(deadline - absl::Now()), [this] {
    return std::all_of(entries_.begin(), entries_.end(), [](const auto& entry) {
      return !entry.second.running && entry.second.pause > kFirstPause;
    });
  });
  return entries_.empty();
}

std::size_t KubeWriter::pending() const {
  std::lock_guard lock(mutex_);
  return entries_.size();
}

std::map<std::string, KubeWriter::Entry>::iterator KubeWriter::Next() {
  return std::min_element(entries_.begin(), entries_.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second.due, a.second.turn) < std::pair(b.second.due, b.second.turn);
  });
}

void KubeWriter::Run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const auto next = Next();
    if (next == entries_.end()) {
      changed_.wait(lock);
      continue;
    }
    if (next->second.due > steady_clock::now()) {
      changed_.wait_until(lock, next->second.due);
      continue;
    }
    next->second.running = true;
    const Job job = std::move(next->second.job);
    lock.unlock();  // entries stay where they are, and only this thread removes any
    const absl::Status status = job(absl::Now() + kAttempt);
    lock.lock();
    if (!next->second.replaced) {
      next->second.job = job;
      if (IsFinal(status)) {
        const std::vector<std::function<void()>> ended = std::exchange(next->second.ended, {});
        lock.unlock();
        for (const auto& tell : ended) tell();
        lock.lock();
      }
    }
    Finish(next, status);
    changed_.notify_all();
  }
}

void KubeWriter::Finish(std::map<std::string, Entry>::iterator entry, const absl::Status& status) {
  const bool final = IsFinal(status);
  metrics_.Add(Counter::kKubernetesWrite,
               {{"result", status.ok() ? "ok" : final ? "refused" : "failed"}});
  if (!status.ok()) {
    const bool first = entry->second.pause == kFirstPause;
    log::Write(final || first ? log::Level::kWarning : log::Level::kDebug,
               final ? "not written to the API server" : "not written to the API server yet",
               {{"object", entry->first}, {"error", status}});
  }
  if (status.ok()) {  // what failed while the API server was away needn't wait any longer
    for (auto& [key, waiting] : entries_) {
      if (waiting.pause > kFirstPause && waiting.pause < kLongestPause) {
        waiting.due = std::min(waiting.due, After(kFirstPause));
      }
    }
  }
  Entry& e = entry->second;
  e.running = false;
  if (std::exchange(e.replaced, false)) return;  // the newer one is due
  if (final) {
    entries_.erase(entry);
    return;
  }
  e.due = After(e.pause);
  e.pause = std::min(e.pause * 2, kLongestPause);
}

}  // namespace coffer::csi
