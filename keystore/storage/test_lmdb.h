// What the tests of LmdbStore do with a folder: open it, put into it, count what it holds.
#pragma once

#include <catch2/catch.hpp>

#include "keystore/storage/lmdb_store.h"
#include "keystore/storage/test_folder.h"

namespace coffer::keystore {

inline std::unique_ptr<LmdbStore> Open(const std::string& path, std::uint64_t map_size = 1 << 30) {
  auto store = LmdbStore::Open({path, map_size});
  INFO(store.status().ToString());
  REQUIRE(store.ok());
  return *std::move(store);
}

inline absl::Status Put(Store& store, std::string_view key, std::string value) {
  auto txn = store.Begin();
  if (!txn.ok()) return txn.status();
  (*txn)->Put(key, std::move(value));
  return CommitAndWait(store, *std::move(txn));
}

inline std::size_t Count(Store& store) { return (*store.Begin())->Scan("")->size(); }

}  // namespace coffer::keystore
