// `runner restore --from SNAPSHOT ID`: a session goes on from a snapshot.
#include <fmt/format.h>

#include "runner/cli/run.h"
#include "runner/snapshot/store.h"

namespace runner::cli {

int restore_main(Context& context) try {
  std::string from, verify = "metadata", output;
  bool rm = false, detach = false, interactive = false;
  int events_fd = -1;
  Options options("restore", "Bring a session to life from a snapshot: runner restore --from SNAPSHOT ID");
  options.value("--from", from, "name of the snapshot");
  options.flag("-d,--detach", detach, "leave it in the background");
  options.flag("-i,--interactive", interactive, "our stdin goes to its program");
  options.flag("--rm", rm, "remove it when it has ended");
  options.value("--output", output, "events or raw");
  options.number("--events-fd", events_fd, "events go to this descriptor");
  options.value("--verify", verify, "metadata, or full: the memory pages too");
  std::string id = one_argument(context.parse(options), "restore");
  if (from.empty()) throw UsageError("restore: --from SNAPSHOT is missing");
  if (verify != "metadata" && verify != "full") throw UsageError(fmt::format("restore: --verify is metadata or full, not '{}'", verify));

  snapshot::Store store(context.directories());
  snapshot::Snapshot snapshot = store.get(from);
  Context then;
  then.arguments = snapshot.manifest().config;
  auto command = take_command(then.arguments);
  SessionFlags flags;
  Options run("run", "");
  flags.declare(run);
  then.parse(run);
  flags.name = id;
  flags.rm = rm;
  flags.detach = detach;
  flags.interactive = interactive;
  flags.output = output;
  flags.events_fd = events_fd;
  flags.cidfile.clear();
  Origin origin{snapshot, criu_program(context.globals), verify == "full" ? snapshot::Verify::Full : snapshot::Verify::Metadata};
  try {
    return live(context, flags, command.value_or(std::vector<std::string>{}), snapshot.manifest().config, &origin);
  } catch (const UsageError& error) {
    throw std::runtime_error(fmt::format("snapshot {} cannot go on under the policy of today: {}", from, error.what()));
  }
} catch (const HelpAsked&) {
  throw;
} catch (const std::exception& error) {
  report_error(context.globals, error.what());
  return kSessionVerbFailed;
}

}  // namespace runner::cli
