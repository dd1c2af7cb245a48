// The version that the plugin reports.
#pragma once

namespace coffer::csi {

extern const char kVersion[];

}  // namespace coffer::csi
