// User namespaces and their id maps: user_namespaces(7).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "isolate/plan.h"
#include "isolate/sys/fd.h"

namespace isolate {

/// Writes the maps of a process that was just cloned into a new user namespace. A caller without privilege may
/// map only itself, one id, and must give up setgroups(2) first; that is done here.
void write_id_maps(pid_t pid, const IdMap& ids, bool privileged);

/// The id that `inside` is in the parent's namespace; empty where no range has it.
std::optional<std::uint32_t> outside_id(const std::vector<IdRange>& ranges, std::uint32_t inside);

/// A user namespace that nobody lives in, made for the mapping that it carries (mount_setattr, MOUNT_ATTR_IDMAP).
sys::Fd make_id_map(const IdMap& ids);

}  // namespace isolate
