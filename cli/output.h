// What commands print: a secret (Vault's answer envelope), a map, a list or one field of it, in the
// session's format.
#pragma once

#include <string_view>

#include "cli/command.h"
#include "cli/document.h"

namespace coffer::cli {

// The functions return the exit code: kUsageError where the format can't show the thing.

// An answer's envelope: its lease, token and wrapping token, then its data.
int PrintSecret(Session& session, const Json& secret);
// An object as lines of "Key    Value"; `order` is for JSON.
int PrintMap(Session& session, const Json& map, MemberOrder order = {});
// Texts under the header "Keys", sorted.
int PrintList(Session& session, const Json& list);
// Lists `path` of the API and prints the keys; says so where there are none.
int PrintKeysBelow(Session& session, const std::string& path);
// Any document in a format other than table.
int PrintDocument(Session& session, const Json& document, MemberOrder order = {});
// The answer's warnings, on standard error; none in other formats than table, which show them inside.
void PrintWarnings(Session& session, const Json& secret);

// The member that -field names, of an answer's envelope (as vault finds it: token, lease_id, …, else a
// member of its data) or of an object.
int PrintFieldOfSecret(Session& session, const Json& secret, std::string_view field);
int PrintFieldOfMap(Session& session, const Json& map, std::string_view field);

// An envelope to print: PrintSecret's or, with -field, the field.
int PrintAnswer(Session& session, const Json& secret);
// After a write: the answer's secret, or "Success! Data written to: <path>" where it holds nothing but
// warnings, which are printed first.
int PrintWritten(Session& session, const Json& secret, std::string_view path);

// "====== Metadata =======" over a table of `map`, and over a path.
std::string HeaderFor(std::string_view title, const Json& map);
void PrintPath(Session& session, std::string_view title, std::string_view path);

}  // namespace coffer::cli
