// The tools that every expert has, whatever its skills: their definitions. Another part of the program runs them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runner/agent/message.h"
#include "runner/agent/schema.h"  // check_arguments: for these tools and all others

namespace runner::agent {

/// Sorted by name. With `only`, those of them and `complete`, without which no work would end.
std::vector<ToolDefinition> builtin_tools(const std::optional<std::vector<std::string>>& only = {});

std::vector<std::string> builtin_names();  ///< sorted
bool is_builtin(std::string_view name);

/// read_file, list_dir, stat: they change nothing, so that several may run at once.
bool read_only(std::string_view name);

}  // namespace runner::agent
