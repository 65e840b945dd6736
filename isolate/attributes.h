// The attributes of a mount: MOUNT_ATTR_* of mount_setattr(2).
#pragma once

#include "isolate/plan.h"

namespace isolate {

/// Gives a mount that is not attached yet what `mount` asks for. With Bind::replaces, an attribute that is not named is taken away, as a remount by
/// mount(2) would, and as runc and crun do: but for the time of access, and for what a user namespace may not take away (mount_namespaces(7),
/// locked flags). To ask for that by name is an error, EPERM.
void set_attributes(int fd, const Mount& mount, const Plan& plan);

}  // namespace isolate
