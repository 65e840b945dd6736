#include "runner/snapshot/swrk.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/breakpoints.h"
#include "isolate/execute.h"
#include "isolate/link.h"
#include "isolate/restorer.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/mount.h"
#include "isolate/sys/socket.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

constexpr const char* kLearnt = "criu.kdat";  // CRIU's own name for it, in /run

// It holds for this boot, as its folder does.
std::string learnt_file(const session::Directories& directories) { return directories.run + "/.criu.kdat"; }

}  // namespace

Fd make_run(const session::Directories& directories) {
  Fd run = new_mount("tmpfs", "tmpfs", {{"mode", "755"}}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
  for (const char* folder : {"images", "work"}) check(::mkdirat(run.get(), folder, 0755), "make {} for CRIU", folder);
  if (auto learnt = find_file(learnt_file(directories))) {
    Fd file(check(::openat(run.get(), kLearnt, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), "make {}", kLearnt));
    write_all(file.get(), *learnt);
  }
  return run;
}

Fd make_restore_run(const session::Directories& directories) {
  Fd run = make_run(directories);
  for (const char* folder : isolate::kRestoreFolders) check(::mkdirat(run.get(), folder, 0755), "make {} for CRIU", folder);
  return run;
}

void keep_learnt(const session::Directories& directories, int run) {
  std::string file = learnt_file(directories);
  auto learnt = find_file_at(run, kLearnt);
  if (learnt && learnt != find_file(file)) replace_file(file, *learnt, 0600);
}

Readable::Readable() : before_(::umask(022)) {}
Readable::~Readable() { ::umask(before_); }

Dumper start_dumper(const std::string& criu, int run) {
  auto [ours, theirs] = socket_pair();
  auto [link, its] = isolate::Link::make();
  Child child = clone_process(CLONE_NEWNS);
  if (child.pid() == 0) {
    try {
      isolate::reset_signals();
      ::setsid();  // ^C is not for it
      check(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make a private set of mounts");
      attach_mount(run, open_dir("/run").get(), "/run");
      isolate::close_from(3, {theirs.get(), its.fd()});
      Criu::become(criu, theirs.get(), true, false);
    } catch (const std::exception& error) {
      its.report(isolate::Stage::Exec, error);
    }
    ::_exit(125);
  }
  its.close();
  theirs.close();
  link.expect_end();
  return {std::move(child), isolate::ready_breakpoints(), Criu(std::move(ours))};
}

}  // namespace runner::snapshot
