#include <sys/stat.h>

#include <algorithm>
#include <stdexcept>

#include "isolate/restorer.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"
#include "runner/snapshot/container.h"

namespace runner::snapshot {

using isolate::Mount;
using Kind = MountPoint::Kind;

namespace {

// What a recursive bind has brought along.
bool below_bind(const isolate::Plan& plan, const std::string& at) {
  const Mount* nearest = nullptr;
  for (const Mount& mount : plan.mounts) {
    std::string path = isolate::sys::clean_path(mount.to);
    if (at.starts_with(path + "/") && (!nearest || path.size() >= isolate::sys::clean_path(nearest->to).size())) nearest = &mount;
  }
  auto* bind = nearest ? std::get_if<isolate::Bind>(&nearest->what) : nullptr;
  return bind && bind->recursive;
}

bool has(const std::vector<std::string>& paths, const std::string& at) {
  return std::any_of(paths.begin(), paths.end(), [&](const std::string& path) { return isolate::sys::clean_path(path) == at; });
}

Kind kind_in(const isolate::Plan& plan, const MountPoint& mount, const std::vector<MountPoint>& all, pid_t pid) {
  if (mount.at == "/") return Kind::Criu;
  int n = planned_at(plan, mount.at);
  if (n >= 0) {
    auto* fs = std::get_if<isolate::FileSystem>(&plan.mounts[static_cast<std::size_t>(n)].what);
    if (!fs) return Kind::Ours;
    if (fs->type == "proc" || fs->type == "devpts" || fs->type == "mqueue" || fs->type == "sysfs") return Kind::Criu;
    // CRIU packs a tmpfs with tar, which takes 3 ms of a restore: one that holds nothing but our mounts is as good new. /dev is as we fill it.
    if (fs->type != "tmpfs" || mount.at == "/dev") return Kind::Ours;
    std::vector<std::string> names = isolate::sys::list_dir(fmt::format("/proc/{}/root{}", pid, mount.at));
    auto is_place = [&](const std::string& name) {
      std::string at = mount.at + "/" + name;
      return planned_at(plan, at) >= 0 && std::any_of(all.begin(), all.end(), [&](const MountPoint& other) { return other.at == at; });
    };
    return std::all_of(names.begin(), names.end(), is_place) ? Kind::Ours : Kind::Criu;
  }
  // In /proc and /sys a path that is read-only is a bind of that file system on itself, which CRIU makes again; a mask is not.
  if (has(plan.masked_paths, mount.at)) {
    struct stat info;
    bool folder = ::lstat(fmt::format("/proc/{}/root{}", pid, mount.at).c_str(), &info) == 0 && S_ISDIR(info.st_mode);
    return folder ? Kind::NoFolder : Kind::NoFile;
  }
  return below_bind(plan, mount.at) ? Kind::Ours : Kind::Criu;
}

}  // namespace

std::vector<MountPoint> container_mounts(pid_t pid, const isolate::Plan& plan) {
  std::vector<MountPoint> mounts = mounts_of(pid);
  for (MountPoint& mount : mounts) mount.kind = kind_in(plan, mount, mounts, pid);
  return mounts;
}

std::vector<std::string> external_of_container(const std::vector<MountPoint>& mounts, const isolate::Plan& plan) {
  std::vector<std::string> all;
  for (const MountPoint& mount : mounts) {
    if (mount.kind == Kind::Criu) continue;
    std::string from = mount.kind == Kind::NoFolder ? isolate::kNoFiles : isolate::kNoFile;
    if (mount.kind == Kind::Ours) {
      int n = planned_at(plan, mount.at);
      if (n < 0 && !below_bind(plan, mount.at))
        throw std::runtime_error(fmt::format("the container had a mount at {} when it was checkpointed, and its bundle has none there now", mount.at));
      from = n >= 0 ? isolate::flat_mount(static_cast<std::size_t>(n)) : isolate::kLaidOut + mount.at;
    }
    all.push_back(fmt::format("mnt[{}]:{}", mount.at, from));
  }
  return all;
}

}  // namespace runner::snapshot
