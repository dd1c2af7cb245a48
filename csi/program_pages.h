// What a start runs once (gRPC's and OpenSSL's beginnings, the loader) stays mapped for as long as the
// process lives: five of its nineteen megabytes.
#pragma once

namespace coffer::csi {

// Unmaps the pages of the program's and its libraries' code; those in use come back from the page
// cache as they are needed. To be called when the start is over.
void LetGoOfProgramPages();

}  // namespace coffer::csi
