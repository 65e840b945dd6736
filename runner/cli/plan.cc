#include <fmt/format.h>
#include <unistd.h>

#include "runner/cli/run.h"
#include "runner/plan/json.h"

namespace runner::cli {

int plan_main(Context& context) {
  std::vector<std::string> command = take_command(context.arguments).value_or(std::vector<std::string>{});
  SessionFlags flags;
  Options options("plan", "Print what `runner run` with the same flags would do, as JSON; nothing is started.");
  flags.declare(options);
  if (auto rest = context.parse(options); !rest.empty())
    throw UsageError(fmt::format("plan: '{}' stands before --; the command goes behind it", rest[0]));
  Diagnostics wrong;
  plan::Config config = flags.to_config(command, wrong);
  config.id = flags.name.empty() ? "s-plan" : flags.name;
  if (!wrong.empty()) throw UsageError(wrong.text());
  std::string rootfs;
  // The first range stands for the one that `run` will find free.
  plan::SessionPlan plan =
      decide(flags, config, context.directories(), session::IdRangeLease::kFirstId, rootfs);
  fmt::print("{}\n", plan::to_json(plan));
  return 0;
}

}  // namespace runner::cli
