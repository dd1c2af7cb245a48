// Early returns for absl::Status and absl::StatusOr.
#pragma once

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define COFFER_CONCAT_INNER(a, b) a##b
#define COFFER_CONCAT(a, b) COFFER_CONCAT_INNER(a, b)

// Returns from the function when `expression`, an absl::Status, isn't OK.
#define RETURN_IF_ERROR(expression)            \
  do {                                         \
    absl::Status status_macro = (expression);  \
    if (!status_macro.ok()) return status_macro; \
  } while (false)

// ASSIGN_OR_RETURN(T name, expression): declares or assigns the value of an absl::StatusOr<T>, or
// returns its status. A type with a comma in it needs parentheses or `auto`.
#define ASSIGN_OR_RETURN(lhs, expression) \
  ASSIGN_OR_RETURN_INNER(COFFER_CONCAT(status_or_, __LINE__), lhs, expression)
#define ASSIGN_OR_RETURN_INNER(status_or, lhs, expression)   \
  auto status_or = (expression);                             \
  if (!status_or.ok()) return std::move(status_or).status(); \
  lhs = *std::move(status_or)
