#include "keystore/barrier/tree_txn.h"

#include <algorithm>
#include <utility>

#include "common/status_macros.h"
#include "common/strings.h"
#include "keystore/barrier/sealed_text.h"

namespace coffer::keystore {
namespace {

absl::Status CheckSegments(std::string_view path) {
  if (path.starts_with('/') || path.find("//") != std::string_view::npos) {
    return absl::InvalidArgumentError("a path can't have an empty segment");
  }
  return absl::OkStatus();
}

absl::Status CheckPath(std::string_view path) {
  if (path.empty() || path.ends_with('/')) {
    return absl::InvalidArgumentError("a path must end in a name");
  }
  return CheckSegments(path);
}

absl::Status CheckDirectory(std::string_view directory) {
  if (directory.empty()) return absl::OkStatus();
  if (!directory.ends_with('/')) {
    return absl::InvalidArgumentError("a directory's path must end in \"/\"");
  }
  return CheckSegments(directory);
}

// "c" of "a/b/c", "b/" of "a/b/".
std::string_view NameIn(std::string_view path) { return path.substr(ParentOf(path).size()); }

}  // namespace

absl::StatusOr<const GcmKey*> Barrier::TreeTxn::KeyFor(const Entry& entry) const {
  const DataKey* key = keyring_->Find(entry.term);
  if (key == nullptr) {
    return absl::DataLossError(
        StrCat("a stored entry is encrypted under key term ", entry.term, ", which is unknown"));
  }
  return &key->key;
}

const DataKey& Barrier::TreeTxn::KeyToEncrypt(std::uint64_t values) {
  encrypted_ = true;
  DataKey& key = keyring_->newest();
  key.encryptions.fetch_add(values, std::memory_order_relaxed);
  return key;
}

absl::StatusOr<std::optional<Entry>> Barrier::TreeTxn::Find(const Names::StoredKey& stored_key) {
  ASSIGN_OR_RETURN(const auto stored, txn_->Get(Names::View(stored_key)));
  if (!stored) return std::optional<Entry>();
  ASSIGN_OR_RETURN(const Entry entry, Entry::Parse(*stored));
  if (met_.size() < kRemembered && !txn_->has_writes()) met_.push_back({stored_key, entry});
  return std::optional(entry);
}

const Entry* Barrier::TreeTxn::WasMet(const Names::StoredKey& stored_key) const {
  const auto met =
      std::find_if(met_.begin(), met_.end(), [&](const Met& one) { return one.key == stored_key; });
  return met == met_.end() ? nullptr : &met->entry;
}

absl::StatusOr<std::optional<SecretBytes>> Barrier::TreeTxn::Get(std::string_view path) {
  RETURN_IF_ERROR(CheckPath(path));
  const Names::StoredKey stored_key = keyring_->names().KeyOf(path);
  ASSIGN_OR_RETURN(const std::optional<Entry> entry, Find(stored_key));
  if (!entry) return std::optional<SecretBytes>();
  ASSIGN_OR_RETURN(const GcmKey* key, KeyFor(*entry));
  ASSIGN_OR_RETURN(SecretBytes value, entry->OpenValue(*key, Names::View(stored_key)));
  return std::optional<SecretBytes>(std::move(value));
}

absl::StatusOr<std::optional<std::string>> Barrier::TreeTxn::Tag(std::string_view path) {
  RETURN_IF_ERROR(CheckPath(path));
  ASSIGN_OR_RETURN(const std::optional<Entry> entry, Find(keyring_->names().KeyOf(path)));
  if (!entry) return std::optional<std::string>();
  return std::optional<std::string>(entry->tag());
}

absl::Status Barrier::TreeTxn::Put(std::string_view path, std::string_view value) {
  RETURN_IF_ERROR(CheckPath(path));
  if (NameIn(path).size() > kMaxNameSize || value.size() > GcmKey::kMaxPlaintext) {
    return absl::InvalidArgumentError("a name or value is too large to be stored");
  }
  const Names::StoredKey stored_key = keyring_->names().KeyOfOnce(path);
  const std::string_view view = Names::View(stored_key);
  const Entry* const replaced = WasMet(stored_key);
  if (!replaced && !PutInto(Names::DirectoryOf(view))) RETURN_IF_ERROR(MakeDirectories(path));
  if (replaced && replaced->term == keyring_->newest().term) {
    txn_->Put(view, SealValueAnew(KeyToEncrypt(1).key, *replaced, view, value));
  } else {
    const DataKey& key = KeyToEncrypt(2);
    txn_->Put(view, SealValueEntry(key.key, key.term, view, NameIn(path), value));
  }
  if (put_.size() == kRemembered) put_.erase(put_.begin());
  put_.push_back(stored_key);
  return absl::OkStatus();
}

bool Barrier::TreeTxn::PutInto(std::string_view prefix) const {
  return std::any_of(put_.begin(), put_.end(), [&](const Names::StoredKey& key) {
    return Names::DirectoryOf(Names::View(key)) == prefix;
  });
}

absl::Status Barrier::TreeTxn::MakeDirectories(std::string_view path) {
  for (std::string_view directory = ParentOf(path); !directory.empty();
       directory = ParentOf(directory)) {
    if (NameIn(directory).size() > kMaxNameSize) {
      return absl::InvalidArgumentError("a name is too large to be stored");
    }
    const Names::StoredKey stored_key = keyring_->names().KeyOf(directory);
    ASSIGN_OR_RETURN(const auto stored, txn_->Get(Names::View(stored_key)));
    if (stored) break;  // and so have all above it
    const DataKey& key = KeyToEncrypt(1);
    txn_->Put(Names::View(stored_key),
              SealDirectoryEntry(key.key, key.term, Names::View(stored_key), NameIn(directory)));
  }
  return absl::OkStatus();
}

absl::Status Barrier::TreeTxn::Delete(std::string_view path) {
  RETURN_IF_ERROR(CheckPath(path));
  const Names::StoredKey stored_key = keyring_->names().KeyOfOnce(path);
  ASSIGN_OR_RETURN(const auto stored, txn_->Get(Names::View(stored_key)));
  if (!stored) return absl::OkStatus();
  txn_->Delete(Names::View(stored_key));
  std::erase(put_, stored_key);
  met_.erase(std::remove_if(met_.begin(), met_.end(),
                            [&](const Met& one) { return one.key == stored_key; }),
             met_.end());
  return RemoveEmpty(ParentOf(path));
}

absl::Status Barrier::TreeTxn::RemoveEmpty(std::string_view directory) {
  for (; !directory.empty(); directory = ParentOf(directory)) {
    const Names::Mac prefix = keyring_->names().PrefixOf(directory);
    if (PutInto(Names::View(prefix))) break;
    ASSIGN_OR_RETURN(const auto left, txn_->Scan(Names::View(prefix), {}, 1));
    if (!left.empty()) break;
    txn_->Delete(Names::View(keyring_->names().KeyOf(directory)));
  }
  return absl::OkStatus();
}

absl::StatusOr<SecretBytes> Barrier::TreeTxn::SealText(std::string_view purpose,
                                                        std::string_view text) {
  if (text.size() > GcmKey::kMaxPlaintext) {
    return absl::InvalidArgumentError("a text is too large to be encrypted");
  }
  const DataKey& key = KeyToEncrypt(1);
  return keystore::SealText(key.key, key.term, purpose, text);
}

absl::StatusOr<SecretBytes> Barrier::TreeTxn::OpenText(std::string_view purpose,
                                                        std::string_view sealed) {
  const std::optional<std::uint32_t> term = TermOfText(sealed);
  const DataKey* key = term ? keyring_->Find(*term) : nullptr;
  if (key == nullptr) return absl::InvalidArgumentError("it wasn't sealed by this keystore");
  return keystore::OpenText(key->key, purpose, sealed);
}

absl::StatusOr<SecretBytes> Barrier::TreeTxn::NameOf(const StoredEntry& stored,
                                                     const Entry& entry) const {
  ASSIGN_OR_RETURN(const GcmKey* key, KeyFor(entry));
  return entry.OpenName(*key, stored.key);
}

absl::StatusOr<std::vector<std::string>> Barrier::TreeTxn::List(std::string_view directory) {
  RETURN_IF_ERROR(CheckDirectory(directory));
  const Names::Mac prefix = keyring_->names().PrefixOf(directory);
  ASSIGN_OR_RETURN(const auto entries, txn_->Scan(Names::View(prefix)));
  std::vector<std::string> names;
  names.reserve(entries.size());
  for (const StoredEntry& stored : entries) {
    ASSIGN_OR_RETURN(const Entry entry, Entry::Parse(stored.value));
    ASSIGN_OR_RETURN(const SecretBytes name, NameOf(stored, entry));
    names.emplace_back(name.view());
  }
  std::sort(names.begin(), names.end());
  return names;
}

absl::Status Barrier::TreeTxn::DeleteAll(std::string_view directory) {
  RETURN_IF_ERROR(CheckDirectory(directory));
  const Names::Mac prefix = keyring_->names().PrefixOf(directory);
  put_.clear();
  met_.clear();
  RETURN_IF_ERROR(DeleteBelow(Names::View(prefix)));
  return RemoveEmpty(directory);
}

// Deletes everything in the directory whose children's keys start with `top`, and in those below.
absl::Status Barrier::TreeTxn::DeleteBelow(std::string_view top) {
  std::vector<std::string> prefixes{std::string(top)};
  while (!prefixes.empty()) {
    const std::string prefix = std::move(prefixes.back());
    prefixes.pop_back();
    ASSIGN_OR_RETURN(const auto entries, txn_->Scan(prefix));
    std::vector<std::string> keys;
    for (const StoredEntry& stored : entries) {
      ASSIGN_OR_RETURN(const Entry entry, Entry::Parse(stored.value));
      // Opened only to be sure that it is a directory: its kind is part of what is authenticated.
      RETURN_IF_ERROR(NameOf(stored, entry).status());
      if (entry.kind == EntryKind::kDirectory) prefixes.emplace_back(Names::PrefixIn(stored.key));
      keys.emplace_back(stored.key);
    }
    for (const std::string& key : keys) txn_->Delete(key);
  }
  return absl::OkStatus();
}

}  // namespace coffer::keystore
