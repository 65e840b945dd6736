#include "runner/agent/schema.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "runner/config/yaml.h"

namespace runner::agent {

namespace {

using nlohmann::json;
using Said = std::optional<std::string>;

constexpr std::size_t kDeepestSchema = 32;
constexpr std::size_t kDeepestArguments = 64;
constexpr std::size_t kMostNames = 40;  // in one message

// "[json.exception.parse_error.101] parse error at line 1, column 2: syntax error ..." without what is of the library.
std::string plain_reason(std::string text) {
  for (std::string_view end : {"] ", "parse error at "}) {
    std::size_t found = text.find(end);
    if (found != std::string::npos) text.erase(0, found + end.size());
  }
  return text;
}

/// Looks at each event of the parser and keeps no tree.
class Judge : public nlohmann::json_sax<json> {
 public:
  explicit Judge(std::size_t deepest) : deepest_(deepest) {}
  Said said;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return open(); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    said = fmt::format("has the key {} twice in one object", quote(name));
    return false;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    said = "is no JSON: " + plain_reason(error.what());
    return false;
  }

 private:
  bool open() {
    keys_.emplace_back();
    if (keys_.size() > deepest_) said = fmt::format("is nested deeper than {} levels", deepest_);
    return !said;
  }
  bool close() {
    keys_.pop_back();
    return true;
  }

  std::size_t deepest_;
  std::vector<std::set<std::string>> keys_;  // of each object that is open, and nothing for a list
};

std::string shown(const json& value) {
  switch (value.type()) {
    case json::value_t::object:
      return "an object";
    case json::value_t::array:
      return "an array";
    case json::value_t::string:
      return quote(value.get_ref<const std::string&>());
    case json::value_t::number_float:
    case json::value_t::number_integer:
    case json::value_t::number_unsigned:
      return value.dump();
    case json::value_t::boolean:
      return value.get<bool>() ? "true" : "false";
    default:
      return "null";
  }
}

// 5.0 is an integer to JSON Schema. A larger one than a double holds exactly is not to be cast by anybody.
bool is_integer(const json& value) {
  if (value.is_number_integer()) return true;
  if (!value.is_number_float()) return false;
  double number = value.get<double>();
  return std::trunc(number) == number && std::fabs(number) <= 9007199254740992.0;
}

bool has_type(const json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "number") return value.is_number();
  if (type == "integer") return is_integer(value);
  return true;  // no type that we know of
}

std::string with_article(const std::string& type) {
  if (type == "null") return type;
  return (std::string_view("aio").find(type[0]) != std::string_view::npos ? "an " : "a ") + type;
}

/// Where in the arguments: "argv[0]", "env.PATH".
std::string inside(const std::string& name, const std::string& key) { return name.empty() ? key : name + "." + key; }
std::string called(const std::string& name) { return name.empty() ? "the arguments" : name; }

Said check(const json& schema, const json& value, const std::string& name);

Said check_type(const json& schema, const json& value, const std::string& name) {
  auto found = schema.find("type");
  if (found == schema.end()) return {};
  std::vector<std::string> types;
  for (const json& type : found->is_array() ? *found : json::array({*found})) {
    if (!type.is_string() || type.get_ref<const std::string&>().empty()) return {};
    if (has_type(value, type)) return {};
    types.push_back(with_article(type));
  }
  if (types.empty()) return {};
  return fmt::format("{} must be {}, not {}", called(name), fmt::join(types, " or "), shown(value));
}

Said check_enum(const json& schema, const json& value, const std::string& name) {
  auto found = schema.find("enum");
  if (found == schema.end() || !found->is_array()) return {};
  std::vector<std::string> words;
  for (const json& word : *found) {
    if (word == value) return {};
    if (words.size() < kMostNames) words.push_back(shown(word));
  }
  return fmt::format("{} must be one of {}, not {}", called(name), fmt::join(words, ", "), shown(value));
}

// As doubles: nlohmann takes -1 for as large as the largest number without a sign.
Said check_range(const json& schema, const json& value, const std::string& name) {
  if (!value.is_number()) return {};
  auto least = schema.find("minimum"), most = schema.find("maximum");
  if (least != schema.end() && least->is_number() && value.get<double>() < least->get<double>())
    return fmt::format("{} must be at least {}, not {}", called(name), least->dump(), value.dump());
  if (most != schema.end() && most->is_number() && value.get<double>() > most->get<double>())
    return fmt::format("{} must be at most {}, not {}", called(name), most->dump(), value.dump());
  return {};
}

Said check_object(const json& schema, const json& value, const std::string& name) {
  if (!value.is_object()) return {};
  static const json kNothing = json::object();
  auto required = schema.find("required");
  if (required != schema.end() && required->is_array())
    for (const json& key : *required)
      if (key.is_string() && !value.contains(key.get_ref<const std::string&>()))
        return fmt::format("{} is missing", inside(name, key.get_ref<const std::string&>()));

  auto found = schema.find("properties");
  const json& properties = found != schema.end() && found->is_object() ? *found : kNothing;
  auto more = schema.find("additionalProperties");
  bool closed = more != schema.end() && more->is_boolean() && !more->get<bool>();
  for (const auto& [key, member] : value.items()) {
    auto property = properties.find(key);
    if (property == properties.end()) {
      if (!closed) {
        if (more != schema.end())
          if (auto said = check(*more, member, inside(name, key))) return said;
        continue;
      }
      std::vector<std::string> known;
      for (const auto& [other, unused] : properties.items())
        if (known.size() < kMostNames) known.push_back(other);
      std::string hint = known.empty() ? "there is none" : fmt::format("there are {}", fmt::join(known, ", "));
      if (name.empty()) return fmt::format("there is no argument {}; {}", quote(key), hint);
      return fmt::format("{} has no property {}; {}", name, quote(key), hint);
    }
    if (auto said = check(*property, member, inside(name, key))) return said;
  }
  return {};
}

Said check_array(const json& schema, const json& value, const std::string& name) {
  if (!value.is_array()) return {};
  auto least = schema.find("minItems");
  if (least != schema.end() && least->is_number() && value.size() < least->get<double>())
    return fmt::format("{} must have at least {} items, not {}", called(name), least->dump(), value.size());
  auto items = schema.find("items");
  if (items == schema.end()) return {};
  for (std::size_t i = 0; i < value.size(); ++i)
    if (auto said = check(*items, value[i], fmt::format("{}[{}]", name, i))) return said;
  return {};
}

// Ends: each step goes down in `value`, which is not deep.
Said check(const json& schema, const json& value, const std::string& name) {
  if (!schema.is_object()) return {};
  for (auto part : {check_type, check_enum, check_range, check_object, check_array})
    if (auto said = part(schema, value, name)) return said;
  return {};
}

}  // namespace

std::optional<std::string> wrong_with_json(const std::string& text, std::size_t deepest) {
  Judge judge(deepest);
  json::sax_parse(text, &judge);
  return judge.said;
}

std::optional<std::string> wrong_with_schema(const std::string& text) {
  if (auto why = wrong_with_json(text, kDeepestSchema)) return why;
  json schema = json::parse(text);
  if (!schema.is_object()) return "must be a JSON object, not " + shown(schema);
  auto type = schema.find("type");
  if (type == schema.end() || *type != "object")
    return R"(must have "type": "object": the arguments of a tool are an object)";
  return std::nullopt;
}

std::optional<std::string> check_arguments(const std::string& schema_json, const std::string& arguments_json) {
  if (auto why = wrong_with_json(arguments_json, kDeepestArguments)) return "the text of the arguments " + *why;
  json arguments = json::parse(arguments_json);
  if (!arguments.is_object()) return "the arguments must be an object, not " + shown(arguments);
  if (wrong_with_json(schema_json, kDeepestSchema)) return std::nullopt;
  return check(json::parse(schema_json), arguments, "");
}

}  // namespace runner::agent
