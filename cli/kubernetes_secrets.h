// Kubernetes Secrets as they are imported: from the API server, page by page, or from documents that
// kubectl printed.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/http_client.h"
#include "common/json.h"
#include "common/kube_config.h"

namespace coffer::cli {

// Which labels a Secret must have: "app=web,tier!=test,owned,!old", as kubectl's -l takes it, without
// its sets ("in (…)").
class LabelSelector {
 public:
  static absl::StatusOr<LabelSelector> Parse(std::string_view text);
  bool Matches(const Json& labels) const;
  const std::string& text() const { return text_; }

 private:
  struct Term {
    std::string key, value;
    bool equal;    // or not
    bool present;  // no value: the key alone counts
  };
  std::string text_;
  std::vector<Term> terms_;
};

// A list of the Secrets in one or more JSON or YAML documents: Secret, SecretList, List. InvalidArgument: neither,
// or another kind.
absl::StatusOr<Json> ReadSecretDocuments(std::string_view text);

// A part of a list.
struct SecretPage {
  const Json& items;
  std::size_t before;  // how many came in pages before this one
  std::size_t total;   // of the whole list; 0: unknown
};

// Lists Secrets, of all namespaces ("") or one; each page is given to `take`, which says whether to go
// on. A list that ends halfway (410: a page came too late) is begun again, so that some may come twice.
absl::Status ListSecrets(const KubeConfig& config, std::string_view name_space,
                         const LabelSelector& selector,
                         const std::function<bool(const SecretPage&)>& take);

// A Secret's contents as kv holds them: texts as they are; what isn't UTF-8 stays base64, and its keys
// are added to `binary`. InvalidArgument names the key that isn't base64.
absl::StatusOr<Json> SecretContents(const Json& secret, std::vector<std::string>* binary);

}  // namespace coffer::cli
