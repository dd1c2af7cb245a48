#include "keystore/system/policy_routes.h"

#include "common/status_macros.h"
#include "common/strings.h"

namespace coffer::keystore {
namespace {

// sys/policy is the older form of sys/policies/acl: the text is called "rules" in its answers, and
// members of "data" stand at the top of the answer too.
enum class Form { kOld, kNew };

Json::string_t JsonKey(std::string_view text) { return Json::string_t(text); }

struct PolicyHandlers {
  PolicyStore& policies;
  Form form;

  absl::StatusOr<Response> List(const Request&, Txn& txn) const {
    Txn root = txn.Root();
    ASSIGN_OR_RETURN(const std::vector<std::string> names, policies.List(root));
    Json data = {{"keys", names}};
    if (form == Form::kOld) data["policies"] = names;
    return Answer(std::move(data));
  }

  absl::StatusOr<Response> Read(const Request& request, Txn& txn) const {
    Txn root = txn.Root();
    const std::string name = NormalPolicyName(request.text("name"));
    ASSIGN_OR_RETURN(const std::optional<std::string> text, policies.Get(root, name));
    if (!text) return absl::NotFoundError("");
    return Answer({{"name", name}, {form == Form::kOld ? "rules" : "policy", *text}});
  }

  absl::StatusOr<Response> Write(const Request& request, Txn& txn) const {
    Txn root = txn.Root();
    Response response;
    const std::string name = NormalPolicyName(request.text("name"));
    if (name != request.text("name")) {
      response.warnings.push_back(StrCat("policy name was converted to ", name));
    }
    std::string_view text = request.text("policy");
    if (text.empty() && form == Form::kOld) {
      text = request.text("rules");
      if (!text.empty()) {
        response.warnings.emplace_back("'rules' is deprecated, please use 'policy' instead");
      }
    }
    if (text.empty()) {
      return absl::InvalidArgumentError("'policy' parameter not supplied or empty");
    }
    const auto decoded = DecodeBase64(text);
    RETURN_IF_ERROR(policies.Put(root, name, decoded.ok() ? decoded->view() : text));
    return response;
  }

  absl::StatusOr<Response> Delete(const Request& request, Txn& txn) const {
    Txn root = txn.Root();
    RETURN_IF_ERROR(policies.Delete(root, request.text("name")));
    return Response::Empty();
  }

 private:
  Response Answer(Json data) const {
    Response response = Response::Data(std::move(data));
    response.flattened = form == Form::kOld;
    return response;
  }
};

struct CapabilityHandlers {
  PolicyStore& policies;
  TokenStore& tokens;

  absl::StatusOr<Response> OfToken(const Request& request, Txn& txn) const {
    const std::string_view token = request.text("token");
    if (token.empty()) return absl::InvalidArgumentError("missing token");
    Txn root = txn.Root();
    ASSIGN_OR_RETURN(const auto entry, tokens.Lookup(root, token));
    if (entry == nullptr) return absl::InvalidArgumentError("invalid token");
    return Answer(request, *entry, root);
  }

  absl::StatusOr<Response> OfAccessor(const Request& request, Txn& txn) const {
    const std::string_view accessor = request.text("accessor");
    if (accessor.empty()) return absl::InvalidArgumentError("missing accessor");
    Txn root = txn.Root();
    ASSIGN_OR_RETURN(const auto entry, tokens.LookupAccessor(root, accessor));
    if (entry == nullptr) return absl::InvalidArgumentError("invalid accessor");
    return Answer(request, *entry, root);
  }

  absl::StatusOr<Response> OfCaller(const Request& request, Txn& txn) const {
    Txn root = txn.Root();
    return Answer(request, *request.caller, root);
  }

  absl::StatusOr<Response> Resultant(const Request& request, Txn& txn) const {
    Txn root = txn.Root();
    ASSIGN_OR_RETURN(const auto acl, policies.AclFor(root, request.caller->policies));
    return Response::Data(acl->Describe());
  }

 private:
  // Each path with its capabilities; those of a single one as "capabilities" too.
  absl::StatusOr<Response> Answer(const Request& request, const TokenEntry& entry,
                                  Txn& root) const {
    std::vector<std::string> paths = request.list("paths");
    if (paths.empty()) paths = request.list("path");
    if (paths.empty()) return absl::InvalidArgumentError("paths must be supplied");
    ASSIGN_OR_RETURN(const auto acl, policies.AclFor(root, entry.policies));
    Json data = Json::object();
    for (const std::string& path : paths) {
      if (path.empty()) return absl::InvalidArgumentError("missing path");
      data[JsonKey(path)] = acl->Capabilities(path);
    }
    if (paths.size() == 1) data["capabilities"] = acl->Capabilities(paths.front());
    return Response::Flattened(std::move(data));
  }
};

template <class Handlers>
Handler Bind(const Handlers& handlers,
             absl::StatusOr<Response> (Handlers::*method)(const Request&, Txn&) const) {
  return [handlers, method](const Request& request, Txn& txn) {
    return (handlers.*method)(request, txn);
  };
}

std::vector<Field> CapabilityFields(std::vector<Field> first) {
  first.push_back({"paths", FieldType::kList, "The paths to tell the capabilities of."});
  first.push_back({"path", FieldType::kList, "The older name of \"paths\"."});
  return first;
}

}  // namespace

std::vector<Route> PolicyRoutes(PolicyStore& policies, TokenStore& tokens) {
  const PolicyHandlers old_form{policies, Form::kOld};
  const PolicyHandlers new_form{policies, Form::kNew};
  const CapabilityHandlers capabilities{policies, tokens};
  const Field name = {"name", FieldType::kString, "The policy's name; lower-cased."};
  const Field policy = {"policy", FieldType::kString, "The rules, in HCL or JSON, perhaps base64."};
  const Field rules = {"rules", FieldType::kString, "The older name of \"policy\"."};
  using P = PolicyHandlers;
  using C = CapabilityHandlers;
  return {
      {"policy",
       "The names of all policies.",
       {},
       {{Operation::kRead, Bind(old_form, &P::List)},
        {Operation::kList, Bind(old_form, &P::List)}}},
      {"policy/{name*}",
       "Reads, writes or deletes a policy.",
       {name, policy, rules},
       {{Operation::kRead, Bind(old_form, &P::Read)},
        {Operation::kUpdate, Bind(old_form, &P::Write)},
        {Operation::kDelete, Bind(old_form, &P::Delete)}}},
      {"policies/acl",
       "The names of all policies.",
       {},
       {{Operation::kList, Bind(new_form, &P::List)}}},
      {"policies/acl/{name*}",
       "Reads, writes or deletes a policy.",
       {name, policy},
       {{Operation::kRead, Bind(new_form, &P::Read)},
        {Operation::kUpdate, Bind(new_form, &P::Write)},
        {Operation::kDelete, Bind(new_form, &P::Delete)}}},
      {"capabilities",
       "What a token may do on paths.",
       CapabilityFields({{"token", FieldType::kString, "The token."}}),
       {{Operation::kUpdate, Bind(capabilities, &C::OfToken)}}},
      {"capabilities-accessor",
       "What the token of an accessor may do on paths.",
       CapabilityFields({{"accessor", FieldType::kString, "The token's accessor."}}),
       {{Operation::kUpdate, Bind(capabilities, &C::OfAccessor)}}},
      {"capabilities-self",
       "What the caller's token may do on paths.",
       CapabilityFields({{"token", FieldType::kString, "Not used: the caller's token counts."}}),
       {{Operation::kUpdate, Bind(capabilities, &C::OfCaller)}}},
      {"internal/ui/resultant-acl",
       "All that the caller's policies allow, for the web page.",
       {},
       {{Operation::kRead, Bind(capabilities, &C::Resultant)}}},
  };
}

}  // namespace coffer::keystore
