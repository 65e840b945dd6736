// The network namespace of a sandbox: empty but for its loopback device.
#pragma once

namespace isolate {

/// Sets `lo` up in the namespace of the caller; needs CAP_NET_ADMIN there.
void bring_up_loopback();

}  // namespace isolate
