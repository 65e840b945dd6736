// How long a frozen program takes to answer again: milliseconds from the command, or from the request to a session on standby, until what
// was written to it comes back. All ways in turns, so that what slows the machine slows each. Prints medians and ratios, and exits with 1
// when a goal is missed. scripts/bench-restore prepares the bundles.
//
//   restore-bench ROUNDS FOLDER [WORKLOAD...]      FOLDER/WORKLOAD is a bundle, whose program sends back what it reads
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace {

using Args = std::vector<std::string>;
using Clock = std::chrono::steady_clock;

struct Workload {
  const char* name;
  double cold, standby;  // goals in milliseconds
  double ratio;          // how many times as long runc's own restore shall take
};
constexpr Workload kWorkloads[] = {
    {"c", 15, 6, 8}, {"python", 18, 9, 8}, {"python50", 40, 32, 4}, {"python200", 115, 100, 2}, {"node", 20, 12, 8}};

[[noreturn]] void give_up(const std::string& what) {
  std::fprintf(stderr, "restore-bench: %s\n", what.c_str());
  std::exit(2);
}

// A program and its stdio, all of it pipes: runc cannot restore a container that has a file of the host.
class Piped {
 public:
  explicit Piped(const Args& argv) : argv_(argv) {
    if (::pipe2(to_, O_CLOEXEC) == -1 || ::pipe2(from_, O_CLOEXEC) == -1 || ::pipe2(errors_, O_CLOEXEC | O_NONBLOCK) == -1) give_up("cannot make a pipe");
    std::vector<char*> words;
    for (const std::string& word : argv_) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to_[0], 0);
    posix_spawn_file_actions_adddup2(&actions, from_[1], 1);
    posix_spawn_file_actions_adddup2(&actions, errors_[1], 2);
    if (posix_spawnp(&pid_, words[0], &actions, nullptr, words.data(), environ) != 0) give_up("cannot start " + argv_[0]);
    posix_spawn_file_actions_destroy(&actions);
  }
  ~Piped() {
    for (int fd : {to_[0], to_[1], from_[0], from_[1], errors_[0], errors_[1]}) ::close(fd);
    if (pid_) ::waitpid(pid_, nullptr, 0);
  }
  // Until that byte has come back; what was said before is passed over.
  void await(char byte) {
    (void)!::write(to_[1], &byte, 1);
    for (char got = 0; got != byte;) {
      pollfd wait{from_[0], POLLIN, 0};
      if (::poll(&wait, 1, 30'000) != 1 || ::read(from_[0], &got, 1) != 1) fail("no answer from");
    }
  }
  void succeed() {
    int status = 0;
    ::waitpid(std::exchange(pid_, 0), &status, 0);
    if (status) fail("this failed:");
  }

 private:
  [[noreturn]] void fail(const std::string& how) {
    std::string command;
    for (const std::string& word : argv_) command += " " + word.substr(0, 80);
    char text[4096];
    ssize_t size = ::read(errors_[0], text, sizeof text);
    give_up(how + command + "\n" + std::string(text, size > 0 ? static_cast<std::size_t>(size) : 0));
  }
  Args argv_;
  int to_[2], from_[2], errors_[2];
  pid_t pid_ = 0;
};

void run(const Args& argv) { Piped(argv).succeed(); }

Args operator+(Args words, const Args& more) {
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

// One way to bring it back.
struct Way {
  std::string name;
  std::function<void()> prepare, ahead;  // once; before each time, not measured
  std::function<Args()> command;         // what is measured, and whether it ends before its program does
  bool detaches;
  std::function<void()> clean, finish;   // after each time; at the end
  std::vector<double> times = {};

  void once() {
    ahead();
    auto began = Clock::now();
    Piped back(command());
    back.await('y');
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - began).count());
    if (detaches) back.succeed();
    clean();
  }
  double median() {
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }
};

const std::function<void()> kNothing = [] {};

Way container(const std::string& runtime, const std::string& program, const std::string& bundle) {
  std::string id = runtime + "-" + std::to_string(::getpid()), images = bundle + "/images-" + id, work = bundle + "/work-" + id;
  Args where{"--image-path", images, "--work-path", work};
  auto remove = [=] { run({program, "delete", "-f", id}); };
  auto prepare = [=] {
    Piped start({program, "run", "-d", "-b", bundle, id});
    start.await('x');
    start.succeed();
    run(Args{program, "checkpoint", "--leave-running"} + where + Args{id});
    remove();
  };
  return {runtime + " restore", prepare, kNothing, [=] { return Args{program, "restore", "-d", "-b", bundle} + where + Args{id}; }, true, remove, kNothing};
}

Args command_of(const std::string& bundle) {
  std::ifstream file(bundle + "/config.json");
  return nlohmann::json::parse(file).at("process").at("args");
}

// A whole session: user namespace, overlay, network namespace, seccomp, PID 1, log. The second way is on standby.
std::vector<Way> sessions(const std::string& runner, const std::string& bundle, const std::string& rootfs) {
  std::string snapshot = "bench-" + std::to_string(::getpid()), first = snapshot + "-first", id = snapshot + "-next", waiting = snapshot + "-w";
  auto prepare = [=] {
    Piped start(Args{runner, "run", "-i", "--name", first, "--output", "raw", "--rootfs", rootfs, "--"} + command_of(bundle));
    start.await('x');
    run({runner, "snapshot", "create", "--leave-running", "--name", snapshot, first});
    run({runner, "rm", "-f", first});
  };
  auto finish = [=] { run({runner, "snapshot", "rm", snapshot}); };
  Way cold{"session, restore --from", prepare, kNothing,
           [=] { return Args{runner, "restore", "-i", "--rm", "--output", "raw", "--from", snapshot, id}; }, false, [=] { run({runner, "rm", "-f", id}); }, kNothing};
  auto stand_by = [=] {
    run({runner, "standby", snapshot, "--rm", "--name", waiting});
    ::usleep(20'000);  // nobody asks at once for what was made ahead
  };
  Way ahead{"session, standby", kNothing, stand_by, [=] { return Args{runner, "attach", waiting + "-1"}; }, false, [=] { run({runner, "rm", "-f", waiting + "-1"}); }, finish};
  return {cold, ahead};
}

// One verdict a line, as scripts/bench has it.
bool tell(const std::string& what, double value, double goal, bool most) {
  bool met = most ? value <= goal : value >= goal;
  std::printf("  %-44s %7.1f   goal %5.1f   %s\n", what.c_str(), value, goal, met ? "met" : "MISSED");
  return met;
}

bool measure(const Workload& workload, int rounds, const std::string& folder) {
  const char* given = std::getenv("RUNNER");
  std::string runner = given ? given : "runner", bundle = folder + "/" + workload.name;
  std::vector<Way> ways{container("runner", runner, bundle), container("runc", "runc", bundle)};
  bool alone = workload.name == std::string("c");  // the others have the host's /usr in their bundle, as sessions have
  for (Way& each : sessions(runner, bundle, alone ? bundle + "/rootfs" : "host")) ways.push_back(std::move(each));
  for (Way& way : ways) way.prepare();
  for (int i = 0; i < rounds; ++i)
    for (Way& way : ways) way.once();
  for (Way& way : ways) way.finish();

  std::printf("%s\n", workload.name);
  for (Way& way : ways) {
    double median = way.median();
    std::printf("  %-28s median %7.2f ms   least %7.2f ms   of %zu\n", way.name.c_str(), median, way.times.front(), way.times.size());
  }
  double ours = ways[0].median(), runc = ways[1].median(), session = ways[2].median(), standby = ways[3].median();
  bool met = tell("runner restore, ms", ours, workload.cold, true);
  met &= tell("runc restore / runner restore", runc / ours, workload.ratio, false);
  std::printf("  %-44s %7.1f\n", "runc restore / session, restore --from", runc / session);
  met &= tell("session, standby, ms", standby, workload.standby, true);
  met &= tell("runc restore / session, standby", runc / standby, workload.ratio, false);
  std::fflush(stdout);
  return met;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) give_up("restore-bench ROUNDS FOLDER [WORKLOAD...]");
  ::signal(SIGPIPE, SIG_IGN);
  int rounds = std::max(1, std::atoi(argv[1]));
  Args wanted(argv + 3, argv + argc);
  bool met = true;
  for (const Workload& workload : kWorkloads)
    if (wanted.empty() || std::find(wanted.begin(), wanted.end(), workload.name) != wanted.end()) met &= measure(workload, rounds, argv[2]);
  return met ? 0 : 1;
}
