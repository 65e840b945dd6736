// What `runner job` and runner-agent say to each other before the loop begins, as JSON messages on descriptor 3 of runner-agent; then come the
// requests of hands.h.
//
//   runner job                          runner-agent
//   Order ─────────────────────────────▶ reads the expert file, with the rights of the caller
//                                      ◀── Needs: what it takes to do that
//   Grant ─────────────────────────────▶ has no rights from here on
//                                      ◀── connect, suspend, ... (hands.h)
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace runner::agent {

inline constexpr int kHands = 3;
/// Where a session of a job has runner-tools: one waits as the session's program, and one serves each run.
inline constexpr const char* kToolsInside = "/.runner/tools";

struct Order {
  std::string job, folder, expert, query, session, started, version, traceparent;
  std::string expert_file;       // empty: looked for from `directory` on
  std::string directory;         // the caller's
  std::string agents;            // a folder of sub-agents' .md, who are delegates of the expert; empty: none
  std::string workspace;         // its AGENTS.md is read
  std::string answers;           // the text of --answers; empty: none
  std::string replay;            // the folder of the job that is replayed; empty: none
  std::string expert_sha256;     // of the job that goes on; another is refused. Empty: any
  std::string model, provider;   // instead of the file's; empty: as the file says
  std::string resume_from;       // "<seq>-<id>" of an older checkpoint; empty: HEAD
  bool begins = false, answers_on_stdin = false, deltas = false, recorded_tools = false, interactive_delegates = true;
  bool cancel = false;           // it ends, and nothing is done any more
  bool warms = false;            // no job: its skills are started, and what they offer is written down, for a snapshot
  bool locks = false;            // likewise, for experts.lock: of the expert and its delegates
  bool allow_drift = false;      // skills that are not as experts.lock has them are started all the same
};

struct Needs {
  std::string expert, expert_file, expert_sha256, provider, model, base_url, key_env, policy;
  std::vector<std::string> environment;  // names of variables that skills require
};

struct Grant {
  std::map<std::string, std::string> environment;
  std::uint32_t id = 0;  // the user to become; 0: the caller stays who he is
};

std::string encode(const Order& order);
Order decode_order(const std::string& text);
std::string encode(const Needs& needs);
Needs decode_needs(const std::string& text);
std::string encode(const Grant& grant);
Grant decode_grant(const std::string& text);

}  // namespace runner::agent
