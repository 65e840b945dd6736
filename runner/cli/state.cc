#include <fmt/format.h>

#include "runner/cli/container.h"

namespace runner::cli {

int state_main(Context& context) {
  Options options("state", "Print the state of a container or session as JSON.");
  session::Entry entry = context.entry(one_argument(context.parse(options), "state"));
  session::State state = entry.read_state();
  session::Status status = session::status_of(state, context.cgroups());
  fmt::print("{}\n", state_json(state, session::status_name(status), status == session::Status::Stopped ? 0 : state.pid));
  return 0;
}

}  // namespace runner::cli
