// The calls of one session, as the supervisor sees them: the session's own program (number 0) and what `exec` asked for. Each has
// its streams, its deadline, its place in the cgroups, and its end with a verdict. runner-init holds the other side of each.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "isolate/cgroup.h"
#include "isolate/init/protocol.h"
#include "isolate/link.h"
#include "isolate/plan.h"
#include "runner/events/writer.h"
#include "runner/supervise/verdict.h"

namespace runner::supervise {

using Clock = std::chrono::steady_clock;
std::uint64_t milliseconds_since(Clock::time_point start);
int milliseconds_left(Clock::time_point start, std::uint64_t limit);  ///< for poll(2): at most an hour, 0 when it is over

/// How a call came to its end.
struct CallEnd {
  Verdict verdict;
  events::ProcessExited event;
};

/// Who wants to know of a call: the foreground of `run`, a client on the control socket.
class Listener {
 public:
  virtual ~Listener() = default;
  /// True: the call has to wait until this one has caught up.
  virtual bool full() const { return false; }
  virtual void started(int pid) {}
  virtual void failed(const isolate::SetupFailure& failure) {}
  virtual void output(std::uint8_t stream, std::uint64_t offset, std::string_view bytes) {}
  virtual void exited(const CallEnd& end) {}
};

enum class Restart { No, OnFailure, Always };

struct CallRequest {
  isolate::Process process;
  bool keeps_input = false;
  bool logged = true;            // its output goes into the events
  std::uint64_t wall_ms = 0;     // 0: no limit of its own
  isolate::Limits limits;        // of its own, within the session's
  std::string service;           // a name for it; letters, digits, '_' and '-'. Empty: "c1", "c2", ...
  Restart restart = Restart::No; // when it has ended; the wait before it doubles from 0.1 s to 10 s
  bool keeps_awake = false;      // the session does not fall asleep while it runs
  bool channel = false;          // descriptor 3, in both directions; the input goes there (isolate/init/protocol.h)
};

class Calls {
 public:
  struct Setting {
    int control = -1;                              // the socket to runner-init
    std::vector<isolate::Filter> filters;          // every call gets the session's
    isolate::CgroupHost cgroups;
    isolate::CgroupPlan cgroup;                    // the session's
    uid_t init_uid = 0;                            // of runner-init, as the host sees it
    std::uint64_t output_bytes = 0;                // of all calls together that goes into the events; 0: no limit
    std::function<void()> stir = [] {};            // called for all that PID 1 says, and before it is told something: it may be frozen
  };
  Calls(Setting setting, events::Writer& events, std::vector<std::string>& notes)
      : setting_(std::move(setting)), events_(events), notes_(notes) {}

  /// Asks runner-init for the session's program; its events and end are the session's.
  void begin_program(const CallRequest& request, Listener* listener);
  /// A further call, in a cgroup of its own. Throws when its limits cannot be set, or its name is taken. The listener lives until the call ends, or drop().
  std::uint32_t begin(const CallRequest& request, Listener* listener);
  void drop(Listener* listener);                    ///< it is gone: nobody listens from here on

  void input(std::uint32_t call, std::string_view bytes);
  void end_input(std::uint32_t call);
  void resize(std::uint32_t call, unsigned short rows, unsigned short columns);
  void signal(std::uint32_t call, int number);
  void cancel(std::uint32_t call);                  ///< kills its whole tree, also what has double-forked; a service stays ended
  bool input_full(std::uint32_t call) const;
  std::uint64_t input_sent(std::uint32_t call) const;  ///< bytes, since it began, by whoever

  /// Shows what the ring still has from `offset` on to the listener, and then all that comes. False: there is no such call.
  std::optional<std::uint32_t> named(const std::string& name) const;  ///< "" is the session's program
  std::string name_in(const std::string& group) const;                    ///< whose cgroup that path is; empty: the program's
  bool attach(std::uint32_t call, std::uint64_t offset, Listener* listener);

  /// What runner-init says. False when it has said its last.
  bool hear();
  void stir() const { setting_.stir(); }            ///< something has happened that is no word with PID 1
  bool keep_awake() const;                          ///< one of them is exempt from the session's sleep
  /// Acknowledges what all listeners have room for, once `ready` (the events' sinks have room as well).
  void acknowledge(bool ready);
  int time_left() const;                            ///< milliseconds until the first deadline; -1: none
  void check_deadlines();

  const std::optional<isolate::sys::Exit>& program_exit() const { return program_exit_; }
  int program_pid() const { return program_pid_; }
  int program_signal() const { return program_signal_; }  ///< the last that came to it by way of PID 1; 0: none
  const std::optional<isolate::SetupFailure>& program_failure() const { return program_failure_; }
  bool has_terminal(std::uint32_t call) const;
  void finish_streams();                            ///< at the session's end: what waits for more goes out

  // For a snapshot: PID 1 lets go of its socket, and waits for who takes up the new one (isolate/init/protocol.h).
  void park();
  std::optional<int> parked() const { return parked_; }  ///< the descriptor of PID 1 to take; empty until it has said so
  void wake(int control);                           ///< goes on, over this socket
  std::string save() const;                         ///< all of them, as JSON for load() in the supervisor of the restored session
  /// For an object that has none yet; the program's output goes to `listener`, and into the events when `logged`.
  void load(const std::string& saved, Listener* listener, bool logged);
  void place_members(const std::string& saved);     ///< into the groups of their calls, once they run. May wait for the kernel, 10 ms each

 private:
  struct Stream {
    std::optional<events::StdioSplitter> log;
    std::uint64_t received = 0, acknowledged = 0;
  };
  struct Viewer {
    Listener* listener;
    std::map<std::uint8_t, std::uint64_t> next;     // per stream, once its replay has begun
  };
  struct Call {
    CallRequest request;
    std::string name;                               // "c1"; empty for the program
    Listener* owner = nullptr;
    std::map<std::uint32_t, Viewer> viewers;        // by the number under which they asked
    std::map<std::uint8_t, Stream> streams;
    std::uint64_t input_sent = 0, input_taken = 0;
    isolate::Cgroup cgroup;
    isolate::CgroupCounters before;                 // the session's, when it began
    Clock::time_point began = Clock::now();
    int pid = 0;
    bool timed_out = false, cancelled = false;
  };

  struct Waiting {                                  // a service between two lives
    CallRequest request;
    std::uint64_t pause_ms;
    Clock::time_point since;
  };

  Call* find(std::uint32_t number);
  void restart(const Call& call, bool failed);
  void restart_services();
  isolate::Cgroup make_group(std::uint32_t number, const CallRequest& request);
  void add_streams(Call& call);
  void ask(std::uint32_t number, Call& call, std::uint8_t flags);
  void send(isolate::init::Kind kind, std::uint32_t call, std::uint64_t offset = 0, std::string_view bytes = {}, std::uint8_t stream = 0);
  void take_output(Call& call, const isolate::init::Frame& frame);
  void take_again(Call& call, const isolate::init::Frame& frame);
  void log(Stream& stream, std::string_view bytes);
  void finish(std::uint32_t number, Call& call, const isolate::sys::Exit& exit);
  void fail(std::uint32_t number, Call& call, const isolate::SetupFailure& failure);

  Setting setting_;
  events::Writer& events_;
  std::vector<std::string>& notes_;
  std::map<std::uint32_t, Call> calls_;
  std::map<std::string, Waiting> waiting_;
  std::map<std::string, std::uint64_t> pauses_;     // of services, by name
  std::uint32_t next_call_ = 1, next_viewer_ = 1;
  bool open_to_init_ = false;                       // the session's group
  std::optional<isolate::sys::Exit> program_exit_;
  std::optional<isolate::SetupFailure> program_failure_;
  int program_pid_ = 0, program_signal_ = 0;
  std::uint64_t output_ = 0;
  bool output_told_ = false;
  std::optional<int> parked_;
};

}  // namespace runner::supervise
