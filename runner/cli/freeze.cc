// pause, resume, ps: what is asked of a container's cgroup.
#include <fmt/format.h>
#include <time.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "isolate/sys/file.h"
#include "runner/cli/awake.h"
#include "runner/cli/container.h"

namespace runner::cli {

namespace {

isolate::Cgroup cgroup_of(Context& context, const session::State& state) {
  if (state.cgroup.empty()) throw std::runtime_error("the container has no cgroup");
  return isolate::Cgroup::open(state.cgroup, context.cgroups());
}

// Not by waiting on cgroup.events: the kernel tells of its changes at most every 10 ms (snapshots.md).
void await_frozen(const isolate::Cgroup& cgroup) {
  for (int tries = 0; tries < 20'000; ++tries) {
    auto events = isolate::sys::find_file(cgroup.v2_path() + "/cgroup.events");
    if (!events || events->find("frozen 1") != std::string::npos) return;
    timespec moment{0, 100'000};
    ::nanosleep(&moment, nullptr);
  }
  throw std::runtime_error("a process of the container cannot be frozen; it is in an uninterruptible wait");
}

}  // namespace

int pause_main(Context& context) {
  Options options("pause", "Freeze all processes of a container or session.");
  session::Entry entry = context.entry(one_argument(context.parse(options), "pause"));
  session::State state = entry.read_state();
  isolate::sys::Fd awake = awaken(context, entry, state);  // else this would be taken for sleep, which the next request ends
  session::Status status = session::status_of(state, context.cgroups());
  if (status != session::Status::Running && status != session::Status::Created) throw std::runtime_error("container not running");
  isolate::Cgroup cgroup = cgroup_of(context, state);
  cgroup.freeze(true);
  await_frozen(cgroup);
  return 0;
}

int resume_main(Context& context) {
  Options options("resume", "Thaw all processes of a container or session.");
  session::Entry entry = context.entry(one_argument(context.parse(options), "resume"));
  session::State state = entry.read_state();
  if (session::status_of(state, context.cgroups()) != session::Status::Paused) throw std::runtime_error("container not paused");
  isolate::sys::Fd awake = awaken(context, entry, state);
  cgroup_of(context, state).freeze(false);
  return 0;
}

int ps_main(Context& context) {
  std::string format = "table";
  Options options("ps", "List the processes of a container or session, by their pids on the host.");
  options.value("-f,--format", format, "table or json");
  session::State state = context.entry(one_argument(context.parse(options), "ps")).read_state();
  std::vector<pid_t> pids = cgroup_of(context, state).processes();
  if (format == "json") {
    fmt::print("{}\n", nlohmann::json(pids).dump());
    return 0;
  }
  fmt::print("{:>8}  {}\n", "PID", "COMMAND");
  for (pid_t pid : pids) {
    std::string command = isolate::sys::find_file(fmt::format("/proc/{}/cmdline", pid)).value_or("");
    for (char& c : command)
      if (static_cast<unsigned char>(c) < ' ' || c == 127) c = ' ';
    fmt::print("{:>8}  {}\n", pid, command);
  }
  return 0;
}

}  // namespace runner::cli
