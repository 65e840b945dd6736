// rename: another name for a session that has ended. The supervisor of one that runs, its cgroup, its overlay and the engines that
// follow its log hold paths with the old name, so that one keeps it.
#include "runner/session/rename.h"

#include <fmt/format.h>

#include <stdexcept>

#include "isolate/sys/error.h"
#include "runner/cli/sessions.h"

namespace runner::cli {

int rename_main(Context& context) {
  Options options("rename", "Give a session that has ended another name: runner rename OLD NEW");
  std::vector<std::string> names = context.parse(options);
  if (names.size() != 2) throw UsageError("rename: takes OLD and NEW");
  check_id(names[1]);
  Found found = find_session(context, names[0]);
  auto refuse_running = [&](const session::State& state) {
    if (!state.ended)
      throw std::runtime_error(fmt::format("session {} is {}: only one that has ended can be renamed; stop it first",
                                           names[0], status_of(context, state)));
  };
  refuse_running(found.state);
  if (names[0] == names[1]) throw std::runtime_error(fmt::format("session {} has that name already", names[0]));
  if (!lock_ended(found.entry)) throw std::runtime_error(fmt::format("there is no session {}", names[0]));
  refuse_running(found.entry.read_state());
  try {
    session::rename_session(context.directories(), found.entry, names[1]);
  } catch (const isolate::sys::SystemError& error) {
    if (error.code() != EEXIST) throw;
    throw std::runtime_error(fmt::format("{} (the name {} is in use)", error.what(), names[1]));
  }
  return 0;
}

}  // namespace runner::cli
