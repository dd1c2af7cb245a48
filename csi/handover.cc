// A document is one JSON object in memory of its own (SecretMapping), which the keeper holds as if it
// were the image of a volume called "document:<id>"; targets start with "/", so no volume is called
// so. The id is 16 hexadecimal digits, later ones are greater.
//
//   document = {"version": 1,
//               "target": path,                   "" = the token alone is to be given back
//               "volume_id", "class", "pod", "namespace", "pod_uid", "service_account": text,
//               "tokens": {audience: token},      of the ServiceAccount, as the kubelet last sent them
//               "expirations": {audience: time as RFC 3339},
//               "attributes": {name: text},       the volume context, for other vendors' providers
//               "secrets": text,                  of nodePublishSecretRef, for the same
//               "fs_group": number | null,        of the pod
//               "objects": [{"id", "version"} …], of the content
//               "fingerprint": number,            of the class
//               "fetched": microseconds since 1970 | null,
//               "session": text}                  of provider/session_document.h
//
// In the same way "key" is kept: 32 random bytes.
//
// The memory may be longer: zeros follow. A document whose target is no volume any more, or whose
// target has a later document, is a token to be given back.
#include "csi/handover.h"

#include <fcntl.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <utility>

#include "absl/time/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/random.h"
#include "common/status_macros.h"
#include "common/strings.h"
#include "provider/session_document.h"

namespace coffer::csi {
namespace {

constexpr int kVersion = 1;
constexpr std::string_view kPrefix = "document:";
constexpr char kKeyName[] = "key";
constexpr std::size_t kKeyBytes = 32;

std::string NameOf(Handover::Id id) {
  return StrCat(kPrefix, absl::Hex(id, absl::kZeroPad16));
}

// 0: not one of ours.
Handover::Id IdOf(std::string_view name) {
  if (!name.starts_with(kPrefix)) return 0;
  name.remove_prefix(kPrefix.size());
  Handover::Id id = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id, 16);
  return error == std::errc() && end == name.data() + name.size() ? id : 0;
}

// Later ones are greater, also than those of a plugin before this one, unless the clock was set back.
Handover::Id NewId() {
  static std::atomic<Handover::Id> last{0};
  const auto now = static_cast<Handover::Id>(absl::ToUnixNanos(absl::Now()));
  Handover::Id before = last;
  while (!last.compare_exchange_weak(before, std::max(before + 1, now))) {
  }
  return std::max(before + 1, now);
}

Json Text(std::string_view text) { return SecretString(text); }

Json MapJson(const std::map<std::string, std::string>& map) {
  Json object = Json::object();
  for (const auto& [name, value] : map) object[SecretString(name)] = Text(value);
  return object;
}

// Reads members one by one; the first that is wrong is the status.
class Members {
 public:
  explicit Members(const Json& object) : object_(object) {}

  const Json& At(const char* name) {
    static const Json none;
    const auto found = object_.find(name);
    if (found != object_.end()) return *found;
    Fail(name);
    return none;
  }
  std::string Text(const char* name) {
    const Json& value = At(name);
    if (value.is_string()) {
      return std::string(std::string_view(value.get_ref<const SecretString&>()));
    }
    Fail(name);
    return "";
  }
  SecretBytes Secret(const char* name) {
    const Json& value = At(name);
    if (value.is_string()) return SecretBytes::CopyOf(value.get_ref<const SecretString&>());
    Fail(name);
    return SecretBytes();
  }
  // Calls add(name, text) for each member of the object at `name`.
  template <class Add>
  void Texts(const char* name, const Add& add) {
    const Json& map = At(name);
    if (!map.is_object()) return Fail(name);
    for (auto at = map.begin(); at != map.end(); ++at) {
      const Json& value = at.value();
      if (!value.is_string()) return Fail(name);
      add(std::string(std::string_view(at.key())), value.get_ref<const SecretString&>());
    }
  }
  void Fail(const char* name) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(StrCat(name, ": is missing or wrong"));
  }
  const absl::Status& status() const { return status_; }

 private:
  const Json& object_;
  absl::Status status_;
};

void ReadVersions(Members& members, std::vector<provider::ObjectVersion>* versions) {
  const Json& objects = members.At("objects");
  if (!objects.is_array()) return members.Fail("objects");
  for (const Json& object : objects) {
    Members fields(object);
    if (!object.is_object()) return members.Fail("objects");
    versions->push_back({fields.Text("id"), fields.Text("version")});
    if (!fields.status().ok()) return members.Fail("objects");
  }
}

}  // namespace

SecretBytes WriteVolumeDocument(const std::string& target, const VolumeState& state) {
  const VolumeContext& context = state.context;
  Json tokens = Json::object();
  for (const auto& [audience, token] : context.pod.tokens) {
    tokens[SecretString(audience)] = Text(token.view());
  }
  Json objects = Json::array();
  for (const provider::ObjectVersion& object : state.versions) {
    objects.push_back({{"id", Text(object.id)}, {"version", Text(object.version)}});
  }
  const bool fetched = state.fetched != absl::InfinitePast();
  return DumpJson({{"version", kVersion},
                   {"target", Text(target)},
                   {"volume_id", Text(state.volume_id)},
                   {"class", Text(context.secret_class)},
                   {"pod", Text(context.pod.name)},
                   {"namespace", Text(context.pod.kubernetes_namespace)},
                   {"pod_uid", Text(context.pod.uid)},
                   {"service_account", Text(context.pod.service_account)},
                   {"tokens", std::move(tokens)},
                   {"expirations", MapJson(context.expirations)},
                   {"attributes", MapJson(context.attributes)},
                   {"secrets", Text(context.secrets.view())},
                   {"fs_group", context.fs_group ? Json(*context.fs_group) : Json()},
                   {"objects", std::move(objects)},
                   {"fingerprint", state.fingerprint},
                   {"fetched", fetched ? Json(absl::ToUnixMicros(state.fetched)) : Json()},
                   {"session", Text(provider::WriteSession(*state.session).view())}});
}

absl::StatusOr<VolumeDocument> ReadVolumeDocument(std::string_view text,
                                                  provider::Provider& provider) {
  const absl::StatusOr<Json> json = ParseJson(text);
  if (!json.ok()) return absl::InvalidArgumentError(ToAbsl(Message(json.status())));
  if (!json->is_object()) return absl::InvalidArgumentError("isn't a JSON object");
  Members members(*json);
  if (members.At("version") != kVersion) {
    return absl::InvalidArgumentError(StrCat("version: isn't ", kVersion));
  }
  VolumeDocument document;
  document.target = members.Text("target");
  VolumeState& state = document.state;
  state.volume_id = members.Text("volume_id");
  VolumeContext& context = state.context;
  context.secret_class = members.Text("class");
  context.pod.name = members.Text("pod");
  context.pod.kubernetes_namespace = members.Text("namespace");
  context.pod.uid = members.Text("pod_uid");
  context.pod.service_account = members.Text("service_account");
  members.Texts("tokens", [&](std::string audience, std::string_view token) {
    context.pod.tokens.emplace(std::move(audience), SecretBytes::CopyOf(token));
  });
  members.Texts("expirations", [&](std::string audience, std::string_view time) {
    context.expirations.emplace(std::move(audience), time);
  });
  members.Texts("attributes", [&](std::string name, std::string_view value) {
    context.attributes.emplace(std::move(name), value);
  });
  context.secrets = members.Secret("secrets");
  const Json& group = members.At("fs_group");
  if (group.is_number_unsigned() && group.get<std::uint64_t>() < UINT32_MAX) {
    context.fs_group = group.get<std::uint32_t>();
  } else if (!group.is_null()) {
    members.Fail("fs_group");
  }
  ReadVersions(members, &state.versions);
  const Json& fingerprint = members.At("fingerprint");
  if (fingerprint.is_number_unsigned()) {
    state.fingerprint = fingerprint.get<std::size_t>();
  } else {
    members.Fail("fingerprint");
  }
  const Json& fetched = members.At("fetched");
  if (fetched.is_number_integer()) {
    state.fetched = absl::FromUnixMicros(fetched.get<std::int64_t>());
  } else if (!fetched.is_null()) {
    members.Fail("fetched");
  }
  const SecretBytes session = members.Secret("session");
  RETURN_IF_ERROR(members.status());
  ASSIGN_OR_RETURN(state.session, provider::ReadSession(session.view(), provider));
  return document;
}

Handover::Handover(volume::KeeperClient* keeper) : keeper_(keeper) {
  if (keeper_ == nullptr) return;
  left_ = keeper_->TakeOthers("");
}

Handover::~Handover() {
  for (auto& [id, document] : documents_) {
    if (document.pages) document.pages->Spare();
  }
  if (key_.pages) key_.pages->Spare();
}

Handover::Document Handover::Keep(volume::SecretMapping pages) {
  Document document{UniqueFd(fcntl(pages.fd(), F_DUPFD_CLOEXEC, 0)), nullptr};
  if (pages.kind() == volume::MemoryKind::kMemfdSecret) {
    pages.Spare();
  } else {
    document.pages = std::make_unique<volume::SecretMapping>(std::move(pages));
  }
  return document;
}

SecretBytes Handover::Key() {
  SecretBytes key;
  const auto left = std::find_if(left_.begin(), left_.end(),
                                 [](const auto& kept) { return kept.target == kKeyName; });
  if (left != left_.end() && left->images.size() == 1) {
    auto pages = volume::SecretMapping::Open(std::move(left->images.begin()->second));
    if (pages.ok()) {
      const auto bytes = pages->span();
      if (bytes.size() >= kKeyBytes) key = SecretBytes::CopyOf(bytes.first(kKeyBytes));
      pages->Spare();
    }
  }
  if (left != left_.end()) left_.erase(left);
  if (key.empty()) key = RandomSecret(kKeyBytes);
  if (keeper_ == nullptr) return key;
  if (auto pages = volume::SecretMapping::Make(kKeyBytes); pages.ok()) {
    std::copy_n(key.data(), kKeyBytes, pages->span().data());
    key_ = Keep(*std::move(pages));
    keeper_->PutOther(kKeyName, key_.memory.get());
  }
  return key;
}

std::vector<Handover::Taken> Handover::Take(provider::Provider& provider) {
  std::vector<Taken> taken;
  if (keeper_ == nullptr) return taken;
  std::lock_guard lock(mutex_);
  for (volume::KeeperClient::Kept& kept : std::exchange(left_, {})) {
    const Id id = IdOf(kept.target);
    absl::StatusOr<VolumeDocument> document = absl::InvalidArgumentError("isn't named as one");
    if (id != 0 && kept.images.size() == 1) {
      absl::StatusOr<volume::SecretMapping> pages =
          volume::SecretMapping::Open(std::move(kept.images.begin()->second));
      if (!pages.ok()) {
        document = pages.status();
      } else {
        const std::string_view bytes(reinterpret_cast<const char*>(pages->span().data()),
                                     pages->span().size());
        document = ReadVolumeDocument(bytes.substr(0, bytes.find('\0')), provider);
        documents_[id] = Keep(*std::move(pages));
      }
    }
    if (document.ok()) {
      keeper_->PutOther(kept.target, documents_[id].memory.get());
      taken.push_back({id, *std::move(document)});
      continue;
    }
    log::Warning("what another plugin knew of a volume can't be read: its token ends by itself",
                 {{"document", kept.target}, {"cause", document.status()}});
    keeper_->Drop(kept.target);
    documents_.erase(id);
  }
  std::sort(taken.begin(), taken.end(),
            [](const Taken& a, const Taken& b) { return a.id > b.id; });
  return taken;
}

Handover::Id Handover::Put(Id id, const std::string& target, const VolumeState& state) {
  if (keeper_ == nullptr) return 0;
  const SecretBytes text = WriteVolumeDocument(target, state);
  absl::StatusOr<volume::SecretMapping> pages = volume::SecretMapping::Make(text.size());
  if (!pages.ok()) {
    log::Warning("a volume's token is not kept for the next plugin", {{"error", pages.status()}});
    return id;
  }
  std::copy_n(text.data(), text.size(), pages->span().data());
  const Id made = NewId();
  {
    std::lock_guard lock(mutex_);
    Document& document = documents_[made] = Keep(*std::move(pages));
    keeper_->PutOther(NameOf(made), document.memory.get());
  }
  Drop(id);
  return made;
}

void Handover::Drop(Id id) {
  if (id == 0 || keeper_ == nullptr) return;
  std::lock_guard lock(mutex_);
  keeper_->Drop(NameOf(id));
  documents_.erase(id);
}

}  // namespace coffer::csi
