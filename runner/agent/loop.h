// The machine of one run: agent-loop.md §3.
//
//   Ready ─▶ Generating ─▶ Dispatching ─▶ Committing ─▶ Ready
//              │                │
//           Stopped          Waiting     for a person, or for a delegate that does
//
// A step is one message of the model and the results of all its calls. It is committed as a whole: what was done before is in the journal, so that
// whoever takes up the job after a crash does nothing twice.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "runner/agent/context.h"
#include "runner/agent/toolbox.h"

namespace runner::agent {

/// A checkpoint of this run, with the messages that are new. It is announced once it is durable.
void save(Context& context, const Run& run, const std::string& status, std::vector<Message> messages, bool begins = false);

/// Of a run that had ended before this process took it up, in case that nobody said so.
void tell_end(Context& context, const Run& run);

class Loop {
 public:
  Loop(Context& context, Run& run);
  ~Loop();

  enum class End { Ended, Waiting };
  /// Until the run has ended (its result says how) or waits. Throws Cancelled, and what makes the job itself impossible.
  End go();

 private:
  void begin();

  // Generating: generate.cc
  bool generate();
  bool within_limits(std::uint64_t& max_tokens);
  std::optional<Completion> ask_model(std::uint64_t max_tokens);
  std::optional<Completion> recorded();
  std::optional<std::uint64_t> spend(const Usage& usage);
  void open_turn(Completion completion, std::uint64_t ms, std::uint64_t number);
  std::string digest_request() const;
  const std::string& head_payload();
  void wait(std::uint64_t ms) const;

  // Dispatching: dispatch.cc
  bool dispatch();
  void take_answers();
  void dispatch_one(Call& call, bool waits);
  void ask_person(Call& call, const std::string& kind);
  void run_tool(Call& call);
  void tell_started(const Call& call);
  void finish_call(Call& call, ToolResult result, const events::ToolCallFinished& told);
  void finish_call(Call& call, const std::string& error);
  void set_todo(Call& call);

  // Delegates: delegates.cc
  void delegate(const std::vector<Call*>& calls);
  Run& child_of(Call& call, std::size_t among);
  void settle(Call& call, Run& child, const std::string& trouble, std::uint64_t ms);

  // Committing
  bool commit();
  void checkpoint(const std::string& status, std::vector<Message> messages, bool begins = false);
  void end(const std::string& result, const std::string& text, const std::string& reason = {});

  Context& context_;
  Run& run_;
  const Expert& expert_;
  Request request_;                      // has all messages of the run
  std::string head_sha256_, chain_;      // digests of what does not change, and of the messages so far
  std::size_t head_bytes_ = 0;
  std::string head_payload_;             // for the exchanges, with these max_tokens
  std::uint64_t head_max_tokens_ = 0;
  std::unique_ptr<Toolbox> tools_;
  std::unique_ptr<Provider> provider_;  // made when a model is asked: what the journal knows comes before
  std::optional<std::string> completed_; // by the tool `complete`
};

}  // namespace runner::agent
