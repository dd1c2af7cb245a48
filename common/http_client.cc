#include "common/http_client.h"
namespace coffer {}
