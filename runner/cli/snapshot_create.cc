// `runner snapshot create`, `runner suspend`: a session's processes and files on disk.
#include <fmt/format.h>

#include "runner/cli/snapshot.h"
#include "runner/code/record.h"
#include "runner/session/time.h"
#include "runner/snapshot/take.h"

namespace runner::cli {

int snapshot_create(Context& context) try {
  std::string name;
  bool leave_running = false;
  Options options("snapshot create", "Capture a running session: its processes, terminals and files.");
  options.value("--name", name, "of the snapshot (default: SESSION-TIME)");
  options.flag("--leave-running", leave_running, "the session goes on");
  std::string id = one_argument(context.parse(options), "snapshot create");
  session::Entry entry = context.entry(id);
  snapshot::TakeOptions take;
  take.name = name.empty() ? fmt::format("{}-{}", id, session::rfc3339_now()) : name;
  take.automatic = name.empty();
  take.criu = criu_program(context.globals);
  take.suspend = !leave_running;
  for (const std::string& context : code::recorded_contexts(entry.path())) take.contexts[context] = code::Record(entry.path(), context).language();
  snapshot::Taken taken = snapshot::take(context.directories(), context.cgroups(), entry, take);
  fmt::print("{}\n", taken.name);
  fmt::print(stderr, "runner: {} MiB of memory, {} KiB of files; the session stood still for {} ms\n", taken.bytes >> 20, taken.layer_bytes >> 10, taken.frozen_ms);
  return 0;
} catch (const HelpAsked&) {
  throw;
} catch (const std::exception& error) {
  report_error(context.globals, error.what());
  return kSessionVerbFailed;
}

}  // namespace runner::cli
