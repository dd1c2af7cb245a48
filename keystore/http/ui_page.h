// The web page below /ui/, beside the API.
#pragma once

#include <optional>
#include <string_view>

#include "ui/assets.h"

namespace coffer::keystore {

struct UiPage {
  std::string_view location;  // where to go instead; "": here
  const ui::Asset* asset = nullptr;
};

// What a GET or HEAD of `target` ("/ui/app.js?x") is answered with; nullopt where that isn't the
// page's business.
std::optional<UiPage> FindUiPage(std::string_view method, std::string_view target);

}  // namespace coffer::keystore
