// Handover: what the next plugin must know of volumes beside their content (whose they are, their
// token at the keystore, what was leased with it) and which tokens are still to be given back. The
// keeper holds it in memory that no disk sees, as it does contents.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "csi/volume/keeper_client.h"
#include "csi/volume/secret_mapping.h"
#include "csi/volume_context.h"
#include "provider/provider.h"

namespace coffer::csi {

// What is known of a published volume beside its content.
struct VolumeState {
  std::string volume_id;
  provider::SessionPtr session = provider::NewSession();
  std::vector<provider::ObjectVersion> versions = {};  // of the content
  VolumeContext context = {};                          // as the kubelet last said
  std::size_t fingerprint = 0;                         // of the class that the content is of
  absl::Time fetched = absl::InfinitePast();           // the last time without an error
};

// As the keeper holds it; the grammar is in handover.cc.
SecretBytes WriteVolumeDocument(const std::string& target, const VolumeState& state);
struct VolumeDocument {
  std::string target;  // "": no volume, the token alone is to be given back
  VolumeState state;
};
// The session is one of `provider`. InvalidArgument says which field is wrong, never what it holds.
absl::StatusOr<VolumeDocument> ReadVolumeDocument(std::string_view text,
                                                  provider::Provider& provider);

// Safe on any thread.
class Handover {
 public:
  // Names a document; 0: none.
  using Id = std::uint64_t;
  struct Taken {
    Id id;
    VolumeDocument document;
  };

  // `keeper`: null, and nothing is kept; else kept by the caller.
  explicit Handover(volume::KeeperClient* keeper);
  ~Handover();  // leaves everything to the next plugin

  // 32 random bytes that stay the same from plugin to plugin: versions that are made under them (see
  // Provider::Options) don't change at a restart. Called once, before Take.
  SecretBytes Key();

  // What the plugin before this one left, the newest first. What can't be read is
  // dropped, and the log says so. Called once, after the keeper's volumes were taken over.
  std::vector<Taken> Take(provider::Provider& provider);

  // Keeps the state in place of the document `id`; the new document's name, or 0 where nothing is
  // kept. Not while a call uses the session.
  Id Put(Id id, const std::string& target, const VolumeState& state);
  void Drop(Id id);

  // Whether a next plugin would get it all: then this one may leave its tokens to it.
  bool Holds() const { return keeper_ != nullptr && keeper_->connected(); }

 private:
  struct Document {
    UniqueFd memory;
    std::unique_ptr<volume::SecretMapping> pages;  // those that are swapped out unless locked here
  };
  static Document Keep(volume::SecretMapping pages);

  volume::KeeperClient* const keeper_;
  std::vector<volume::KeeperClient::Kept> left_;  // by the plugin before this one, until Take
  Document key_;
  std::mutex mutex_;
  std::map<Id, Document> documents_;
};

}  // namespace coffer::csi
