// What happens in a session, one plain struct per type of event. The names of the types are the only ones.
// Units: bytes, milliseconds (ms), microseconds (us). `fields` tells the names under which the values are written, in
// their order; an empty optional is not written.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runner/events/job_types.h"

namespace runner::events {

/// How a session ended, in one word. 137 is never the only sign of an OOM.
enum class Result {
  Success, ExitCode, Signal, Timeout, OomKill, PidsLimit, DiskQuota, PolicyViolation, MaxSteps, Budget, Cancelled, RunnerError,
};
enum class Limit { Memory, Pids, Wall, Output, Cpu, Disk };
enum class Stream { Stdout, Stderr, Terminal };

constexpr const char* word(Result result) {
  switch (result) {
    case Result::Success: return "success";
    case Result::ExitCode: return "exit-code";
    case Result::Signal: return "signal";
    case Result::Timeout: return "timeout";
    case Result::OomKill: return "oom-kill";
    case Result::PidsLimit: return "pids-limit";
    case Result::DiskQuota: return "disk-quota";
    case Result::PolicyViolation: return "policy-violation";
    case Result::MaxSteps: return "max-steps";
    case Result::Budget: return "budget";
    case Result::Cancelled: return "cancelled";
    case Result::RunnerError: break;
  }
  return "runner-error";
}

constexpr const char* word(Limit limit) {
  switch (limit) {
    case Limit::Memory: return "memory";
    case Limit::Pids: return "pids";
    case Limit::Wall: return "wall";
    case Limit::Output: return "output";
    case Limit::Disk: return "disk";
    case Limit::Cpu: break;
  }
  return "cpu";
}

constexpr const char* word(Stream stream) {
  switch (stream) {
    case Stream::Stdout: return "stdout";
    case Stream::Stderr: return "stderr";
    case Stream::Terminal: break;
  }
  return "terminal";
}

/// Who says so: a counter of the kernel, or a clock of ours.
struct Evidence {
  std::string source;        // /sys/fs/cgroup/…/memory.events
  std::uint64_t counter = 0; // what it said
  bool operator==(const Evidence&) const = default;
  void fields(auto& out) const {
    out("source", source); out("counter", counter);
  }
};

/// A set-up that failed.
struct Failure {
  std::string stage;  // "mounts"
  int error = 0;      // errno
  std::string path;   // on what, if it was a file
  std::string cause;  // "mount proc on /proc: Operation not permitted"
  std::string hint;   // what to do about it
  bool operator==(const Failure&) const = default;
  void fields(auto& out) const {
    out("stage", stage); out("errno", error); out("path", path); out("cause", cause); out("hint", hint);
  }
};

struct SessionStarted {
  static constexpr const char* type = "session.started";
  std::string session, policy;
  std::vector<std::string> argv;
  std::string rootfs, user;
  std::map<std::string, std::string> limits;  // as the policy writes them: memory -> 2G
  std::string runner;                         // our version
  std::optional<std::string> kernel;          // the host's release

  void fields(auto& out) const {
    out("session", session); out("policy", policy); out("argv", argv); out("rootfs", rootfs);
    out("user", user); out("limits", limits); out("runner", runner); out("kernel", kernel);
  }
};

struct SandboxReady {
  static constexpr const char* type = "sandbox.ready";
  int pid = 0;  // of PID 1, on the host
  std::uint64_t ms = 0;
  std::optional<std::string> disk, workspace;  // how their limits are kept: project quota, loop image or memory

  void fields(auto& out) const {
    out("pid", pid); out("ms", ms); out("disk", disk); out("workspace", workspace);
  }
};

/// A limit was asked for, the host cannot enforce it, and the policy said to go on.
struct LimitMissing {
  static constexpr const char* type = "limit.missing";
  std::string limit, reason;

  void fields(auto& out) const {
    out("limit", limit); out("reason", reason);
  }
};

struct ProcessStarted {
  static constexpr const char* type = "process.started";
  int pid = 0;  // inside
  std::vector<std::string> argv;
  std::optional<std::string> call;  // of `exec`; empty for the session's own program

  void fields(auto& out) const {
    out("pid", pid); out("argv", argv); out("call", call);
  }
};

/// Bytes of the workload. They are written as `text` when they are UTF-8 without NUL, else as `base64`.
struct Stdio {
  static constexpr const char* type = "stdio";
  Stream stream = Stream::Stdout;
  std::uint64_t offset = 0;   // bytes of this stream before this chunk, the dropped ones included
  std::string_view bytes;
  std::uint64_t dropped = 0;  // bytes right before this chunk that a limit threw away; written when there are any
  std::string_view call;      // written when it is not the session's own program
};

struct ProcessExited {
  static constexpr const char* type = "process.exited";
  int pid = 0;  // inside
  std::optional<int> exit, signal;  // one of them
  // Of `exec` only; the session's own program is told of by session.ended.
  std::optional<std::string> call, result, reason;
  std::optional<std::uint64_t> ms, cpu_us, memory_peak;
  std::optional<std::uint64_t> left;  // processes that it left behind
  std::optional<Evidence> evidence;

  void fields(auto& out) const {
    out("pid", pid); out("exit", exit); out("signal", signal); out("call", call); out("result", result); out("reason", reason);
    out("ms", ms); out("cpu_us", cpu_us); out("memory_peak", memory_peak); out("left", left); out("evidence", evidence);
  }
};

struct LimitReached {
  static constexpr const char* type = "limit.reached";
  Limit limit = Limit::Memory;
  std::uint64_t value = 0;  // the limit
  Evidence evidence;
  std::optional<std::string> call;  // whose limit it is; empty: the session's

  void fields(auto& out) const {
    out("limit", limit); out("value", value); out("evidence", evidence); out("call", call);
  }
};

struct PolicyDenied {
  static constexpr const char* type = "policy.denied";
  std::string what, detail;

  void fields(auto& out) const {
    out("what", what); out("detail", detail);
  }
};

/// Somebody inside listens on a port. Who it is, is told when it could be found out.
struct PortOpened {
  static constexpr const char* type = "port.opened";
  std::uint16_t port = 0;
  std::string address, protocol;
  std::optional<int> pid;  // inside
  std::optional<std::string> process, call;

  void fields(auto& out) const {
    out("port", port); out("address", address); out("protocol", protocol); out("pid", pid); out("process", process); out("call", call);
  }
};

/// Once, and last.
struct SessionEnded {
  static constexpr const char* type = "session.ended";
  Result result = Result::RunnerError;
  std::optional<int> exit, signal;
  std::string reason;
  std::uint64_t ms = 0, cpu_us = 0, memory_peak = 0;
  std::optional<Evidence> evidence;
  std::optional<Failure> failure;  // when the sandbox could not be set up

  void fields(auto& out) const {
    out("result", result); out("exit", exit); out("signal", signal); out("reason", reason); out("ms", ms);
    out("cpu_us", cpu_us); out("memory_peak", memory_peak); out("evidence", evidence); out("error", failure);
  }
};

/// Of a directory that is watched: create, modify, delete or rename; ready, from which on nothing is missed; and overflow, after which come
/// the differences to what was told, and ready again.
struct FileChanged {
  static constexpr const char* type = "file.changed";
  std::string change;
  std::optional<std::string> path, to;  // inside; `to` of a rename
  std::optional<bool> directory;

  void fields(auto& out) const {
    out("change", change); out("path", path); out("to", to); out("directory", directory);
  }
};

/// A snapshot of a session that goes on, or is to be suspended.
struct SnapshotStarted {
  static constexpr const char* type = "snapshot.started";
  std::string snapshot;

  void fields(auto& out) const { out("snapshot", snapshot); }
};

/// It is durable. `frozen_ms`: how long the session stood still.
struct SnapshotCreated {
  static constexpr const char* type = "snapshot.created";
  std::string snapshot, id;
  std::uint64_t bytes = 0, layer_bytes = 0, frozen_ms = 0, layer_ms = 0, ms = 0;

  void fields(auto& out) const {
    out("snapshot", snapshot); out("id", id); out("bytes", bytes); out("layer_bytes", layer_bytes); out("frozen_ms", frozen_ms);
    out("layer_ms", layer_ms); out("ms", ms);
  }
};

/// The bytes, the host or the policy are not those of the snapshot; nothing of it has run.
struct RestoreRefused {
  static constexpr const char* type = "restore.refused";
  std::string snapshot, reason;

  void fields(auto& out) const { out("snapshot", snapshot); out("reason", reason); }
};

/// It goes on from a snapshot: warm (its own), fork (another session's), cold (from its files alone), degraded (cold, since a restore was not
/// possible, for this reason). `phases` are milliseconds.
struct SessionRestored {
  static constexpr const char* type = "session.restored";
  std::string kind, snapshot;
  std::optional<std::string> reason;
  std::vector<std::string> lineage;
  int pid = 0;  // of PID 1, on the host
  std::map<std::string, std::string> phases;
  std::uint64_t ms = 0;

  void fields(auto& out) const {
    out("kind", kind); out("snapshot", snapshot); out("reason", reason); out("lineage", lineage); out("pid", pid); out("phases", phases); out("ms", ms);
  }
};

/// It is on disk, and no process of it is left; `wake` goes on with it.
struct SessionSuspended {
  static constexpr const char* type = "session.suspended";
  std::string snapshot;
  std::uint64_t ms = 0;  // since it began

  void fields(auto& out) const { out("snapshot", snapshot); out("ms", ms); }
};

struct ToolCallStarted {
  static constexpr const char* type = "tool.call.started";
  std::string call, tool;
  std::optional<std::string> context, language;  // of the tool "code": where a cell runs
  std::optional<bool> fresh;                     // whether that context began with it
  // Of a job:
  std::optional<std::string> run;
  std::optional<std::uint64_t> step;
  std::optional<JsonText> arguments;
  std::optional<std::string> trust;

  void fields(auto& out) const {
    out("run", run); out("step", step); out("call", call); out("tool", tool); out("context", context); out("language", language); out("fresh", fresh);
    out("arguments", arguments); out("trust", trust);
  }
};

/// What a program raised that nobody caught.
struct Raised {
  std::string name, message, traceback;
  void fields(auto& out) const {
    out("name", name); out("message", message); out("traceback", traceback);
  }
};

struct ToolCallFinished {
  static constexpr const char* type = "tool.call.finished";
  std::string call, tool;
  bool ok = false;
  std::optional<std::string> result, reason;  // in a word, and when that says too little in a sentence
  std::uint64_t ms = 0;
  std::optional<JsonText> results;               // of the tool "code": an array of objects, MIME type to value
  std::optional<std::uint64_t> dropped;       // results beyond the limits
  std::optional<Raised> error;
  std::optional<bool> context_lost;           // what was built up in it is gone
  // Of a job:
  std::optional<std::string> run;
  std::optional<std::uint64_t> step;
  std::optional<JsonText> content;
  std::optional<int> exit, signal;
  std::optional<std::uint64_t> cpu_us, memory_peak;
  std::optional<Evidence> evidence;
  std::optional<std::string> trust;

  void fields(auto& out) const {
    out("run", run); out("step", step); out("call", call); out("tool", tool); out("ok", ok); out("exit", exit); out("signal", signal);
    out("result", result); out("reason", reason); out("ms", ms);
    out("results", results); out("dropped", dropped); out("error", error); out("context_lost", context_lost);
    out("content", content); out("cpu_us", cpu_us); out("memory_peak", memory_peak); out("evidence", evidence); out("trust", trust);
  }
};

/// All but stdio, which is written without being copied.
/// Of an OCI container that asks for them (annotation dev.runner.events), from the command that did it. It has no supervisor: its exit is told
/// where `run` stays with it.
struct ContainerCreated {
  static constexpr const char* type = "container.created";
  std::string container, bundle;
  int pid = 0;  // on the host

  void fields(auto& out) const { out("container", container); out("bundle", bundle); out("pid", pid); }
};
struct ContainerStarted {
  static constexpr const char* type = "container.started";
  int pid = 0;

  void fields(auto& out) const { out("pid", pid); }
};
struct ContainerPaused {
  static constexpr const char* type = "container.paused";
  void fields(auto&) const {}
};
struct ContainerResumed {
  static constexpr const char* type = "container.resumed";
  void fields(auto&) const {}
};
struct ContainerSignaled {
  static constexpr const char* type = "container.signaled";
  int signal = 0;
  bool all = false;  // all its processes

  void fields(auto& out) const { out("signal", signal); out("all", all); }
};
struct ContainerExited {
  static constexpr const char* type = "container.exited";
  std::optional<int> exit, signal;  // one of them

  void fields(auto& out) const { out("exit", exit); out("signal", signal); }
};
/// Once, and last.
struct ContainerDeleted {
  static constexpr const char* type = "container.deleted";
  void fields(auto&) const {}
};

using Event = std::variant<SessionStarted, SandboxReady, LimitMissing, ProcessStarted, ProcessExited, LimitReached, PolicyDenied,
                           PortOpened, SessionEnded, FileChanged, ToolCallStarted,
                           ToolCallFinished, SnapshotStarted, SnapshotCreated, RestoreRefused, SessionRestored, SessionSuspended,
                           ContainerCreated, ContainerStarted, ContainerPaused, ContainerResumed, ContainerSignaled, ContainerExited, ContainerDeleted,
                           JobStarted, RunStarted, StepStarted, GenerationStarted, GenerationFinished, GenerationRetried, TextDelta, DelegateStarted,
                           DelegateFinished, InputRequired, CheckpointSaved, RunEnded, JobPaused, JobEnded>;

}  // namespace runner::events
