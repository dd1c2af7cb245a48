#include "keystore/http/ui_page.h"

namespace coffer::keystore {

std::optional<UiPage> FindUiPage(std::string_view method, std::string_view target) {
  constexpr std::string_view kFolder = "/ui/";
  if (method != "GET" && method != "HEAD") return std::nullopt;
  target = target.substr(0, target.find('?'));
  if (target == "/" || target == "/ui") return UiPage{.location = kFolder};
  if (!target.starts_with(kFolder)) return std::nullopt;
  target.remove_prefix(kFolder.size());
  const ui::Asset* const asset = ui::FindAsset(target.empty() ? "index.html" : target);
  if (asset == nullptr) return std::nullopt;
  return UiPage{.asset = asset};
}

}  // namespace coffer::keystore
