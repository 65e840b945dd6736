// Races against the runtime, and the eating of resources.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "tests/probe/attack.h"

namespace attack {
namespace {

constexpr long kMegabyte = 1 << 20;
char block[kMegabyte];

void wait_ms(long milliseconds) {
  timespec time{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  ::nanosleep(&time, nullptr);
}

// A B: exchanges the two names for ever (CVE-2021-30465).
void exchange(const Words& words) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  say("ready", "1");
  for (;;) ::renameat2(AT_FDCWD, words.at(0).c_str(), AT_FDCWD, words.at(1).c_str(), RENAME_EXCHANGE);
}

// What a descriptor leads to; a file in memory is written to as well.
std::string what_is(int fd) {
  char path[64], target[256] = {};
  ::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  if (::readlink(path, target, sizeof target - 1) < 0) return "?";
  if (std::string(target).rfind("/memfd:", 0) == 0 && ::write(fd, "x", 1) == 1) say("overwritten", target);
  return target;
}

// MS: looks at whatever process appears in this pid namespace (CVE-2016-9962, CVE-2019-5736): says what could be opened of it.
void hunt(const Words& words) {
  long left = number(words, 0, 2000);
  long seen = 0, opened = 0, written = 0;
  std::vector<std::pair<int, std::string>> held;
  timespec start, now;
  ::clock_gettime(CLOCK_MONOTONIC, &start);
  say("ready", "1");
  pid_t last = ::getpid();
  do {
    for (pid_t pid = 2; pid < last + 300; ++pid) {
      if (pid == ::getpid()) continue;
      char path[64];
      ::snprintf(path, sizeof path, "/proc/%d/comm", pid);
      char name[32] = {};
      int comm = ::open(path, O_RDONLY);
      if (comm < 0) continue;
      ssize_t got = ::read(comm, name, sizeof name - 1);
      ::close(comm);
      last = std::max(last, pid);
      if (got <= 0) continue;
      ++seen;
      for (int fd = 3; fd < 24; ++fd) {
        ::snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, fd);
        int taken = ::open(path, O_PATH);
        if (taken < 0) continue;
        ++opened;
        say("took", std::string(name, strcspn(name, "\n")) + " " + what_is(taken));
        ::close(taken);
      }
      ::snprintf(path, sizeof path, "/proc/%d/exe", pid);
      int exe = ::open(path, O_WRONLY);
      if (exe >= 0 || (exe = ::open(path, O_RDWR)) >= 0) {
        ++written;
        say("writable", what_is(exe));
        ::close(exe);
      }
      // A program that runs cannot be written to; what it was started from can be held until it has ended.
      if (held.size() < 200)
        if (int file = ::open(path, O_RDONLY); file >= 0)
          held.emplace_back(file, std::string(name, strcspn(name, "\n")));
    }
    for (auto& [file, name] : held) {
      char path[64];
      ::snprintf(path, sizeof path, "/proc/self/fd/%d", file);
      int second = ::open(path, O_WRONLY);
      if (second >= 0) {
        ++written;
        say("writable", what_is(second));
        ::close(second);
        ::close(std::exchange(file, -1));
      }
    }
    ::clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1'000'000 < left);
  say("seen", seen);
  say("opened", opened);
  say("written", written);
}

void fill_file(int fd, long megabytes) {
  for (long n = 0; n < megabytes; ++n)
    if (::write(fd, block, sizeof block) != kMegabyte) return say("full", n);
}

// anon|memfd|shm|pipes|sockets MB
void memory(const Words& words) {
  const std::string& kind = words.at(0);
  long megabytes = number(words, 1, 512);
  ::memset(block, 'x', sizeof block);
  if (kind == "anon") {
    char* bytes = static_cast<char*>(::mmap(nullptr, static_cast<std::size_t>(megabytes * kMegabyte),
                                            PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    for (long at = 0; at < megabytes * kMegabyte; at += 4096) bytes[at] = 1;
  } else if (kind == "memfd") {
    fill_file(::memfd_create("x", 0), megabytes);
  } else if (kind == "shm") {
    fill_file(::open("/dev/shm/x", O_CREAT | O_RDWR, 0600), megabytes);
  } else {
    long bytes = 0;
    // Descriptors are limited for each process, so each child holds its part.
    for (int child = 0; child < 24 && bytes < megabytes * kMegabyte; ++child) {
      int told[2];
      (void)!::pipe(told);
      if (::fork() == 0) {
        long mine = 0;
        for (;;) {
          int ends[2];
          int made =
              kind == "pipes" ? ::pipe2(ends, O_NONBLOCK) : ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends);
          if (made) break;
          if (kind == "pipes") ::fcntl(ends[1], F_SETPIPE_SZ, kMegabyte);
          for (ssize_t done; (done = ::write(ends[1], block, 65536)) > 0;) mine += done;
        }
        (void)!::write(told[1], &mine, sizeof mine);
        ::pause();
      }
      ::close(told[1]);
      long theirs = 0;
      if (::read(told[0], &theirs, sizeof theirs) != sizeof theirs) break;  // it was killed
      bytes += theirs;
    }
    say("megabytes", bytes >> 20);
  }
  say("held", kind);
}

void polite_bomb(const Words&) {
  long made = 0;
  for (;;) {
    pid_t pid = ::fork();
    if (pid == 0) {
      ::pause();
      ::_exit(0);
    }
    if (pid < 0) break;
    ++made;
  }
  say("refused", outcome(-1));
  say("children", made);
  ::fflush(nullptr);
  ::_exit(7);
}

void spinning_bomb(const Words&) {
  for (;;) (void)!::fork();
}

// N: whose parent ends at once
void orphans(const Words& words) {
  long wanted = number(words, 0, 1000), made = 0;
  for (; made < wanted; ++made) {
    pid_t middle = ::vfork();
    if (middle == 0) {
      (void)!(::fork() == 0);
      ::_exit(0);
    }
    if (middle < 0) break;
    ::waitpid(middle, nullptr, 0);
  }
  say("orphans", made);
}

void flood(const Words& words) {
  ::memset(block, 'x', sizeof block);
  for (long n = 0; n < number(words, 0, 1 << 30); ++n)
    if (::write(1, block, 65536) <= 0) return;
}

void open_all(const Words&) {
  long made = 0;
  while (::open("/", O_PATH) >= 0) ++made;
  say("refused", outcome(-1));
  say("made", made);
}

void kill_all(const Words&) {
  (void)!::kill(-1, SIGKILL);
  (void)!::kill(1, SIGKILL);
  say("alive", "1");
}

// MS: without its standard descriptors
void silent(const Words& words) {
  for (int fd = 0; fd < 3; ++fd) ::close(fd);
  wait_ms(number(words, 0, 300));
  ::_exit(5);
}

// N directories, each in the one before
void nest(const Words& words) {
  if (::chdir("/tmp")) return;
  for (long n = number(words, 0, 1000); n > 0; --n)
    if (::mkdir("d", 0700) || ::chdir("d")) return say("stopped", n);
  say("nested", "all");
}

void exit_with(const Words& words) { ::_exit(static_cast<int>(number(words, 0, 0))); }
void hold(const Words& words) {
  say("ready", "1");
  wait_ms(number(words, 0, 60'000));
}

const Attacks kAttacks{{"exchange", exchange, "A B: exchanges two names for ever"},
                       {"hunt", hunt, "MS: takes what it can of every new process"},
                       {"memory", memory, "anon|memfd|shm|pipes|sockets MB"},
                       {"bomb", polite_bomb, "forks until refused"},
                       {"spinning-bomb", spinning_bomb, "forks for ever"},
                       {"orphans", orphans, "N"},
                       {"flood", flood, "N times 64 KiB without a newline"},
                       {"descriptors", open_all, "until refused"},
                       {"kill-all", kill_all, "everything, and PID 1"},
                       {"silent", silent, "MS without standard descriptors"},
                       {"nest", nest, "N directories deep"},
                       {"exit", exit_with, "N"},
                       {"hold", hold, "MS"}};

}  // namespace
}  // namespace attack
