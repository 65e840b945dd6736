#include "runner/cli/sessions.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "isolate/execute.h"
#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "runner/cli/awake.h"
#include "runner/cli/lost.h"
#include "runner/snapshot/store.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

constexpr int kBirth = 5'000;       // milliseconds between an entry and its first state
constexpr int kDeath = 10'000;      // between SIGKILL and the end of a process
constexpr int kLastWords = 30'000;  // between the end of PID 1 and that of the session
constexpr int kLockHeld = 5'000;    // by a sweep or another command

void sleep_ms(long milliseconds) {
  timespec moment{milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  ::nanosleep(&moment, nullptr);
}

bool wait_for(int fd, std::int64_t deadline) {
  for (;;) {
    std::int64_t left = std::max<std::int64_t>(0, deadline - now_ms());
    pollfd ended{fd, POLLIN, 0};
    int ready = ::poll(&ended, 1, static_cast<int>(std::min<std::int64_t>(left, 3'600'000)));
    if (ready == 1) return true;
    if (ready == -1 && errno != EINTR) fail(errno, "wait for a process");
    if (now_ms() >= deadline) return false;
  }
}

// By inotify on its directory: state.json is replaced, or the directory goes. A supervisor that is killed says nothing; then its
// lock is free, which has to be asked for.
void await_last_words(Context& context, const std::string& id, const session::State& was) {
  std::string path = context.directories().run + "/" + id;
  Fd changes(check(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK), "watch {}", path));
  (void)::inotify_add_watch(changes.get(), path.c_str(), IN_MOVED_TO | IN_MOVE_SELF | IN_DELETE_SELF);
  for (std::int64_t deadline = now_ms() + kLastWords; goes_on(context, id, was);) {
    if (now_ms() > deadline) fail(ETIMEDOUT, "wait for the supervisor of {} to write its end", id);
    pollfd changed{changes.get(), POLLIN, 0};
    ::poll(&changed, 1, 100);
    char events[4096];
    while (::read(changes.get(), events, sizeof events) > 0) {
    }
  }
}

std::string damaged(const std::string& id, const char* why) {
  return fmt::format("session {}: its state.json cannot be read: {} (`runner rm -f {}` removes it)", id, why, id);
}

}  // namespace

Found find_session(Context& context, const std::string& id) {
  check_id(id);
  for (std::int64_t deadline = now_ms() + kBirth;; sleep_ms(2)) {
    auto entry = session::Entry::find(context.directories(), id);
    if (!entry && adopt_lost(context, id)) continue;
    if (!entry) throw std::runtime_error(fmt::format("there is no session {} (`runner ls -a` lists them)", id));
    std::optional<session::State> state;
    try {
      session::settle(context.directories(), context.cgroups(), *entry);
      state = entry->find_state();
    } catch (const nlohmann::json::exception& error) {
      throw std::runtime_error(damaged(id, error.what()));
    }
    if (state) {
      if (!state->is_session)
        throw std::runtime_error(fmt::format("{} is a container, not a session: see `runner list`", id));
      return {std::move(*entry), std::move(*state)};
    }
    if (now_ms() > deadline) throw std::runtime_error(fmt::format("session {} is still being made; try again", id));
  }
}

std::vector<Found> all_sessions(Context& context) {
  std::vector<Found> all;
  adopt_all_lost(context);
  session::sweep(context.directories(), context.cgroups());
  for (const std::string& id : session::list_entries(context.directories())) {
    auto entry = session::Entry::find(context.directories(), id);
    try {
      auto state = entry ? entry->find_state() : std::nullopt;
      if (state && state->is_session) all.push_back({std::move(*entry), std::move(*state)});
    } catch (const std::exception& error) {
      report_warning(context.globals, damaged(id, error.what()));
    }
  }
  return all;
}

std::string status_of(Context& context, const session::State& state) {
  if (!state.suspended.empty()) return "suspended";
  if (state.standby && session::open_process(state)) return "standby";
  if (state.ended) return session::status_name(session::Status::Stopped);
  return session::status_name(session::status_of(state, context.cgroups()));
}

void signal_session(Context& context, const session::State& state, int number) {
  Fd process = session::open_process(state);
  if (!process) return;
  auto entry = session::Entry::find(context.directories(), state.id);
  // SIGKILL reaches a sleeping one as well, also when its supervisor answers nobody any more.
  session::State now = state;
  Fd awake = entry && number != SIGKILL && !state.standby ? awaken(context, *entry, now) : Fd();
  isolate::Cgroup cgroup = isolate::Cgroup::open(state.cgroup, context.cgroups());
  try {
    if (cgroup.frozen()) cgroup.freeze(false);
  } catch (const SystemError& error) {
    if (error.code() != ENODEV && error.code() != ENOENT) throw;  // else somebody else has ended it, just now
  }
  if (number) signal_pidfd(process.get(), number);
}

void end_session(Context& context, const std::string& id, const session::State& state, std::int64_t deadline) {
  Fd process = session::open_process(state);
  if (process && !wait_for(process.get(), deadline)) {
    signal_pidfd(process.get(), SIGKILL);  // and with PID 1 all that is in its namespace
    isolate::Cgroup::open(state.cgroup, context.cgroups()).kill();
    if (!wait_for(process.get(), now_ms() + kDeath)) fail(ETIMEDOUT, "end process {} of session {}", state.pid, id);
  }
  await_last_words(context, id, state);
}

bool goes_on(Context& context, const std::string& id, const session::State& was) {
  auto entry = session::Entry::find(context.directories(), id);
  if (entry) session::settle(context.directories(), context.cgroups(), *entry);
  auto state = entry ? entry->find_state() : std::nullopt;
  return state && !state->ended && state->created == was.created;
}

void remove_session(Context& context, session::Entry& entry, const session::State& state) {
  session::remove_remains(context.directories(), context.cgroups(), state, true);
  entry.remove();
  // What it was suspended into is of no use without its files; and a wake that was killed, or begun anew, has left that behind.
  std::string name = state.suspended.empty() ? suspension_of(state.id) : state.suspended;
  snapshot::Store store(context.directories());
  auto memory = store.find(name);
  bool its = memory && memory->manifest().automatic && (!state.suspended.empty() || memory->manifest().session_id == state.id);
  memory.reset();
  if (its) store.remove(name);
}

bool lock_ended(session::Entry& entry) {
  for (std::int64_t deadline = now_ms() + kLockHeld; !entry.try_lock(); sleep_ms(1)) {
    if (::access(entry.file("lock").c_str(), F_OK) == -1) return false;
    if (now_ms() > deadline) fail(EBUSY, "lock session {} (another command holds it)", entry.id());
  }
  return true;
}

Child start_self(Context& context, std::vector<std::string> words, int out, int err) {
  words.insert(words.begin(), {"runner", "--root", context.directories().run, "--criu", criu_program(context.globals)});
  std::vector<char*> argv;
  for (std::string& each : words) argv.push_back(each.data());
  argv.push_back(nullptr);
  Child child = clone_process(0);
  if (child.pid() != 0) return child;
  if (int nothing = ::open("/dev/null", O_RDWR); nothing >= 0) ::dup2(nothing, 0);
  if (out >= 0) ::dup2(out, 1);
  if (err >= 0) ::dup2(err, 2);
  isolate::reset_signals();
  ::execv("/proc/self/exe", argv.data());
  ::_exit(127);
}

int for_each_id(Context& context, const std::vector<std::string>& ids,
                const std::function<void(const std::string&)>& act) {
  int code = 0;
  for (const std::string& id : ids) {
    try {
      act(id);
    } catch (const std::exception& error) {
      report_error(context.globals, error.what());
      code = kSessionVerbFailed;
    }
  }
  return code;
}

}  // namespace runner::cli
