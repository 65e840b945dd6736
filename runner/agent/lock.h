// experts.lock: what the MCP servers of an expert file were when its user last looked. With it a server need not run before
// its first call, and one that has changed its tools since is found out.
//
//   {"version": 1, "experts": {"code-reviewer": {"files": {"digest": "...", "era": "modern", "tools": [
//     {"name": "grep", "description": "...", "schema": {...}, "digest": "..."}]}}}}
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runner/agent/expert.h"
#include "runner/agent/mcp_messages.h"  // Era
#include "runner/agent/message.h"
#include "runner/config/diagnostics.h"

namespace runner::agent {

struct LockedTool {
  ToolDefinition definition;
  std::string digest;
  bool operator==(const LockedTool&) const = default;
};

struct LockedSkill {
  std::string digest;  // skill_digest()
  Era era = Era::Modern;
  std::vector<LockedTool> tools;  // sorted by name
  bool operator==(const LockedSkill&) const = default;
};

struct Lock {
  std::map<std::string, std::map<std::string, LockedSkill>> experts;  // by expert and skill
  bool operator==(const Lock&) const = default;
};

/// SHA-256 of argv and of the names in requiredEnv, whatever their order.
std::string skill_digest(const McpStdioSkill& skill);
/// SHA-256 of name, description and schema, whatever the order of keys in that.
std::string tool_digest(const ToolDefinition& tool);

LockedSkill lock_skill(const McpStdioSkill& skill, Era era, const std::vector<ToolDefinition>& tools);

/// Nothing when anything is wrong; `wrong` then holds every mistake. A tool whose digest is not that of what stands
/// beside it was changed by hand: that is one.
std::optional<Lock> read_lock(const std::string& path, const std::string& text, Diagnostics& wrong);
std::string write_lock(const Lock& lock);

/// How the expert file differs from it, in sentences; what either has and the other has not is a difference.
std::vector<std::string> drift(const Lock& lock, const ExpertFile& file);
/// How the tools that a server has now differ from those of its lock.
std::vector<std::string> drift(const LockedSkill& locked, const std::string& skill, Era era,
                               const std::vector<ToolDefinition>& tools);

}  // namespace runner::agent
