#include "csi/version.h"

namespace coffer::csi {

const char kVersion[] = COFFER_VERSION;

}  // namespace coffer::csi
