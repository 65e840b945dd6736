// Eating: memory, pipes, processes, CPU, output. Each says how far it came.
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "tests/probe/commands.h"

namespace probe {
namespace {

constexpr long kMegabyte = 1 << 20;

double now(clockid_t clock) {
  timespec time;
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

void hold(long milliseconds) {
  timespec time{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  ::nanosleep(&time, nullptr);
}

// MB [HOLD_MS]
int eat_memory(const Words& words) {
  long megabytes = number(words, 0, 64);
  for (long done = 0; done < megabytes; ++done) {
    void* page = ::mmap(nullptr, kMegabyte, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
      say("touched", done);
      say("error", outcome(-1));
      return 1;
    }
    ::memset(page, 0x5a, kMegabyte);
  }
  say("touched", megabytes);
  hold(number(words, 1, 0));
  return 0;
}

// PATH MB: until the file system or the memory limit says no.
int eat_file(const std::string& path, long megabytes) {
  int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) {
    say("error", outcome(-1));
    return 1;
  }
  static char block[kMegabyte];
  ::memset(block, 0x5a, sizeof block);
  for (long done = 0; done < megabytes; ++done) {
    ssize_t got = ::write(file, block, sizeof block);
    if (got == kMegabyte) continue;
    if (got >= 0) got = ::write(file, block, sizeof block);  // the last bytes went in: why no more?
    say("error", outcome(got));
    say("written", done);
    return 1;
  }
  say("written", megabytes);
  return 0;
}

int eat_tmpfs(const Words& words) { return eat_file(words.at(0) + "/eaten", number(words, 1, 64)); }
int eat_shm(const Words& words) { return eat_file("/dev/shm/eaten", number(words, 0, 64)); }

int eat_memfd(const Words& words) {
  int file = ::memfd_create("eaten", 0);
  if (file < 0) {
    say("error", outcome(-1));
    return 1;
  }
  return eat_file("/proc/self/fd/" + std::to_string(file), number(words, 0, 64));
}

// N pipes, filled.
int eat_pipes(const Words& words) {
  long wanted = number(words, 0, 100'000), made = 0, bytes = 0;
  static char block[65536];
  for (; made < wanted; ++made) {
    int ends[2];
    if (::pipe2(ends, O_NONBLOCK) == -1) {
      say("error", outcome(-1));
      break;
    }
    for (ssize_t done; (done = ::write(ends[1], block, sizeof block)) > 0;) bytes += done;
  }
  say("pipes", made);
  say("bytes", bytes);
  return 0;
}

// [MOST]: forks that sleep, until one is refused. It copes, and says so by its status.
int fork_politely(const Words& words) {
  long most = number(words, 0, 1'000'000), made = 0;
  std::vector<pid_t> children;
  std::string error;
  for (; made < most; ++made) {
    pid_t pid = ::fork();
    if (pid == 0) {
      ::pause();
      ::_exit(0);
    }
    if (pid < 0) {
      error = outcome(-1);
      break;
    }
    children.push_back(pid);
  }
  say("children", made);
  for (pid_t pid : children) ::kill(pid, SIGKILL);
  while (::waitpid(-1, nullptr, 0) > 0) {
  }
  if (error.empty()) return 0;
  say("error", error);
  return 1;
}

int fork_without_end(const Words&) {
  say("bomb", "lit");
  for (;;) (void)!::fork();
}

// MB PROCESSES: each holds its part, so that no single one is large.
int eat_together(const Words& words) {
  long megabytes = number(words, 0, 64), processes = number(words, 1, 4);
  for (long n = 0; n < processes; ++n)
    if (::fork() == 0) {
      eat_memory({std::to_string(megabytes / processes), "2000"});
      ::_exit(0);
    }
  int worst = 0;
  for (int status; ::waitpid(-1, &status, 0) > 0;) worst = std::max(worst, WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status));
  say("worst", worst);
  return worst;
}

int eat_threads(const Words& words) {
  long most = number(words, 0, 100'000), made = 0;
  pthread_attr_t small;
  ::pthread_attr_init(&small);
  ::pthread_attr_setstacksize(&small, 65536);
  pthread_t thread;
  int code = 0;
  while (made < most && (code = ::pthread_create(&thread, &small, [](void*) -> void* { return ::pause(), nullptr; }, nullptr)) == 0) ++made;
  say("threads", made);
  if (!code) return 0;
  errno = code;
  say("error", outcome(-1));
  return 1;
}

// SECONDS [PROCESSES]: what CPU time they got in that wall time.
int spin(const Words& words) {
  double seconds = words.empty() ? 1 : std::stod(words[0]), until = now(CLOCK_MONOTONIC) + seconds;
  for (long n = 1; n < number(words, 1, 1); ++n)
    if (::fork() == 0) break;
  while (now(CLOCK_MONOTONIC) < until) {
  }
  say("cpu_ms", static_cast<long>(now(CLOCK_PROCESS_CPUTIME_ID) * 1000));
  while (::waitpid(-1, nullptr, 0) > 0) {
  }
  return 0;
}

// N [HOLD_MS]: each is left by its parent and becomes PID 1's.
int make_orphans(const Words& words) {
  long wanted = number(words, 0, 100), made = 0, milliseconds = number(words, 1, 0);
  for (; made < wanted; ++made) {
    pid_t parent = ::fork();
    if (parent == 0) {
      if (::fork() == 0) hold(milliseconds);
      ::_exit(0);
    }
    if (parent < 0) {
      say("error", outcome(-1));
      break;
    }
    ::waitpid(parent, nullptr, 0);
  }
  say("orphans", made);
  return made == wanted ? 0 : 1;
}

// BYTES, without a newline.
int flood(const Words& words) {
  long left = number(words, 0, kMegabyte);
  static char block[65536];
  ::memset(block, 'x', sizeof block);
  while (left > 0) {
    ssize_t done = ::write(1, block, static_cast<std::size_t>(std::min<long>(left, sizeof block)));
    if (done <= 0) return 1;
    left -= done;
  }
  return 0;
}

int eat_descriptors(const Words&) {
  long made = 0;
  while (::open("/", O_PATH) >= 0) ++made;
  say("error", outcome(-1));
  say("descriptors", made);
  return 0;
}

const Commands kEat{
    {"eat-memory", eat_memory, "MB [HOLD_MS]: anonymous, touched"},
    {"eat-together", eat_together, "MB PROCESSES: in parts"},
    {"eat-tmpfs", eat_tmpfs, "FOLDER MB: a file there"},
    {"eat-shm", eat_shm, "MB in /dev/shm"},
    {"eat-memfd", eat_memfd, "MB in a memory file"},
    {"eat-pipes", eat_pipes, "N pipes, filled"},
    {"eat-fds", eat_descriptors, "descriptors until the limit"},
    {"fork-bomb", fork_politely, "[MOST] sleeping children; status 1 when a fork was refused"},
    {"fork-bomb-spin", fork_without_end, "every process forks for ever"},
    {"threads", eat_threads, "N threads; status 1 when one was refused"},
    {"spin", spin, "SECONDS [PROCESSES] of CPU"},
    {"orphans", make_orphans, "N [HOLD_MS] processes whose parents end"},
    {"flood", flood, "BYTES of output without a newline"},
};

}  // namespace
}  // namespace probe
