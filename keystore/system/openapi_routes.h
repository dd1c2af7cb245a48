// sys/internal/specs/openapi: all routes of all mounts as one OpenAPI 3 document, made from the route
// tables. https://developer.hashicorp.com/vault/api-docs/system/internal-specs-openapi
#pragma once

#include <string>
#include <vector>

#include "keystore/core/core.h"

namespace coffer::keystore {

// Patterns are relative to "sys/". What is given must outlive the routes; `version`: the API's.
std::vector<Route> OpenApiRoutes(const Core& core, MountStore& mounts, std::string version);

}  // namespace coffer::keystore
