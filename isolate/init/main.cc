// runner-init: PID 1 of a session (of a container: alone.h). Starts the programs that the supervisor names and holds their streams (protocol.h), reaps
// what is orphaned, and dies with its supervisor. It holds no secret and no capability but KILL, SETGID and SETUID.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <map>

#include "isolate/execute.h"
#include "isolate/init/alone.h"
#include "isolate/init/call.h"
#include "isolate/init/protocol.h"
#include "isolate/privileges.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"

namespace isolate::init {

using namespace sys;

namespace {

class Init {
 public:
  Init() {
    sigset_t all;
    ::sigfillset(&all);
    check(::sigprocmask(SIG_SETMASK, &all, nullptr), "block signals");
    signals_ = Fd(check(::signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK), "listen for signals"));
  }

  void run() {
    std::vector<pollfd> wait;
    while (!over_) {
      wait.assign({{kControl, static_cast<short>(blocked_ && !parked_ ? POLLIN | POLLOUT : POLLIN), 0}, {signals_.get(), POLLIN, 0}});
      std::vector<std::pair<Call*, std::size_t>> places;
      for (auto& [number, call] : calls_) {
        places.emplace_back(&call, wait.size());
        call.wait_for(wait);
      }
      if (::poll(wait.data(), wait.size(), -1) == -1 && errno != EINTR) fail(errno, "wait for the supervisor");
      for (auto [call, place] : places) call->ready(wait.data() + place);
      if (wait[1].revents) take_signals();
      if (wait[0].revents & (POLLIN | POLLHUP)) hear_supervisor();
      flush();
    }
  }

 private:
  struct Waiting {
    Frame frame;
    std::string bytes;
  };

  // Output waits in its ring when the socket is full. All else is short and waits here, so that control never does.
  bool send(const Frame& frame, std::string_view bytes) {
    bool bulk = frame.kind == Kind::Output || frame.kind == Kind::Again;
    if (bulk && (blocked_ || !outbox_.empty())) return false;
    bool sent = !blocked_ && outbox_.empty() && send_frame(kControl, frame, bytes, {}, true);
    blocked_ = blocked_ || !sent;
    if (!sent && !bulk) outbox_.push_back({{frame.kind, frame.stream, frame.call, frame.offset, {}, {}}, std::string(bytes)});
    return sent || !bulk;
  }

  // A pair of which both ends are in here is all that a snapshot gets to see.
  void park() {
    auto [near, far] = socket_pair();
    for (Waiting& each : std::exchange(outbox_, {})) send_frame(kControl, each.frame, each.bytes);
    send_frame(kControl, {Kind::Parked, 0, 0, static_cast<std::uint64_t>(far.get()), {}, {}}, {});
    check(::dup3(near.get(), kControl, O_CLOEXEC), "change the control socket");
    parked_ = std::move(far);
    blocked_ = true;
    // CRIU looks at our namespaces with the rights of this user namespace. That is refused for a process that is not dumpable and whose
    // memory was made outside, as that of a restored one is. Nobody inside gains: they lack our capabilities (ptrace(2)).
    ::prctl(PR_SET_DUMPABLE, 1);
  }

  void wake() {
    ::prctl(PR_SET_DUMPABLE, 0);
    parked_.close();
  }

  void flush() {
    if (parked_) return;
    blocked_ = false;
    while (!outbox_.empty() && !blocked_) {
      Waiting& first = outbox_.front();
      if (send_frame(kControl, first.frame, first.bytes, {}, true)) outbox_.pop_front();
      else blocked_ = true;
    }
    for (auto& [number, call] : calls_) {
      call.pump();
      // The session ends with its program, and the kernel ends all else with us.
      if (call.told() && call.last() && outbox_.empty()) over_ = true;
    }
  }

  void hear_supervisor() {
    while (!over_ && readable(kControl)) {
      auto frame = receive_frame(kControl);
      if (!frame) over_ = true;  // the supervisor is gone
      else obey(*frame);
    }
  }

  void obey(Frame& frame) {
    if (frame.kind == Kind::Park && !parked_) return park();
    if (frame.kind == Kind::Wake) return wake();
    auto known = calls_.find(frame.call);
    if (frame.kind == Kind::Spawn) return known == calls_.end() ? spawn(frame) : known->second.announce();
    if (known == calls_.end()) return;  // it is over and forgotten
    Call& call = known->second;
    switch (frame.kind) {
      case Kind::Input: return call.input(frame.bytes);
      case Kind::EndInput: return call.end_input();
      case Kind::Resize: return call.resize(frame.offset);
      case Kind::Signal: return call.signal(static_cast<int>(frame.offset));
      case Kind::Acknowledge: return call.acknowledge(frame.stream, frame.offset);
      case Kind::Replay: return call.replay(frame.stream, frame.offset, frame.bytes);
      case Kind::Forget: calls_.erase(known); return;
      default: return;
    }
  }

  void spawn(Frame& frame) {
    try {
      SpawnRequest request = decode_spawn(read_file(fmt::format("/proc/self/fd/{}", frame.fds.at(0).get())));
      frame.fds.erase(frame.fds.begin());
      if (request.process.terminal) request.process.terminal->scrollback = frame.offset;
      calls_.try_emplace(frame.call, frame.call, request, frame.stream, std::move(frame.fds),
                         [this](const Frame& f, std::string_view bytes) { return send(f, bytes); });
      if (frame.call == 0)
        for (int number : std::exchange(early_, {})) forward(number);
    } catch (const std::exception& error) {
      send({Kind::Failed, 0, frame.call, 0, {}, {}}, encode_failure(describe(Stage::Start, error)));
    }
  }

  void take_signals() {
    signalfd_siginfo info;
    while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
      if (info.ssi_signo == SIGCHLD) reap();
      else forward(static_cast<int>(info.ssi_signo));
    }
  }

  // What is sent to PID 1 is meant for the program, as with docker; and the supervisor is told, whose verdict depends on it.
  void forward(int number) {
    auto program = calls_.find(0);
    if (program == calls_.end()) return early_.push_back(number);
    send({Kind::Signal, 0, 0, static_cast<std::uint64_t>(number), {}, {}}, {});
    program->second.signal(number);
  }

  void reap() {
    int status;
    for (pid_t pid; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;)
      for (auto& [number, call] : calls_)
        if (call.pid() == pid) call.reaped({WIFEXITED(status) ? WEXITSTATUS(status) : 0, WIFSIGNALED(status) ? WTERMSIG(status) : 0});
  }

  Fd signals_;
  Fd parked_;  // the far end of our own control socket, until somebody has taken it
  std::map<std::uint32_t, Call> calls_;
  std::deque<Waiting> outbox_;
  std::vector<int> early_;  // signals that came before the program
  bool blocked_ = false, over_ = false;
};

}  // namespace

}  // namespace isolate::init

int main(int argc, char** argv) {
  using namespace isolate;
  if (argc > 2 && std::strcmp(argv[1], "--") == 0) return init::run_alone(argv + 2);
  try {
    die_with_parent();  // cleared by the execve that started us; a supervisor that died before shows as an end of the socket
    ::prctl(PR_SET_DUMPABLE, 0);
    hand_on_nothing();
    ::prctl(PR_SET_NAME, "runner-init");
    sys::check(::fcntl(init::kControl, F_SETFD, FD_CLOEXEC), "find the control socket");
    init::Init().run();
  } catch (const std::exception&) {
    return 125;  // nobody to tell: the supervisor sees PID 1 end
  }
  return 0;
}
