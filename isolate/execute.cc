#include "isolate/execute.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <sstream>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"

namespace isolate {

using namespace sys;

namespace {

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> list;
  for (const std::string& text : texts) list.push_back(const_cast<char*>(text.c_str()));
  list.push_back(nullptr);
  return list;
}

// Whether execve could work: a directory and a file without any x bit cannot, whoever asks.
int why_not_executable(const std::string& path) {
  struct stat info;
  if (::stat(path.c_str(), &info) == -1) return errno;
  if (S_ISDIR(info.st_mode)) return EISDIR;
  return ::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) == 0 ? 0 : errno;
}

}  // namespace

std::string find_program(const std::vector<std::string>& argv, const std::vector<std::string>& env) {
  const std::string& name = argv.at(0);
  if (name.find('/') != std::string::npos) {
    if (int why = why_not_executable(name)) throw_system_error(why == EISDIR ? EACCES : why, fmt::format("exec: \"{}\"", name), name);
    return name;
  }
  std::string path;
  for (const std::string& entry : env)
    if (entry.rfind("PATH=", 0) == 0) path = entry.substr(5);
  int seen = ENOENT;
  for (std::size_t at = 0; !name.empty() && at <= path.size();) {
    std::size_t end = std::min(path.find(':', at), path.size());
    std::string folder = path.substr(at, end - at);
    // A relative entry would make the answer depend on where the agent stands.
    if (!folder.empty() && folder[0] == '/') {
      int why = why_not_executable(folder + "/" + name);
      if (why == 0) return folder + "/" + name;
      if (why == EACCES) seen = EACCES;
    }
    at = end + 1;
  }
  if (seen == EACCES) throw_system_error(EACCES, fmt::format("exec: \"{}\"", name), name);
  throw_system_error(ENOENT, fmt::format("exec: \"{}\": executable file not found in $PATH", name), name);
}

std::vector<std::string> with_home(std::vector<std::string> env, unsigned uid) {
  for (const std::string& entry : env)
    if (entry.rfind("HOME=", 0) == 0 && entry.size() > 5) return env;
  std::erase(env, "HOME=");
  std::string home = "/";
  Fd file(::open("/etc/passwd", O_RDONLY | O_NONBLOCK | O_CLOEXEC));  // it may be anything that the image likes, a FIFO too
  struct stat info;
  if (file && ::fstat(file.get(), &info) == 0 && S_ISREG(info.st_mode) && info.st_size < (1 << 20)) {
    std::string text(static_cast<std::size_t>(info.st_size), '\0');
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(0, ::read(file.get(), text.data(), text.size()))));
    // name:password:UID:gid:comment:HOME:shell
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
      std::vector<std::string> fields;
      std::istringstream parts(line);
      for (std::string field; std::getline(parts, field, ':');) fields.push_back(field);
      if (fields.size() >= 6 && fields[2] == std::to_string(uid) && !fields[5].empty()) {
        home = fields[5];
        break;
      }
    }
  }
  env.push_back("HOME=" + home);
  return env;
}

void execute(const std::string& program, const std::vector<std::string>& argv, const std::vector<std::string>& env) {
  auto arguments = pointers(argv), environment = pointers(env);
  ::execve(program.c_str(), arguments.data(), environment.data());
  throw_system_error(errno, fmt::format("exec {}", program), program);
}

void execute_through(int step, int link, const std::string& profile, const std::string& program, const std::vector<std::string>& argv,
                     const std::vector<std::string>& env) {
  std::vector<std::string> line{"runner-exec", std::to_string(link), profile, program};
  line.insert(line.end(), argv.begin(), argv.end());
  auto arguments = pointers(line), environment = pointers(env);
  if (link >= 0) check(::fcntl(link, F_SETFD, 0), "hand the link to runner-exec");
  ::syscall(SYS_execveat, step, "", arguments.data(), environment.data(), AT_EMPTY_PATH);
  throw_system_error(errno, fmt::format("exec {}", program), program);
}

void execute_init(int program, int control) {
  // The socket may stand where the program is, or the reverse.
  int init = check(::fcntl(program, F_DUPFD_CLOEXEC, 10), "keep the program of PID 1");
  check(::dup2(control, 3), "hand the control socket to PID 1");
  char name[] = "runner-init";
  char* argv[] = {name, nullptr};
  char* env[] = {nullptr};
  ::syscall(SYS_execveat, init, "", argv, env, AT_EMPTY_PATH);
  fail(errno, "exec {}", "runner-init");
}

void enter_v1(std::vector<Fd> doors) {
  for (const Fd& door : doors)
    if (::write(door.get(), "0", 1) == -1) fail(errno, "enter {}", find_link(fd_path(door.get())).value_or("a cgroup"));
}

void close_from(int first, std::vector<int> keep) {
  auto close_range = [](unsigned from, unsigned to) {
    if (from <= to) check(::syscall(SYS_close_range, from, to, 0), "close the descriptors from {} on", from);
  };
  std::sort(keep.begin(), keep.end());
  for (int fd : keep) {
    if (fd < first) continue;  // -1, or below the range
    close_range(static_cast<unsigned>(first), static_cast<unsigned>(fd) - 1);
    first = fd + 1;
  }
  close_range(static_cast<unsigned>(first), ~0u);
}

void reset_signals(bool hold) {
  sigset_t mask;
  hold ? ::sigfillset(&mask) : ::sigemptyset(&mask);
  ::sigprocmask(SIG_SETMASK, &mask, nullptr);
  for (int number = 1; number < SIGRTMIN; ++number) ::signal(number, SIG_DFL);
}

void die_with_parent() { check(::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0), "ask to die with the parent"); }

void enter_directory(const std::string& path) {
  check(::chdir(path.c_str()), "enter directory {}", path);
  // The system call says "(unreachable)/..." for a directory outside the root; libc's wrapper would hide it.
  char real[PATH_MAX];
  check(::syscall(SYS_getcwd, real, sizeof real), "find directory {}", path);
  if (real[0] != '/') fail(EPERM, "enter directory {} (it lies outside the root)", path);
}

bool can_enter(const std::string& path) {
  try {
    enter_directory(path);
    return true;
  } catch (const SystemError& error) {
    if (error.code() != EACCES) throw;
    return false;
  }
}

}  // namespace isolate
