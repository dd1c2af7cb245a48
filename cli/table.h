// Table: lines of cells, printed in columns four spaces apart as vault prints them: empty cells read
// "n/a", the last column isn't padded, headers are underlined.
#pragma once

#include <string_view>
#include <vector>

#include "common/secret_bytes.h"

namespace coffer::cli {

class Table {
 public:
  // Without a header: the table is lines alone.
  Table() = default;
  template <class... Cells>
  static Table WithHeader(const Cells&... cells) {
    Table table;
    table.Add(cells...);
    table.Add(SecretBytes::CopyOf(std::string(std::string_view(cells).size(), '-')).view()...);
    return table;
  }

  template <class... Cells>
  void Add(const Cells&... cells) {
    std::vector<SecretBytes> row;
    row.reserve(sizeof...(cells));
    (row.push_back(SecretBytes::CopyOf(std::string_view(cells))), ...);
    rows_.push_back(std::move(row));
  }

  std::size_t size() const { return rows_.size(); }
  // The lines, without a line end after the last.
  SecretBytes Print() const;

 private:
  std::vector<std::vector<SecretBytes>> rows_;
};

}  // namespace coffer::cli
