#include "runner/cli/awake.h"

#include "runner/supervise/client.h"

namespace runner::cli {

isolate::sys::Fd keep_awake(const session::Entry& entry, const session::State& state) {
  if (state.sleep_ms == 0 || state.ended) return {};
  return supervise::keep_awake(entry.file("control.sock"));
}

}  // namespace runner::cli
