// HTTP over a Unix socket, for programs of one machine that talk to each other.
#pragma once

#include <memory>
#include <string>

#include "common/http_client.h"

namespace coffer {

// libcurl, as MakeCurlTransport; every request goes to the socket at `path`, whatever its URL's
// host. Unavailable: nobody listens there, and why.
std::unique_ptr<HttpTransport> MakeUnixTransport(const std::string& path);

}  // namespace coffer
