// A job as its checkpoints describe it. A checkpoint holds what one run has added since the one before; all of them, from the first to the one
// that HEAD names, give this.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runner/agent/message.h"

namespace runner::agent {

enum class CallState { Queued, Done, AwaitingCaller, Delegated };

/// What a call of the model has come to.
struct Call {
  std::string key;                   // unique in the job: "t12", of a delegate "r1.2-t3"; what events, answers and the session name it by
  ToolCall wish;
  CallState state = CallState::Queued;
  std::string kind;                  // of one that awaits a person: confirm, input, choose, approval, or mcp
  bool approved = false;
  std::string child;                 // of one that is delegated: the run
  std::string request_state, input_requests;  // of kind mcp: what the server wants to have back, and to know
  std::string input_responses;       // and what a person has said: a JSON object
  std::optional<ToolResult> result;  // once it is done
  bool operator==(const Call&) const = default;
};

/// A message of the model whose calls are not all done.
struct Turn {
  Message message;
  Stop stop = Stop::Done;
  std::vector<Call> calls;
  bool operator==(const Turn&) const = default;
};

/// One expert at work on one query.
struct Run {
  std::string id;                    // "r1"; of a delegate "r1.2"
  std::string expert, query;
  std::string parent, parent_call;   // of a delegate: the run, and the key of the call
  std::string session;               // a fork of its own; empty: the job's
  std::uint64_t step = 0;            // steps that are committed
  std::uint64_t calls = 0, generations = 0;
  Usage usage;                       // of its own generations: what its checkpoint says is what they were
  std::uint64_t cost = 0;            // likewise, micro-units
  std::uint64_t context = 0;         // tokens of its last request and answer
  std::vector<Message> messages;
  std::optional<Turn> turn;
  std::string todo;                  // a JSON array; empty: none
  std::string result;                // a word of events::Result once it has ended
  std::string text;                  // its answer, or why it has none
  std::uint64_t steps_left = 0, tokens_left = 0;  // reserved for it by its parent; 0: no limit of its own
};

/// What a service of the session (an MCP server, the tool host) had said and been told.
struct Service {
  std::string name;                  // of its call in the session; empty: the session's program
  std::string era, version;          // of an MCP server
  std::uint64_t output = 0;          // bytes of its stdout that were read
  std::uint64_t next_id = 1;         // of requests to it
  bool operator==(const Service&) const = default;
};

struct Job {
  std::string id;
  std::uint64_t seq = 0;             // of the last checkpoint
  std::string head;                  // its id
  std::string branch = "b1";
  std::map<std::string, Run> runs;
  std::uint64_t generations = 0;
  std::uint64_t steps = 0;           // of all runs, as the next two
  Usage usage;
  std::uint64_t cost = 0;            // micro-units
  std::uint64_t wall_ms = 0;         // of all that it has run for
  std::map<std::string, Service> services;  // by skill
  std::string status = "proceeding"; // proceeding, waiting, ended
};

/// What a checkpoint adds.
struct Delta {
  std::string run;
  std::vector<Message> messages;     // behind those of the run
  bool begins = false;               // the run is new
};

inline Usage& operator+=(Usage& to, const Usage& more) {
  to.input += more.input, to.cache_read += more.cache_read, to.cache_write += more.cache_write;
  to.output += more.output, to.reasoning += more.reasoning;
  return to;
}
inline std::uint64_t total(const Usage& u) { return u.input + u.cache_read + u.cache_write + u.output; }

/// Steps, usage and cost of the job are those of its runs.
void sum_up(Job& job);

/// A checkpoint as JSON: the job's numbers, all of the run but its messages, and those that are new.
/// `parent` and its number are of the checkpoint before; empty for the first.
std::string encode_checkpoint(const Job& job, const Delta& delta, const std::string& parent, std::uint64_t parent_seq);
/// The id of the checkpoint with the job's number, in its branch.
std::string checkpoint_id(const Job& job);
/// "<seq>-<id>": its file, and what HEAD says.
std::string checkpoint_name(std::uint64_t seq, const std::string& id);
/// The same checkpoint in another job, whose session is called as it is; its name stays.
std::string move_checkpoint(const std::string& text, const std::string& job);
/// Adds one to what those before it gave. Throws std::runtime_error for one that is not of this job, or not behind them.
void apply_checkpoint(Job& job, const std::string& text);

/// Messages and results by themselves, as the journal and exchanges hold them.
std::string encode(const Message& message);
Message decode_message(const std::string& text);
std::string encode(const ToolResult& result);
ToolResult decode_result(const std::string& text);
std::string encode(const std::map<std::string, Service>& services);
std::map<std::string, Service> decode_services(const std::string& text);
std::string encode(const Completion& completion);
Completion decode_completion(const std::string& text);
/// All of a request but its messages, with its keys sorted and without spaces: what is digested and recorded.
std::string canonical_head(const Request& request);

}  // namespace runner::agent
