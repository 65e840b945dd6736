#include "tests/kernel/live.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <sstream>
#include <stdexcept>

#include "isolate/cgroup.h"

namespace tests {

namespace fs = std::filesystem;

namespace {

std::int64_t now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void sleep_ms(long milliseconds) {
  timespec time{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  ::nanosleep(&time, nullptr);
}

Args concat(Args list, const Args& more) {
  list.insert(list.end(), more.begin(), more.end());
  return list;
}

}  // namespace

const std::string& data_dir() {
  static const Folder folder;
  static const std::string path = [] {
    const char* given = std::getenv("RUNNER_DATA");
    std::string chosen = given && *given ? given : folder / "data";
    ::setenv("RUNNER_DATA", chosen.c_str(), 1);
    return chosen;
  }();
  return path;
}

Facts facts_of(const std::string& text) {
  Facts facts;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::size_t equals = line.find('=');
    if (equals == std::string::npos) continue;
    std::string value = line.substr(equals + 1);
    if (!value.empty() && value.back() == '\r') value.pop_back();  // a terminal's
    facts[line.substr(0, equals)] = value;
  }
  return facts;
}

Args session_arguments(const std::string& id, const Args& flags, const Args& command) {
  data_dir();
  Args arguments{"run", "--name", id, "-v", probe_path() + ":/probe:ro"};
  return concat(concat(concat(arguments, flags), {"--"}), command);
}

Session session(const Args& flags, const Args& command, const How& how) {
  Session s;
  s.id = fresh_id();
  s.ran = runner(session_arguments(s.id, concat({"--rm"}, flags), command), how);
  if (s.ran.out.empty()) throw std::runtime_error("no events; stderr: " + s.ran.err);
  s.events = events_of(s.ran.out);
  s.end = ended(s.events);
  s.out = stdio_text(s.events);
  s.err = stdio_text(s.events, "stderr");
  s.facts = facts_of(s.out);
  return s;
}

Session probe(const Args& words) { return session({}, concat({"/probe"}, words)); }

Args runner_argv(const Args& arguments) {
  data_dir();
  return concat({runner_path(), "--root", run_root()}, arguments);
}

Live::Live(const Args& argv, const How& how) {
  int in[2], out[2], err[2];
  if (::pipe2(in, O_CLOEXEC) || ::pipe2(out, O_CLOEXEC) || ::pipe2(err, O_CLOEXEC)) throw std::runtime_error("pipe");
  std::vector<char*> pointers;
  for (const std::string& word : argv) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  pid_ = ::fork();
  if (pid_ == 0) {
    ::dup2(in[0], 0);
    ::dup2(out[1], 1);
    ::dup2(err[1], 2);
    if (!how.cwd.empty() && ::chdir(how.cwd.c_str())) ::_exit(126);
    for (const auto& [name, value] : how.env) ::setenv(name.c_str(), value.c_str(), 1);
    ::signal(SIGPIPE, SIG_DFL);
    ::execvp(pointers[0], pointers.data());
    ::_exit(127);
  }
  for (int fd : {in[0], out[1], err[1]}) ::close(fd);
  in_ = in[1], out_ = out[0], err_ = err[0];
  ::signal(SIGPIPE, SIG_IGN);
}

Live::~Live() {
  if (status_ == -1) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  for (int fd : {in_, out_, err_})
    if (fd >= 0) ::close(fd);
}

void Live::send(const std::string& text) { (void)!::write(in_, text.data(), text.size()); }

void Live::end_input() {
  ::close(in_);
  in_ = -1;
}

bool Live::read_some(int timeout_ms) {
  pollfd wait[] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
  if (::poll(wait, 2, timeout_ms) <= 0) return false;
  int* from[] = {&out_, &err_};
  std::string* to[] = {&out, &err};
  bool any = false;
  for (int i = 0; i < 2; ++i) {
    char bytes[65536];
    if (!wait[i].revents) continue;
    ssize_t got = ::read(*from[i], bytes, sizeof bytes);
    if (got > 0) to[i]->append(bytes, static_cast<std::size_t>(got)), any = true;
    else ::close(*from[i]), *from[i] = -1;
  }
  return any;
}

bool Live::await(const std::string& text, int timeout_ms) {
  for (std::int64_t end = now_ms() + timeout_ms; now_ms() < end && (out_ >= 0 || err_ >= 0);) {
    if (out.find(text) != std::string::npos) return true;
    read_some(static_cast<int>(end - now_ms()));
  }
  return out.find(text) != std::string::npos;
}

void Live::signal(int number) { ::kill(pid_, number); }

int Live::wait(int timeout_ms) {
  for (std::int64_t end = now_ms() + timeout_ms; status_ == -1 && now_ms() < end;) {
    read_some(out_ >= 0 || err_ >= 0 ? 10 : 0);
    int status;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    else if (out_ < 0 && err_ < 0) sleep_ms(2);
  }
  while (status_ != -1 && read_some(0)) {
  }
  return status_;
}

Box::~Box() { runner({"delete", "-f", id}); }

Away::Away(const Args& flags, const Args& command) {
  Args all{"-d"};
  all.insert(all.end(), flags.begin(), flags.end());
  Ran ran = runner(session_arguments(box.id, all, command), {.timeout_ms = 10'000});
  if (ran.code != 0) throw std::runtime_error("the session did not start: " + ran.err + ran.out);
}

nlohmann::json Box::state() const {
  Ran ran = runner({"state", id});
  return ran.code == 0 ? nlohmann::json::parse(ran.out) : nlohmann::json();
}

Ran runner_apart(const Args& arguments, const Folder& folder, const How& how) {
  data_dir();
  Args argv{"sh", "-c", "exec \"$@\" </dev/null >\"$0/out\" 2>\"$0/err\"", folder.path()};
  Ran ran = run(concat(argv, runner_argv(arguments)), how);
  ran.out = read(folder / "out");
  ran.err = read(folder / "err");
  return ran;
}

std::string written(const Folder& folder) { return read(folder / "out"); }

Ran create(const Bundle& bundle, const Box& box, const Args& flags) {
  return runner_apart(concat(concat({"create"}, flags), {"--bundle", bundle.path(), box.id}), bundle);
}

Ran start(const Box& box) { return runner({"start", box.id}); }

std::string remains_of(const std::string& id) {
  std::string found;
  auto note = [&](const std::string& path) {
    if (exists(path)) found += path + "\n";
  };
  note(run_root() + "/" + id);
  note(data_dir() + "/sessions/" + id);
  isolate::CgroupHost host = isolate::find_cgroup_host();
  for (const char* parent : {"/", "/runner/"}) {  // a container's without cgroupsPath, and a session's
    if (!host.v2.empty()) note(host.v2 + host.v2_base + parent + id);
    for (const auto& [controller, mount] : host.v1) note(mount + parent + id);
  }
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run_root(), ignored))
    if (entry.path().filename().string().rfind(".new-" + id, 0) == 0) found += entry.path().string() + "\n";
  if (read("/proc/self/mountinfo").find("/" + id + "/") != std::string::npos) found += "a mount\n";
  return found;
}

bool eventually(const std::function<bool()>& fact, int timeout_ms) {
  for (std::int64_t end = now_ms() + timeout_ms;; sleep_ms(5)) {
    if (fact()) return true;
    if (now_ms() > end) return false;
  }
}

bool alive(pid_t pid) {
  std::string stat = read("/proc/" + std::to_string(pid) + "/stat");
  std::size_t end = stat.rfind(") ");
  return end != std::string::npos && stat[end + 2] != 'Z' && stat[end + 2] != 'X';
}

std::vector<pid_t> processes_with(const std::string& text) {
  std::vector<pid_t> pids;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    pid_t pid = std::stoi(name);
    if (pid != ::getpid() && read("/proc/" + name + "/cmdline").find(text) != std::string::npos && alive(pid)) pids.push_back(pid);
  }
  return pids;
}

}  // namespace tests
