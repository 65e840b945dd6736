// `runner restore --from SNAPSHOT ID`: a session goes on from a snapshot. With --image-path it is a container: restore_container.cc.
#include <fmt/format.h>
#include <unistd.h>

#include "runner/cli/checkpoint.h"
#include "runner/cli/run.h"
#include "runner/snapshot/store.h"

namespace runner::cli {

namespace {

// --image-path is an OCI container's, and so is a ./checkpoint, which is where runc looks for one that nobody names.
bool of_container(const Context& context) {
  bool named = false, from = false;
  for (const std::string& word : context.arguments) {
    named = named || word == "--image-path" || word.starts_with("--image-path=");
    from = from || word == "--from" || word.starts_with("--from=");
  }
  return named || (!from && ::access("checkpoint", F_OK) == 0);
}

int restore_session(Context& context) try {
  std::string from, verify = "metadata", output;
  bool rm = false, detach = false, interactive = false;
  int events_fd = -1;
  Options options("restore", "Bring a session to life from a snapshot: runner restore --from SNAPSHOT ID\n"
                             "(or a container from a checkpoint: runner restore --image-path DIR ID)");
  options.value("--from", from, "name of the snapshot");
  options.flag("-d,--detach", detach, "leave it in the background");
  options.flag("-i,--interactive", interactive, "our stdin goes to its program");
  options.flag("--rm", rm, "remove it when it has ended");
  options.value("--output", output, "events or raw");
  options.number("--events-fd", events_fd, "events go to this descriptor");
  options.value("--verify", verify, "metadata, or full: the memory pages too");
  std::string id = one_argument(context.parse(options), "restore");
  if (from.empty()) throw UsageError("restore: --from SNAPSHOT, or --image-path DIR of a container, is missing");
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
  return live(context, flags, command.value_or(std::vector<std::string>{}), snapshot.manifest().config, &origin);
} catch (const HelpAsked&) {
  throw;
} catch (const std::exception& error) {
  report_error(context.globals, error.what());
  return kSessionVerbFailed;
}

}  // namespace

int restore_main(Context& context) { return of_container(context) ? restore_container(context) : restore_session(context); }

}  // namespace runner::cli
