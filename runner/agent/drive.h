// One job, from its beginning or from where it stands to its end or to a question: what runner-agent does once it has no privilege any more.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "runner/agent/context.h"
#include "runner/agent/lock.h"
#include "runner/agent/replay.h"
#include "runner/agent/script.h"

namespace runner::agent {

/// design.md §6.
constexpr int kCompleted = 0, kIncomplete = 1, kPaused = 75, kTimedOut = 124, kRunnerFailed = 125;

struct Assignment {
  std::string job, expert, query, session, started, expert_sha256, runner_version, resume_from;
  bool begins = false;            // else it goes on
  bool answers_on_stdin = false, cancel = false, warms = false, locks = false;
  bool deltas = false, recorded_tools = false, interactive_delegates = true;
  std::map<std::string, Answer> answers;
  std::map<std::string, std::string> environment;
  Script script;
  Lock lock;                      // of skills that are as it says, or all that there is when it `locks`
  std::optional<Recording> recording;
};

/// Reads {"call","ok","content"} objects, one or an array of them, or one a line. Throws std::runtime_error with what is wrong.
std::map<std::string, Answer> read_answers(const std::string& text);

/// `folder` is the job's. Returns the exit code.
int drive(const ExpertFile& file, Assignment assignment, const std::string& folder, Hands& hands, const std::string& traceparent);

}  // namespace runner::agent
