// What an expert is told before anything else.
#pragma once

#include <string>

#include "runner/agent/expert.h"

namespace runner::agent {

/// The frame, the instruction, each skill's rule, each delegate with its description. The same for each step of a job,
/// since providers cache it from its beginning: what changes from job to job, the time at which it `started`, is last.
std::string system_prompt(const ExpertFile& file, const Expert& expert, const std::string& started);

/// The instruction with the AGENTS.md of a workspace behind it: at most 20 KiB of that, with a note if there was more.
std::string with_agents_md(const std::string& instruction, const std::string& text);

}  // namespace runner::agent
