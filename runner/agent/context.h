// What all runs of a job share, and the rules for sharing it.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "runner/agent/expert.h"
#include "runner/agent/hands.h"
#include "runner/agent/provider.h"
#include "runner/agent/state.h"
#include "runner/agent/store.h"
#include "runner/supervise/calls.h"

namespace runner::agent {

struct Lock;
struct Recording;

/// SIGTERM, SIGINT or `job cancel`: thrown out of whatever waits.
struct Cancelled : EndsJob {
  Cancelled() : EndsJob("the job was cancelled") {}
};

/// [limits] wall: likewise.
struct OutOfTime : EndsJob {
  OutOfTime() : EndsJob("the job's wall time is over") {}
};

/// What a person said to a question.
struct Answer {
  bool ok = false;
  std::string content;  // a JSON array, as a tool result has it; empty: none
};

struct Context {
  const ExpertFile& file;
  Store& store;
  Journal& journal;
  Ledger& ledger;
  Hands& hands;
  Job& job;                       // under `mutex` once there are several runs; a run itself is its own thread's
  std::mutex mutex;
  std::string session;            // the job's
  std::string started;            // when it was, RFC 3339: what the system prompt says
  std::map<std::string, std::string> environment;  // of what skills require
  std::map<std::string, Answer> answers;           // by key of the call
  std::map<std::string, std::string> results;      // by key of the call: of the journal, behind the last checkpoint
  std::map<std::string, std::uint64_t> recorded;   // "RUN/N": the exchange of its generation N, likewise
  std::function<std::unique_ptr<Provider>(const Run&)> make_provider;
  supervise::Clock::time_point began = supervise::Clock::now();
  std::uint64_t wall_before = 0;  // milliseconds before `began`
  bool deltas = false;            // text.delta events
  bool interactive_delegates = true;
  const Lock* lock = nullptr;
  bool starts_all = false;        // no server waits for its first call
  const Recording* recorded_tools = nullptr;  // of a replay that runs no tool: what they came to
  const std::atomic<int>* signal = nullptr;  // one that cancels; 0 while there was none

  /// For all that waits, a few times a second.
  void check() const {
    if (signal && *signal) throw Cancelled();
    if (wall_left() == std::optional<std::uint64_t>(0)) throw OutOfTime();
  }
  std::uint64_t wall_ms() const {
    return wall_before + supervise::milliseconds_since(began);
  }
  /// Milliseconds until the job's time is over; empty: it has no limit.
  std::optional<std::uint64_t> wall_left() const {
    if (!file.limits.wall) return std::nullopt;
    std::uint64_t gone = wall_ms();
    return gone < file.limits.wall ? file.limits.wall - gone : 0;
  }
};

}  // namespace runner::agent
