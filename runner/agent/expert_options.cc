// The options of a model: a table of TOML as the JSON that goes into the body of a request.
#include <cmath>
#include <nlohmann/json.hpp>

#include "runner/agent/expert_parts.h"

namespace runner::agent {

namespace {

using Kind = toml::Value::Kind;
using nlohmann::json;

json convert(const toml::Value& value, Mistakes& wrong) {
  switch (value.kind) {
    case Kind::Text:
      return value.text;
    case Kind::Whole:
      return value.whole;
    case Kind::Truth:
      return value.truth;
    case Kind::Real:
      if (!std::isfinite(value.real))
        wrong.add(value.at, "{} cannot be an option: JSON has no such number", value.shown());
      return value.real;
    case Kind::Time:
      wrong.add(value.at, "a date or a time cannot be an option: JSON has none; write it as text");
      return nullptr;
    case Kind::List: {
      json list = json::array();
      for (const toml::Value& item : value.items) list.push_back(convert(item, wrong));
      return list;
    }
    case Kind::Table: {
      json table = json::object();
      for (const toml::Value& item : value.items) table[item.key] = convert(item, wrong);
      return table;
    }
  }
  return nullptr;
}

}  // namespace

std::string json_of(const toml::Value& table, Mistakes& wrong) { return convert(table, wrong).dump(); }

}  // namespace runner::agent
