// SecretProviderClasses from the API server: asked for once each, then kept up to date by a watch.
// Only what was asked for is kept, so that a node's memory follows its own pods, not the cluster.
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "common/json_members.h"
#include "common/log.h"
#include "common/status_macros.h"
#include "common/status_prefix.h"
#include "common/strings.h"
#include "csi/class_source.h"
#include "csi/kube_client.h"
#include "provider/class_document.h"

namespace coffer::csi {
namespace {

constexpr char kGroup[] = "/apis/secrets-store.csi.x-k8s.io/v1";
constexpr absl::Duration kFirstPause = absl::Milliseconds(200);
constexpr absl::Duration kLongestPause = absl::Minutes(1);
// Each volume's class is asked for every five minutes, be it for its Secrets alone.
constexpr std::chrono::hours kLongestUnused{1};

std::string_view MetadataOf(const Json& object, std::string_view name) {
  return TextAt(At(object, "metadata"), name);
}

// Whether `a` is a later version than `b`. Versions are numbers since Kubernetes has had them,
// though they needn't be: then the last word counts.
bool IsLater(std::string_view a, std::string_view b) {
  std::uint64_t x = 0, y = 0;
  if (!absl::SimpleAtoi(ToAbsl(a), &x) || !absl::SimpleAtoi(ToAbsl(b), &y)) return true;
  return x > y;
}

class ClusterClassSource : public ClassSource {
 public:
  ClusterClassSource(KubeClient& client, SteadyNow now)
      : client_(client), now_(std::move(now)), thread_([this] { Run(); }) {}
  ~ClusterClassSource() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      wake_.notify_all();
    }
    thread_.join();
  }

  absl::StatusOr<ClassObject> Get(std::string_view kubernetes_namespace, std::string_view name,
                                  absl::Time deadline) override {
    const std::string key = StrCat(kubernetes_namespace, "/", name);
    {
      std::lock_guard lock(mutex_);
      Entry& entry = entries_[key];
      entry.asked = now_();
      // While the watch stands, what is here is what is there. While the API server can't be
      // reached, it is the best there is.
      if (entry.read && ((watching_ && entry.current) || unreachable_)) return *entry.read;
      ++entry.waiting;
    }
    absl::StatusOr<Json> object =
        client_.Get(StrCat(kGroup, "/namespaces/", EncodeUrlPath(kubernetes_namespace),
                           "/secretproviderclasses/", EncodeUrlPath(name)),
                    deadline);
    std::lock_guard lock(mutex_);
    const auto found = entries_.find(key);
    Entry& entry = found->second;
    --entry.waiting;
    if (object.ok()) {
      seen_ = true;
      Take(*object, &entry);
      return *entry.read;
    }
    if (absl::IsNotFound(object.status())) {
      seen_ = true;
      entry.read.reset();
    }
    const std::optional<absl::StatusOr<ClassObject>> kept = entry.read;
    if (!entry.read && entry.waiting == 0) entries_.erase(found);
    if (kept && (absl::IsUnavailable(object.status()) ||
                 absl::IsDeadlineExceeded(object.status()))) {
      return *kept;
    }
    return Prefixed(StrCat("SecretProviderClass ", key), object.status());
  }

  absl::Status Ready() override {
    std::lock_guard lock(mutex_);
    if (seen_) return absl::OkStatus();
    return absl::UnavailableError(
        StrCat("SecretProviderClasses can't be read yet: ",
               last_error_.ok() ? "the API server is being asked" : Message(last_error_)));
  }

 private:
  struct Entry {
    std::optional<absl::StatusOr<ClassObject>> read;
    std::string version;   // resourceVersion
    bool current = false;  // no change was missed since
    SteadyTime asked;      // the last Get
    int waiting = 0;       // Gets under way, which a change mustn't be lost for
  };

  void Take(const Json& object, Entry* entry) {
    const std::string version(MetadataOf(object, "resourceVersion"));
    if (entry->read && entry->current && !IsLater(version, entry->version)) return;
    entry->read = ReadClassObject(object);
    entry->version = version;
    entry->current = true;
  }

  // One event; null: the watch stands.
  bool OnEvent(const Json& event, std::string* version) {
    std::lock_guard lock(mutex_);
    if (stopping_) return false;
    watching_ = seen_ = true;
    last_error_ = absl::OkStatus();
    if (event.is_null()) return true;
    const Json& object = event["object"];
    *version = MetadataOf(object, "resourceVersion");
    const auto entry = entries_.find(
        StrCat(MetadataOf(object, "namespace"), "/", MetadataOf(object, "name")));
    if (entry == entries_.end()) return true;
    if (event.value("type", SecretString()) == "DELETED") {
      entry->second.read.reset();
      if (entry->second.waiting == 0) entries_.erase(entry);
    } else {
      Take(object, &entry->second);
    }
    return true;
  }

  void DropUnused() {
    std::erase_if(entries_, [before = now_() - kLongestUnused](const auto& entry) {
      return entry.second.waiting == 0 && entry.second.asked < before;
    });
  }

  // Follows the classes from `version` on; "" where that isn't known.
  absl::Status Follow(std::string* version) {
    if (version->empty()) {
      // A list of one is enough to learn where to begin. What changed meanwhile is asked for anew.
      ASSIGN_OR_RETURN(const Json list, client_.Get(StrCat(kGroup, "/secretproviderclasses?limit=1"),
                                                    absl::Now() + absl::Seconds(30)));
      *version = MetadataOf(list, "resourceVersion");
      std::lock_guard lock(mutex_);
      for (auto& [key, entry] : entries_) entry.current = false;
    }
    // Not all nodes at the same time.
    const int seconds = static_cast<int>(450 * Jitter());
    return client_.Watch(
        StrCat(kGroup, "/secretproviderclasses?watch=true&allowWatchBookmarks=true&timeoutSeconds=",
               seconds, "&resourceVersion=", EncodeUrlQuery(*version)),
        [this, version](const Json& event) { return OnEvent(event, version); });
  }

  double Jitter() { return std::uniform_real_distribution(0.5, 1.5)(random_); }

  void Run() {
    std::string version;
    absl::Duration pause = kFirstPause;
    for (;;) {
      const absl::Time start = absl::Now();
      const absl::Status ended = Follow(&version);
      std::unique_lock lock(mutex_);
      watching_ = false;
      unreachable_ = absl::IsUnavailable(ended) || absl::IsDeadlineExceeded(ended);
      if (stopping_) return;
      seen_ |= absl::IsPermissionDenied(ended);  // each Get asks then
      if (!unreachable_) DropUnused();
      if (absl::IsOutOfRange(ended)) version.clear();  // 410: too old, begin anew
      if (!ended.ok() && !absl::IsOutOfRange(ended)) {
        if (ended.code() != last_error_.code()) {
          log::Warning("SecretProviderClasses aren't watched; each publish asks for its own",
                       {{"error", ended}});
        }
        last_error_ = ended;
      }
      if (ended.ok() || absl::Now() - start > kLongestPause) pause = kFirstPause;
      const absl::Duration jittered = pause * Jitter();
      pause = std::min(pause * 2, kLongestPause);
      if (wake_.wait_for(lock, absl::ToChronoNanoseconds(jittered), [this] { return stopping_; })) {
        return;
      }
    }
  }

  KubeClient& client_;
  const SteadyNow now_;
  std::minstd_rand random_{std::random_device()()};  // the thread's
  std::mutex mutex_;
  std::condition_variable wake_;
  std::map<std::string, Entry> entries_;  // by namespace/name
  bool watching_ = false;
  bool unreachable_ = false;
  bool seen_ = false;  // the API server answered for classes once
  bool stopping_ = false;
  absl::Status last_error_;
  std::thread thread_;
};

}  // namespace

absl::StatusOr<ClassObject> ReadClassObject(const Json& object) {
  ASSIGN_OR_RETURN(provider::SecretProviderClass read, provider::ReadClass(object));
  absl::StatusOr<std::vector<SecretObject>> secrets = ReadSecretObjects(object);
  if (secrets.ok()) return ClassObject{std::move(read), *std::move(secrets)};
  return absl::InvalidArgumentError(StrCat("SecretProviderClass ", read.kubernetes_namespace, "/",
                                           read.name, ": ", Message(secrets.status())));
}

std::unique_ptr<ClassSource> MakeClusterClassSource(KubeClient& client, SteadyNow now) {
  return std::make_unique<ClusterClassSource>(client, std::move(now));
}

}  // namespace coffer::csi
