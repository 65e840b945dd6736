// The tools of one run: what they are called, and how each is used. What works inside the sandbox goes through calls of the session (session_call.h).
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runner/agent/context.h"
#include "runner/agent/lock.h"
#include "runner/agent/session_call.h"
#include "runner/agent/tool_end.h"

namespace runner::agent {

enum class ToolKind { Unknown, File, Exec, Todo, Complete, Mcp, Interactive, Delegate };

/// An error result of one sentence.
ToolEnd error_end(const std::string& sentence);
/// The name of an attempt of a call in the journal: one that is sent again, with what a person has told its server, is another.
std::string intent_of(const Call& call);

class Toolbox {
 public:
  /// Starts nothing yet. `session` is where this run works.
  Toolbox(Context& context, const Run& run, const Expert& expert, std::string session);
  ~Toolbox();

  /// All of them, sorted by name. To be called once. MCP servers are started for it, unless the job knows what they offer. Throws McpError with the skill.
  const std::vector<ToolDefinition>& definitions();
  ToolKind kind(const std::string& tool) const;
  const ToolDefinition* find(const std::string& tool) const;  ///< null for none of that name
  const InteractiveTool* interactive(const std::string& tool) const;

  /// File, Exec and Mcp. What was begun before a crash, as the journal says, is taken up where it was. Throws Cancelled; everything else that
  /// goes wrong is an error result.
  ToolEnd use(const Call& call, bool begun);
  /// Its result is in the journal: whoever made it need not remember it any more.
  void settled(const Call& call);

  /// All that a first call would have to wait for: for a snapshot of it. Instead of definitions().
  void make_ready();

  /// For a checkpoint: how far each server has been listened to. The connections are closed, since the session is about to be suspended.
  void let_go();

 private:
  struct Server;

  void reach_files();
  ToolEnd use_file(const Call& call, bool begun);
  ToolEnd use_exec(const Call& call, bool begun);
  ToolEnd use_server(Server& server, const Call& call, bool begun);
  Server& reach_server(const std::string& skill);
  void greet(Server& server);
  Server& start_server(const std::string& skill);
  const LockedSkill* locked(const std::string& skill) const;  ///< null when experts.lock has nothing of it
  void check_lock(const std::string& skill, Era era, const std::vector<ToolDefinition>& tools) const;
  void add_tools(const std::string& skill, const McpStdioSkill& is, const std::vector<ToolDefinition>& tools);

  Context& context_;
  const Run& run_;
  const Expert& expert_;
  std::string session_;
  std::vector<ToolDefinition> definitions_;
  std::map<std::string, ToolKind> kinds_;
  std::map<std::string, std::string> skill_of_;   // MCP and interactive tools
  std::map<std::string, std::unique_ptr<Server>> servers_;
  struct Files;
  std::unique_ptr<Files> files_;
};

}  // namespace runner::agent
