#include "runner/cli/container.h"
#include "runner/cli/container_events.h"

namespace runner::cli {

int create_main(Context& context) {
  CreateFlags flags;
  Options options("create", "Create a container from a bundle; its program waits for `start`.");
  flags.declare(options);
  std::string id = one_argument(context.parse(options), "create");
  Created created = create_container(context, id, flags, true);
  created.sandbox.release();
  tell(created.entry, created.state, events::ContainerCreated{id, created.state.bundle, created.state.pid});
  return 0;
}

}  // namespace runner::cli
