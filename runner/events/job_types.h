// What happens in a job: one struct per type of event, as in types.h. What a model or a tool has said is marked with trust "untrusted";
// a payload is a JSON string, or {"ref":{"sha256","bytes"}} when it lies in the job's blobs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace runner::events {

/// A value that is JSON already, and well-formed.
struct JsonText {
  std::string json;
};

struct JobStarted {
  static constexpr const char* type = "job.started";
  std::string job, expert;
  JsonText query;
  std::string provider, model, expert_sha256, runner;
  std::optional<std::string> forked_from;  // JOB/SEQ: what it begins with was done there

  void fields(auto& out) const {
    out("job", job); out("expert", expert); out("query", query); out("provider", provider); out("model", model);
    out("expert_sha256", expert_sha256); out("runner", runner); out("forked_from", forked_from);
  }
};

/// One expert at work: the job's own (r1), or a delegate's (r1.1).
struct RunStarted {
  static constexpr const char* type = "run.started";
  std::string run, expert;
  std::optional<std::string> parent, call;

  void fields(auto& out) const {
    out("run", run); out("expert", expert); out("parent", parent); out("call", call);
  }
};

struct StepStarted {
  static constexpr const char* type = "step.started";
  std::string run;
  std::uint64_t step = 0;

  void fields(auto& out) const {
    out("run", run); out("step", step);
  }
};

struct GenerationStarted {
  static constexpr const char* type = "generation.started";
  std::string run;
  std::uint64_t step = 0, generation = 0, messages = 0, max_tokens = 0;
  std::string model, request_sha256;

  void fields(auto& out) const {
    out("run", run); out("step", step); out("generation", generation); out("model", model); out("messages", messages);
    out("max_tokens", max_tokens); out("request_sha256", request_sha256);
  }
};

/// Tokens, as agent-loop.md §5.4 counts them.
struct TokenUsage {
  std::uint64_t input = 0, cache_read = 0, cache_write = 0, output = 0, reasoning = 0;
  void fields(auto& out) const {
    out("input", input); out("cache_read", cache_read); out("cache_write", cache_write); out("output", output); out("reasoning", reasoning);
  }
};

struct GenerationFinished {
  static constexpr const char* type = "generation.finished";
  std::string run;
  std::uint64_t step = 0, generation = 0;
  std::string stop;
  std::optional<JsonText> text;  // of the model
  std::uint64_t calls = 0;
  TokenUsage usage;
  std::optional<std::uint64_t> cost;  // micro-units, when the model has a price
  std::uint64_t ms = 0;
  std::string trust = "untrusted";

  void fields(auto& out) const {
    out("run", run); out("step", step); out("generation", generation); out("stop", stop); out("text", text); out("calls", calls);
    out("usage", usage); out("cost", cost); out("ms", ms); out("trust", trust);
  }
};

struct GenerationRetried {
  static constexpr const char* type = "generation.retried";
  std::string run;
  std::uint64_t step = 0, generation = 0, attempt = 0;
  std::string trouble, reason;
  std::optional<int> status;  // of HTTP
  std::uint64_t wait_ms = 0;
  std::optional<TokenUsage> usage;  // paid for nothing

  void fields(auto& out) const {
    out("run", run); out("step", step); out("generation", generation); out("attempt", attempt); out("trouble", trouble); out("status", status);
    out("reason", reason); out("wait_ms", wait_ms); out("usage", usage);
  }
};

struct TextDelta {
  static constexpr const char* type = "text.delta";
  std::string run;
  std::uint64_t generation = 0;
  std::string text;
  std::string trust = "untrusted";

  void fields(auto& out) const {
    out("run", run); out("generation", generation); out("text", text); out("trust", trust);
  }
};

struct DelegateStarted {
  static constexpr const char* type = "delegate.started";
  std::string run, call, child, expert;
  JsonText query;
  std::optional<std::string> session;  // a fork, when it has one of its own
  std::string trust = "untrusted";

  void fields(auto& out) const {
    out("run", run); out("call", call); out("child", child); out("expert", expert); out("query", query); out("session", session); out("trust", trust);
  }
};

struct DelegateFinished {
  static constexpr const char* type = "delegate.finished";
  std::string run, call, child;
  bool ok = false;
  std::string result;
  std::uint64_t steps = 0, ms = 0;

  void fields(auto& out) const {
    out("run", run); out("call", call); out("child", child); out("ok", ok); out("result", result); out("steps", steps); out("ms", ms);
  }
};

/// A person is asked; `call` is what the answer names.
struct InputRequired {
  static constexpr const char* type = "input.required";
  std::string run, call, kind, tool;
  JsonText arguments;
  std::string trust = "untrusted";

  void fields(auto& out) const {
    out("run", run); out("call", call); out("kind", kind); out("tool", tool); out("arguments", arguments); out("trust", trust);
  }
};

/// It is on the disk, with all that it refers to.
struct CheckpointSaved {
  static constexpr const char* type = "checkpoint.saved";
  std::uint64_t seq = 0;
  std::string checkpoint, run;
  std::uint64_t step = 0;
  std::string status;
  TokenUsage usage;  // of the job, up to here
  std::optional<std::string> branch = {};        // of the first of one
  std::optional<std::uint64_t> parent_seq = {};  // likewise: the older checkpoint that it goes on from

  void fields(auto& out) const {
    out("seq", seq); out("checkpoint", checkpoint); out("branch", branch); out("parent_seq", parent_seq); out("run", run); out("step", step); out("status", status); out("usage", usage);
  }
};

struct RunEnded {
  static constexpr const char* type = "run.ended";
  std::string run, result;
  std::optional<JsonText> text;  // its answer
  std::optional<std::string> reason;
  std::uint64_t steps = 0;
  std::string trust = "untrusted";

  void fields(auto& out) const {
    out("run", run); out("result", result); out("text", text); out("reason", reason); out("steps", steps); out("trust", trust);
  }
};

/// Nothing of it runs any more; `runner job continue` goes on.
struct JobPaused {
  static constexpr const char* type = "job.paused";
  std::string job;
  std::uint64_t pending = 0;
  std::optional<std::string> snapshot, unsuspended;  // where its session is; or why it could not be suspended, and ended
  std::uint64_t ms = 0;

  void fields(auto& out) const {
    out("job", job); out("pending", pending); out("snapshot", snapshot); out("unsuspended", unsuspended); out("ms", ms);
  }
};

struct JobEnded {
  static constexpr const char* type = "job.ended";
  std::string job, result;
  int exit = 0;
  std::optional<std::string> reason;
  std::uint64_t steps = 0;
  TokenUsage usage;
  std::optional<std::uint64_t> cost;
  std::uint64_t ms = 0;

  void fields(auto& out) const {
    out("job", job); out("result", result); out("exit", exit); out("reason", reason); out("steps", steps); out("usage", usage); out("cost", cost); out("ms", ms);
  }
};

}  // namespace runner::events
