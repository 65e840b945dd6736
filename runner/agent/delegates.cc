// Delegates: a call that is answered by another run, which sees nothing but its query.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "runner/agent/loop.h"
#include "runner/agent/schema.h"
#include "runner/agent/text.h"

namespace runner::agent {

namespace {

constexpr std::size_t kDeepest = 4;  // runs within runs

std::size_t depth_of(const std::string& run) { return static_cast<std::size_t>(std::count(run.begin(), run.end(), '.')); }

}  // namespace

// The run of this call: a new one, or the one that an earlier process began.
Run& Loop::child_of(Call& call, std::size_t among) {
  std::lock_guard lock(context_.mutex);
  for (auto& [id, run] : context_.job.runs)
    if (run.parent == run_.id && run.parent_call == call.key) return run;
  Run child;
  child.id = fmt::format("{}.{}", run_.id, call.key.substr(call.key.rfind('t') + 1));  // the number of its call, whoever begins it
  child.expert = call.wish.name;
  child.query = as_utf8(nlohmann::json::parse(call.wish.arguments).at("query").get<std::string>());
  child.parent = run_.id;
  child.parent_call = call.key;
  // Reserved: its share of what is left, so that together they cannot use more; what it leaves is the job's again.
  const JobLimits& limits = context_.file.limits;
  std::uint64_t parts = among + 1;
  if (limits.steps) child.steps_left = std::max<std::uint64_t>(1, (limits.steps - std::min(limits.steps, context_.job.steps)) / parts);
  if (limits.tokens) child.tokens_left = std::max<std::uint64_t>(1, (limits.tokens - std::min(limits.tokens, total(context_.job.usage))) / parts);
  if (expert_.isolation == Expert::Isolation::Fork) child.session = fmt::format("{}.{}", context_.session, child.id);
  return context_.job.runs.emplace(child.id, std::move(child)).first->second;
}

// All of them come to an end of their own before any result is used: what one has done is paid for, whatever becomes of the others.
void Loop::delegate(const std::vector<Call*>& calls) {
  struct Work {
    Call* call;
    Run* child;
    std::string trouble;
    std::exception_ptr error;
    Loop::End end = Loop::End::Ended;
    std::uint64_t ms = 0;
  };
  std::vector<Work> works;
  for (Call* call : calls) {
    const ToolDefinition* tool = tools_->find(call->wish.name);
    if (auto known = context_.results.find("R " + call->key); known != context_.results.end()) {
      call->state = CallState::Done;
      finish_call(*call, decode_result(known->second), {});
    } else if (auto wrong = check_arguments(tool->schema, call->wish.arguments)) {
      finish_call(*call, *wrong);
    } else if (depth_of(run_.id) + 1 >= kDeepest) {
      finish_call(*call, fmt::format("delegates may not be nested deeper than {} levels", kDeepest));
    } else {
      works.push_back({call, nullptr, {}, {}, End::Ended, 0});
    }
  }
  for (Work& work : works) {
    work.child = &child_of(*work.call, works.size());
    bool begins = work.call->state != CallState::Delegated;
    work.call->state = CallState::Delegated;
    work.call->child = work.child->id;
    if (!begins) continue;
    std::optional<std::string> session;
    if (!work.child->session.empty()) session = work.child->session;
    context_.ledger.event(events::DelegateStarted{run_.id, work.call->key, work.child->id, work.child->expert, {context_.store.payload(work.child->query)}, session, "untrusted"});
  }
  auto run = [this](Work& work) {
    auto began = supervise::Clock::now();
    try {
      if (!work.child->result.empty()) return tell_end(context_, *work.child);  // it had ended before
      if (!work.child->session.empty() && work.child->step == 0 && work.child->generations == 0)
        context_.hands.fork(context_.session, work.child->session);
      work.end = Loop(context_, *work.child).go();
    } catch (const EndsJob&) {
      work.error = std::current_exception();
    } catch (const std::exception& error) {
      work.trouble = error.what();
    }
    work.ms = supervise::milliseconds_since(began);
  };
  std::size_t most = std::max<std::size_t>(1, expert_.max_parallel);
  for (std::size_t first = 0; first < works.size(); first += most) {
    std::size_t behind = std::min(works.size(), first + most);
    if (behind - first == 1) {
      run(works[first]);
      continue;
    }
    std::vector<std::thread> threads;
    for (std::size_t i = first; i < behind; ++i) threads.emplace_back(run, std::ref(works[i]));
    for (std::thread& thread : threads) thread.join();
  }
  for (Work& work : works)
    if (work.error) std::rethrow_exception(work.error);
  for (Work& work : works)
    if (work.end == End::Ended) settle(*work.call, *work.child, work.trouble, work.ms);
}

void Loop::settle(Call& call, Run& child, const std::string& trouble, std::uint64_t ms) {
  // What the delegate has done is on the disk before its result is in the journal, which says that it need not be done.
  context_.ledger.drain();
  bool ok = trouble.empty() && child.result == "success";
  std::string word = trouble.empty() ? child.result : "runner-error";
  std::string text = ok ? child.text : fmt::format("the delegate {} did not finish ({}): {}", child.expert, word, trouble.empty() ? child.text : trouble);
  context_.ledger.event(events::DelegateFinished{run_.id, call.key, child.id, ok, word, child.step, ms});
  if (!child.session.empty()) context_.hands.end(child.session);
  finish_call(call, {call.wish.id, !ok, {Text{text}}}, {});
}

}  // namespace runner::agent
