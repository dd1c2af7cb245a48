// RouteTable: a backend's routes made ready for matching, and the decoding of a route's fields.
#pragma once

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "keystore/core/backend.h"

namespace coffer::keystore {

class RouteTable {
 public:
  // `backend` must outlive the table. Ends the process where a pattern is malformed: patterns are
  // part of the program.
  explicit RouteTable(const Backend& backend);

  struct Match {
    const Route* route;
    // Views into the path that was matched.
    std::vector<std::pair<std::string_view, std::string_view>> captures;
  };
  // `path` is relative to the mount.
  std::optional<Match> Find(std::string_view path) const;

  // What ?help=1 answers for a route.
  static std::string Help(const Route& route);
  // And for a mount itself.
  std::string Help() const;

 private:
  struct Segment {
    enum Kind { kLiteral, kOne, kRest } kind;
    std::string_view text;  // the literal or the capture's name
    bool filled = false;    // of a rest: not empty, and without a trailing "/"
  };
  struct Pattern {
    const Route* route;
    std::vector<Segment> segments;
  };
  static bool Fits(const Pattern& pattern, const std::vector<std::string_view>& path,
                   Match* match);

  std::vector<Pattern> patterns_;
};

// The captures, and the declared fields of `data` that aren't of their declared type yet, converted
// to it as Vault does ("5" is an integer, "a,b" a list); Request finds the others in `data`. InvalidArgument names the field and what it takes. Names of
// members of `data` that aren't declared are added to `unknown`.
absl::StatusOr<Json> DecodeFields(const RouteTable::Match& match, const Json& data,
                                  std::vector<std::string>* unknown);

}  // namespace coffer::keystore
