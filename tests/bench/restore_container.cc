// `runner restore` of a container beside `runc restore`, in turns: milliseconds from the command until the restored program has answered
// over its pipe. scripts/bench-restore prepares the bundle. Exits with 1 when the goal of 15 ms, or of an eighth of runc's, is missed.
//
//   restore-bench ROUNDS BUNDLE
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

namespace {

using Args = std::vector<std::string>;
using Clock = std::chrono::steady_clock;

[[noreturn]] void give_up(const std::string& what) {
  std::fprintf(stderr, "restore-bench: %s\n", what.c_str());
  std::exit(2);
}

// A program with its stdio: what we write it reads, and so on.
struct Piped {
  int to[2], from[2], errors[2];  // all pipes: runc cannot restore a container that has a file of the host
  Piped() {
    if (::pipe2(to, O_CLOEXEC) == -1 || ::pipe2(from, O_CLOEXEC) == -1 || ::pipe2(errors, O_CLOEXEC | O_NONBLOCK) == -1) give_up("cannot make a pipe");
  }
  ~Piped() {
    for (int fd : {to[0], to[1], from[0], from[1], errors[0], errors[1]}) ::close(fd);
  }
  pid_t start(const Args& argv) {
    std::vector<char*> words;
    for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
    words.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to[0], 0);
    posix_spawn_file_actions_adddup2(&actions, from[1], 1);
    posix_spawn_file_actions_adddup2(&actions, errors[1], 2);
    pid_t pid;
    if (posix_spawnp(&pid, words[0], &actions, nullptr, words.data(), environ) != 0) give_up("cannot start " + argv[0]);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
  }
  // Asked before it is there: the pipe keeps it.
  void ask() { (void)!::write(to[1], "x", 1); }
  void answer() {
    char byte;
    if (::read(from[0], &byte, 1) != 1) give_up("no answer");
  }
};

void wait_for(Piped& pipes, pid_t pid, const Args& argv) {
  int status = 0;
  ::waitpid(pid, &status, 0);
  if (status == 0) return;
  std::string command;
  for (const std::string& word : argv) command += word + " ";
  char text[4096];
  ssize_t size = ::read(pipes.errors[0], text, sizeof text);
  give_up("this failed: " + command + "\n" + std::string(text, size > 0 ? static_cast<std::size_t>(size) : 0));
}

void run(const Args& argv) {
  Piped pipes;
  wait_for(pipes, pipes.start(argv), argv);
}

struct Runtime {
  std::string name, bundle, id;
  Args more;  // flags of checkpoint and restore
  std::vector<double> times;

  Args command(const Args& words) const {
    Args all = words;
    all.insert(all.begin(), name);
    if (words[0] != "checkpoint" && words[0] != "restore") return all;
    all.insert(all.begin() + 2, more.begin(), more.end());
    return all;
  }
  void prepare() {
    Piped pipes;
    Args start = command({"run", "-d", "-b", bundle, id});
    wait_for(pipes, pipes.start(start), start);
    pipes.ask(), pipes.answer();
    run(command({"checkpoint", "--leave-running", "--image-path", bundle + "/images-" + id, "--work-path", bundle + "/work-" + id, id}));
    run(command({"delete", "-f", id}));
  }
  void restore() {
    Piped pipes;
    pipes.ask();
    auto began = Clock::now();
    Args argv = command({"restore", "-d", "-b", bundle, "--image-path", bundle + "/images-" + id, "--work-path", bundle + "/work-" + id, id});
    pid_t pid = pipes.start(argv);
    pipes.answer();
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - began).count());
    wait_for(pipes, pid, argv);
    run(command({"delete", "-f", id}));
  }
  double median() const { return times[times.size() / 2]; }  // sorted by then
};

}  // namespace

int main(int argc, char** argv) {
  int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 21;
  std::string bundle = argc > 2 ? argv[2] : ".";
  const char* runner = std::getenv("RUNNER");
  std::string number = std::to_string(::getpid());
  Runtime ours{runner ? runner : "runner", bundle, "ours-" + number, {}, {}};
  Runtime runc{"runc", bundle, "runc-" + number, {}, {}};
  ours.prepare();
  runc.prepare();
  for (int i = 0; i < rounds; ++i) ours.restore(), runc.restore();
  for (Runtime* each : {&ours, &runc}) std::sort(each->times.begin(), each->times.end());
  for (Runtime* each : {&ours, &runc})
    std::printf("%-14s median %7.2f ms   least %7.2f ms   of %zu\n", each == &ours ? "runner restore" : "runc restore", each->median(), each->times.front(), each->times.size());
  std::printf("runc takes %.1f times as long\n", runc.median() / ours.median());
  return ours.median() <= 15 && runc.median() >= 8 * ours.median() ? 0 : 1;
}
