#include "runner/snapshot/mounts.h"

#include <fmt/format.h>

#include "isolate/restorer.h"
#include "isolate/sys/file.h"
#include "isolate/sys/mount.h"
#include "isolate/sys/paths.h"

namespace runner::snapshot {

namespace {

MountPoint::Kind kind_of(const std::string& at, const std::string& root, const std::string& type, int pid) {
  using Kind = MountPoint::Kind;
  if (at == "/" || type == "proc" || type == "devpts" || type == "mqueue" || type == "sysfs" || type == "cgroup2") return Kind::Criu;
  bool masks = at.starts_with("/proc/") || at.starts_with("/sys/");
  if (masks) return type == "tmpfs" ? Kind::NoFolder : Kind::NoFile;
  if (type != "tmpfs" || root != "/" || at == "/dev") return Kind::Ours;
  return isolate::sys::list_dir(fmt::format("/proc/{}/root{}", pid, at)).empty() ? Kind::Ours : Kind::Criu;
}

std::string source_of(const std::string& at, const isolate::Plan& plan) {
  int n = planned_at(plan, at);
  return n >= 0 ? isolate::flat_mount(static_cast<std::size_t>(n)) : isolate::kLaidOut + at;  // a device, or what lies below a volume
}

}  // namespace

int planned_at(const isolate::Plan& plan, const std::string& at) {
  for (std::size_t i = plan.mounts.size(); i-- > 0;)
    if (isolate::sys::clean_path(plan.mounts[i].to) == at) return static_cast<int>(i);
  return -1;
}

std::vector<MountPoint> mounts_of(int pid) {
  std::vector<MountPoint> all;
  for (const isolate::sys::MountEntry& mount : isolate::sys::mount_table(pid)) all.push_back({mount.at, kind_of(mount.at, mount.root, mount.type, pid)});
  return all;
}

std::vector<std::string> external_at_dump(const std::vector<MountPoint>& mounts) {
  std::vector<std::string> all;
  for (const MountPoint& mount : mounts)
    if (mount.kind != MountPoint::Kind::Criu) all.push_back(fmt::format("mnt[{0}]:{0}", mount.at));
  return all;
}

std::vector<std::string> external_at_restore(const std::vector<MountPoint>& mounts, const isolate::Plan& plan) {
  std::vector<std::string> all;
  for (const MountPoint& mount : mounts) {
    if (mount.kind == MountPoint::Kind::Criu) continue;
    std::string from = mount.kind == MountPoint::Kind::NoFile     ? std::string(isolate::kLaidOut) + "/dev/null"
                       : mount.kind == MountPoint::Kind::NoFolder ? std::string(isolate::kNoFiles)
                                                                  : source_of(mount.at, plan);
    all.push_back(fmt::format("mnt[{}]:{}", mount.at, from));
  }
  return all;
}

}  // namespace runner::snapshot
