// TOML as a tree of our own: each value and each key with its place, in the order of the file. Only toml.cc knows toml++.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runner/config/diagnostics.h"

namespace runner::agent::toml {

/// Both count from 1. Columns count characters, as toml++ and most editors do.
struct Place {
  int line = 0, column = 0;
  auto operator<=>(const Place&) const = default;
};

struct Value {
  enum class Kind { Text, Whole, Real, Truth, Time, List, Table };

  Kind kind = Kind::Table;
  Place at;
  std::string text;
  std::int64_t whole = 0;
  double real = 0;
  bool truth = false;
  std::vector<Value> items;  // of a list or a table

  std::string key;  // what it is called, if it is in a table
  Place key_at;

  bool is(Kind other) const { return kind == other; }
  const Value* find(std::string_view name) const;  ///< in this table; nullptr when there is none

  /// For messages: "'lots'", "5", "true", "a date or a time", "a list", "a table".
  std::string shown() const;
};

/// The table that a file is. Nothing, and said, when it is no TOML: of several mistakes in that only the first can be
/// told. `source` names the text in messages.
std::optional<Value> parse(const std::string& source, std::string_view text, Diagnostics& wrong);

}  // namespace runner::agent::toml
