// Answers that somebody has written down, in the place of a model: for demonstrations and tests, without a key and without a network.
//
//   {"version": 1, "answers": [
//     {"text": "I look first.", "calls": [{"name": "list_dir", "arguments": {"path": "."}}]},
//     {"expert": "helper", "text": "done"},                     // only of that expert; without, of every one
//     {"when": "error", "calls": [{"name": "complete", "arguments": {"result": "it failed"}}]},
//     {"repeat": 100, "calls": [{"name": "stat", "arguments": {"path": "."}}]},
//     {"fail": {"status": 529, "times": 2}, "text": "after two failures"}]}
//
// The first answer of an expert answers its first request, and so on. One with `when` is taken only if the newest message of the conversation
// holds that text, and is passed over else. A script that is at its end answers with an empty text, which ends the run.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "runner/agent/provider.h"
#include "runner/agent/state.h"
#include "runner/config/diagnostics.h"

namespace runner::agent {

struct Scripted {
  std::string expert, when;      // empty: any
  std::uint64_t repeat = 1;
  Completion completion;
  int fail_status = 0;           // 0: it does not fail
  unsigned fail_times = 0;
};
using Script = std::vector<Scripted>;

/// Every mistake is said, with its place.
Script read_script(const std::string& path, const std::string& text, Diagnostics& wrong);
/// What is answered where no file is given: a look at the workspace, and the end.
Script default_script();

/// For one run, which has had so many answers already.
std::unique_ptr<Provider> script_provider(const Script& script, const Run& run);

}  // namespace runner::agent
