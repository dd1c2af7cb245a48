#include "cli/document.h"

#include <vector>

#include "common/strings.h"

namespace coffer::cli {
namespace {

struct Member {
  std::string_view key;
  const Json* value;
};

// The members of `object`, those that `order` names under `prefix` first.
std::vector<Member> Ordered(const Json& object, std::string_view prefix, MemberOrder order) {
  std::vector<Member> members;
  for (std::string_view name : order) {
    if (!name.starts_with(prefix)) continue;
    name.remove_prefix(prefix.size());
    if (const auto found = object.find(name); found != object.end()) {
      members.push_back({name, &*found});
    }
  }
  const std::size_t named = members.size();
  for (const auto& [key, value] : object.items()) {
    const std::string_view name = key;
    const bool seen = std::any_of(members.begin(), members.begin() + named,
                                  [&](const Member& member) { return member.key == name; });
    if (!seen) members.push_back({name, &value});
  }
  return members;
}

// A scalar as Go's encoder writes it: nlohmann's text with the HTML characters escaped.
void AppendScalar(const Json& value, SecretBytes& out) {
  const SecretBytes text = DumpJson(value);
  std::string_view rest = text.view();
  for (;;) {
    const std::size_t at = rest.find_first_of("<>&");
    out.Append(rest.substr(0, at));
    if (at == std::string_view::npos) return;
    out.Append(rest[at] == '<' ? "\\u003c" : rest[at] == '>' ? "\\u003e" : "\\u0026");
    rest.remove_prefix(at + 1);
  }
}

void AppendIndent(int depth, SecretBytes& out) {
  out.Append("\n");
  for (int i = 0; i < depth; ++i) out.Append("  ");
}

void AppendJson(const Json& value, int depth, const std::string& prefix, MemberOrder order,
                SecretBytes& out) {
  if (!value.is_structured() || value.empty()) return AppendScalar(value, out);
  bool first = true;
  const auto next = [&] {
    if (!std::exchange(first, false)) out.Append(",");
    AppendIndent(depth + 1, out);
  };
  if (value.is_array()) {
    out.Append("[");
    for (const Json& item : value) {
      next();
      AppendJson(item, depth + 1, prefix, {}, out);
    }
    AppendIndent(depth, out);
    return out.Append("]");
  }
  out.Append("{");
  for (const Member& member : Ordered(value, prefix, order)) {
    next();
    AppendScalar(Json(Json::string_t(member.key)), out);
    out.Append(": ");
    // Only an order that names the member's own members reaches into it.
    const std::string inner = order.empty() ? "" : StrCat(prefix, member.key, ".");
    const bool reaches = std::any_of(order.begin(), order.end(), [&](std::string_view name) {
      return name.starts_with(inner);
    });
    AppendJson(*member.value, depth + 1, inner, reaches ? order : MemberOrder(), out);
  }
  AppendIndent(depth, out);
  out.Append("}");
}

}  // namespace

SecretBytes PrintJson(const Json& document, MemberOrder order) {
  SecretBytes out;
  AppendJson(document, 0, "", order, out);
  return out;
}

}  // namespace coffer::cli
