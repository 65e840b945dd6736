// Wall time of whole commands, ours and peers' in turns, so that what slows the machine slows both. Prints medians and ratios, and
// exits with 1 when a goal is missed. scripts/bench prepares the bundle and the private view of cgroups that crun needs.
//
//   bench ROUNDS FOLDER      FOLDER holds bundle/ and rootfs/ as scripts/bench makes them
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace {

using Args = std::vector<std::string>;
using Clock = std::chrono::steady_clock;

struct Measured {
  double milliseconds = 0;
  long peak_kib = 0;
};

// With `marker`: the time until stdout has shown it, and not until the end.
Measured measure(const Args& argv, const std::string& marker = {}) {
  std::vector<char*> pointers;
  for (const std::string& word : argv) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  int out[2];
  if (::pipe2(out, O_CLOEXEC) == -1) std::exit(2);
  if (marker.empty()) posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  else posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  auto start = Clock::now();
  pid_t pid;
  if (posix_spawnp(&pid, pointers[0], &actions, nullptr, pointers.data(), environ) != 0) {
    std::fprintf(stderr, "bench: cannot start %s\n", pointers[0]);
    std::exit(2);
  }
  ::close(out[1]);
  auto passed = [&] { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); };
  double ms = 0;
  std::string shown;
  char bytes[4096];
  for (ssize_t got; !marker.empty() && (got = ::read(out[0], bytes, sizeof bytes)) > 0;) {
    shown.append(bytes, static_cast<std::size_t>(got));
    if (ms == 0 && shown.find(marker) != std::string::npos) ms = passed();
  }
  ::close(out[0]);
  int status;
  rusage usage;
  ::wait4(pid, &status, 0, &usage);
  if (marker.empty()) ms = passed();
  if (ms == 0) status = -1;
  if (status != 0) {
    std::fprintf(stderr, "bench: %s failed with status %d\n", pointers[0], status);
    std::exit(2);
  }
  posix_spawn_file_actions_destroy(&actions);
  return {ms, usage.ru_maxrss};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Goal {
  std::string ours, peer;
  double most;
};

}  // namespace

int main(int argc, char** argv) {
  int rounds = argc > 1 ? std::atoi(argv[1]) : 41;
  std::string folder = argc > 2 ? argv[2] : ".", bundle = folder + "/bundle", rootfs = bundle + "/rootfs";
  std::string runner = std::getenv("RUNNER") ? std::getenv("RUNNER") : "runner";
  int count = 0;
  auto id = [&] { return "bench-" + std::to_string(::getpid()) + "-" + std::to_string(++count); };

  std::map<std::string, std::vector<double>> times;
  long peak = 0;
  auto record = [&](const std::string& name, const Args& command, const std::string& marker = {}) {
    Measured m = measure(command, marker);
    times[name].push_back(m.milliseconds);
    if (name == "runner run (container)" || name == "runner run (session)") peak = std::max(peak, m.peak_kib);
  };

  // One container of each runtime stays, for exec.
  measure({runner, "run", "-d", "-b", bundle + "-sleep", "bench-runner"});
  measure({"crun", "run", "-d", "-b", bundle + "-sleep", "bench-crun"});
  measure({runner, "run", "-d", "--name", "bench-session", "--rootfs", bundle + "-sleep/rootfs", "--", "/bin/sleep", "1000"});
  for (int i = 0; i < rounds; ++i) {
    record("runner run (container)", {runner, "run", "-b", bundle, id()});
    record("crun run", {"crun", "run", "-b", bundle, id()});
    record("bwrap", {"bwrap", "--unshare-all", "--ro-bind", rootfs, "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"});
    record("runner run (session)", {runner, "run", "--rm", "--rootfs", rootfs, "--", "/bin/true"});
    record("runner run (session, host view)", {runner, "run", "--rm", "--", "true"});
    record("runner exec", {runner, "exec", "bench-runner", "/bin/true"});
    record("runner exec (session)", {runner, "exec", "bench-session", "/bin/true"});
    record("crun exec", {"crun", "exec", "bench-crun", "/bin/true"});
    record("runner run, first byte", {runner, "run", "--rm", "--rootfs", rootfs, "--", "/bin/echo", "here I am"}, "here I am\\n");
    record("crun run, first byte", {"crun", "run", "-b", bundle + "-echo", id()}, "here I am");
    if (i % 4 == 0) record("runc run", {"runc", "run", "-b", bundle, id()});
  }
  for (const char* each : {"bench-runner", "bench-session"}) measure({runner, "delete", "-f", each});
  measure({"crun", "delete", "-f", "bench-crun"});

  for (const auto& [name, values] : times)
    std::printf("%-34s median %7.2f ms   least %7.2f ms   of %zu\n", name.c_str(), median(values),
                *std::min_element(values.begin(), values.end()), values.size());
  const std::vector<Goal> goals{{"runner run (container)", "crun run", 0.75},
                                {"runner run (container)", "bwrap", 1.0},
                                {"runner run (session)", "crun run", 1.2},
                                {"runner run (session, host view)", "crun run", 1.2},
                                {"runner exec", "crun exec", 0.75},
                                {"runner exec (session)", "crun exec", 1.0},
                                {"runner run, first byte", "crun run, first byte", 1.3}};
  bool met = true;
  std::printf("\n");
  for (const Goal& goal : goals) {
    double ratio = median(times[goal.ours]) / median(times[goal.peer]);
    met &= ratio <= goal.most;
    std::printf("%-34s / %-20s %5.2f   goal %.2f   %s\n", goal.ours.c_str(), goal.peer.c_str(), ratio, goal.most,
                ratio <= goal.most ? "met" : "MISSED");
  }
  // A gigabyte of lines as stdio events into a file.
  std::string policy = folder + "/loud.yaml", line(63, 'x');
  std::ofstream(policy) << "version: 1\nextends: default\nlimits: {output: 8G}\n";
  Measured loud = measure({"sh", "-c", "exec " + runner + " run --rm --policy " + policy + " -- sh -c 'yes " + line +
                                       " | head -c 1073741824' > " + folder + "/events"});
  double rate = 1024 * 1.048576 / loud.milliseconds * 1000;
  bool fast = rate >= 300 && loud.peak_kib <= 64 * 1024;
  std::printf("%-34s   %7.0f MB/s, %ld KiB   goal 300, 65536   %s\n", "1 GiB of output as events", rate, loud.peak_kib, fast ? "met" : "MISSED");
  met &= fast;
  bool small = peak <= 8 * 1024;
  std::printf("%-34s   %10ld KiB   goal 8192   %s\n", "peak memory of runner", peak, small ? "met" : "MISSED");
  return met && small ? 0 : 1;
}
