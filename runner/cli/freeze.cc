// pause, resume, ps: what is asked of a container's cgroup.
#include <fmt/format.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "isolate/sys/child.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"
#include "runner/cli/awake.h"
#include "runner/cli/container.h"
#include "runner/cli/container_events.h"

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
  tell(entry, state, events::ContainerPaused{});
  return 0;
}

int resume_main(Context& context) {
  Options options("resume", "Thaw all processes of a container or session.");
  session::Entry entry = context.entry(one_argument(context.parse(options), "resume"));
  session::State state = entry.read_state();
  if (session::status_of(state, context.cgroups()) != session::Status::Paused) throw std::runtime_error("container not paused");
  isolate::sys::Fd awake = awaken(context, entry, state);
  cgroup_of(context, state).freeze(false);
  tell(entry, state, events::ContainerResumed{});
  return 0;
}

namespace {

// What ps(1) says of these processes, under its own header: so all its options work.
void print_rows(const std::vector<std::string>& options, const std::vector<pid_t>& pids) {
  isolate::sys::Fd said = isolate::sys::memory_file("ps", "");
  isolate::sys::Child ps = isolate::sys::clone_process(0);
  if (ps.pid() == 0) {
    ::dup2(said.get(), 1);
    std::vector<char*> argv{const_cast<char*>("ps")};
    for (const std::string& option : options) argv.push_back(const_cast<char*>(option.c_str()));
    argv.push_back(nullptr);
    ::execvp("ps", argv.data());
    ::_exit(127);
  }
  isolate::sys::Exit exit = ps.wait();
  if (exit.code == 127) throw std::runtime_error("ps: the program ps is not installed (Debian: procps); --format json needs none");
  if (exit != isolate::sys::Exit{}) throw std::runtime_error(fmt::format("ps {}: exit status {}", fmt::join(options, " "), exit.code));
  std::istringstream lines(isolate::sys::read_file(isolate::sys::fd_path(said.get())));
  std::string line;
  std::getline(lines, line);
  std::size_t column = 0;
  std::istringstream header(line);
  for (std::string word; header >> word && word != "PID";) ++column;
  if (!header) throw std::runtime_error("ps: there is no column PID in what ps prints: leave out -o, or name it");
  fmt::print("{}\n", line);
  while (std::getline(lines, line)) {
    std::istringstream fields(line);
    std::string field;
    for (std::size_t i = 0; i <= column; ++i) fields >> field;
    pid_t pid = std::atoi(field.c_str());
    if (std::find(pids.begin(), pids.end(), pid) != pids.end()) fmt::print("{}\n", line);
  }
}

}  // namespace

int ps_main(Context& context) {
  std::string format = "table";
  Options options("ps", "List the processes of a container or session, by their pids on the host: runner ps [flags] ID [options of ps(1)]");
  options.value("-f,--format", format, "table or json");
  std::vector<std::string> arguments = context.parse(options, true);
  if (arguments.empty()) throw UsageError("ps: ID is missing");
  session::State state = context.entry(arguments[0]).read_state();
  std::vector<pid_t> pids = cgroup_of(context, state).processes();
  if (format == "json") {
    fmt::print("{}\n", nlohmann::json(pids).dump());
    return 0;
  }
  std::vector<std::string> words(arguments.begin() + 1, arguments.end());
  print_rows(words.empty() ? std::vector<std::string>{"-ef"} : words, pids);
  return 0;
}

}  // namespace runner::cli
