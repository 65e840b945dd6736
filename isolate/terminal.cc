#include "isolate/terminal.h"

#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "isolate/sys/error.h"
#include "isolate/sys/paths.h"

namespace isolate {

using namespace sys;

namespace {

// As the user, who thereby owns the terminal: PID 1 of a session may become that user, and has no right to chown(2).
Fd open_master(int place, unsigned uid) {
  auto open = [&] { return Fd(::openat(place, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC)); };
  uid_t before = static_cast<uid_t>(::setfsuid(uid));
  Fd master = open();
  ::setfsuid(before);
  if (!master) master = open();  // a devpts without ptmxmode=0666 is for root only
  check(master.get(), "open {}", "/dev/pts/ptmx");
  return master;
}

}  // namespace

TerminalPair open_terminal(int root, const Terminal& size, unsigned uid) {
  constexpr long kDevptsMagic = 0x1cd1;  // DEVPTS_SUPER_MAGIC, <linux/magic.h>
  Fd place = open_below(root, "/dev/pts", Links::Refuse);
  struct statfs info;
  check(::fstatfs(place.get(), &info), "look at /dev/pts");
  // Not devpts: whatever calls itself a terminal there was made by somebody else (CVE-2025-52565).
  if (info.f_type != kDevptsMagic) fail(ENODEV, "open a terminal in {} (no devpts is mounted there)", "/dev/pts");

  TerminalPair pair;
  pair.master = open_master(place.get(), uid);
  int unlocked = 0;
  check(::ioctl(pair.master.get(), TIOCSPTLCK, &unlocked), "unlock a terminal");
  check(::ioctl(pair.master.get(), TIOCGPTN, &pair.number), "ask for a terminal's number");
  // TIOCGPTPEER opens the other end without a path.
  pair.slave = Fd(check(::ioctl(pair.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC), "open a terminal's other end"));
  if (size.rows || size.columns) {
    winsize cells{size.rows, size.columns, 0, 0};
    check(::ioctl(pair.master.get(), TIOCSWINSZ, &cells), "set a terminal's size");
  }
  struct stat owner;
  check(::fstat(pair.slave.get(), &owner), "look at a terminal");
  if (owner.st_uid != uid) check(::fchown(pair.slave.get(), uid, static_cast<gid_t>(-1)), "give a terminal to user {}", uid);
  return pair;
}

void take_terminal(int slave) {
  ::setsid();  // fails only for a session leader, who may go on
  check(::ioctl(slave, TIOCSCTTY, 0), "make it the controlling terminal");
  for (int fd = 0; fd < 3; ++fd) check(::dup2(slave, fd), "put the terminal on descriptor {}", fd);
}

}  // namespace isolate
