// How expert.cc, expert_skills.cc and expert_check.cc share the work on one file.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runner/agent/expert.h"
#include "runner/agent/fields.h"

namespace runner::agent {

/// An expert with the places of what can only be judged once all of them are read.
struct ReadExpert {
  Expert expert;
  toml::Place at;
  std::vector<Listed> delegates, approve;
  std::vector<Listed> tools;  // interactive ones, of all its skills
  toml::Place policy_at;      // if it has one
};

// expert_skills.cc
void read_skills(const toml::Value& table, const std::string& key_env, ReadExpert& to, Mistakes& wrong);
bool is_variable(std::string_view name);
/// Says so when what stands there is no name: `what` is "an expert", say.
bool check_name(const std::string& text, toml::Place at, const char* what, Mistakes& wrong);

// expert_check.cc: what experts say about each other, and about their tools.
void check_experts(const std::map<std::string, ReadExpert>& experts, Mistakes& wrong);

/// A table as JSON text. Empty, and said, when something in it has no counterpart there.
std::string json_of(const toml::Value& table, Mistakes& wrong);

}  // namespace runner::agent
