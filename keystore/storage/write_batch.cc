// batch = (key-size:u16 value-size:u32 key value)*     value-size all ones: deleted, no value
// Numbers are little-endian.
#include "keystore/storage/write_batch.h"

#include <bit>
#include <cstdint>
#include <cstring>

namespace coffer::keystore {
namespace {

constexpr std::uint32_t kDeleted = UINT32_MAX;
constexpr std::size_t kHeaderSize = 2 + 4;

static_assert(std::endian::native == std::endian::little);

void AppendHeader(std::size_t key_size, std::uint32_t value_size, std::string* out) {
  const auto size = static_cast<std::uint16_t>(key_size);
  out->append(reinterpret_cast<const char*>(&size), sizeof(size));
  out->append(reinterpret_cast<const char*>(&value_size), sizeof(value_size));
}

// Takes the first write off `bytes`; false where there is no whole one.
bool TakeWrite(std::string_view* bytes, std::string_view* key, WriteBatch::Value* value) {
  if (bytes->size() < kHeaderSize) return false;
  std::uint16_t key_size;
  std::uint32_t value_size;
  std::memcpy(&key_size, bytes->data(), sizeof(key_size));
  std::memcpy(&value_size, bytes->data() + sizeof(key_size), sizeof(value_size));
  bytes->remove_prefix(kHeaderSize);
  const bool deleted = value_size == kDeleted;
  if (deleted) value_size = 0;
  if (bytes->size() < std::size_t{key_size} + value_size) return false;
  *key = bytes->substr(0, key_size);
  value->reset();
  if (!deleted) *value = bytes->substr(key_size, value_size);
  bytes->remove_prefix(std::size_t{key_size} + value_size);
  return true;
}

}  // namespace

WriteBatch::WriteBatch(const Changes::Writes& writes) {
  std::size_t size = 0;
  for (const auto& [key, value] : writes) {
    size += kHeaderSize + key.size() + (value ? value->size() : 0);
  }
  bytes_.reserve(size);
  for (const auto& [key, value] : writes) {
    AppendHeader(key.size(), value ? static_cast<std::uint32_t>(value->size()) : kDeleted, &bytes_);
    bytes_ += key;
    if (value) bytes_ += *value;
  }
}

std::optional<WriteBatch> WriteBatch::Parse(std::string_view bytes) {
  std::string_view key;
  Value value;
  for (std::string_view rest = bytes; !rest.empty();) {
    if (!TakeWrite(&rest, &key, &value)) return std::nullopt;
  }
  WriteBatch batch;
  batch.bytes_ = bytes;
  return batch;
}

void WriteBatch::ForEach(
    absl::FunctionRef<void(std::string_view key, const Value& value)> visit) const {
  std::string_view key;
  Value value;
  for (std::string_view rest = bytes_; TakeWrite(&rest, &key, &value);) visit(key, value);
}

}  // namespace coffer::keystore
