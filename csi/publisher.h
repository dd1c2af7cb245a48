// Publisher: what NodePublishVolume and NodeUnpublishVolume mean, without gRPC. A volume is its
// target path; one call at a time works on it.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/clock.h"
#include "csi/class_source.h"
#include "csi/handover.h"
#include "csi/pod_tokens.h"
#include "csi/token_revoker.h"
#include "csi/vendor_providers.h"
#include "csi/volume/volume.h"
#include "csi/volume_context.h"
#include "csi/volume_observer.h"
#include "provider/provider.h"

namespace coffer::csi {

class Publisher {
 public:
  // What a publisher can do without.
  struct Options {
    std::vector<VolumeObserver*> observers;
    PodTokens* tokens = nullptr;        // asked where the kubelet sent no token
    VendorProviders* vendors = nullptr;  // asked for the classes of other providers
    RotationRule rotation = {};          // where a class is silent
    Handover* handover = nullptr;        // told all that the next plugin must know
  };
  // Who asks for a publish. The kubelet asks again and again, and is answered OK without a fetch
  // where the volume's rotation says that it is too early; a person means it, and leaves the fsGroup
  // as it is where none is named.
  enum class Caller { kKubelet, kPerson };

  // All are kept by the caller. `root`: the kubelet's folder, which targets lie below.
  Publisher(const Clock& clock, ClassSource& classes, provider::Provider& provider,
            volume::VolumeServer& volumes, TokenRevoker& revoker, std::string root,
            Options options);

  // Class, login, fetch, mount. Where the volume is published already, its contents are replaced
  // by what the keystore holds now; if that fails they stay, and the error says why. Nothing is
  // mounted, and no folder and no token is left, unless OK.
  // Aborted: another call works on the volume; AlreadyExists: the target holds another volume;
  // otherwise the codes of ClassSource::Get and Provider::Fetch. `context` gets the token that the
  // kubelet didn't send.
  absl::Status Publish(const std::string& volume_id, const std::string& target,
                       VolumeContext& context, absl::Time deadline,
                       Caller caller = Caller::kKubelet);

  // Replaces the contents of a published volume, as the kubelet last said and with the tokens that
  // it last sent, if its class is to be rotated at all. As Publish; OK where no volume is.
  absl::Status Refetch(const std::string& target, absl::Time deadline);

  // Unmounts, removes the folder, has the token revoked. OK where nothing is.
  absl::Status Unpublish(const std::string& volume_id, const std::string& target);

  // Detaches the mounts that a plugin before this one left behind and nobody serves any longer, so
  // that the next publish makes them anew. Called once at start.
  void DetachDeadMounts();

  // Goes on with what the plugin before this one knew of its volumes, and has the tokens of those
  // that are gone revoked. Called once at start, after the volumes themselves were taken over.
  void TakeOver();

  // Has the tokens of all volumes revoked: a plugin that stops can't use them again.
  void ForgetTokens();

  // Unavailable: no volume could be published, and why.
  absl::Status Ready() const;

 private:
  struct Entry {
    bool busy = false;  // under mutex_, as is the next one; the rest is the busy call's
    bool refetching = false;  // busy with a Refetch
    VolumeState state;
    Handover::Id document = 0;  // that keeps the state
  };

  // A volume's entry, held for one call.
  class Hold {
   public:
    Hold(Publisher& publisher, const std::string& target, Entry* entry)
        : publisher_(publisher), target_(target), entry_(entry) {}
    ~Hold();
    Hold(const Hold&) = delete;
    VolumeState* operator->() const { return &entry_->state; }
    // Whether the entry goes, and its token is revoked, when this ends.
    void Drop() { drop_ = true; }
    void Keep() { drop_ = false; }

   private:
    Publisher& publisher_;
    const std::string& target_;
    Entry* entry_;
    bool drop_ = false;
  };

  // Makes the entry busy. Aborted: it is. Null where that is by a Refetch, of which a republish by
  // the kubelet wants no more.
  absl::StatusOr<Entry*> Enter(const std::string& volume_id, const std::string& target,
                               Caller caller = Caller::kPerson);
  // Makes the call and tells the observers what came of it.
  template <class Call>
  absl::Status Observed(const std::string& target, const VolumeContext& context, const Call& call);
  absl::Status PublishAs(const std::string& volume_id, const std::string& target,
                         VolumeContext& context, absl::Time deadline, Caller caller,
                         PublishOutcome* outcome);
  // Fetches, and mounts or replaces the contents.
  absl::Status Fill(const std::string& target, VolumeContext& context, Entry& entry,
                    absl::Time deadline, PublishOutcome* outcome);
  // Whether the volume, which is served, is to be read anew.
  bool IsDue(const VolumeState& state, const PublishOutcome& outcome) const;
  // For the next plugin.
  void Keep(const std::string& target, Entry& entry);
  absl::StatusOr<provider::FetchResult> Fetch(const std::string& target, VolumeContext& context,
                                              Entry& entry, absl::Time deadline,
                                              PublishOutcome* outcome);
  absl::Status UnpublishAs(const std::string& volume_id, const std::string& target,
                           volume::PodFacts* pod);
  // Whether the content is another than before.
  absl::StatusOr<bool> Serve(const volume::VolumeInfo& info,
                             std::vector<volume::SnapshotFile> files);

  const Clock& clock_;
  ClassSource& classes_;
  provider::Provider& provider_;
  volume::VolumeServer& volumes_;
  TokenRevoker& revoker_;
  const std::string root_;
  const Options options_;

  std::mutex mutex_;
  std::map<std::string, Entry> entries_;  // by target; entries don't move
};

}  // namespace coffer::csi
