// `run`: with "--" a session, without it a container, as runc has it.
#include "runner/cli/run.h"

namespace runner::cli {

int run_main(Context& context) {
  auto command = take_command(context.arguments);
  return command ? run_session(context, *command) : run_container(context);
}

}  // namespace runner::cli
