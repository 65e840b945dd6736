// What a CRIU process needs around it: a mount namespace with a /run that is a tmpfs, in which CRIU finds what it has learnt of this
// kernel. Without that it probes for 9 to 30 ms each time.
#pragma once

#include <string>

#include "isolate/sys/child.h"
#include "isolate/sys/fd.h"
#include "runner/session/directories.h"
#include "runner/snapshot/criu.h"

namespace runner::snapshot {

/// A detached tmpfs for /run, with the folders "images" and "work".
isolate::sys::Fd make_run(const session::Directories& directories, const std::string& criu);
/// Keeps what CRIU has learnt, if that is new.
void keep_learnt(const session::Directories& directories, const std::string& criu, int run);

/// A CRIU that dumps. It does not die with us: then it would leave the processes in the middle of it.
struct Dumper {
  isolate::sys::Child child;
  Criu criu;
};
Dumper start_dumper(const std::string& criu, int run);

}  // namespace runner::snapshot
