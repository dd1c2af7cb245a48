// The files of the web page, as they are served below /ui/. They are plain files of this folder: no
// framework, nothing from elsewhere.
#pragma once

#include <string_view>

namespace coffer::ui {

struct Asset {
  std::string_view name;          // "app.js"
  std::string_view content_type;  // "text/javascript; charset=utf-8"
  std::string_view content;
};

// Null where there is none of that name.
const Asset* FindAsset(std::string_view name);

}  // namespace coffer::ui
