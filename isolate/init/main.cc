// runner-init: PID 1 of a session. Starts the program that the supervisor names, forwards signals to it, reaps what is
// orphaned, and dies with its supervisor. It holds no secret and no capability but KILL, SETGID and SETUID.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "isolate/execute.h"
#include "isolate/init/protocol.h"
#include "isolate/link.h"
#include "isolate/privileges.h"
#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"
#include "isolate/terminal.h"

namespace isolate::init {

using namespace sys;

namespace {

[[noreturn]] void become_workload(const SpawnRequest& request, const std::vector<Fd>& stdio, TerminalPair terminal, Link link) noexcept {
  Stage stage = Stage::Terminal;
  const Process& process = request.process;
  try {
    reset_signals();
    ::umask(022);
    for (int i = 0; i < 3; ++i) check(::dup2(stdio[static_cast<std::size_t>(i)].get(), i), "set standard descriptor {}", i);
    ::setsid();
    if (terminal.slave) take_terminal(terminal.slave.get());

    stage = Stage::Privileges;
    become_user(process, process.capabilities, false);
    forbid_new_privileges();
    enter_directory(process.cwd);
    std::string program = find_program(process.argv, process.env);

    stage = Stage::Seccomp;
    close_from(3, {link.fd()});
    for (const Filter& filter : request.filters) load_filter(filter);  // last: it may forbid everything above

    stage = Stage::Exec;
    execute(program, process.argv, process.env);
  } catch (const std::exception& error) {
    link.report(stage, error);
  }
  ::_exit(125);
}

class Init {
 public:
  Init() {
    sigset_t all;
    ::sigfillset(&all);
    check(::sigprocmask(SIG_SETMASK, &all, nullptr), "block signals");
    signals_ = Fd(check(::signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK), "listen for signals"));
  }

  void run() {
    for (;;) {
      pollfd wait[2] = {{kControl, POLLIN, 0}, {signals_.get(), POLLIN, 0}};
      if (::poll(wait, 2, -1) == -1 && errno != EINTR) fail(errno, "wait for the supervisor");
      if (wait[1].revents) take_signals();
      if (wait[0].revents) {
        auto message = receive_message(kControl);
        if (!message) return;  // the supervisor is gone
        obey(*message);
      }
    }
  }

 private:
  void obey(Message& message) {
    if (message.bytes == "spawn") return spawn(message.fds);
    if (message.bytes.rfind("signal ", 0) == 0) return forward(std::atoi(message.bytes.c_str() + 7));
  }

  void spawn(std::vector<Fd>& fds) {
    auto [ours, theirs] = Link::make();
    try {
      SpawnRequest request = decode_spawn(read_file(fmt::format("/proc/self/fd/{}", fds.at(0).get())));
      fds.erase(fds.begin());
      TerminalPair terminal;
      if (request.process.terminal)
        terminal = open_terminal(open_dir("/").get(), *request.process.terminal, request.process.uid);
      Fd master = std::move(terminal.master);
      Child child = clone_process(0);
      if (child.pid() == 0) {
        master.close();
        ours.close();
        become_workload(request, fds, std::move(terminal), std::move(theirs));
      }
      theirs.close();
      terminal.slave.close();
      workload_ = child.release();  // reaped below, with all others
      ours.expect_end();
      std::vector<int> sent;
      if (master) sent.push_back(master.get());
      send_message(kControl, fmt::format("started {}", workload_), sent);
    } catch (const SetupError& error) {
      const SetupFailure& f = error.failure();
      send_message(kControl, fmt::format("failed {} {} {}{}{}", static_cast<int>(f.stage), f.code, f.path, '\0', f.cause));
    } catch (const std::exception& error) {
      SetupFailure f = describe(Stage::Start, error);
      send_message(kControl, fmt::format("failed {} {} {}{}{}", static_cast<int>(f.stage), f.code, f.path, '\0', f.cause));
    }
  }

  void take_signals() {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGCHLD) reap();
      else forward(static_cast<int>(info.ssi_signo));
    }
  }

  // To the program, as docker does; on a terminal its driver tells the others.
  void forward(int number) {
    if (workload_ > 0) ::kill(workload_, number);
  }

  void reap() {
    int status;
    for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;) {
      if (pid != workload_) continue;
      workload_ = 0;
      send_message(kControl, fmt::format("exited {} {}", WIFEXITED(status) ? WEXITSTATUS(status) : 0,
                                         WIFSIGNALED(status) ? WTERMSIG(status) : 0));
      ::_exit(0);  // the session ends with its program, and the kernel ends all else with us
    }
  }

  Fd signals_;
  pid_t workload_ = 0;
};

}  // namespace

}  // namespace isolate::init

int main() {
  using namespace isolate;
  try {
    die_with_parent();  // cleared by the execve that started us; a supervisor that died before shows as an end of the socket
    ::prctl(PR_SET_DUMPABLE, 0);
    ::prctl(PR_SET_NAME, "runner-init");
    sys::check(::fcntl(init::kControl, F_SETFD, FD_CLOEXEC), "find the control socket");
    init::Init().run();
  } catch (const std::exception&) {
    return 125;  // nobody to tell: the supervisor sees PID 1 end
  }
  return 0;
}
