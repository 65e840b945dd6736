// Dispatching: each call of a message of the model, in its order, comes to exactly one result.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runner/agent/loop.h"
#include "runner/agent/replay.h"
#include "runner/agent/schema.h"
#include "runner/agent/text.h"

namespace runner::agent {

using json = nlohmann::json;

namespace {

std::string text_of(const ToolResult& result) {
  std::string text;
  for (const auto& part : result.content) {
    if (auto* said = std::get_if<Text>(&part)) text += said->text;
    else text += fmt::format("[an image of type {}]", std::get<Image>(part).mime);
  }
  return text;
}

bool asks(const Call& call) { return call.state == CallState::AwaitingCaller; }

}  // namespace

// False: somebody has to answer first. What stands behind a question that is open waits, since it may be meant to come after it; further
// questions are asked at once.
bool Loop::dispatch() {
  take_answers();
  std::vector<Call>& calls = run_.turn->calls;
  for (std::size_t i = 0; i < calls.size(); ++i) {
    if (calls[i].state == CallState::Done || asks(calls[i])) continue;
    bool waits = std::any_of(calls.begin(), calls.begin() + static_cast<std::ptrdiff_t>(i), [](const Call& c) { return c.state != CallState::Done; });
    bool delegates = tools_->kind(calls[i].wish.name) == ToolKind::Delegate;
    if (!delegates) {
      dispatch_one(calls[i], waits);
      continue;
    }
    if (waits) continue;
    // Delegates that stand side by side work side by side.
    std::vector<Call*> group;
    for (; i < calls.size() && tools_->kind(calls[i].wish.name) == ToolKind::Delegate; ++i)
      if (calls[i].state != CallState::Done) group.push_back(&calls[i]);
    --i;
    delegate(group);
  }
  return std::all_of(calls.begin(), calls.end(), [](const Call& call) { return call.state == CallState::Done; });
}

void Loop::take_answers() {
  for (Call& call : run_.turn->calls) {
    if (!asks(call)) continue;
    Answer said;
    {
      std::lock_guard lock(context_.mutex);
      auto answer = context_.answers.extract(call.key);
      if (!answer) continue;
      said = std::move(answer.mapped());
    }
    if (call.kind == "approval" && said.ok) {
      call.approved = true;
      call.state = CallState::Queued;
    } else if (call.kind == "mcp" && said.ok) {
      call.input_responses = said.content.empty() ? "{}" : said.content;
      call.state = CallState::Queued;
    } else {
      ToolResult result{call.wish.id, !said.ok, {}};
      json parts = said.content.empty() ? json::array() : json::parse(said.content);
      if (parts.is_array())
        for (const json& part : parts) result.content.emplace_back(Text{part.value("text", "")});
      if (result.content.empty()) result.content.emplace_back(Text{said.ok ? "yes" : "no: the person who was asked has refused"});
      finish_call(call, std::move(result), {});
    }
  }
}

void Loop::dispatch_one(Call& call, bool waits) {
  auto known = context_.results.find("R " + call.key);
  if (known != context_.results.end()) {
    ToolResult result = decode_result(known->second);
    call.state = CallState::Done;
    if (call.wish.name == "complete" && !result.is_error) completed_ = text_of(result);
    ToolKind kind = tools_->kind(call.wish.name);
    if (kind == ToolKind::File || kind == ToolKind::Exec || kind == ToolKind::Mcp) tell_started(call);
    events::ToolCallFinished told;
    told.reason = "as it was done before the job was taken up again";
    return finish_call(call, std::move(result), told);
  }
  const ToolDefinition* tool = tools_->find(call.wish.name);
  if (!tool) return finish_call(call, fmt::format("there is no tool '{}'; use one of those that were offered", cut(as_utf8(call.wish.name), 100)));
  if (auto wrong = check_arguments(tool->schema, call.wish.arguments)) return finish_call(call, *wrong);
  ToolKind kind = tools_->kind(call.wish.name);
  if (kind == ToolKind::Interactive) {
    constexpr const char* kWords[] = {"confirm", "input", "choose"};
    return ask_person(call, kWords[static_cast<int>(tools_->interactive(call.wish.name)->kind)]);
  }
  bool gated = std::find(expert_.approve.begin(), expert_.approve.end(), call.wish.name) != expert_.approve.end();
  if (gated && !call.approved) return ask_person(call, "approval");
  if (waits) return;
  if (kind == ToolKind::Todo) return set_todo(call);
  if (kind == ToolKind::Complete) {
    completed_ = json::parse(call.wish.arguments).at("result").get<std::string>();
    return finish_call(call, {call.wish.id, false, {Text{*completed_}}}, {});
  }
  run_tool(call);
}

void Loop::ask_person(Call& call, const std::string& kind) {
  if (!run_.parent.empty() && !context_.interactive_delegates) return finish_call(call, "this delegate may not ask a person");
  call.kind = kind;
  call.state = CallState::AwaitingCaller;
  std::string arguments = kind == "mcp" ? call.input_requests : call.wish.arguments;
  context_.ledger.event(events::InputRequired{run_.id, call.key, kind, call.wish.name, {context_.store.payload(as_utf8(arguments))}, "untrusted"});
  if (!context_.recorded_tools) return;
  // A replay knows the answer.
  std::optional<ToolEnd> ended = recorded_end(*context_.recorded_tools, call.key);
  if (!ended) throw std::runtime_error(fmt::format("replay: nobody has answered call {} in the recording", call.key));
  if (kind == "approval" && !ended->result.is_error) {
    call.approved = true;
    call.state = CallState::Queued;
    return run_tool(call);
  }
  finish_call(call, std::move(ended->result), {});
}

void Loop::tell_started(const Call& call) {
  context_.ledger.event(events::ToolCallStarted{call.key, call.wish.name, {}, {}, {}, run_.id, run_.step + 1,
                                                events::JsonText{context_.store.payload(as_utf8(call.wish.arguments))}, "untrusted"});
}

void Loop::run_tool(Call& call) {
  bool begun = context_.results.count("I " + intent_of(call)) > 0;
  if (call.input_responses.empty()) tell_started(call);
  auto began = supervise::Clock::now();
  ToolEnd ended;
  if (!context_.recorded_tools) ended = tools_->use(call, begun);
  else if (auto then = recorded_end(*context_.recorded_tools, call.key)) ended = std::move(*then);
  else throw std::runtime_error(fmt::format("replay: call {} of tool {} was not made in the recording", call.key, call.wish.name));
  if (ended.input) {
    call.request_state = ended.input->request_state;
    call.input_requests = ended.input->input_requests;
    return ask_person(call, "mcp");
  }
  events::ToolCallFinished told;
  told.ms = supervise::milliseconds_since(began);
  told.exit = ended.exit, told.signal = ended.signal, told.result = ended.verdict, told.reason = ended.reason;
  told.cpu_us = ended.cpu_us, told.memory_peak = ended.memory_peak, told.evidence = ended.evidence;
  ended.result.id = call.wish.id;
  finish_call(call, std::move(ended.result), told);
  tools_->settled(call);
}

void Loop::finish_call(Call& call, ToolResult result, const events::ToolCallFinished& shown) {
  for (auto& part : result.content)
    if (auto* said = std::get_if<Text>(&part)) said->text = as_utf8(said->text);
  events::ToolCallFinished told = shown;
  told.call = call.key;
  told.tool = as_utf8(cut(call.wish.name, 100));
  told.ok = !result.is_error;
  told.run = run_.id;
  told.step = run_.step + 1;
  told.content = events::JsonText{context_.store.payload(text_of(result))};
  told.trust = "untrusted";
  if (call.state != CallState::Done) context_.journal.add('R', call.key, encode(result));
  call.state = CallState::Done;
  call.result = std::move(result);
  context_.ledger.event(told);
}

void Loop::finish_call(Call& call, const std::string& error) { finish_call(call, {call.wish.id, true, {Text{error}}}, {}); }

void Loop::set_todo(Call& call) {
  json items = json::parse(call.wish.arguments).at("items");
  run_.todo = items.dump(-1, ' ', true, json::error_handler_t::replace);
  std::size_t open = static_cast<std::size_t>(std::count_if(items.begin(), items.end(), [](const json& item) { return !item.value("done", false); }));
  finish_call(call, {call.wish.id, false, {Text{fmt::format("{} items, {} of them open", items.size(), open)}}}, {});
}

}  // namespace runner::agent
