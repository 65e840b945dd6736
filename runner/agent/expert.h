// What a user says about the experts of a job: a TOML file, experts.toml, read strictly. agent-loop.md §1 shows one.
//
//   schema = 1                            # required
//   model = "claude-sonnet-4-5"
//   max_steps = 100                       # also maxSteps
//   max_retries = 5                       # also maxRetries
//   max_tokens = 8192                     # of one answer
//   timeout = "5m"                        # of one generation; a bare number is milliseconds
//   [provider]                            # name, base_url, key_env; file, of script and replay
//   [limits]                              # of a job: steps, tokens, money, wall
//   [prices."MODEL"]                      # input, output, cache_read, cache_write
//   [options."MODEL"]                     # goes into the body of each request as it is
//   [experts."NAME"]                      # instruction is required
//   [experts."NAME".skills."NAME"]        # type: mcpStdioSkill or interactiveSkill
//   [experts."NAME".skills."NAME".tools."NAME"]
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runner/config/diagnostics.h"

namespace runner::agent {

struct ProviderChoice {
  std::string name = "anthropic";             // anthropic, openai (any compatible server), replay, script
  std::string base_url;                       // empty: the provider's own
  std::string key_env = "ANTHROPIC_API_KEY";  // the variable with the key; empty: none is needed
  std::string file;                           // of script: its answers; of replay, or empty: the recording
  bool operator==(const ProviderChoice&) const = default;
};

struct JobLimits {  // 0: none
  std::uint64_t steps = 0, tokens = 0;
  std::uint64_t money = 0;  // micro-units, as prices
  std::uint64_t wall = 0;   // milliseconds
  bool operator==(const JobLimits&) const = default;
};

struct Price {  // micro-units a million tokens; what a file does not say of the cache costs as much as input
  std::uint64_t input = 0, output = 0, cache_read = 0, cache_write = 0;
  bool operator==(const Price&) const = default;
};

struct McpStdioSkill {  // an MCP server that is started inside the sandbox
  std::string command;
  std::vector<std::string> args;
  std::vector<std::string> required_env;  // names: beside PATH HOME LANG TERM the only variables that it gets
  std::vector<std::string> omit,
      pick;  // tools: omit takes away first; of the rest pick keeps these, or all if it is empty
  std::uint64_t memory = 0, pids = 0;  // 0: only the session's limits
  bool operator==(const McpStdioSkill&) const = default;
};

struct InteractiveTool {  // the answer comes from a person
  enum class Kind { Confirm, Input, Choose };
  Kind kind = Kind::Confirm;
  std::string description;
  std::string schema = R"({"type":"object"})";  // of its arguments: a JSON object
  bool operator==(const InteractiveTool&) const = default;
};

struct InteractiveSkill {
  std::map<std::string, InteractiveTool> tools;
  bool operator==(const InteractiveSkill&) const = default;
};

struct Skill {
  std::string description;
  std::string rule;  // for the system prompt
  std::variant<McpStdioSkill, InteractiveSkill> is;
  bool operator==(const Skill&) const = default;
};

struct Expert {
  enum class Isolation { Shared, Fork };  // Fork: each delegate works in a fork of the session

  std::string name, version;
  std::string description;                        // for the experts that delegate to it
  std::string instruction;                        // private: never an event's
  std::string model;                              // empty: the file's
  std::uint64_t max_tokens = 0;                   // 0: the file's
  std::vector<std::string> delegates;             // experts, each a tool of its name
  std::string policy;                             // a name or a path; empty: the session's
  std::vector<std::string> approve;               // tools that wait for a person
  std::optional<std::vector<std::string>> tools;  // of the built-in ones it has these and `complete`; empty: all
  std::uint64_t max_parallel = 4;                 // delegates at once
  Isolation isolation = Isolation::Shared;
  std::map<std::string, Skill> skills;
  bool operator==(const Expert&) const = default;
};

struct ExpertFile {
  std::string path;
  std::string model;  // empty: the caller must say
  std::uint64_t max_steps = 100, max_retries = 5, max_tokens = 8192;
  std::uint64_t timeout = 300'000;  // milliseconds, of one generation
  ProviderChoice provider;
  JobLimits limits;
  std::map<std::string, Price> prices;         // by model
  std::map<std::string, std::string> options;  // by model: a JSON object that is merged into the body of each request
  std::map<std::string, Expert> experts;
  bool operator==(const ExpertFile&) const = default;
};

/// Nothing when anything is wrong; `wrong` then holds every mistake, in the order of the lines. `path` names the file in
/// messages, and what it names by relative paths is looked for beside it.
std::optional<ExpertFile> read_experts(const std::string& path, const std::string& text, Diagnostics& wrong);

/// The experts that a job of this one can come to, and itself.
std::set<std::string> reachable(const ExpertFile& file, const std::string& from);

/// experts.toml, else perstack.toml, in this directory or else in the nearest parent that has one.
std::optional<std::string> find_expert_file(const std::string& directory);

/// Variables that no expert file sets for a skill: the runner does, or they make a program load another's code.
bool is_reserved_variable(std::string_view name);

}  // namespace runner::agent
