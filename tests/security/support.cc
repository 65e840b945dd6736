#include "tests/security/support.h"

#include <doctest/doctest.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <filesystem>
#include <sstream>
#include <stdexcept>

#include "isolate/cgroup.h"

namespace security {

namespace fs = std::filesystem;
using tests::How;

std::string attack_path() {
  const char* given = std::getenv("ATTACK");
  return fs::absolute(given ? given : "build/attack");
}

std::string policies_path() {
  const char* given = std::getenv("RUNNER_SOURCE_ROOT");
  return (given ? fs::path(given) : fs::path(tests::runner_path()).parent_path().parent_path()) / "policies";
}

int count(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  return text ? std::atoi(text) : otherwise;
}

Args concat(Args list, const Args& more) {
  list.insert(list.end(), more.begin(), more.end());
  return list;
}

std::string Facts::operator[](const std::string& key) const {
  auto found = values.find(key);
  return found == values.end() ? "(missing)" : found->second;
}

Facts facts_of(Ran ran) {
  Facts facts{std::move(ran), {}};
  std::istringstream lines(facts.ran.out);
  for (std::string line; std::getline(lines, line);)
    if (std::size_t equals = line.find('='); equals != std::string::npos)
      facts.values[line.substr(0, equals)] = line.substr(equals + 1);
  return facts;
}

void expect(const Facts& facts, const std::map<std::string, std::string>& wanted) {
  for (const auto& [key, value] : wanted) {
    CAPTURE(key);
    CHECK(facts[key] == value);
  }
}

std::vector<std::string> lines_with(const std::string& text, const std::string& start) {
  std::vector<std::string> found;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (line.rfind(start, 0) == 0) found.push_back(line);
  return found;
}

Args session(const Args& flags, const Args& command) {
  data_dir();
  return concat(concat(concat({"run", "--rm", "-v", attack_path() + ":/attack:ro"}, flags), {"--"}), command);
}

void expect_shut(const Facts& facts, const Args& paths) {
  for (const std::string& path : paths) {
    CAPTURE(path);
    std::string seen = facts[path];
    bool shut = seen == "EROFS" || seen == "EACCES" || seen == "ENOENT";
    CHECK_MESSAGE(shut, seen);
  }
}

Facts inside(const Args& flags, const Args& words, const How& how) {
  return facts_of(tests::runner(session(concat({"--output", "raw"}, flags), concat({"/attack"}, words)), how));
}

Facts outside(const Args& words, const How& how) { return facts_of(tests::run(concat({attack_path()}, words), how)); }
Facts outside_behind(const Args& prefix, const Args& words) {
  return facts_of(tests::run(concat(concat(prefix, {attack_path()}), words)));
}

std::string fingerprint(const std::string& path) {
  struct stat info;
  if (::lstat(path.c_str(), &info) == -1) return "missing";
  std::string text = std::to_string(info.st_size) + " " + std::to_string(info.st_mode) + " " +
                     std::to_string(info.st_uid) + ":" + std::to_string(info.st_gid) + " " +
                     std::to_string(info.st_ino) + " " + std::to_string(info.st_nlink);
  if (S_ISREG(info.st_mode)) text += " " + std::to_string(std::hash<std::string>()(tests::read(path)));
  return text;
}

Canary::Canary() {
  write("secret", kSecret, 0600);
  write("folder/inner", "as it was", 0600);
  ::chmod(dir().c_str(), 0700);
  before_ = look();
}

std::string Canary::look() const {
  std::string text;
  for (const auto& entry : fs::recursive_directory_iterator(path()))
    text += entry.path().string() + ": " + fingerprint(entry.path()) + "\n";
  return text;
}

std::string Canary::changed() const {
  std::string now = look();
  return now == before_ ? "" : "was:\n" + before_ + "is:\n" + now;
}

Background::Background(const Args& argv, const How& how, int out) {
  data_dir();
  std::vector<char*> pointers;
  for (const std::string& word : argv) pointers.push_back(const_cast<char*>(word.c_str()));
  pointers.push_back(nullptr);
  std::string to = files_ / "out", errors = files_ / "err";
  pid_ = ::fork();
  if (pid_ != 0) return;
  ::dup2(::open("/dev/null", O_RDWR), 0);
  ::dup2(out >= 0 ? out : ::open(to.c_str(), O_WRONLY | O_CREAT, 0600), 1);
  ::dup2(::open(errors.c_str(), O_WRONLY | O_CREAT, 0600), 2);
  for (int fd = 3; fd < 64; ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  for (const auto& [name, value] : how.env) ::setenv(name.c_str(), value.c_str(), 1);
  if (!how.cwd.empty() && ::chdir(how.cwd.c_str())) ::_exit(126);
  ::signal(SIGPIPE, SIG_DFL);
  ::execvp(pointers[0], pointers.data());
  ::_exit(127);
}

Background::~Background() {
  if (status_ != -1 || pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

void Background::signal(int number) const { ::kill(pid_, number); }

int Background::wait(int timeout_ms) {
  eventually(
      [&] {
        int status;
        if (status_ == -1 && ::waitpid(pid_, &status, WNOHANG) == pid_)
          status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        return status_ != -1;
      },
      timeout_ms);
  return status_;
}

bool Background::await(const std::string& text, int timeout_ms) const {
  return eventually([&] { return out().find(text) != std::string::npos; }, timeout_ms);
}

Container::~Container() { tests::runner({"delete", "-f", id}); }

Ran Container::run(const Args& flags, int timeout_ms) const {
  How how;
  how.timeout_ms = timeout_ms;
  return tests::runner(concat(concat({"run"}, flags), {"-b", path(), id}), how);
}

Ran Container::start_detached() const {
  // What goes on running would hold a pipe open.
  return tests::run({"sh", "-c", "exec \"$@\" </dev/null >\"$0/out\" 2>\"$0/err\"", path(), tests::runner_path(),
                     "--root", tests::run_root(), "run", "-d", "-b", path(), id});
}

Ran Container::exec(const Args& flags, const Args& command, int timeout_ms) const {
  How how;
  how.timeout_ms = timeout_ms;
  return tests::runner(concat(concat(concat({"exec"}, flags), {id}), command), how);
}

std::int64_t now_ms() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

void wait_ms(long milliseconds) {
  timespec time{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  ::nanosleep(&time, nullptr);
}

bool eventually(const std::function<bool()>& fact, int timeout_ms) {
  for (std::int64_t end = now_ms() + timeout_ms;; wait_ms(3)) {
    if (fact()) return true;
    if (now_ms() > end) return false;
  }
}

bool alive(pid_t pid) {
  std::string stat = tests::read("/proc/" + std::to_string(pid) + "/stat");
  std::size_t end = stat.rfind(") ");
  return end != std::string::npos && stat[end + 2] != 'Z' && stat[end + 2] != 'X';
}

const std::string& data_dir() {
  static const Folder folder;
  static const std::string path = [] {
    std::string chosen = folder / "data";
    ::setenv("RUNNER_DATA", chosen.c_str(), 1);
    return chosen;
  }();
  return path;
}

std::vector<std::string> cgroup_mounts() {
  isolate::CgroupHost host = isolate::find_cgroup_host();
  std::vector<std::string> places;
  if (!host.v2.empty()) places.push_back(host.v2 + host.v2_base);
  for (const auto& [controller, mount] : host.v1) places.push_back(mount);
  return places;
}

std::string remains_of(const std::string& id) {
  std::string found;
  auto look_in = [&](const std::string& folder) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(folder, ignored))
      if (entry.path().filename().string().find(id) != std::string::npos) found += entry.path().string() + "\n";
  };
  look_in(tests::run_root());
  look_in(data_dir() + "/sessions");
  for (const std::string& mount : cgroup_mounts()) look_in(mount), look_in(mount + "/runner");
  for (const std::string& table : {tests::read("/proc/self/mountinfo")})
    if (table.find(id) != std::string::npos) found += "a mount\n";
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (tests::read("/proc/" + name + "/cgroup").find("/runner/" + id) != std::string::npos)
      found += "process " + name + "\n";
  }
  return found;
}

}  // namespace security
