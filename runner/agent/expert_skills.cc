#include <algorithm>
#include <array>

#include "runner/agent/expert_parts.h"
#include "runner/agent/schema.h"
#include "runner/agent/text.h"
#include "runner/config/units.h"
#include "runner/config/yaml.h"

namespace runner::agent {

namespace {

using Kind = toml::Value::Kind;

constexpr std::array<std::string_view, 2> kTypes = {"mcpStdioSkill", "interactiveSkill"};
constexpr std::uint64_t kSmallestMemory = 4 << 20, kLargestMemory = std::uint64_t{1} << 50;  // as a policy's
constexpr std::uint64_t kMostPids = 4'194'304;

// ---- mcpStdioSkill -----------------------------------------------------------------------------------------------

void check_variables(const std::vector<Listed>& names, const std::string& key_env, Mistakes& wrong) {
  for (const auto& [name, at] : names) {
    if (!is_variable(name))
      wrong.add(at, "requiredEnv must hold names of variables, not {}", quote(name));
    else if (is_reserved_variable(name))
      wrong.add(at, "requiredEnv may not hold {}: the runner sets it, or nobody does", name);
    else if (name == key_env)
      wrong.add(at, "requiredEnv may not hold {}: it is the key of the model, which never enters a sandbox", name);
  }
}

void read_tool_names(Fields& fields, const char* key, std::vector<std::string>& to, Mistakes& wrong) {
  std::vector<Listed> names;
  fields.list(key, names);
  for (const Listed& name : names) check_name(name.text, name.at, "a tool", wrong);
  to = texts(names);
}

void read_skill_limits(const toml::Value& table, const std::string& skill, McpStdioSkill& to, Mistakes& wrong) {
  Fields fields(table, fmt::format("the limits of skill {}", quote(skill)), wrong);
  fields.whole("pids", to.pids, 1, kMostPids);
  std::string memory;
  if (fields.text("memory", memory)) {
    auto bytes = parse_size(memory);
    toml::Place at = table.find("memory")->at;
    if (!bytes)
      wrong.add(at, "memory must be a size such as 512M, not {}", quote(memory));
    else if (*bytes < kSmallestMemory || *bytes > kLargestMemory)
      wrong.add(at, "memory {} is out of range; it is {} to {}", memory, format_size(kSmallestMemory),
                format_size(kLargestMemory));
    to.memory = bytes.value_or(0);
  }
  fields.end();
}

McpStdioSkill read_mcp(Fields& fields, const toml::Value& table, const std::string& key_env, Mistakes& wrong) {
  McpStdioSkill skill;
  if (fields.text("command", skill.command)) {
    if (skill.command.empty())
      wrong.add(table.find("command")->at, "the command of skill {} is empty", quote(table.key));
  } else if (!table.find("command")) {
    wrong.add(table.key_at, "skill {} has no command", quote(table.key));
  }
  std::vector<Listed> args, env;
  fields.list("args", args, false);
  skill.args = texts(args);
  fields.list("requiredEnv", env);
  check_variables(env, key_env, wrong);
  skill.required_env = texts(env);
  read_tool_names(fields, "omit", skill.omit, wrong);
  read_tool_names(fields, "pick", skill.pick, wrong);
  if (const toml::Value* limits = fields.find_table("limits")) read_skill_limits(*limits, table.key, skill, wrong);
  return skill;
}

// ---- interactiveSkill --------------------------------------------------------------------------------------------

InteractiveTool read_tool(const toml::Value& table, Mistakes& wrong) {
  constexpr std::array<std::string_view, 3> kKinds = {"confirm", "input", "choose"};
  Fields fields(table, fmt::format("tool {}", quote(table.key)), wrong);
  InteractiveTool tool;
  std::size_t kind = 0;
  fields.choice("kind", kKinds, kind);
  if (!table.find("kind"))
    wrong.add(table.key_at, "tool {} has no kind; it is one of {}", quote(table.key), fmt::join(kKinds, ", "));
  tool.kind = static_cast<InteractiveTool::Kind>(kind);
  fields.text("description", tool.description);
  if (!table.find("description"))
    wrong.add(table.key_at, "tool {} has no description, by which the model knows when to ask", quote(table.key));
  if (fields.text("inputJsonSchema", tool.schema))
    if (auto why = wrong_with_schema(tool.schema))
      wrong.add(table.find("inputJsonSchema")->at, "the inputJsonSchema of tool {} {}", quote(table.key), *why);
  fields.end();
  return tool;
}

InteractiveSkill read_interactive(Fields& fields, const toml::Value& table, ReadExpert& to, Mistakes& wrong) {
  InteractiveSkill skill;
  const toml::Value* tools = fields.find_table("tools");
  if (!table.find("tools") || (tools && tools->items.empty()))
    wrong.add(table.key_at, "skill {} has no tool; add [experts.\"{}\".skills.\"{}\".tools.\"NAME\"]", quote(table.key),
              to.expert.name, table.key);
  if (!tools) return skill;
  for (const toml::Value& item : tools->items) {
    check_name(item.key, item.key_at, "a tool", wrong);
    to.tools.push_back({item.key, item.key_at});
    if (item.is(Kind::Table))
      skill.tools[item.key] = read_tool(item, wrong);
    else
      wrong.add(item.at, "tool {} must be a table, not {}", quote(item.key), item.shown());
  }
  return skill;
}

void read_skill(const toml::Value& table, const std::string& key_env, ReadExpert& to, Mistakes& wrong) {
  Fields fields(table, fmt::format("skill {}", quote(table.key)), wrong);
  std::size_t type = 0;
  if (!fields.choice("type", kTypes, type)) {
    if (!table.find("type"))
      wrong.add(table.key_at, "skill {} has no type; it is one of {}", quote(table.key), fmt::join(kTypes, ", "));
    return;  // which keys it may have is not known
  }
  Skill skill;
  fields.text("description", skill.description);
  fields.text("rule", skill.rule);
  if (type == 0)
    skill.is = read_mcp(fields, table, key_env, wrong);
  else
    skill.is = read_interactive(fields, table, to, wrong);
  fields.end();
  to.expert.skills[table.key] = std::move(skill);
}

}  // namespace

void read_skills(const toml::Value& table, const std::string& key_env, ReadExpert& to, Mistakes& wrong) {
  for (const toml::Value& item : table.items) {
    check_name(item.key, item.key_at, "a skill", wrong);
    if (item.is(Kind::Table))
      read_skill(item, key_env, to, wrong);
    else
      wrong.add(item.at, "skill {} must be a table, not {}", quote(item.key), item.shown());
  }
}

bool check_name(const std::string& text, toml::Place at, const char* what, Mistakes& wrong) {
  if (is_name(text)) return true;
  wrong.add(at, "{} cannot be the name of {}; 1 to 64 letters, digits, '-' and '_' can", quote(text), what);
  return false;
}

bool is_variable(std::string_view name) {
  auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  auto fits = [&](char c) { return letter(c) || (c >= '0' && c <= '9'); };
  return !name.empty() && letter(name[0]) && std::ranges::all_of(name, fits);
}

bool is_reserved_variable(std::string_view name) {
  constexpr std::array<std::string_view, 8> kReserved = {"PATH",         "HOME",       "LANG",     "TERM",
                                                         "NODE_OPTIONS", "PYTHONPATH", "PERL5LIB", "RUBYLIB"};
  return name.starts_with("LD_") || std::ranges::find(kReserved, name) != kReserved.end();
}

}  // namespace runner::agent
