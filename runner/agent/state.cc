#include "runner/agent/state.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "runner/snapshot/digest.h"

namespace runner::agent {

using json = nlohmann::json;  // with sorted keys: the same values give the same text

namespace {

constexpr std::pair<Role, const char*> kRoles[] = {{Role::User, "user"}, {Role::Assistant, "assistant"}, {Role::Tool, "tool"}};
constexpr std::pair<Stop, const char*> kStops[] = {{Stop::Done, "done"},       {Stop::ToolCalls, "tool-calls"}, {Stop::Length, "length"},
                                                   {Stop::Refusal, "refusal"}, {Stop::Pause, "pause"},          {Stop::ContextOverflow, "context-overflow"}};
constexpr std::pair<CallState, const char*> kStates[] = {
    {CallState::Queued, "queued"}, {CallState::Done, "done"}, {CallState::AwaitingCaller, "awaiting-caller"}, {CallState::Delegated, "delegated"}};

template <typename T, std::size_t N>
const char* name_of(T value, const std::pair<T, const char*> (&names)[N]) {
  for (const auto& [each, name] : names)
    if (each == value) return name;
  throw std::logic_error("a value without a name");
}

template <typename T, std::size_t N>
T value_of(const std::string& name, const std::pair<T, const char*> (&names)[N]) {
  for (const auto& [each, text] : names)
    if (name == text) return each;
  throw std::runtime_error(fmt::format("'{}' is none of the words that are known there", name));
}

json to_json(const Text& t) { return {{"text", t.text}}; }
json to_json(const Image& i) { return {{"image", i.base64}, {"mime", i.mime}}; }
json to_json(const ToolCall& c) { return {{"call", c.id}, {"name", c.name}, {"arguments", c.arguments}}; }
json to_json(const Opaque& o) { return {{"opaque", o.json}, {"provider", o.provider}, {"model", o.model}}; }
json to_json(const ToolResult& r) {
  json content = json::array();
  for (const auto& part : r.content) content.push_back(std::visit([](const auto& p) { return to_json(p); }, part));
  return {{"result", r.id}, {"error", r.is_error}, {"content", content}};
}
json to_json(const Message& m) {
  json parts = json::array();
  for (const Part& part : m.parts) parts.push_back(std::visit([](const auto& p) { return to_json(p); }, part));
  return {{"role", name_of(m.role, kRoles)}, {"parts", parts}};
}
json to_json(const Usage& u) {
  return {{"input", u.input}, {"cache_read", u.cache_read}, {"cache_write", u.cache_write}, {"output", u.output}, {"reasoning", u.reasoning}};
}
json to_json(const Call& c) {
  json j{{"key", c.key}, {"wish", to_json(c.wish)}, {"state", name_of(c.state, kStates)}};
  if (!c.kind.empty()) j["kind"] = c.kind;
  if (c.approved) j["approved"] = true;
  if (!c.child.empty()) j["child"] = c.child;
  if (!c.request_state.empty()) j["request_state"] = c.request_state;
  if (!c.input_requests.empty()) j["input_requests"] = c.input_requests;
  if (!c.input_responses.empty()) j["input_responses"] = c.input_responses;
  if (c.result) j["result"] = to_json(*c.result);
  return j;
}

ToolCall read_tool_call(const json& j) { return {j.at("call"), j.at("name"), j.at("arguments")}; }
ToolResult read_result(const json& j) {
  ToolResult r{j.at("result"), j.at("error"), {}};
  for (const json& part : j.at("content")) {
    if (part.contains("image")) r.content.emplace_back(Image{part.at("mime"), part.at("image")});
    else r.content.emplace_back(Text{part.at("text")});
  }
  return r;
}
Message read_message(const json& j) {
  Message m;
  m.role = value_of(j.at("role").get<std::string>(), kRoles);
  for (const json& part : j.at("parts")) {
    if (part.contains("text")) m.parts.emplace_back(Text{part.at("text")});
    else if (part.contains("image")) m.parts.emplace_back(Image{part.at("mime"), part.at("image")});
    else if (part.contains("call")) m.parts.emplace_back(read_tool_call(part));
    else if (part.contains("result")) m.parts.emplace_back(read_result(part));
    else m.parts.emplace_back(Opaque{part.at("provider"), part.at("model"), part.at("opaque")});
  }
  return m;
}
Usage read_usage(const json& j) {
  return {j.at("input"), j.at("cache_read"), j.at("cache_write"), j.at("output"), j.at("reasoning")};
}
Call read_call(const json& j) {
  Call c;
  c.key = j.at("key");
  c.wish = read_tool_call(j.at("wish"));
  c.state = value_of(j.at("state").get<std::string>(), kStates);
  c.kind = j.value("kind", "");
  c.approved = j.value("approved", false);
  c.child = j.value("child", "");
  c.request_state = j.value("request_state", "");
  c.input_requests = j.value("input_requests", "");
  c.input_responses = j.value("input_responses", "");
  if (j.contains("result")) c.result = read_result(j.at("result"));
  return c;
}

// Text that is not UTF-8 was repaired where it came in; what is left would be a bug, and must not lose a checkpoint.
std::string dump(const json& j) { return j.dump(-1, ' ', true, json::error_handler_t::replace); }

json run_json(const Run& r) {
  json j{{"id", r.id}, {"expert", r.expert}, {"step", r.step}, {"calls", r.calls}, {"generations", r.generations}, {"context", r.context},
         {"usage", to_json(r.usage)}, {"cost", r.cost}};
  if (!r.parent.empty()) j["parent"] = r.parent, j["parent_call"] = r.parent_call;
  if (!r.session.empty()) j["session"] = r.session;
  if (!r.todo.empty()) j["todo"] = r.todo;
  if (!r.result.empty()) j["result"] = r.result, j["text"] = r.text;
  if (r.steps_left) j["steps_left"] = r.steps_left;
  if (r.tokens_left) j["tokens_left"] = r.tokens_left;
  if (r.turn) {
    json calls = json::array();
    for (const Call& call : r.turn->calls) calls.push_back(to_json(call));
    j["turn"] = {{"message", to_json(r.turn->message)}, {"stop", name_of(r.turn->stop, kStops)}, {"calls", calls}};
  }
  return j;
}

void read_run(const json& j, Run& r) {
  r.id = j.at("id");
  r.expert = j.at("expert");
  r.step = j.at("step");
  r.calls = j.at("calls");
  r.generations = j.at("generations");
  r.context = j.at("context");
  r.usage = read_usage(j.at("usage"));
  r.cost = j.at("cost");
  r.parent = j.value("parent", "");
  r.parent_call = j.value("parent_call", "");
  r.session = j.value("session", "");
  r.todo = j.value("todo", "");
  r.result = j.value("result", "");
  r.text = j.value("text", "");
  r.steps_left = j.value("steps_left", std::uint64_t{0});
  r.tokens_left = j.value("tokens_left", std::uint64_t{0});
  r.turn.reset();
  if (!j.contains("turn")) return;
  const json& turn = j.at("turn");
  r.turn.emplace();
  r.turn->message = read_message(turn.at("message"));
  r.turn->stop = value_of(turn.at("stop").get<std::string>(), kStops);
  for (const json& call : turn.at("calls")) r.turn->calls.push_back(read_call(call));
}

}  // namespace

namespace {

json to_json(const std::map<std::string, Service>& services) {
  json all = json::object();
  for (const auto& [skill, s] : services)
    all[skill] = {{"name", s.name}, {"era", s.era}, {"version", s.version}, {"output", s.output}, {"next_id", s.next_id}};
  return all;
}

std::map<std::string, Service> read_services(const json& j) {
  std::map<std::string, Service> services;
  for (const auto& [skill, s] : j.items()) services[skill] = {s.at("name"), s.at("era"), s.at("version"), s.at("output"), s.at("next_id")};
  return services;
}

}  // namespace

std::string encode(const std::map<std::string, Service>& services) { return dump(to_json(services)); }
std::map<std::string, Service> decode_services(const std::string& text) { return read_services(json::parse(text)); }

std::string encode_checkpoint(const Job& job, const Delta& delta, const std::string& parent, std::uint64_t parent_seq) {
  const Run& run = job.runs.at(delta.run);
  json messages = json::array();
  for (const Message& message : delta.messages) messages.push_back(to_json(message));
  json j{{"version", 1}, {"job", job.id}, {"seq", job.seq}, {"id", job.head}, {"parent", parent}, {"parent_seq", parent_seq}, {"branch", job.branch}, {"status", job.status},
         {"run", run_json(run)}, {"messages", messages}, {"generations", job.generations}, {"steps", job.steps},
         {"usage", to_json(job.usage)}, {"cost", job.cost}, {"wall_ms", job.wall_ms}};
  if (delta.begins) j["query"] = run.query;
  if (!job.services.empty()) j["services"] = to_json(job.services);
  return dump(j) + "\n";
}

std::string checkpoint_id(const Job& job) { return snapshot::sha256(fmt::format("{}/{}/{}", job.id, job.branch, job.seq)).substr(0, 12); }

std::string checkpoint_name(std::uint64_t seq, const std::string& id) { return fmt::format("{:08}-{}", seq, id); }

std::string move_checkpoint(const std::string& text, const std::string& job) {
  json j = json::parse(text);
  std::string from = j.at("job");
  j["job"] = job;
  json& run = j.at("run");
  if (run.contains("session")) run["session"] = job + run.at("session").get<std::string>().substr(from.size());
  return dump(j) + "\n";
}

void apply_checkpoint(Job& job, const std::string& text) {
  json j = json::parse(text);
  if (j.at("version") != 1) throw std::runtime_error(fmt::format("it is of version {}, and this runner reads 1", dump(j.at("version"))));
  if (j.at("job") != job.id) throw std::runtime_error(fmt::format("it is of job {}", j.at("job").get<std::string>()));
  if (j.at("parent") != job.head) throw std::runtime_error("it does not follow the one before it");
  job.seq = j.at("seq");
  job.head = j.at("id");
  job.branch = j.at("branch");
  job.status = j.at("status");
  job.generations = j.at("generations");
  job.wall_ms = j.at("wall_ms");
  job.services.clear();
  if (j.contains("services")) job.services = read_services(j.at("services"));
  Run& run = job.runs[j.at("run").at("id").get<std::string>()];
  read_run(j.at("run"), run);
  if (j.contains("query")) run.query = j.at("query");
  for (const json& message : j.at("messages")) run.messages.push_back(read_message(message));
  sum_up(job);
}

void sum_up(Job& job) {
  job.steps = 0, job.usage = {}, job.cost = 0;
  for (const auto& [id, run] : job.runs) job.steps += run.step, job.usage += run.usage, job.cost += run.cost;
}

std::string encode(const Message& message) { return dump(to_json(message)); }
Message decode_message(const std::string& text) { return read_message(json::parse(text)); }
std::string encode(const ToolResult& result) { return dump(to_json(result)); }
ToolResult decode_result(const std::string& text) { return read_result(json::parse(text)); }

std::string encode(const Completion& c) {
  return dump({{"message", to_json(c.message)}, {"stop", name_of(c.stop, kStops)}, {"usage", to_json(c.usage)}});
}
Completion decode_completion(const std::string& text) {
  json j = json::parse(text);
  return {read_message(j.at("message")), value_of(j.at("stop").get<std::string>(), kStops), read_usage(j.at("usage"))};
}

std::string canonical_head(const Request& request) {
  json tools = json::array();
  for (const ToolDefinition& tool : request.tools) tools.push_back({{"name", tool.name}, {"description", tool.description}, {"schema", tool.schema}});
  return dump({{"model", request.model}, {"system", request.system}, {"tools", tools}, {"max_tokens", request.max_tokens}, {"options", request.options}});
}

}  // namespace runner::agent
