#include "tests/support/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

#include "isolate/cgroup.h"

namespace tests {

namespace fs = std::filesystem;

namespace {

std::string from_environment(const char* name, const char* otherwise) {
  const char* value = std::getenv(name);
  return fs::absolute(value ? value : otherwise);
}

void must(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string(what) + ": " + ::strerror(errno));
}

[[noreturn]] void become(const Args& argv, const How& how) {
  if (!how.cwd.empty()) must(::chdir(how.cwd.c_str()) == 0, "chdir");
  for (const auto& [name, value] : how.env) ::setenv(name.c_str(), value.c_str(), 1);
  if (how.uid) {
    must(::setgid(how.uid) == 0 && ::setuid(how.uid) == 0, "setuid");
  }
  std::vector<char*> pointers;
  for (const std::string& word : argv) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  ::execvp(pointers[0], pointers.data());
  ::_exit(127);
}

}  // namespace

Ran run(const Args& argv, const How& how) {
  int in[2], out[2], err[2];
  must(::pipe2(in, O_CLOEXEC) == 0 && ::pipe2(out, O_CLOEXEC) == 0 && ::pipe2(err, O_CLOEXEC) == 0, "pipe");
  pid_t pid = ::fork();
  must(pid >= 0, "fork");
  if (pid == 0) {
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    ::dup2(err[1], 2);
    ::signal(SIGPIPE, SIG_DFL);
    try {
      become(argv, how);
    } catch (...) {
    }
    ::_exit(126);
  }
  ::close(in[0]);
  ::close(out[1]);
  ::close(err[1]);
  ::signal(SIGPIPE, SIG_IGN);
  (void)!::write(in[1], how.input.data(), how.input.size());
  ::close(in[1]);

  Ran ran;
  auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(how.timeout_ms);
  pollfd wait[] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
  std::string* to[] = {&ran.out, &ran.err};
  while (wait[0].fd >= 0 || wait[1].fd >= 0) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    if (left <= 0 || ::poll(wait, 2, static_cast<int>(left)) == 0) {
      ::kill(pid, SIGKILL);
      ran.code = -1;
      break;
    }
    for (int i = 0; i < 2; ++i) {
      char bytes[65536];
      if (!wait[i].revents) continue;
      ssize_t got = ::read(wait[i].fd, bytes, sizeof bytes);
      if (got > 0) to[i]->append(bytes, static_cast<std::size_t>(got));
      else wait[i].fd = -1;
    }
  }
  bool killed = wait[0].fd >= 0 || wait[1].fd >= 0;
  ::close(out[0]);
  ::close(err[0]);
  int status;
  must(::waitpid(pid, &status, 0) == pid, "waitpid");
  if (!killed) ran.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return ran;
}

std::string runner_path() { return from_environment("RUNNER", "build/runner"); }
std::string probe_path() { return from_environment("PROBE", "build/probe"); }

std::string run_root() {
  static const Folder folder;
  return folder / "run";
}

Ran runner(const Args& arguments, const How& how) {
  Args argv{runner_path()};
  // An ordinary user has folders of its own.
  if (how.uid == 0) argv.insert(argv.end(), {"--root", run_root()});
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run(argv, how);
}

Folder::Folder() {
  const char* base = std::getenv("TEST_TMP");
  std::string name = std::string(base ? base : "/tmp") + "/runner-test-XXXXXX";
  must(::mkdtemp(name.data()) != nullptr, "mkdtemp");
  path_ = name;
  ::chmod(name.c_str(), 0755);
}

Folder::~Folder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

void Folder::write(const std::string& name, const std::string& text, unsigned mode) const {
  fs::create_directories(fs::path(*this / name).parent_path());
  std::ofstream(*this / name, std::ios::binary) << text;
  ::chmod((*this / name).c_str(), mode);
}

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

bool exists(const std::string& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) == 0;
}

Rootfs::Rootfs() {
  for (const char* name : {"bin", "etc", "proc", "dev", "sys", "tmp"}) fs::create_directories(fs::path(rootfs()) / name);
  fs::copy_file(from_environment("BUSYBOX", "/usr/bin/busybox"), rootfs() + "/bin/busybox");
  fs::copy_file(probe_path(), rootfs() + "/bin/probe");
  for (const char* name : {"sh", "cat", "echo", "ls", "id", "mount", "sleep", "true", "false", "env", "pwd", "hostname", "kill", "stat", "touch",
                           "mkdir", "head", "dd", "ps", "test", "rm", "ln", "tty", "stty"})
    fs::create_symlink("busybox", fs::path(rootfs()) / "bin" / name);
}

Bundle::Bundle(const Args& argv) {
  Ran made = runner({"spec", "--bundle", path()});
  if (made.code != 0) throw std::runtime_error("runner spec: " + made.err);
  config = nlohmann::json::parse(read(*this / "config.json"));
  config["process"]["terminal"] = false;
  config["process"]["args"] = argv;
  save();
}

void Bundle::save() const { write("config.json", config.dump(1)); }

Ran Bundle::run(const Args& flags) const {
  Args arguments{"run"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  arguments.insert(arguments.end(), {"-b", path(), fresh_id()});
  return runner(arguments);
}

std::string fresh_id() {
  static int count = 0;
  return "t" + std::to_string(::getpid()) + "-" + std::to_string(++count);
}

Events events_of(const std::string& lines) {
  Events events;
  std::istringstream stream(lines);
  for (std::string line; std::getline(stream, line);) events.push_back(nlohmann::json::parse(line));
  return events;
}

std::optional<nlohmann::json> find(const Events& events, const std::string& type) {
  for (const nlohmann::json& event : events)
    if (event.at("type") == type) return event;
  return std::nullopt;
}

std::string stdio_text(const Events& events, const std::string& stream) {
  std::string text;
  for (const nlohmann::json& event : events)
    if (event.at("type") == "stdio" && event.at("data").at("stream") == stream) text += event["data"].value("text", "");
  return text;
}

nlohmann::json ended(const Events& events) {
  if (events.empty() || events.back().at("type") != "session.ended") throw std::runtime_error("the last event is not session.ended");
  return events.back().at("data");
}

bool is_root() { return ::geteuid() == 0; }

bool has_controller(const std::string& name) {
  isolate::CgroupHost host = isolate::find_cgroup_host();
  return host.writable && host.has(name);
}

bool on_cgroup_v2() { return isolate::find_cgroup_host().v1.empty(); }

}  // namespace tests
