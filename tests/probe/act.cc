// Acting: signals, exits, streams, files, single system calls.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include <stdexcept>

#include "tests/probe/commands.h"

namespace probe {
namespace {

void sleep_seconds(double seconds) {
  timespec time{static_cast<time_t>(seconds), static_cast<long>((seconds - static_cast<double>(static_cast<time_t>(seconds))) * 1e9)};
  while (::nanosleep(&time, &time) == -1 && errno == EINTR) {
  }
}

// Lines that would end or fake a session if anybody took them for events.
int forge_events(const Words&) {
  ::printf("{\"specversion\":\"1.0\",\"type\":\"session.ended\",\"sequence\":\"00000000000003\",\"data\":{\"result\":\"success\",\"exit\":0}}\n");
  ::printf("\"}}\n{\"type\":\"policy.denied\"}\n");
  ::printf("\\\"}}\\n{\"type\":\"limit.reached\"}\r\n\x1b[2J\xe2\x80\xae" "tpircs\n");
  ::fprintf(stderr, "\xff\xfe not utf-8\n");
  return 0;
}

// [SECONDS]
int ignore_termination(const Words& words) {
  for (int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) ::signal(signal, SIG_IGN);
  say("ready", ::getpid());
  sleep_seconds(static_cast<double>(number(words, 0, 60)));
  say("slept", "all of it");
  return 0;
}

// Waits for one of the signals that can be caught; prints it and exits with STATUS.
int await_signal(const Words& words) {
  sigset_t all;
  ::sigfillset(&all);
  ::sigprocmask(SIG_SETMASK, &all, nullptr);
  say("ready", ::getpid());
  int got = 0;
  ::sigwait(&all, &got);
  say("signal", got);
  return static_cast<int>(number(words, 0, 0));
}

int signal_everything(const Words& words) {
  int signal = static_cast<int>(number(words, 0, SIGKILL));
  say("kill-1", outcome(::kill(1, signal)));
  say("kill-all", outcome(::kill(-1, signal)));
  say("parent", outcome(::kill(::getppid(), 0)));
  return 0;
}

int exit_with(const Words& words) { return static_cast<int>(number(words, 0, 0)); }

int kill_self(const Words& words) {
  int signal = static_cast<int>(number(words, 0, SIGKILL));
  ::signal(signal, SIG_DFL);
  ::raise(signal);
  return 1;
}

int echo_input(const Words&) {
  char bytes[65536];
  long total = 0;
  for (ssize_t got; (got = ::read(0, bytes, sizeof bytes)) > 0; total += got)
    for (ssize_t sent = 0; sent < got;) {
      ssize_t done = ::write(1, bytes + sent, static_cast<std::size_t>(got - sent));
      if (done <= 0) return 1;
      sent += done;
    }
  ::dprintf(2, "input=%ld\n", total);
  return 0;
}

int sleep_for(const Words& words) {
  say("ready", ::getpid());
  sleep_seconds(words.empty() ? 60 : std::stod(words[0]));
  return 0;
}

// r|w|rw|d PATH...: only whether it opens; nothing is changed.
int try_open(const Words& words) {
  const std::string& mode = words.at(0);
  int flags = mode == "r" ? O_RDONLY : mode == "w" ? O_WRONLY : mode == "rw" ? O_RDWR : O_RDONLY | O_DIRECTORY;
  for (std::size_t n = 1; n < words.size(); ++n) {
    int fd = ::open(words[n].c_str(), flags | O_CLOEXEC | O_NONBLOCK);
    say(words[n], outcome(fd));
    if (fd >= 0) ::close(fd);
  }
  return 0;
}

int read_file(const Words& words) {
  for (const std::string& path : words) {
    int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    char bytes[4096];
    ssize_t got = fd < 0 ? -1 : ::read(fd, bytes, sizeof bytes);
    say(path, got < 0 ? outcome(-1) : std::string(bytes, static_cast<std::size_t>(got)));
    if (fd >= 0) ::close(fd);
  }
  return 0;
}

// PATH TEXT: makes or replaces the file.
int write_file(const Words& words) {
  int fd = ::open(words.at(0).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  say(words[0], outcome(fd < 0 ? -1 : ::write(fd, words.at(1).data(), words[1].size())));
  return fd < 0;
}

// PATH c|b MAJOR MINOR
int make_node(const Words& words) {
  mode_t kind = words.at(1) == "b" ? S_IFBLK : S_IFCHR;
  auto device = makedev(static_cast<unsigned>(number(words, 2, 1)), static_cast<unsigned>(number(words, 3, 3)));
  say("mknod", outcome(::mknod(words[0].c_str(), kind | 0600, device)));
  return 0;
}

// NUMBER [ARGUMENT...]: with whatever the numbers mean. The result is 0 or an errno; a signal is the exit status.
int call(const Words& words) {
  long a[6] = {};
  for (std::size_t n = 0; n < 6; ++n) a[n] = number(words, n + 1, 0);
  say("result", outcome(::syscall(number(words, 0, 0), a[0], a[1], a[2], a[3], a[4], a[5])));
  return 0;
}

// FAMILY TYPE PROTOCOL
int make_socket(const Words& words) {
  say("socket", outcome(::socket(static_cast<int>(number(words, 0, AF_INET)), static_cast<int>(number(words, 1, SOCK_STREAM)),
                                 static_cast<int>(number(words, 2, 0)))));
  return 0;
}

const Commands kAct{
    {"forge-events", forge_events, "lines that look like events"},
    {"ignore-term", ignore_termination, "[SECONDS] without dying of TERM, INT, HUP, QUIT"},
    {"await-signal", await_signal, "[STATUS]: prints the first signal and exits"},
    {"signals-everything", signal_everything, "[SIGNAL] to PID 1 and to all"},
    {"exit", exit_with, "N"},
    {"kill-self", kill_self, "SIGNAL"},
    {"stdin-echo", echo_input, "copies its input; the count goes to stderr"},
    {"sleep", sleep_for, "SECONDS, after a line ready=PID"},
    {"open", try_open, "r|w|rw|d PATH...: whether it opens"},
    {"read", read_file, "PATH...: the first 4 KiB"},
    {"write", write_file, "PATH TEXT"},
    {"mknod", make_node, "PATH c|b MAJOR MINOR"},
    {"syscall", call, "NUMBER [ARGUMENT...]"},
    {"socket", make_socket, "FAMILY TYPE PROTOCOL"},
};

}  // namespace
}  // namespace probe
