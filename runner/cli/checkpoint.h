// What `checkpoint` and `restore` of containers have in common.
#pragma once

#include <string>

#include "runner/cli/container.h"
#include "runner/snapshot/container.h"

namespace runner::cli {

/// The flags that both have, as runc spells them.
struct CriuWords : snapshot::CriuFlags {
  std::string images, work, cgroups_mode, empty_ns;

  void declare(Options& options);
  void check() const;  ///< throws UsageError
  void give(snapshot::ImageOptions& options, const Context& context, const std::string& own_work) const;
};

/// The annotation dev.runner.restore: the same from within `create`, with the processes frozen until `start`.
Created restore_held(Context& context, const std::string& id, const CreateFlags& flags, oci::Container container);

/// `restore` with --image-path, which is a container's; with --from it is a session's.
int restore_container(Context& context);

}  // namespace runner::cli
