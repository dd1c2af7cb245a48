#include "csi/volume/file_rules.h"

#include <algorithm>

#include "common/strings.h"

namespace coffer::volume {

std::string RulesText(const FileRules& rules) {
  std::string text(rules.version);
  text += '\0';
  for (std::size_t i = 0; i < rules.allow_uids.size(); ++i) {
    StrAppend(&text, i == 0 ? "" : ",", rules.allow_uids[i]);
  }
  for (const std::string& path : rules.allow_executables) {
    text += '\0';
    text += path;
  }
  if (rules.allow_executables.empty()) text += '\0';
  return text;
}

RulesView::RulesView(std::string_view text) {
  const auto cut = [&text] {
    const std::size_t end = std::min(text.find('\0'), text.size());
    const std::string_view piece = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    return piece;
  };
  version = cut();
  uids = cut();
  executables = text;
}

bool RulesView::AllowsUid(std::uint32_t uid) const {
  if (uids.empty()) return true;
  const std::string number = StrCat(uid);
  const std::vector<std::string_view> all = Split(uids, ',');
  return std::find(all.begin(), all.end(), number) != all.end();
}

}  // namespace coffer::volume
