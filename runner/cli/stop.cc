// stop: a signal to the program, time to heed it, and then the end of all that is inside.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <map>

#include "runner/cli/container.h"
#include "runner/cli/sessions.h"

namespace runner::cli {

int stop_main(Context& context) {
  int seconds = 10;
  std::string signal = "TERM";
  Options options("stop", "End sessions: a signal first, and SIGKILL to all that is left when the time is over.");
  options.number("-t,--time", seconds, "seconds to wait before all is killed; 10 by default");
  options.value("-s,--signal", signal, "the signal for the program; TERM by default");
  std::vector<std::string> ids = context.parse(options);
  if (ids.empty()) throw UsageError("stop: ID is missing");
  if (seconds < 0) throw UsageError(fmt::format("--time: {} is no number of seconds", seconds));
  int number = signal_number(signal);

  // All get the signal before any is waited for: they have the same time.
  std::map<std::string, session::State> found;
  int unknown = for_each_id(context, ids, [&](const std::string& id) {
    session::State state = find_session(context, id).state;
    if (!state.ended) signal_session(context, state, number);
    found.emplace(id, std::move(state));
  });
  std::int64_t deadline = now_ms() + std::int64_t{seconds} * 1000;
  std::erase_if(ids, [&](const std::string& id) { return !found.count(id); });
  int failed = for_each_id(context, ids, [&](const std::string& id) {
    if (!found[id].ended) end_session(context, id, found[id], deadline);
    fmt::print("{}\n", id);
    std::fflush(stdout);
  });
  return std::max(unknown, failed);
}

}  // namespace runner::cli
