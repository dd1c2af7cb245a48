#include "cli/table.h"

#include "common/strings.h"

namespace coffer::cli {
namespace {

constexpr std::string_view kGlue = "    ";

std::string_view Shown(const SecretBytes& cell) {
  const std::string_view text = Trim(cell.view());
  return text.empty() ? "n/a" : text;
}

// Characters of UTF-8: bytes that don't continue one.
std::size_t Width(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

SecretBytes Table::Print() const {
  std::vector<std::size_t> widths;
  for (const auto& row : rows_) {
    if (widths.size() < row.size()) widths.resize(row.size());
    for (std::size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], Width(Shown(row[i])));
    }
  }
  SecretBytes out;
  for (const auto& row : rows_) {
    if (!out.empty()) out.Append("\n");
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string_view cell = Shown(row[i]);
      out.Append(cell);
      if (i + 1 < row.size()) {
        out.Append(std::string(widths[i] - Width(cell), ' '));
        out.Append(kGlue);
      }
    }
  }
  return out;
}

}  // namespace coffer::cli
