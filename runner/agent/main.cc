// runner-agent: the loop, as a process that has no rights. It is started by `runner job` (runner/cli/job.cc) and by nobody else.
#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <set>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"
#include "runner/agent/assignment.h"
#include "runner/agent/confine.h"
#include "runner/agent/drive.h"
#include "runner/agent/lock.h"
#include "runner/agent/markdown.h"
#include "runner/agent/prompt.h"
#include "runner/agent/text.h"
#include "runner/snapshot/digest.h"

namespace {

using namespace runner;
using namespace runner::agent;
using namespace isolate::sys;

constexpr int kUsage = 2;

/// What the user has written is wrong: all of it is said.
struct Mistakes {
  std::string text;
};

std::string expert_path(const Order& order) {
  if (!order.expert_file.empty()) return order.expert_file[0] == '/' ? order.expert_file : order.directory + "/" + order.expert_file;
  if (auto found = find_expert_file(order.directory)) return *found;
  throw Mistakes{fmt::format("no experts.toml or perstack.toml in {} or above it: name a file with --config", order.directory)};
}

ExpertFile read_file_of(const Order& order, std::string& digest) {
  std::string path = expert_path(order);
  Diagnostics wrong;
  auto text = read_text_file(path, wrong);
  std::optional<ExpertFile> file;
  if (text) {
    digest = snapshot::sha256(*text);
    file = path.ends_with(".md") ? read_markdown(path, *text, wrong) : read_experts(path, *text, wrong);
  }
  if (file && !order.agents.empty() && add_markdown_folder(order.agents, order.expert, *file, wrong))
    for (const std::string& name : list_dir(order.agents))
      if (name.ends_with(".md")) digest = snapshot::sha256(digest + name + read_file(order.agents + "/" + name));
  if (!file || !wrong.empty()) throw Mistakes{wrong.text()};
  return std::move(*file);
}

void set_defaults(ExpertFile& file, const Order& order) {
  if (!order.provider.empty() && order.provider != file.provider.name) {
    ProviderChoice other;
    other.name = order.provider;
    other.key_env = order.provider == "openai" ? "OPENAI_API_KEY" : order.provider == "anthropic" ? "ANTHROPIC_API_KEY" : "";
    file.provider = other;
  }
  if (!order.model.empty()) file.model = order.model;
  if (file.provider.base_url.empty() && file.provider.name == "anthropic") file.provider.base_url = "https://api.anthropic.com";
  if (file.provider.base_url.empty() && file.provider.name == "openai") file.provider.base_url = "https://api.openai.com";
  if (file.model.empty() && (file.provider.name == "script" || file.provider.name == "replay")) file.model = file.provider.name;
}

Needs needs_of(const ExpertFile& file, const Order& order, const std::string& digest) {
  if (!file.experts.count(order.expert)) {
    std::vector<std::string> names;
    for (const auto& [name, expert] : file.experts) names.push_back(name);
    throw Mistakes{fmt::format("{} has no expert '{}'; there are: {}", file.path, order.expert, fmt::join(names, ", "))};
  }
  const Expert& expert = file.experts.at(order.expert);
  if (expert.model.empty() && file.model.empty()) throw Mistakes{fmt::format("{}: no model is named: set `model`, or give --model", file.path)};
  if (!order.expert_sha256.empty() && order.expert_sha256 != digest)
    throw Mistakes{fmt::format("{} is not what it was when the job began: go on all the same with --allow-drift", file.path)};
  Needs needs{order.expert, file.path, digest, file.provider.name, expert.model.empty() ? file.model : expert.model, file.provider.base_url, file.provider.key_env, expert.policy, {}};
  std::set<std::string> names;
  for (const std::string& each : reachable(file, order.expert)) {
    const Expert& one = file.experts.at(each);
    // One session, one policy: a delegate that wants another would have more, or less, than it is said to have.
    if (one.policy != expert.policy && !one.policy.empty())
      throw Mistakes{fmt::format("{}: expert {} names policy {}, and works in the session of {}, whose policy is {}: they must be the same", file.path, each, one.policy, order.expert,
                                 expert.policy.empty() ? "the default one" : expert.policy)};
    for (const auto& [skill, is] : one.skills)
      if (auto* server = std::get_if<McpStdioSkill>(&is.is)) names.insert(server->required_env.begin(), server->required_env.end());
  }
  needs.environment.assign(names.begin(), names.end());
  return needs;
}

void add_agents_md(ExpertFile& file, const Order& order) {
  if (order.workspace.empty()) return;
  auto text = find_file(order.workspace + "/AGENTS.md", 1u << 20);
  if (!text) return;
  Expert& expert = file.experts.at(order.expert);
  expert.instruction = with_agents_md(expert.instruction, *text);
}

Script script_of(const ExpertFile& file) {
  if (file.provider.name != "script" || file.provider.file.empty()) return default_script();
  Diagnostics wrong;
  auto text = read_text_file(file.provider.file, wrong);
  Script script;
  if (text) script = read_script(file.provider.file, *text, wrong);
  if (!wrong.empty()) throw Mistakes{wrong.text()};
  return script;
}

// experts.lock beside the expert file. What it says of skills that are not as it says is left out, if that is allowed.
Lock lock_of(const ExpertFile& file, const Order& order) {
  std::string path = file.path.substr(0, file.path.rfind('/') + 1) + "experts.lock";
  auto text = find_file(path, 16u << 20);
  if (!text) return {};
  Diagnostics wrong;
  auto lock = read_lock(path, *text, wrong);
  if (!lock && (order.locks || order.allow_drift)) {
    fmt::print(stderr, "{}\nrunner: {} is left out\n", wrong.text(), path);
    return {};
  }
  if (!lock) throw Mistakes{fmt::format("{}\nwrite it anew with `runner job lock {}`", wrong.text(), order.expert)};
  if (order.locks) return std::move(*lock);
  // Only those that this job can come to.
  ExpertFile ours = file;
  std::set<std::string> names = reachable(file, order.expert);
  std::erase_if(ours.experts, [&](const auto& each) { return !names.count(each.first); });
  std::erase_if(lock->experts, [&](const auto& each) { return !names.count(each.first); });
  std::vector<std::string> differs = drift(*lock, ours);
  if (differs.empty()) return std::move(*lock);
  if (order.allow_drift) return {};
  throw Mistakes{fmt::format("{}: {}\nwrite it anew with `runner job lock {}`, or go on all the same with --allow-drift", path, fmt::join(differs, "\n" + path + ": "), order.expert)};
}

// A message of `runner job`: a file in memory, since it may be longer than a socket takes at once.
std::optional<std::string> receive_text(const Fd& socket) {
  auto message = receive_message(socket.get());
  if (!message || message->fds.empty()) return std::nullopt;
  std::string text;
  char block[65536];
  for (ssize_t got; (got = check(::pread(message->fds[0].get(), block, sizeof block, static_cast<off_t>(text.size())), "read an order")) > 0;)
    text.append(block, static_cast<std::size_t>(got));
  return text;
}

int run() {
  ::setenv("TZ", "UTC", 1);
  Fd socket(kHands);
  auto first = receive_text(socket);
  if (!first) return kRunnerFailed;
  Order order = decode_order(*first);
  Assignment assignment;
  ExpertFile file = read_file_of(order, assignment.expert_sha256);
  set_defaults(file, order);
  Needs needs = needs_of(file, order, assignment.expert_sha256);
  add_agents_md(file, order);
  assignment.script = script_of(file);
  if (!order.replay.empty()) assignment.recording = load_recording(order.replay);
  else if (file.provider.name == "replay") throw Mistakes{"the provider replay is for `runner job replay`"};
  if (!order.answers.empty()) {
    try {
      assignment.answers = read_answers(order.answers);
    } catch (const std::exception& error) {
      throw Mistakes{fmt::format("--answers: {}", error.what())};
    }
  }
  assignment.lock = lock_of(file, order);
  send_message(socket.get(), encode(needs));
  auto second = receive_text(socket);
  if (!second) return kRunnerFailed;  // it has said why
  Grant grant = decode_grant(*second);

  assignment.job = order.job, assignment.expert = order.expert, assignment.query = order.query, assignment.session = order.session;
  assignment.started = order.started, assignment.runner_version = order.version;
  assignment.resume_from = order.resume_from;
  assignment.begins = order.begins, assignment.answers_on_stdin = order.answers_on_stdin, assignment.deltas = order.deltas;
  assignment.recorded_tools = order.recorded_tools, assignment.interactive_delegates = order.interactive_delegates;
  assignment.cancel = order.cancel, assignment.warms = order.warms, assignment.locks = order.locks;
  assignment.environment = std::move(grant.environment);
  std::string folder = confine(order.folder, grant.id);
  Hands hands(std::move(socket));
  return drive(file, std::move(assignment), folder, hands, order.traceparent);
}

}  // namespace

int main() {
  try {
    return run();
  } catch (const Mistakes& mistakes) {
    fmt::print(stderr, "{}\n", mistakes.text);
    return kUsage;
  } catch (const std::exception& error) {
    fmt::print(stderr, "runner: {}\n", error.what());
    return kRunnerFailed;
  }
}
