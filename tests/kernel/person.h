// A runner on a terminal of its own.
#pragma once

#include <doctest/doctest.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tests/kernel/live.h"

namespace tests {

// The slave stays open here, so that its settings can be looked at afterwards.
class Person {
 public:
  explicit Person(const Args& arguments, unsigned short rows = 24, unsigned short columns = 80) {
    winsize size{rows, columns, 0, 0};
    REQUIRE(::openpty(&master_, &slave_, nullptr, nullptr, &size) == 0);
    REQUIRE(::tcgetattr(slave_, &before_) == 0);
    Args argv = runner_argv(arguments);
    std::vector<char*> pointers;
    for (std::string& word : argv) pointers.push_back(word.data());
    pointers.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::setsid();
      ::ioctl(slave_, TIOCSCTTY, 0);
      for (int fd : {0, 1, 2}) ::dup2(slave_, fd);
      ::execv(pointers[0], pointers.data());
      ::_exit(127);
    }
  }
  ~Person() {
    if (pid_ > 0) ::kill(pid_, SIGKILL), ::waitpid(pid_, nullptr, 0);
    ::close(master_), ::close(slave_);
  }
  Person(const Person&) = delete;

  void type(const std::string& text) { CHECK(::write(master_, text.data(), text.size()) == static_cast<ssize_t>(text.size())); }
  void resize(unsigned short rows, unsigned short columns) {
    winsize size{rows, columns, 0, 0};
    ::ioctl(master_, TIOCSWINSZ, &size);
  }
  bool sees(const std::string& text) {
    return eventually([&] {
      pollfd wait{master_, POLLIN, 0};
      char bytes[4096];
      while (::poll(&wait, 1, 50) > 0)
        if (ssize_t got = ::read(master_, bytes, sizeof bytes); got > 0) screen.append(bytes, static_cast<std::size_t>(got));
      return screen.find(text) != std::string::npos;
    });
  }
  int ends() {
    int status = -1;
    if (!eventually([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; })) return -1;
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  bool raw() const { return (now().c_lflag & (ICANON | ECHO)) == 0; }
  bool as_before() const {
    termios after = now();
    return after.c_iflag == before_.c_iflag && after.c_oflag == before_.c_oflag && after.c_cflag == before_.c_cflag && after.c_lflag == before_.c_lflag;
  }
  std::string screen;

 private:
  termios now() const {
    termios settings{};
    ::tcgetattr(slave_, &settings);
    return settings;
  }
  int master_ = -1, slave_ = -1;
  pid_t pid_ = -1;
  termios before_{};
};

}  // namespace tests
