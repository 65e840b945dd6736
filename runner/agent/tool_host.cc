#include "runner/agent/tool_host.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runner/agent/untrusted.h"

namespace runner::agent {

using json = nlohmann::json;

namespace {

constexpr std::size_t kMostPast = 1000;

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

ToolResult failed(const std::string& id, std::string sentence) { return {id, true, {Text{std::move(sentence)}}}; }

std::string text_at(const json& object, const char* name) {
  auto at = object.find(name);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

json parse_object(std::string text, std::string& why) {
  why = why_not_parse(text);
  if (!why.empty()) return {};
  mend_surrogates(text);
  json value = json::parse(text, nullptr, false);
  if (!value.is_object()) why = "no JSON object";
  return value;
}

}  // namespace

void ToolHost::broken(const std::string& why) {
  broken_ = "the tool host sent " + why;
  throw ToolHostBroken(broken_);
}

void ToolHost::send(const std::string& text) {
  if (!broken_.empty()) throw ToolHostBroken(broken_);
  channel_.send(tools::frame_of(text));
}

// The time is looked at before anything more is received: a flood cannot hide the deadline.
std::string ToolHost::receive(std::uint64_t end) {
  for (;;) {
    if (auto frame = frames_.next()) {
      if (frame->empty()) broken("an empty frame");
      return std::move(*frame);
    }
    if (frames_.too_long()) broken(fmt::format("a frame of more than {} bytes", tools::kLongestFrame));
    std::uint64_t now = clock_();
    if (now >= end) return {};
    if (auto bytes = channel_.receive(end - now)) frames_.add(*bytes);
  }
}

std::uint64_t ToolHost::hello(std::uint64_t deadline_ms) {
  std::uint64_t end = clock_() + deadline_ms;
  send(dump({{"kind", "hello"}, {"proto", tools::kProtocol}}));
  for (;;) {
    std::string frame = receive(end), why;
    if (frame.empty()) broken(fmt::format("no greeting within {} ms", deadline_ms));
    json said = parse_object(std::move(frame), why);
    if (!why.empty()) broken("a frame with " + why);
    if (text_at(said, "kind") == "result") continue;  // of a call that an earlier runner made
    if (text_at(said, "kind") != "hello") broken("something else than a greeting");
    if (!said.contains("proto") || said["proto"] != tools::kProtocol) broken("a greeting of another protocol");
    if (!said.contains("last") || !said["last"].is_number_unsigned()) broken("a greeting without the number of its calls");
    return said["last"].get<std::uint64_t>();
  }
}

bool ToolHost::is_past(const std::string& id) const { return std::find(past_.begin(), past_.end(), id) != past_.end(); }

ToolResult ToolHost::call(const std::string& id, const std::string& tool, const std::string& arguments, std::uint64_t deadline_ms) {
  if (id.empty() || id.size() > tools::kLongestId) throw std::logic_error(fmt::format("the id of a call has 1 to {} bytes", tools::kLongestId));
  std::string why;
  json given = parse_object(arguments.empty() ? "{}" : arguments, why);
  if (!why.empty()) return failed(id, fmt::format("The call was not made: the arguments of {} cannot be taken: {}.", tool, why));
  std::string text = dump({{"kind", "call"}, {"id", id}, {"tool", tool}, {"arguments", std::move(given)}});
  if (text.size() > tools::kLongestFrame) return failed(id, fmt::format("The call was not made: it has more than {} bytes.", tools::kLongestFrame));
  std::uint64_t end = clock_() + deadline_ms;
  send(text);
  if (!is_past(id)) past_.push_back(id);
  if (past_.size() > kMostPast) past_.pop_front();
  for (;;) {
    std::string frame = receive(end);
    if (frame.empty()) return failed(id, fmt::format("{} gave no result within {} ms. It may take effect later.", tool, deadline_ms));
    json said = parse_object(std::move(frame), why);
    if (!why.empty()) broken("a frame with " + why);
    if (text_at(said, "kind") == "hello") continue;  // asked for by an earlier runner, which was killed before it came
    if (text_at(said, "kind") != "result") broken("something else than a result");
    if (std::string of = text_at(said, "id"); of != id) {
      if (!is_past(of)) broken("a result of a call that was not made: " + cleaned(of, 50));
      continue;
    }
    auto ok = said.find("ok");
    if (ok == said.end() || !ok->is_boolean() || !said.contains("text") || !said["text"].is_string()) broken("a result without 'ok' or 'text'");
    Text shown;
    std::size_t left = kLongestText;
    add_cut(shown.text, said["text"].get_ref<const std::string&>(), left);
    return {id, !ok->get<bool>(), {std::move(shown)}};
  }
}

void ToolHost::ack(const std::string& id) { send(dump({{"kind", "ack"}, {"id", id}})); }

void ToolHost::forget_all() { send(dump({{"kind", "forget-all"}})); }

}  // namespace runner::agent
