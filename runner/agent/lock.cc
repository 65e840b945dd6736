#include "runner/agent/lock.h"

#include <nettle/sha2.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "runner/agent/schema.h"
#include "runner/agent/text.h"
#include "runner/config/yaml.h"

namespace runner::agent {

namespace {

using nlohmann::json;

constexpr std::size_t kDeepest = 48;  // of which a schema may take 32
constexpr int kIndent = 1;
constexpr std::size_t kLargestLock = 16 << 20;  // each skill may have a thousand tools

std::string sha256(const std::string& bytes) {
  sha256_ctx context;
  std::uint8_t digest[SHA256_DIGEST_SIZE];
  sha256_init(&context);
  sha256_update(&context, bytes.size(), reinterpret_cast<const std::uint8_t*>(bytes.data()));
  sha256_digest(&context, sizeof digest, digest);
  std::string hex;
  for (std::uint8_t byte : digest) hex += fmt::format("{:02x}", byte);
  return hex;
}

// Of what servers send: bytes that are no UTF-8 are replaced, since json::dump() would throw.
std::string text_of(const json& value, int indent = -1) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

// A schema that is no JSON stays the text that it is, so that it has a digest too.
json schema_of(const ToolDefinition& tool) {
  if (wrong_with_json(tool.schema, kDeepest)) return tool.schema;
  return json::parse(tool.schema);
}


// ---- reading -----------------------------------------------------------------------------------------------------

/// A value with its name in messages, "experts.lead.files.tools[0]". What is read from a value of the wrong type is empty.
class Reader {
 public:
  Reader(const json& value, std::string name, const std::string& source, Diagnostics& wrong)
      : value_(value), name_(std::move(name)), source_(source), wrong_(wrong) {}

  template <typename... Args>
  void refuse(fmt::format_string<const Args&...> text, const Args&... args) const {
    std::string why = fmt::format(text, args...);
    wrong_.add({source_}, "{}{}{}", name_, name_.empty() ? "" : ": ", why);
  }
  bool is_object() const { return expect(value_.is_object(), "an object"); }
  bool is_array() const { return expect(value_.is_array(), "an array"); }
  const json& value() const { return value_; }

  Reader at(const std::string& key) const {
    static const json kMissing;
    auto found = value_.find(key);
    std::string name = name_.empty() ? key : name_ + "." + key;
    return {found == value_.end() ? kMissing : *found, name, source_, wrong_};
  }
  Reader at(std::size_t index) const { return {value_[index], fmt::format("{}[{}]", name_, index), source_, wrong_}; }

  std::string text() const { return expect(value_.is_string(), "text") ? value_.get<std::string>() : ""; }
  std::string digest() const {
    std::string text = this->text();
    bool hex = text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
    if (value_.is_string() && !hex) refuse("must be a SHA-256 of 64 digits, not {}", quote(text));
    return text;
  }
  void only(std::initializer_list<std::string_view> keys) const {
    for (const auto& [key, unused] : value_.items())
      if (std::ranges::find(keys, key) == keys.end()) refuse("unknown key {}", quote(key));
  }

 private:
  bool expect(bool good, const char* what) const {
    if (!good) refuse("{}{}", value_.is_null() ? "is missing; it must be " : "must be ", what);
    return good;
  }

  const json& value_;
  std::string name_;
  const std::string& source_;
  Diagnostics& wrong_;
};

LockedTool read_tool(const Reader& from) {
  LockedTool tool;
  if (!from.is_object()) return tool;
  from.only({"name", "description", "schema", "digest"});
  tool.definition.name = from.at("name").text();
  if (!tool.definition.name.empty() && !is_name(tool.definition.name))
    from.at("name").refuse("{} cannot be the name of a tool", quote(tool.definition.name));
  tool.definition.description = from.at("description").text();
  if (from.at("schema").is_object()) tool.definition.schema = text_of(from.value()["schema"]);
  tool.digest = from.at("digest").digest();
  if (!tool.definition.schema.empty() && tool.digest.size() == 64 && tool.digest != tool_digest(tool.definition))
    from.at("digest").refuse("is not that of the tool beside it: one of them was changed");
  return tool;
}

LockedSkill read_skill(const Reader& from) {
  LockedSkill skill;
  if (!from.is_object()) return skill;
  from.only({"digest", "era", "tools"});
  skill.digest = from.at("digest").digest();
  std::string era = from.at("era").text();
  skill.era = era == "legacy" ? Era::Legacy : Era::Modern;
  if (!era.empty() && era != word(skill.era)) from.at("era").refuse("must be modern or legacy, not {}", quote(era));

  Reader tools = from.at("tools");
  if (!tools.is_array()) return skill;
  std::set<std::string> names;
  for (std::size_t i = 0; i < tools.value().size(); ++i) {
    skill.tools.push_back(read_tool(tools.at(i)));
    const std::string& name = skill.tools.back().definition.name;
    if (!name.empty() && !names.insert(name).second) tools.at(i).refuse("there are two tools called {}", quote(name));
  }
  std::ranges::sort(skill.tools, {}, [](const LockedTool& tool) { return tool.definition.name; });
  return skill;
}

}  // namespace

std::string skill_digest(const McpStdioSkill& skill) {
  json argv = json::array({skill.command});
  for (const std::string& arg : skill.args) argv.push_back(arg);
  std::set<std::string> env(skill.required_env.begin(), skill.required_env.end());
  return sha256(text_of({{"argv", argv}, {"env", env}}));
}

std::string tool_digest(const ToolDefinition& tool) {
  return sha256(text_of({{"name", tool.name}, {"description", tool.description}, {"schema", schema_of(tool)}}));
}

LockedSkill lock_skill(const McpStdioSkill& skill, Era era, const std::vector<ToolDefinition>& tools) {
  LockedSkill locked{skill_digest(skill), era, {}};
  for (const ToolDefinition& tool : tools) locked.tools.push_back({tool, tool_digest(tool)});
  std::ranges::sort(locked.tools, {}, [](const LockedTool& tool) { return tool.definition.name; });
  return locked;
}

std::optional<Lock> read_lock(const std::string& path, const std::string& text, Diagnostics& wrong) {
  std::size_t before = wrong.entries().size();
  if (text.size() > kLargestLock) return wrong.add({path}, "larger than {} bytes", kLargestLock), std::nullopt;
  if (auto why = wrong_with_json(text, kDeepest)) return wrong.add({path}, "{}", *why), std::nullopt;
  json root = json::parse(text);
  Reader from(root, "", path, wrong);
  if (!from.is_object()) return std::nullopt;

  from.only({"version", "experts"});
  Reader version = from.at("version");
  if (version.value() != 1) version.refuse("must be 1, not {}", text_of(version.value()));
  Lock lock;
  if (Reader experts = from.at("experts"); experts.is_object())
    for (const auto& [expert, skills] : experts.value().items())
      if (Reader of = experts.at(expert); of.is_object())
        for (const auto& [skill, unused] : skills.items()) lock.experts[expert][skill] = read_skill(of.at(skill));
  if (wrong.entries().size() > before) return std::nullopt;
  return lock;
}

std::string write_lock(const Lock& lock) {
  json experts = json::object();
  for (const auto& [expert, skills] : lock.experts)
    for (const auto& [name, skill] : skills) {
      json tools = json::array();
      for (const LockedTool& tool : skill.tools)
        tools.push_back({{"name", tool.definition.name},
                         {"description", tool.definition.description},
                         {"schema", schema_of(tool.definition)},
                         {"digest", tool.digest}});
      experts[expert][name] = {{"digest", skill.digest}, {"era", word(skill.era)}, {"tools", tools}};
    }
  return text_of({{"version", 1}, {"experts", experts}}, kIndent) + "\n";
}

std::vector<std::string> drift(const Lock& lock, const ExpertFile& file) {
  std::vector<std::string> said;
  auto locked = [&](const std::string& expert, const std::string& skill) -> const LockedSkill* {
    auto skills = lock.experts.find(expert);
    if (skills == lock.experts.end()) return nullptr;
    auto found = skills->second.find(skill);
    return found == skills->second.end() ? nullptr : &found->second;
  };
  auto in_file = [&](const std::string& expert, const std::string& skill) -> const McpStdioSkill* {
    auto found = file.experts.find(expert);
    if (found == file.experts.end()) return nullptr;
    auto of = found->second.skills.find(skill);
    return of == found->second.skills.end() ? nullptr : std::get_if<McpStdioSkill>(&of->second.is);
  };
  for (const auto& [expert, value] : file.experts)
    for (const auto& [skill, unused] : value.skills) {
      const McpStdioSkill* mcp = in_file(expert, skill);
      const LockedSkill* lock_of = mcp ? locked(expert, skill) : nullptr;
      if (mcp && !lock_of) said.push_back(fmt::format("skill '{}' of expert '{}' is not in the lock", skill, expert));
      if (lock_of && lock_of->digest != skill_digest(*mcp))
        said.push_back(fmt::format(
            "skill '{}' of expert '{}' has another command, other arguments or another requiredEnv than in the lock",
            skill, expert));
    }
  for (const auto& [expert, skills] : lock.experts)
    for (const auto& [skill, unused] : skills)
      if (!in_file(expert, skill))
        said.push_back(fmt::format("the lock has a skill {} of expert {} that the expert file has not", quote(skill),
                                   quote(expert)));
  return said;
}

std::vector<std::string> drift(const LockedSkill& locked, const std::string& skill, Era era,
                               const std::vector<ToolDefinition>& tools) {
  std::vector<std::string> said;
  if (era != locked.era)
    said.push_back(fmt::format("the server of skill '{}' speaks the {} protocol, not the {} one of the lock", skill,
                               word(era), word(locked.era)));
  auto find = [](const auto& list, const std::string& name, auto projection) {
    return std::ranges::find(list, name, projection);
  };
  auto locked_name = [](const LockedTool& tool) { return tool.definition.name; };
  for (const ToolDefinition& tool : tools) {
    auto found = find(locked.tools, tool.name, locked_name);
    if (found == locked.tools.end()) {
      said.push_back(fmt::format("skill '{}' has a new tool {}", skill, quote(tool.name)));
    } else if (found->digest != tool_digest(tool)) {
      bool same_text = found->definition.description == tool.description;
      bool same_schema = schema_of(found->definition) == schema_of(tool);
      const char* what = same_text     ? "another schema"
                         : same_schema ? "another description"
                                       : "another description and schema";
      said.push_back(fmt::format("the tool {} of skill '{}' has {}", quote(tool.name), skill, what));
    }
  }
  for (const LockedTool& tool : locked.tools)
    if (find(tools, tool.definition.name, &ToolDefinition::name) == tools.end())
      said.push_back(fmt::format("skill '{}' has no tool {} any more", skill, quote(tool.definition.name)));
  return said;
}

}  // namespace runner::agent
