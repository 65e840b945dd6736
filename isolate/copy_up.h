// What a folder of the root holds, in the tmpfs that is about to hide it: the mount option tmpcopyup of runc and podman.
#pragma once

namespace isolate {

/// Copies files, folders and symbolic links with their owners and modes; what is none of these is left out. Follows no link.
void copy_up(int from, int to);

}  // namespace isolate
