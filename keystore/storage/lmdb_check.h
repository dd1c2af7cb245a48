// CheckLmdbFile: walks an LMDB data file before it is mapped. LMDB itself trusts its file: where
// that was cut short or overwritten, reading it would end the process.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace coffer::keystore {

// OK for a sound file, an empty one, or none. DataLoss says what is wrong at which page. Reads
// every page that is in use.
absl::Status CheckLmdbFile(const std::string& path);

}  // namespace coffer::keystore
