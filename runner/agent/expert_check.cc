#include <algorithm>
#include <set>
#include <variant>

#include "runner/agent/builtin.h"
#include "runner/agent/expert_parts.h"
#include "runner/agent/text.h"
#include "runner/config/policy_settings.h"
#include "runner/config/yaml.h"

namespace runner::agent {

namespace {

using Experts = std::map<std::string, ReadExpert>;

void check_delegates(const ReadExpert& read, const Experts& experts, Mistakes& wrong) {
  std::vector<std::string> known;
  for (const auto& [name, expert] : experts) known.push_back(name);
  for (const Listed& delegate : read.delegates) {
    if (experts.contains(delegate.text)) continue;
    if (auto meant = nearest(delegate.text, known))
      wrong.add(delegate.at, "there is no expert {}, did you mean '{}'?", quote(delegate.text), *meant);
    else
      wrong.add(delegate.at, "there is no expert {} in this file", quote(delegate.text));
  }
}

/// Follows delegates until one is met whose own are being followed.
class CycleFinder {
 public:
  CycleFinder(const Experts& experts, Mistakes& wrong) : experts_(experts), wrong_(wrong) {}

  void follow(const std::string& name) {
    if (done_.contains(name)) return;
    path_.push_back(name);
    for (const Listed& delegate : experts_.at(name).delegates) {
      auto begin = std::ranges::find(path_, delegate.text);
      if (begin != path_.end())
        wrong_.add(delegate.at, "experts delegate in a circle: {} -> {}", fmt::join(begin, path_.end(), " -> "),
                   delegate.text);
      else if (experts_.contains(delegate.text))
        follow(delegate.text);
    }
    path_.pop_back();
    done_.insert(name);
  }

 private:
  const Experts& experts_;
  Mistakes& wrong_;
  std::vector<std::string> path_;
  std::set<std::string> done_;
};

// The model knows a tool by its name alone.
void check_tool_names(const ReadExpert& read, Mistakes& wrong) {
  std::map<std::string, const char*> taken;
  for (const std::string& name : builtin_names()) taken[name] = "a built-in tool";
  auto take = [&](const Listed& tool, const char* what) {
    auto [first, is_new] = taken.emplace(tool.text, what);
    if (!is_new)
      wrong.add(tool.at, "expert {} has two tools called {}: {} and {}", quote(read.expert.name), quote(tool.text),
                first->second, what);
  };
  for (const Listed& delegate : read.delegates) take(delegate, "a delegate");
  for (const Listed& tool : read.tools) take(tool, "an interactive tool");
}

void check_approve(const ReadExpert& read, Mistakes& wrong) {
  // What an MCP server offers is known once it runs.
  bool all_known = std::ranges::none_of(
      read.expert.skills, [](const auto& skill) { return std::holds_alternative<McpStdioSkill>(skill.second.is); });
  std::vector<std::string> known = texts(read.tools);
  known.insert(known.end(), read.expert.delegates.begin(), read.expert.delegates.end());
  for (const auto& tool : builtin_tools(read.expert.tools)) known.push_back(tool.name);

  for (const Listed& tool : read.approve) {
    if (!check_name(tool.text, tool.at, "a tool", wrong) || !all_known) continue;
    if (std::ranges::find(known, tool.text) != known.end()) continue;
    if (auto meant = nearest(tool.text, known))
      wrong.add(tool.at, "approve names {}, which is no tool of expert {}, did you mean '{}'?", quote(tool.text),
                quote(read.expert.name), *meant);
    else
      wrong.add(tool.at, "approve names {}, which is no tool of expert {}", quote(tool.text), quote(read.expert.name));
  }
}

// A session has one policy. To accept another for who works in the same session would be a promise that nobody keeps.
void check_policies(const ReadExpert& caller, const Experts& experts, std::set<std::string>& told, Mistakes& wrong) {
  if (caller.expert.isolation != Expert::Isolation::Shared) return;
  for (const Listed& delegate : caller.delegates) {
    auto found = experts.find(delegate.text);
    if (found == experts.end()) continue;
    const Expert& expert = found->second.expert;
    if (expert.policy.empty() || expert.policy == caller.expert.policy || !told.insert(expert.name).second) continue;
    wrong.add(
        found->second.policy_at,
        "expert {} cannot have policy {}: it works in the session of {}; remove it, or give {} isolation = \"fork\"",
        quote(expert.name), quote(expert.policy), quote(caller.expert.name), quote(caller.expert.name));
  }
}

}  // namespace

void check_experts(const Experts& experts, Mistakes& wrong) {
  CycleFinder cycles(experts, wrong);
  std::set<std::string> told;
  for (const auto& [name, read] : experts) {
    check_delegates(read, experts, wrong);
    cycles.follow(name);
    check_tool_names(read, wrong);
    check_approve(read, wrong);
    check_policies(read, experts, told, wrong);
  }
}

std::set<std::string> reachable(const ExpertFile& file, const std::string& from) {
  std::set<std::string> all{from};
  for (std::vector<std::string> left{from}; !left.empty();) {
    std::string name = left.back();
    left.pop_back();
    for (const std::string& next : file.experts.at(name).delegates)
      if (all.insert(next).second) left.push_back(next);
  }
  return all;
}

}  // namespace runner::agent
