#include "runner/agent/loop.h"

#include <fmt/format.h>

#include "runner/agent/prompt.h"
#include "runner/snapshot/digest.h"

namespace runner::agent {

Loop::Loop(Context& context, Run& run)
    : context_(context), run_(run), expert_(context.file.experts.at(run.expert)) {
  tools_ = std::make_unique<Toolbox>(context, run, expert_, run.session.empty() ? context.session : run.session);
}

Loop::~Loop() = default;

Loop::End Loop::go() {
  begin();
  for (;;) {
    context_.check();
    if (!run_.turn && !generate()) return End::Ended;
    if (!dispatch()) {
      tools_->let_go();
      checkpoint("waiting", {});
      return End::Waiting;
    }
    if (commit()) return End::Ended;
  }
}

void Loop::begin() {
  request_.model = expert_.model.empty() ? context_.file.model : expert_.model;
  request_.system = system_prompt(context_.file, expert_, context_.started);
  request_.tools = tools_->definitions();
  if (auto options = context_.file.options.find(request_.model); options != context_.file.options.end()) request_.options = options->second;
  std::string head = canonical_head(request_);
  head_sha256_ = snapshot::sha256(head);
  head_bytes_ = head.size();
  request_.messages = std::move(run_.messages);  // there is one copy of a conversation, which grows long
  bool begins = request_.messages.empty();
  if (begins) request_.messages.push_back({Role::User, {Text{run_.query}}});
  for (const Message& message : request_.messages) chain_ = snapshot::sha256(chain_ + encode(message));
  if (begins) {
    events::RunStarted started{run_.id, run_.expert, {}, {}};
    if (!run_.parent.empty()) started.parent = run_.parent, started.call = run_.parent_call;
    context_.ledger.event(started);
    checkpoint("proceeding", {request_.messages[0]}, true);
  }
}

// The step as a whole: the message of the model, and one with a result for each of its calls.
bool Loop::commit() {
  Turn turn = std::move(*run_.turn);
  run_.turn.reset();
  ++run_.step;
  std::vector<Message> added{std::move(turn.message)};
  if (!turn.calls.empty()) {
    Message results{Role::Tool, {}};
    for (Call& call : turn.calls) results.parts.emplace_back(std::move(*call.result));
    added.push_back(std::move(results));
  }
  {
    std::lock_guard lock(context_.mutex);
    ++context_.job.steps;
  }
  for (const Message& message : added) {
    chain_ = snapshot::sha256(chain_ + encode(message));
    request_.messages.push_back(message);
  }
  std::string reason, said_text;
  bool answered = turn.calls.empty() && turn.stop != Stop::Pause;
  if (completed_ || answered) {
    std::string text = completed_.value_or("");
    if (!completed_)
      for (const Part& part : added[0].parts)
        if (auto* said = std::get_if<Text>(&part)) text += said->text;
    bool cut = !completed_ && (turn.stop == Stop::Refusal || turn.stop == Stop::Length);
    run_.result = cut ? "model-error" : "success";
    reason = !cut ? "" : turn.stop == Stop::Length ? "its answer was cut off at max_tokens" : "the model refused to go on";
    run_.text = cut ? reason : text;
    said_text = text;
  }
  checkpoint(run_.result.empty() ? "proceeding" : "ended", std::move(added));
  if (run_.result.empty()) return false;
  end(run_.result, said_text, reason);
  return true;
}

void Loop::checkpoint(const std::string& status, std::vector<Message> messages, bool begins) {
  save(context_, run_, status, std::move(messages), begins);
}

void save(Context& context, const Run& run, const std::string& status, std::vector<Message> messages, bool begins) {
  std::lock_guard lock(context.mutex);
  Job& job = context.job;
  std::string parent = job.head;
  std::uint64_t parent_seq = job.seq++;
  job.head = checkpoint_id(job);
  job.status = run.parent.empty() ? status : "proceeding";
  job.wall_ms = context.wall_ms();
  events::CheckpointSaved told{job.seq, job.head, run.id, run.step, status, agent::told(job.usage)};
  Delta delta{run.id, std::move(messages), begins};
  context.ledger.commit(checkpoint_name(job.seq, job.head), encode_checkpoint(job, delta, parent, parent_seq), std::move(told));
}

void tell_end(Context& context, const Run& run) {
  events::RunEnded told{run.id, run.result, {}, {}, run.step, "untrusted"};
  if (run.result != "success") told.reason = run.text;
  else if (!run.text.empty()) told.text = events::JsonText{context.store.payload(run.text)};
  context.ledger.event(told);
}

void Loop::end(const std::string& result, const std::string& text, const std::string& reason) {
  run_.result = result;
  run_.text = reason.empty() ? text : reason;
  events::RunEnded told{run_.id, result, {}, {}, run_.step, "untrusted"};
  if (!text.empty()) told.text = events::JsonText{context_.store.payload(text)};
  if (!reason.empty()) told.reason = reason;
  context_.ledger.event(told);
}

}  // namespace runner::agent
