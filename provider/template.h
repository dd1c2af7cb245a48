// Templates of files: text in which {{ .key }} stands for the value of that key, and {{ "text" }}
// for the text. Nothing else: what is no program can't fail like one.
#pragma once

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "provider/objects.h"

namespace coffer::provider {

// InvalidArgument says at which line the template is wrong. An empty template is one empty piece.
absl::StatusOr<std::vector<TemplatePiece>> ParseTemplate(std::string_view text);

}  // namespace coffer::provider
