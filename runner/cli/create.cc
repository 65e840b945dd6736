#include "runner/cli/container.h"

namespace runner::cli {

int create_main(Context& context) {
  CreateFlags flags;
  Options options("create", "Create a container from a bundle; its program waits for `start`.");
  flags.declare(options);
  std::string id = one_argument(context.parse(options), "create");
  Created created = create_container(context, id, flags, true);
  created.sandbox.release();
  return 0;
}

}  // namespace runner::cli
