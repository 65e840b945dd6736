// rm: what an ended session has left, its log included.
#include <fmt/format.h>
#include <signal.h>

#include <stdexcept>

#include "runner/cli/sessions.h"

namespace runner::cli {

namespace {

void remove(Context& context, const std::string& id, bool force) {
  if (force && session::why_bad_id(id).empty() && !session::Entry::find(context.directories(), id)) return;
  Found found = find_session(context, id);
  if (!found.state.ended) {
    if (!force)
      throw std::runtime_error(
          fmt::format("session {} is {}: stop it first, or use --force", id, status_of(context, found.state)));
    signal_session(context, found.state, SIGKILL);
    end_session(context, id, found.state, now_ms());
  }
  if (!lock_ended(found.entry)) return;  // --rm, or another rm, was faster
  session::State state = found.entry.read_state();
  if (state.ended && state.is_session) remove_session(context, found.entry, state);
}

}  // namespace

int rm_main(Context& context) {
  bool force = false;
  Options options("rm", "Remove sessions that have ended: their files, their log, their name.");
  options.flag("-f,--force", force, "end them first; an id that does not exist is no error");
  std::vector<std::string> ids = context.parse(options);
  if (ids.empty()) throw UsageError("rm: ID is missing");
  return for_each_id(context, ids, [&](const std::string& id) {
    remove(context, id, force);
    fmt::print("{}\n", id);
    std::fflush(stdout);
  });
}

}  // namespace runner::cli
