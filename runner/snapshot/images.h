// What we change in CRIU's images before it reads them.
#pragma once

#include "isolate/plan.h"

namespace runner::snapshot {

/// The user namespace comes back with this map instead of the one that it was dumped with. Everything else in the images has ids as they
/// are inside. `folder` holds a copy of userns-*.img that may be written.
void set_id_map(int folder, const isolate::IdMap& ids);

}  // namespace runner::snapshot
