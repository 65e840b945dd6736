// What a CRIU process needs around it: a mount namespace with a /run that is a tmpfs, in which CRIU finds what it has learnt of this
// kernel. Without that it probes for 9 to 30 ms each time.
#pragma once

#include <sys/types.h>

#include <string>

#include "isolate/sys/child.h"
#include "isolate/sys/fd.h"
#include "runner/session/directories.h"
#include "runner/snapshot/criu.h"

namespace runner::snapshot {

/// A detached tmpfs for /run, with the folders "images" and "work".
isolate::sys::Fd make_run(const session::Directories& directories);
/// And with those that isolate/restorer.h wants.
isolate::sys::Fd make_restore_run(const session::Directories& directories);
/// Keeps what CRIU has learnt, if that is new: another CRIU than last time's finds the old useless, and learns again.
void keep_learnt(const session::Directories& directories, int run);

/// What is made while this lives can be read by all: processes in the new user namespace read it, whose root is not ours.
class Readable {
 public:
  Readable();
  ~Readable();
  Readable(const Readable&) = delete;

 private:
  mode_t before_;
};

/// A CRIU that dumps. It does not die with us: then it would leave the processes in the middle of it.
struct Dumper {
  isolate::sys::Child child, breakpoints;
  Criu criu;
};
Dumper start_dumper(const std::string& criu, int run);

}  // namespace runner::snapshot
