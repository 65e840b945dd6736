// `runner snapshot create`: a session's processes and files on disk.
#include <fmt/format.h>

#include "runner/cli/revive.h"
#include "runner/cli/secret_flags.h"
#include "runner/cli/snapshot.h"
#include "runner/code/record.h"
#include "runner/session/time.h"
#include "runner/snapshot/scan.h"
#include "runner/snapshot/take.h"

namespace runner::cli {

snapshot::TakeOptions take_options(Context& context, const session::Entry& entry, const std::string& name) {
  snapshot::TakeOptions take;
  std::string now = session::rfc3339_now();
  std::erase(now, ':');  // which no name may have
  take.name = name.empty() ? fmt::format("{}-{}", entry.id().substr(0, 100), now) : name;
  take.automatic = name.empty();
  take.criu = criu_program(context.globals);
  for (const std::string& each : code::recorded_contexts(entry.path())) take.contexts[each] = code::Record(entry.path(), each).language();
  return take;
}

int snapshot_create(Context& context) try {
  std::string name;
  bool leave_running = false, scan = false;
  SecretFlags secrets;
  Options options("snapshot create", "Capture a running session: its processes, terminals and files.");
  options.value("--name", name, "of the snapshot (default: SESSION-TIME)");
  options.flag("--leave-running", leave_running, "the session goes on");
  options.flag("--scan", scan, "make none that has secrets in it (see `runner snapshot scan`): the session goes on then, and the status is 1");
  secrets.declare(options);
  std::string id = one_argument(context.parse(options), "snapshot create");
  if (secrets.given() && !scan) throw UsageError("snapshot create: --secret-env and --secret-file are of --scan, which is missing");
  session::Entry entry = context.entry(id);
  snapshot::TakeOptions take = take_options(context, entry, name);
  take.suspend = !leave_running;
  if (scan) take.without = secrets.read();
  snapshot::Taken taken = snapshot::take(context.directories(), context.cgroups(), entry, take);
  fmt::print("{}\n", taken.name);
  fmt::print(stderr, "runner: {} MiB of memory, {} KiB of files; the session stood still for {} ms\n", taken.bytes >> 20, taken.layer_bytes >> 10, taken.frozen_ms);
  return 0;
} catch (const snapshot::SecretsFound& found) {
  report_error(context.globals, found.what());
  return 1;
}

}  // namespace runner::cli
