// `runner suspend ID`, `runner wake ID`: a session goes to disk, and on from there.
#include <fmt/format.h>
#include <unistd.h>

#include "runner/cli/awake.h"
#include "runner/cli/revive.h"
#include "runner/cli/sessions.h"
#include "runner/snapshot/take.h"

namespace runner::cli {

int suspend_main(Context& context) {
  Options options("suspend", "Put running sessions on disk: no process of them stays. `wake` goes on with them.");
  std::vector<std::string> ids = context.parse(options);
  if (ids.empty()) throw UsageError("suspend: ID is missing");
  return for_each_id(context, ids, [&](const std::string& id) {
    Found found = find_session(context, id);
    if (!found.state.suspended.empty()) return;  // as it is wanted
    if (found.state.ended) throw std::runtime_error(fmt::format("session {} has ended ({}): there is nothing to suspend", id, found.state.result));
    snapshot::TakeOptions take = take_options(context, found.entry, suspension_of(id));
    take.suspend = take.automatic = true;
    take.layer = false;
    // What a wake that was killed has left: the session runs, so nothing needs it.
    snapshot::Store store(context.directories());
    if (store.find(take.name)) store.remove(take.name);
    snapshot::take(context.directories(), context.cgroups(), found.entry, take);
    end_session(context, id, found.state, now_ms() + 10'000);
    fmt::print("{}\n", id);
  });
}

int wake_main(Context& context) {
  std::string verify = "metadata";
  Options options("wake", "Go on with suspended sessions, in the background.");
  options.value("--verify", verify, "metadata, or full: the memory pages too");
  std::vector<std::string> ids = context.parse(options);
  if (ids.empty()) throw UsageError("wake: ID is missing");
  return for_each_id(context, ids, [&](const std::string& id) {
    Found found = find_session(context, id);
    if (!found.state.ended) return static_cast<void>(awaken(context, found.entry, found.state));  // as it is wanted, or from its standby
    if (found.state.suspended.empty()) throw std::runtime_error(fmt::format("session {} has ended ({}): it is not suspended", id, found.state.result));
    // Its last supervisor may be about to let go; or another wake is under way, which holds the lock as long as the session runs.
    for (std::int64_t deadline = now_ms() + 60'000; !found.entry.try_lock(); ::usleep(1000)) {
      if (now_ms() > deadline) throw std::runtime_error(fmt::format("session {} is held by another command", id));
      found = find_session(context, id);
      if (!found.state.ended) return;
    }
    found.state = found.entry.read_state();
    if (found.state.suspended.empty()) return;  // woken meanwhile, and ended since
    Revival how;
    how.snapshot = found.state.suspended;
    how.id = id;
    how.rm = found.state.remove;
    how.detach = true;
    how.output = "raw";
    how.verify = read_verify(verify);
    how.wakes = &found.entry;
    if (int code = revive(context, how)) throw std::runtime_error(fmt::format("session {} stays suspended (status {})", id, code));
  });
}

}  // namespace runner::cli
