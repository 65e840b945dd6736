// What the sandbox lets a program see of itself.
#include <dirent.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <climits>
#include <sstream>

#include "tests/probe/commands.h"

namespace probe {
namespace {

// "Name:\tvalue" lines of /proc/self/status; white space becomes single blanks.
void say_fields(std::initializer_list<const char*> wanted) {
  std::istringstream lines(text_of("/proc/self/status"));
  for (std::string line; std::getline(lines, line);) {
    std::size_t colon = line.find(':');
    std::string key = line.substr(0, colon), value, word;
    for (const char* name : wanted) {
      if (key != name) continue;
      std::istringstream words(line.substr(colon + 1));
      while (words >> word) value += (value.empty() ? "" : " ") + word;
      say(key, value);
    }
  }
}

int show_status(const Words&) {
  say_fields({"Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters"});
  return 0;
}

int show_signals(const Words&) {
  say_fields({"SigBlk", "SigIgn", "SigPnd", "ShdPnd"});
  return 0;
}

int show_securebits(const Words&) {
  char hex[32];
  ::snprintf(hex, sizeof hex, "0x%x", ::prctl(PR_GET_SECUREBITS));
  say("securebits", hex);
  return 0;
}

std::string link_of(const std::string& path) {
  char target[PATH_MAX];
  ssize_t size = ::readlink(path.c_str(), target, sizeof target);
  return size < 0 ? outcome(-1) : std::string(target, static_cast<std::size_t>(size));
}

int show_fds(const Words&) {
  DIR* folder = ::opendir("/proc/self/fd");
  if (!folder) {
    // Without a /proc: what fcntl knows.
    for (int fd = 0; fd < 1024; ++fd)
      if (::fcntl(fd, F_GETFD) >= 0) say(std::to_string(fd), "open");
    return 0;
  }
  std::vector<int> open;
  for (dirent* entry; (entry = ::readdir(folder));)
    if (entry->d_name[0] != '.' && std::stoi(entry->d_name) != ::dirfd(folder)) open.push_back(std::stoi(entry->d_name));
  ::closedir(folder);
  for (int fd : open) say(std::to_string(fd), link_of("/proc/self/fd/" + std::to_string(fd)));
  return 0;
}

// /mount/point=TYPE root=ROOT options=A,B super=C,D
int show_mounts(const Words&) {
  std::istringstream lines(text_of("/proc/self/mountinfo"));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id, parent, device, root, at, options, word, optional, type, source, super;
    words >> id >> parent >> device >> root >> at >> options;
    while (words >> word && word != "-") optional += word + ",";
    words >> type >> source >> super;
    say(at, type + " root=" + root + " options=" + options + " super=" + super + " propagation=" + optional);
  }
  return 0;
}

int show_rlimits(const Words&) {
  constexpr const char* kNames[] = {"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as", "locks",
                                    "sigpending", "msgqueue", "nice", "rtprio", "rttime"};
  for (int n = 0; n < 16; ++n) {
    rlimit limit;
    if (::getrlimit(static_cast<__rlimit_resource>(n), &limit) == -1) continue;
    auto show = [](rlim_t value) { return value == RLIM_INFINITY ? std::string("unlimited") : std::to_string(value); };
    say(kNames[n], show(limit.rlim_cur) + ":" + show(limit.rlim_max));
  }
  return 0;
}

int show_env(const Words&) {
  for (char** entry = environ; *entry; ++entry) {
    std::string text = *entry;
    std::size_t equals = text.find('=');
    say(text.substr(0, equals), equals == std::string::npos ? "" : text.substr(equals + 1));
  }
  return 0;
}

// The system call itself: libc's wrapper hides "(unreachable)".
int show_cwd(const Words&) {
  char here[PATH_MAX];
  long size = ::syscall(SYS_getcwd, here, sizeof here);
  say("cwd", size < 0 ? outcome(-1) : here);
  return 0;
}

int show_hostname(const Words&) {
  char name[256] = {}, domain[256] = {};
  ::gethostname(name, sizeof name - 1);
  ::getdomainname(domain, sizeof domain - 1);
  say("hostname", name);
  say("domainname", domain);
  return 0;
}

int show_namespaces(const Words&) {
  for (const char* kind : {"cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"}) say(kind, link_of(std::string("/proc/self/ns/") + kind));
  return 0;
}

int show_process(const Words&) {
  say("pid", ::getpid());
  say("ppid", ::getppid());
  say("sid", ::getsid(0));
  mode_t mask = ::umask(0);
  ::umask(mask);
  char octal[8];
  ::snprintf(octal, sizeof octal, "%04o", mask);
  say("umask", octal);
  std::string score = text_of("/proc/self/oom_score_adj");
  say("oom_score_adj", score.substr(0, score.find('\n')));
  return 0;
}

int show_tty(const Words&) {
  for (int fd = 0; fd < 3; ++fd) say("isatty" + std::to_string(fd), ::isatty(fd));
  winsize size{};
  say("winsize", ::ioctl(0, TIOCGWINSZ, &size) == 0 ? std::to_string(size.ws_row) + "x" + std::to_string(size.ws_col) : outcome(-1));
  char name[128] = {};
  say("name", ::ttyname_r(0, name, sizeof name) == 0 ? name : "none");
  int controlling = ::open("/dev/tty", O_RDWR | O_CLOEXEC);
  say("controlling", outcome(controlling));
  say("foreground", controlling >= 0 && ::tcgetpgrp(controlling) == ::getpgrp());
  return 0;
}

// PATH...: what lies there, without following links.
int show_stat(const Words& paths) {
  for (const std::string& path : paths) {
    struct stat info;
    if (::lstat(path.c_str(), &info) == -1) {
      say(path, outcome(-1));
      continue;
    }
    const char* kind = S_ISDIR(info.st_mode) ? "dir" : S_ISLNK(info.st_mode) ? "link" : S_ISCHR(info.st_mode) ? "char"
                       : S_ISBLK(info.st_mode) ? "block" : S_ISFIFO(info.st_mode) ? "fifo" : "file";
    char text[160];
    ::snprintf(text, sizeof text, "%s mode=%04o uid=%u gid=%u size=%lld rdev=%u:%u", kind, info.st_mode & 07777, info.st_uid, info.st_gid,
               static_cast<long long>(info.st_size), major(info.st_rdev), minor(info.st_rdev));
    say(path, text);
  }
  return 0;
}

const Commands kLook{
    {"status", show_status, "ids, capabilities, no_new_privs and seccomp of /proc/self/status"},
    {"signals", show_signals, "blocked, ignored and pending signals"},
    {"securebits", show_securebits, "prctl(PR_GET_SECUREBITS)"},
    {"fds", show_fds, "open descriptors and what they are"},
    {"mounts", show_mounts, "mountinfo: place=type root= options= super= propagation="},
    {"rlimits", show_rlimits, "soft:hard of each"},
    {"env", show_env, "the environment"},
    {"cwd", show_cwd, "the working directory, as the system call has it"},
    {"getcwd", show_cwd, "the same"},
    {"hostname", show_hostname, "host and domain name"},
    {"namespaces", show_namespaces, "the links of /proc/self/ns"},
    {"process", show_process, "pid, ppid, session, umask, oom_score_adj"},
    {"tty", show_tty, "isatty, size, name, controlling terminal"},
    {"stat", show_stat, "PATH...: kind, mode, owner, size, device number"},
};

}  // namespace
}  // namespace probe
