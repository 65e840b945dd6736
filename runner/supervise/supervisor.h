// From a plan to an outcome: one supervisor a session, one thread, one loop. It starts the sandbox, asks runner-init for the
// program, turns what happens into events, and leaves nothing behind.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "isolate/plan.h"
#include "isolate/start.h"
#include "runner/events/writer.h"
#include "runner/session/entry.h"
#include "runner/supervise/output.h"
#include "runner/supervise/to_disk.h"
#include "runner/supervise/verdict.h"

namespace runner::supervise {

/// A tree that comes out of a snapshot instead of being started.
struct Restored {
  isolate::Sandbox sandbox;
  isolate::sys::Fd control;         // to its runner-init, which has parked
  std::string record;               // what the first supervisor said of its calls: Parked, in control.h
  std::uint64_t ran_ms = 0;         // of its wall time, that the session has used up
  events::SessionRestored event;
};

/// Waits, with `criu` ready to restore, until somebody wants the session. Throws when it is ended instead.
using StandBy = std::function<void(isolate::sys::Child& criu)>;

/// A snapshot is not one to go on from: its bytes, this host or what is decided today do not fit. Nothing of it has run.
class Refused : public std::runtime_error {
 public:
  /// `damaged`: its bytes are not those that were signed, and none of them may be used.
  Refused(std::string snapshot, const std::string& reason, bool damaged) : std::runtime_error(reason), snapshot_(std::move(snapshot)), damaged_(damaged) {}
  const std::string& snapshot() const { return snapshot_; }
  bool damaged() const { return damaged_; }

 private:
  std::string snapshot_;
  bool damaged_;
};

struct Request {
  isolate::Plan plan;
  isolate::CgroupHost cgroups;
  std::string policy;              // its name, for the first event
  std::vector<std::string> fixed_env;  // "NAME=value" that a call gets whatever it asks for
  std::uint64_t call_wall_ms = 0, call_memory = 0, call_pids = 0;  // the most of one call; 0: as much as the session
  std::string init_program;        // path of runner-init
  std::string filter_cache;
  std::uint64_t wall_ms = 0;       // 0: no limit
  std::uint64_t sleep_ms = 0;      // of quiet, after which the session sleeps until something is asked of it. 0: never
  Suspend suspend;                 // how it goes to disk then; null: it sleeps in memory
  std::uint64_t output_bytes = 0;  // of stdout and stderr together; more is dropped and counted. 0: no limit
  bool interactive = false;        // the caller's stdin goes in
  bool keeps_input = false;        // an input stays open for who attaches
  session::State state;            // of the entry; pid and start time are filled in
  Output* raw = nullptr;           // where the program's bytes go as they are, instead of into events
  Output* raw_errors = nullptr;    // and those of its stderr
  std::vector<Output*> sinks;      // what the events' sinks write to: when one is full, the program waits
  std::function<void()> on_started = [] {};  // the program runs: the caller of `-d` may go, a sweep may begin
  /// When there is one, it takes the place of the start; called once.
  std::function<Restored(const StandBy& stand_by)> restore;
  /// What is begun anew on a snapshot's files: at once, with `kind` "cold"; or, "degraded", when the restore fails and the policy has it so.
  std::optional<events::SessionRestored> cold;
  std::function<void()> on_cold = [] {};
  std::function<void(const isolate::Disk& workspace)> fill;  // of what is begun anew: puts files into its workspace, before that is mounted
  bool standby = false;                // a restore goes on when somebody connects to the session, not before
  std::function<void()> on_standby = [] {};
  std::string from;                    // the snapshot that it came out of; empty: none
  bool wakes = false;                  // it goes on where its own log ends
  std::function<void(const std::string& snapshot)> on_suspended = [](const std::string&) {};  // before anything is killed
  std::string workspace, kept;         // where it is inside, and what becomes of it in a snapshot: "share", "copy", "exclude"
  std::vector<std::string> arguments;  // of `run`, from which a restore decides again
  /// Every process has been killed, and the kernel takes the sandbox down: what the caller does meanwhile costs no time.
  std::function<void()> on_killed = [] {};
};

/// The whole life of a session. Its last event is session.ended, whatever happens.
Verdict supervise(const Request& request, const session::Entry& entry, events::Writer& events);

/// Writes events to an Output.
class OutputSink : public events::Sink {
 public:
  explicit OutputSink(Output& out) : out_(out) {}
  void line(const events::Line& line) override { out_.write(line.text); }

 private:
  Output& out_;
};

}  // namespace runner::supervise
