#include "runner/cli/awake.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <stdexcept>

#include "isolate/sys/file.h"
#include "runner/cli/sessions.h"
#include "runner/supervise/client.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

std::string socket_of(const session::Entry& entry) { return entry.file("control.sock"); }

void wake_from_disk(Context& context, const std::string& id) {
  Fd nothing = open_file("/dev/null", O_WRONLY | O_CLOEXEC);  // it prints the id, which who asks knows
  Child child = start_self(context, {"wake", id}, nothing.get(), -1);
  if (child.wait() != Exit{}) throw std::runtime_error(fmt::format("session {} is suspended and could not be woken", id));
}

// Its supervisor has let go of us: it ends, or goes to disk just now.
void await_end(Context& context, const session::Entry& entry, session::State& state) {
  for (std::int64_t deadline = now_ms() + 10'000; !state.ended && now_ms() < deadline; ::usleep(1000)) {
    if (!goes_on(context, entry.id(), state)) break;
    state = entry.read_state();
  }
  if (auto now = entry.find_state()) state = *now;
  else throw std::runtime_error(fmt::format("session {} has ended", entry.id()));
}

}  // namespace

Fd awaken(Context& context, const session::Entry& entry, session::State& state) {
  constexpr int kTries = 5;  // it may go to disk again and again, just before we get there
  for (int tries = 0;; ++tries) {
    bool was_standby = state.standby;
    if (!state.suspended.empty()) wake_from_disk(context, entry.id()), state = entry.read_state();
    if (!state.is_session || state.ended || (state.sleep_ms == 0 && !was_standby)) return {};
    // Who connects to one on standby is answered once it runs.
    Fd awake = supervise::keep_awake(socket_of(entry), false);
    if (awake && was_standby) state = entry.read_state();
    if (awake || tries == kTries) return awake;
    await_end(context, entry, state);
    if (was_standby) throw std::runtime_error(fmt::format("session {0} did not come out of its standby: `runner logs {0}` may say why", entry.id()));
  }
}

Fd keep_in_memory(const session::Entry& entry, const session::State& state) {
  return state.sleep_ms && !state.ended ? supervise::keep_awake(socket_of(entry), true) : Fd();
}

}  // namespace runner::cli
