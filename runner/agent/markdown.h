// Sub-agents as other programs keep them: a Markdown file whose front matter says who it is, and whose body instructs it.
//
//   ---
//   name: code-reviewer
//   description: Reviews code for security problems.
//   tools: Read, Grep, Bash
//   model: inherit
//   ---
//   You are a code reviewer who looks at security first.
//
// The front matter is lines of "key: value", the value plain or in quotes, and nothing else of YAML. name and description
// are required; without tools it has all of the built-in ones; a model of "inherit" is the file's, any other is taken as
// it is; color says nothing here. The names of tools are ours, or these:
//
//   Read                read_file                        Bash        exec
//   Write               write_file append_file make_dir  TodoWrite   todo
//   Edit MultiEdit      edit_file                        TodoRead    todo
//   LS Glob             list_dir stat
//   Grep                list_dir stat read_file          (that it may search by reading, and not more: exec is more)
//
// Others (WebFetch, WebSearch, Task, NotebookEdit, mcp__...) have no counterpart, and naming one is a mistake.
#pragma once

#include <optional>
#include <string>

#include "runner/agent/expert.h"
#include "runner/config/diagnostics.h"

namespace runner::agent {

/// A file with this one expert. Nothing when anything is wrong; `wrong` then holds every mistake.
std::optional<ExpertFile> read_markdown(const std::string& path, const std::string& text, Diagnostics& wrong);

/// Each *.md of the folder becomes an expert of the file and a delegate of `caller`, in the order of their names. False,
/// and the file as it was, when anything is wrong with one of them.
bool add_markdown_folder(const std::string& folder, const std::string& caller, ExpertFile& file, Diagnostics& wrong);

}  // namespace runner::agent
