#include "isolate/mounts.h"

#include <fcntl.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "isolate/attributes.h"
#include "isolate/copy_up.h"
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

constexpr unsigned kProcMagic = 0x9fa0, kSysMagic = 0x62656572;  // PROC_SUPER_MAGIC, SYSFS_MAGIC

Fd open_source(const Bind& bind) {
  // O_PATH first, so that what is checked is what is mounted (CVE-2024-42472).
  if (bind.follow_links) return Fd(check(::open(bind.from.c_str(), O_PATH | O_CLOEXEC), "open mount source {}", bind.from));
  // Its links were resolved when it was judged: one that is there now has been put there since.
  return open_below(open_dir("/").get(), bind.from, Links::Refuse);
}

// A copy of a shared mount is its peer: unless that was asked for, what is mounted below it inside must not appear on the host.
void part_from_peers(int mount, std::uint64_t propagation) {
  if (propagation & MS_SHARED) return;
  set_mount(mount, 0, 0, true, propagation & MS_SLAVE ? MS_SLAVE : MS_PRIVATE);
}

Fd id_map_of(const Bind& bind) {
  if (!bind.ids_of.empty()) return open_file(bind.ids_of, O_RDONLY);
  return bind.ids.empty() ? Fd() : make_id_map(bind.ids);
}

Fd copy_bind(const Fd& source, const Bind& bind, std::uint64_t propagation, const Fd& id_map) {
  Fd mount = copy_mount(source.get(), "", bind.recursive);
  part_from_peers(mount.get(), propagation);
  if (id_map) set_mount(mount.get(), 0, 0, bind.ids_recursive, 0, id_map.get());
  return mount;
}

Fd prepare_bind(const Bind& bind, std::uint64_t propagation) { return copy_bind(open_source(bind), bind, propagation, id_map_of(bind)); }

// Of what the mounts before this one have put together.
Fd bind_inside(int root, const Bind& bind, std::uint64_t propagation, const Fd& id_map) {
  Fd source = find_below(root, bind.from, Links::InRoot);
  if (!source) fail(ENOENT, "open mount source {} inside the root", bind.from);
  return copy_bind(source, bind, propagation, id_map);
}

// The folder may be the root of a file system of its own now.
Fd prepare_bounded(const Bind& bind, const Disk& workspace) {
  if (workspace.mount() < 0) return prepare_bind(bind, 0);
  return Fd(check(::fcntl(workspace.mount(), F_DUPFD_CLOEXEC, 0), "keep the mount of {}", bind.from));
}

// /proc and /sys must be real directories of the root: through a link, masks and mounts would land elsewhere
// (CVE-2019-19921, CVE-2023-27561). /dev likewise.
bool must_be_real(const std::string& path) { return path == "/proc" || path == "/sys" || path == "/dev"; }

Fd find_place(int root, const std::string& path, Make make, const Process& process) {
  if (!must_be_real(path)) return make_place(root, path, make, Links::InRoot, process);
  try {
    return make_place(root, path, make, Links::Refuse, process);
  } catch (const SystemError& error) {
    if (error.code() != ELOOP) throw;
    fail(ELOOP, "open {} inside the root (it is a link, and must be mounted on ordinary directory)", path);  // runc's words
  }
}

Fd find_target(int root, const Mount& mount, bool directory, const Process& process) {
  std::string path = clean_path(mount.to);
  Fd target = find_place(root, path, directory ? Make::Directory : Make::File, process);
  struct statfs info;
  check(::fstatfs(target.get(), &info), "look at mount target {}", path);
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
  // Where the host's own /proc or /sys is locked read-only, the kernel refuses a new one that is not so from its first moment.
  auto attributes = static_cast<unsigned>(mount.set & (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC));
  if (std::holds_alternative<CgroupView>(mount.what)) {
    try {
      return new_mount("cgroup2", "cgroup", {}, attributes);
    } catch (const SystemError& error) {
      if (error.code() != EPERM) throw;
    }
    // In the user namespace of an engine without rights: what is shown is the host's, which nobody may write to there.
    Fd view = copy_mount(AT_FDCWD, "/sys/fs/cgroup", true);
    set_mount(view.get(), attributes, 0, true);
    return view;
  }
  const auto& fs = std::get<FileSystem>(mount.what);
  return new_mount(fs.type, fs.source.empty() ? fs.type : fs.source, fs.options, attributes);
}

// A tmpfs that has the mode of the folder which it hides.
Mount like_place(Mount mount, int place) {
  struct stat info;
  check(::fstat(place, &info), "look at {}", mount.to);
  std::get<FileSystem>(mount.what).options.emplace_back("mode", fmt::format("{:o}", info.st_mode & 07777));
  return mount;
}

}  // namespace

Disk bound_workspace(const Plan& plan) {
  for (const Mount& mount : plan.mounts) {
    auto* bind = std::get_if<Bind>(&mount.what);
    if (!bind || !bind->quota) continue;
    const Quota& quota = *bind->quota;
    std::size_t slash = bind->from.rfind('/');
    if (!quota.shared) make_dirs(bind->from, 0755);
    Disk disk = Disk::limit(DiskPlace{bind->from.substr(0, slash), {bind->from.substr(slash + 1)}, quota.limit, quota.lasting, quota.shared});
    if (quota.shared || !plan.privileged_start) return disk;
    std::string top = disk.mount() < 0 ? bind->from : fd_path(disk.mount());
    check(::chown(top.c_str(), quota.uid, quota.gid), "give {} its owner", bind->from);
    check(::chmod(top.c_str(), 0755), "set the mode of {}", bind->from);
    return disk;
  }
  return {};
}

MountHandles prepare_mounts(const Plan& plan, const std::string& cgroup, const Disk& disk, const Disk& workspace) {
  MountHandles handles;
  if (plan.root.overlay) {
    LayeredRoot made = layer_root(plan, disk);
    handles.root = std::move(made.root);
    handles.generated = std::move(made.generated);
  } else {
    handles.root = copy_mount(AT_FDCWD, plan.root.path, true);
    part_from_peers(handles.root.get(), plan.root.propagation & ~std::uint64_t{MS_SHARED});  // "shared" is with whom it has inside, not with the host
  }
  for (const Mount& mount : plan.mounts) {
    Fd prepared;
    auto* bind = std::get_if<Bind>(&mount.what);
    if (bind && bind->inside) {
      handles.mounts.push_back(id_map_of(*bind));
      continue;
    }
    if (bind) prepared = bind->quota ? prepare_bounded(*bind, workspace) : prepare_bind(*bind, mount.propagation);
    // Without a cgroup namespace a new cgroup2 mount would show the host's whole tree.
    if (std::holds_alternative<CgroupView>(mount.what) && !plan.makes(NamespaceKind::Cgroup) && !cgroup.empty())
      prepared = prepare_bind(Bind{cgroup, false}, 0);
    if (prepared) set_attributes(prepared.get(), mount, plan);
    handles.mounts.push_back(std::move(prepared));
  }
  handles.devices = make_devices(plan);
  return handles;
}

Fd attach_root(const Plan& plan, MountHandles& handles, bool for_hooks) {
  // The child's copy of the host's mounts hears of the host's changes until the pivot, and never speaks back.
  check(::mount(nullptr, "/", nullptr, MS_REC | (plan.root.propagation & MS_PRIVATE ? MS_PRIVATE : MS_SLAVE), nullptr),
        "make the mounts private to the sandbox");
  Fd old = open_dir("/");
  // Anywhere but on "/": umount2(2) below takes off what is on top there, and that must be the old root.
  if (handles.generated) attach_mount(handles.generated.get(), open_dir("/proc").get(), "the generated layer");
  if (handles.devices) attach_mount(handles.devices.get(), open_dir("/sys").get(), "the devices");  // open_tree(2) copies nothing from a detached mount before Linux 6.15
  // On top of the old root: pivot_root(2) wants a mount point, and this is one that needs no directory of the host. But whoever joins a mount
  // namespace begins at what is on top there, and must find the host's paths for as long as hooks run. A user namespace may have no way there.
  Fd its_place(for_hooks && plan.root.pivot && !plan.root.overlay ? ::open(plan.root.path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC) : -1);
  attach_mount(handles.root.get(), its_place ? its_place.get() : old.get(), "the new root");
  return std::move(handles.root);
}

Fd make_place(int root, const std::string& path, Make make, Links links, const Process& process) {
  try {
    return make_below(root, path, make, links);
  } catch (const SystemError& error) {
    if (error.code() != EOVERFLOW) throw;
  }
  // In a workspace only its owner has an id: not even root makes a file there.
  struct AsUser {
    explicit AsUser(const Process& process) { ::setfsgid(process.gid), ::setfsuid(process.uid); }
    ~AsUser() { ::setfsuid(::geteuid()), ::setfsgid(::getegid()); }
  } user(process);
  return make_below(root, path, make, links);
}

void attach_mounts(int root, const Plan& plan, MountHandles& handles) {
  std::vector<Fd> read_only;  // at the end: there may still be places to make in them
  for (std::size_t i = 0; i < plan.mounts.size(); ++i) {
    Mount mount = plan.mounts[i];
    auto* fs = std::get_if<FileSystem>(&mount.what);
    bool late = fs && fs->type == "tmpfs" && mount.set & MOUNT_ATTR_RDONLY;
    if (late) mount.set &= ~std::uint64_t{MOUNT_ATTR_RDONLY};
    Fd place = fs && fs->like_place ? find_below(root, clean_path(mount.to), Links::InRoot) : Fd();
    auto* bind = std::get_if<Bind>(&mount.what);
    bool inside = bind && bind->inside, prepared = handles.mounts[i] && !inside;
    Fd made = prepared ? std::move(handles.mounts[i])
              : inside ? bind_inside(root, *bind, mount.propagation, handles.mounts[i])
                       : make_mount(place ? like_place(mount, place.get()) : mount);
    if (!prepared) set_attributes(made.get(), mount, plan);
    Fd target = find_target(root, mount, is_directory(made.get()), plan.process);
    if (fs && fs->copy_up) copy_up(target.get(), made.get());
    attach_mount(made.get(), target.get(), mount.to);
    // Only once it is attached may a mount be shared: a peer group needs a namespace.
    set_propagation(made.get(), mount.propagation);
    if (late) read_only.push_back(std::move(made));
  }
  for (const Fd& mount : read_only) set_mount(mount.get(), MOUNT_ATTR_RDONLY, 0, false);
  for (const std::string& path : plan.readonly_paths) {
    if (path.back() != '/') continue;
    try {
      make_place(root, clean_path(path), Make::Directory, Links::Refuse, plan.process);
    } catch (const SystemError& error) {
      if (error.code() != EROFS) throw;  // nothing can be written there anyway
    }
  }
}

void mask_paths(int root, const std::vector<std::string>& paths) {
  Fd null, empty;
  for (const std::string& path : paths) {
    Fd target = find_below(root, path, Links::Refuse);
    if (!target) continue;  // nothing to hide
    if (!is_directory(target.get())) {
      // The host's node, its number checked: not one that the image offers (CVE-2025-31133).
      // Read-only: a device can still be written to, but a container with the host's ids could change the mode of the host's node.
      Fd mask = copy_mount(null ? null.get() : open_host_device("/dev/null", 'c', 1, 3).get(), "", false);
      if (!null) set_mount(mask.get(), kNodeAttributes, 0, false, MS_PRIVATE);  // not a slave of the host's /dev: a checkpoint could not be restored
      attach_mount(mask.get(), target.get(), path);
      if (!null) null = std::move(mask);
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
}

namespace {

// Without pivot_root(2) the host's mounts stay, where no path leads to them. But the kernel lets a user namespace mount a new /proc or /sys
// when the mount namespace has a whole one already, seen or not (fs/namespace.c, mnt_already_visible()), and what is masked would be open
// there. So the host's go. Paths begin at the host's root still, below which ours is not found: it lies on top.
void hide_host_views() {
  std::vector<MountEntry> mounts = mount_table();
  for (auto mount = mounts.rbegin(); mount != mounts.rend(); ++mount) {
    if (mount->type != "proc" && mount->type != "sysfs") continue;
    const char* path = mount->at.c_str();
    ::umount2(path, MNT_DETACH);
    struct stat there;
    struct statfs info;
    if (::stat(path, &there) == -1 || !S_ISDIR(there.st_mode)) continue;  // a file of one is no view of the whole
    if (::statfs(path, &info) == -1 || (info.f_type != kProcMagic && info.f_type != kSysMagic)) continue;
    check(::mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=0,nr_inodes=1"), "hide the host's {}", path);  // locked there by another user namespace
  }
}

}  // namespace

void enter_root(int root, const Root& plan) {
  check(::fchdir(root), "enter the new root");
  if (plan.pivot) {
    // pivot_root(".", "."): the old root ends up on top of the new one, and is taken off there.
    check(::syscall(SYS_pivot_root, ".", "."), "pivot into the new root");
    check(::umount2(".", MNT_DETACH), "detach the old root");
    struct stat here, above;
    check(::fstat(root, &here), "look at the new root");
    check(::stat("/..", &above), "look at the new root");
    if (here.st_dev != above.st_dev || here.st_ino != above.st_ino) fail(EXDEV, "leave the old root");
  } else {
    hide_host_views();
    check(::chroot("."), "change into the new root");
  }
  // Only now: pivot_root(2) refuses a root that is shared.
  set_propagation(root, plan.propagation);
  check(::chdir("/"), "enter directory {}", "/");
}

}  // namespace isolate
