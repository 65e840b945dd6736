#include "isolate/mounts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "isolate/devices.h"
#include "isolate/ids.h"
#include "isolate/overlay.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/mount.h"
#include "isolate/sys/paths.h"

namespace isolate {

using namespace sys;

namespace {

Fd open_source(const Bind& bind) {
  // O_PATH first, so that what is checked is what is mounted (CVE-2024-42472).
  int flags = O_PATH | O_CLOEXEC | (bind.follow_links ? 0 : O_NOFOLLOW);
  Fd source(check(::open(bind.from.c_str(), flags), "open mount source {}", bind.from));
  struct stat info;
  check(::fstat(source.get(), &info), "look at mount source {}", bind.from);
  if (S_ISLNK(info.st_mode)) fail(ELOOP, "mount {} (it is a symbolic link)", bind.from);
  return source;
}

Fd prepare_bind(const Bind& bind) {
  Fd mount = copy_mount(open_source(bind).get(), "", bind.recursive);
  // A copy of a shared mount is its peer: without this, what is mounted below it inside would appear on the host.
  set_mount(mount.get(), 0, 0, true, MS_PRIVATE);
  if (!bind.ids.empty()) set_mount(mount.get(), 0, 0, false, 0, make_id_map(bind.ids).get());
  return mount;
}

// /proc and /sys must be real directories of the root: through a link, masks and mounts would land elsewhere
// (CVE-2019-19921, CVE-2023-27561). /dev likewise.
bool must_be_real(const std::string& path) { return path == "/proc" || path == "/sys" || path == "/dev"; }

Fd find_target(int root, const Mount& mount, bool directory) {
  std::string path = clean_path(mount.to);
  Fd target = make_below(root, path, directory ? Make::Directory : Make::File, must_be_real(path) ? Links::Refuse : Links::InRoot);
  struct statfs info;
  check(::fstatfs(target.get(), &info), "look at mount target {}", path);
  constexpr long kProcMagic = 0x9fa0;  // PROC_SUPER_MAGIC
  // Only the top of /proc may be mounted over: a bind on a part of it is how masks were lifted (CVE-2019-16884).
  if (info.f_type == kProcMagic && path != "/proc")
    fail(EPERM, "mount at {} (it lies inside /proc)", path);
  return target;
}

bool is_directory(int fd) {
  struct stat info;
  check(::fstat(fd, &info), "look at a mount");
  return S_ISDIR(info.st_mode);
}

Fd make_mount(const Mount& mount) {
  if (std::holds_alternative<CgroupView>(mount.what)) return new_mount("cgroup2", "cgroup", {}, 0);
  const auto& fs = std::get<FileSystem>(mount.what);
  return new_mount(fs.type, fs.source.empty() ? fs.type : fs.source, fs.options, 0);
}

void set_attributes(int fd, const Mount& mount) {
  if (mount.set || mount.clear) set_mount(fd, mount.set, mount.clear, false);
  if (mount.set_recursive || mount.clear_recursive) set_mount(fd, mount.set_recursive, mount.clear_recursive, true);
}

}  // namespace

MountHandles prepare_mounts(const Plan& plan, const std::string& cgroup) {
  MountHandles handles;
  if (plan.root.overlay) {
    write_files(plan);
    handles.root = mount_overlay(*plan.root.overlay, plan.privileged_start);
  } else {
    handles.root = copy_mount(AT_FDCWD, plan.root.path, true);
    set_mount(handles.root.get(), 0, 0, true, MS_PRIVATE);
  }
  for (const Mount& mount : plan.mounts) {
    Fd prepared;
    if (auto* bind = std::get_if<Bind>(&mount.what)) prepared = prepare_bind(*bind);
    // Without a cgroup namespace a new cgroup2 mount would show the host's whole tree.
    else if (std::holds_alternative<CgroupView>(mount.what) && !plan.makes(NamespaceKind::Cgroup) && !cgroup.empty())
      prepared = prepare_bind(Bind{cgroup, false, {}, true});
    if (prepared) set_attributes(prepared.get(), mount);
    handles.mounts.push_back(std::move(prepared));
  }
  return handles;
}

Fd attach_root(const Plan& plan, MountHandles& handles) {
  // The child's copy of the host's mounts hears of the host's changes until the pivot, and never speaks back.
  check(::mount(nullptr, "/", nullptr, MS_REC | (plan.root.propagation & MS_PRIVATE ? MS_PRIVATE : MS_SLAVE), nullptr),
        "make the mounts private to the sandbox");
  Fd old = open_dir("/");
  // On top of the old root: pivot_root(2) wants a mount point, and this is one that needs no directory of the host.
  attach_mount(handles.root.get(), old.get(), "the new root");
  return std::move(handles.root);
}

void attach_mounts(int root, const Plan& plan, MountHandles& handles) {
  for (std::size_t i = 0; i < plan.mounts.size(); ++i) {
    const Mount& mount = plan.mounts[i];
    bool prepared = static_cast<bool>(handles.mounts[i]);
    Fd made = prepared ? std::move(handles.mounts[i]) : make_mount(mount);
    if (!prepared) set_attributes(made.get(), mount);
    Fd target = find_target(root, mount, is_directory(made.get()));
    attach_mount(made.get(), target.get(), mount.to);
    // Only once it is attached may a mount be shared: a peer group needs a namespace.
    if (mount.propagation) set_mount(made.get(), 0, 0, mount.propagation & MS_REC, mount.propagation & ~std::uint64_t{MS_REC});
  }
}

void mask_paths(int root, const std::vector<std::string>& paths) {
  Fd null, empty;
  for (const std::string& path : paths) {
    Fd target = find_below(root, path, Links::Refuse);
    if (!target) continue;  // nothing to hide
    if (!is_directory(target.get())) {
      // The host's node, its number checked: not one that the image offers (CVE-2025-31133).
      if (!null) null = open_host_device("/dev/null", 'c', 1, 3);
      attach_mount(copy_mount(null.get(), "", false).get(), target.get(), path);
      continue;
    }
    // One empty file system for all directories: a superblock each would cost 30 µs.
    Fd mask = empty ? copy_mount(empty.get(), "", false)
                    : new_mount("tmpfs", "tmpfs", {{"size", "0"}, {"nr_inodes", "1"}, {"mode", "755"}, {"ro", ""}},
                                MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    attach_mount(mask.get(), target.get(), path);
    if (!empty) empty = std::move(mask);
  }
}

void make_paths_read_only(int root, const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    Fd target = find_below(root, path, Links::Refuse);
    if (!target) continue;
    Fd copy = copy_mount(target.get(), "", true);
    set_mount(copy.get(), MOUNT_ATTR_RDONLY, 0, true);
    attach_mount(copy.get(), target.get(), path);
  }
}

void finish_root(int root, const Plan& plan) {
  if (plan.root.read_only) set_mount(root, MOUNT_ATTR_RDONLY, 0, false);
  if (plan.root.propagation)
    set_mount(root, 0, 0, plan.root.propagation & MS_REC, plan.root.propagation & ~std::uint64_t{MS_REC});
}

void enter_root(int root, bool pivot) {
  check(::fchdir(root), "enter the new root");
  if (pivot) {
    // pivot_root(".", "."): the old root ends up on top of the new one, and is taken off there.
    check(::syscall(SYS_pivot_root, ".", "."), "pivot into the new root");
    check(::umount2(".", MNT_DETACH), "detach the old root");
  } else {
    check(::chroot("."), "change into the new root");
  }
  check(::chdir("/"), "enter directory {}", "/");
}

}  // namespace isolate
