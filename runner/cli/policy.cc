#include "runner/config/policy.h"

#include <fmt/format.h>

#include <stdexcept>

#include "runner/cli/context.h"

namespace runner::cli {

namespace {

Policy load(const std::string& name) {
  Diagnostics wrong;
  auto policy = load_policy(name, policy_folders(), wrong);
  if (!policy) throw std::runtime_error(wrong.text());
  return std::move(*policy);
}

}  // namespace

int policy_main(Context& context) {
  Options options("policy", "policy check FILE, policy explain NAME|FILE, policy list");
  std::vector<std::string> arguments = context.parse(options);
  std::string verb = arguments.empty() ? "list" : arguments[0];
  if (verb == "list" && arguments.size() <= 1) {
    for (const std::string& name : list_policies(policy_folders())) fmt::print("{}\n", name);
    return 0;
  }
  if ((verb != "check" && verb != "explain") || arguments.size() != 2)
    throw UsageError("policy: takes `check FILE`, `explain NAME|FILE` or `list`");
  Policy policy = load(arguments[1]);
  if (verb == "explain") fmt::print("{}", explain_policy(policy));
  else fmt::print("{}: no mistakes\n", arguments[1]);
  return 0;
}

}  // namespace runner::cli
