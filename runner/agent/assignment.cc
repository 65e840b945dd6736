#include "runner/agent/assignment.h"

#include <nlohmann/json.hpp>

namespace runner::agent {

using json = nlohmann::json;

namespace {

// One list of the fields serves both directions.
template <typename Visit>
void visit(auto& o, Visit&& at) requires requires { o.replay; } {
  at("job", o.job), at("folder", o.folder), at("expert", o.expert), at("query", o.query), at("session", o.session), at("started", o.started);
  at("version", o.version), at("traceparent", o.traceparent), at("expert_file", o.expert_file);
  at("directory", o.directory), at("agents", o.agents), at("workspace", o.workspace), at("answers", o.answers), at("replay", o.replay), at("expert_sha256", o.expert_sha256);
  at("model", o.model), at("provider", o.provider), at("begins", o.begins), at("answers_on_stdin", o.answers_on_stdin), at("deltas", o.deltas);
  at("recorded_tools", o.recorded_tools), at("interactive_delegates", o.interactive_delegates), at("cancel", o.cancel);
  at("warms", o.warms), at("locks", o.locks), at("allow_drift", o.allow_drift), at("resume_from", o.resume_from);
}
template <typename Visit>
void visit(auto& n, Visit&& at) requires requires { n.key_env; } {
  at("expert", n.expert), at("expert_file", n.expert_file), at("expert_sha256", n.expert_sha256), at("provider", n.provider), at("model", n.model);
  at("base_url", n.base_url), at("key_env", n.key_env), at("policy", n.policy), at("environment", n.environment);
}
template <typename Visit>
void visit(auto& g, Visit&& at) requires requires { g.id; } {
  at("environment", g.environment), at("id", g.id);
}

template <typename T>
std::string write(const T& value) {
  json j;
  visit(value, [&](const char* name, const auto& field) { j[name] = field; });
  return j.dump(-1, ' ', true, json::error_handler_t::replace);
}

template <typename T>
T read(const std::string& text) {
  json j = json::parse(text);
  T value;
  visit(value, [&](const char* name, auto& field) { j.at(name).get_to(field); });
  return value;
}

}  // namespace

std::string encode(const Order& order) { return write(order); }
Order decode_order(const std::string& text) { return read<Order>(text); }
std::string encode(const Needs& needs) { return write(needs); }
Needs decode_needs(const std::string& text) { return read<Needs>(text); }
std::string encode(const Grant& grant) { return write(grant); }
Grant decode_grant(const std::string& text) { return read<Grant>(text); }

}  // namespace runner::agent
