// What the record of a job has said already: whoever takes the job up after a crash goes back to the last checkpoint that was announced, does
// again from the journal what came behind it, and says only what was not said.
#pragma once

#include <optional>
#include <set>
#include <string>

#include "runner/events/types.h"

namespace runner::agent {

struct Told {
  std::set<std::string> behind;             // events that may be told once, behind the last checkpoint of their run
  std::optional<std::string> checkpoint;    // "<seq>-<id>" of the last that was announced
  bool paused = false;
};

/// The last line of a log, and whether it is an event of this type.
std::string last_event(const std::string& log);
bool is_last(const std::string& log, const std::string& type);
/// Whether a job whose processes have gone has said its last word. One that its writer had no time to seal is cut off, so that it is said again.
bool has_ended(const std::string& log);
/// Reads the events of a job; one that paused has nothing to be left out.
Told read_told(const std::string& log);
/// What makes an event the same as one in `behind`; empty for one that may come again.
std::string told_once(const events::Event& event);

}  // namespace runner::agent
