#include "isolate/ids.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace isolate {

using namespace sys;

namespace {

std::string map_text(const std::vector<IdRange>& ranges) {
  std::string text;
  for (const IdRange& range : ranges) text += fmt::format("{} {} {}\n", range.inside, range.outside, range.count);
  return text;
}

}  // namespace

void write_id_maps(pid_t pid, const IdMap& ids, bool privileged) {
  std::string process = fmt::format("/proc/{}/", pid);
  if (!privileged) write_file(process + "setgroups", "deny");
  write_file(process + "gid_map", map_text(ids.gids));
  write_file(process + "uid_map", map_text(ids.uids));
}

std::optional<std::uint32_t> outside_id(const std::vector<IdRange>& ranges, std::uint32_t inside) {
  for (const IdRange& range : ranges)
    if (inside >= range.inside && inside - range.inside < range.count) return range.outside + (inside - range.inside);
  return std::nullopt;
}

Fd make_id_map(const IdMap& ids) {
  pid_t parent = ::getpid();
  Child holder = clone_process(CLONE_NEWUSER);
  if (holder.pid() == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (::getppid() == parent) ::pause();  // it may have died before the line above
    ::_exit(0);
  }
  write_id_maps(holder.pid(), ids, true);
  return open_file(fmt::format("/proc/{}/ns/user", holder.pid()), O_RDONLY);
}

}  // namespace isolate
