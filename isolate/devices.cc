#include "isolate/devices.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>

#include "isolate/ids.h"
#include "isolate/sys/error.h"
#include "isolate/sys/mount.h"
#include "isolate/sys/paths.h"

namespace isolate {

using namespace sys;

namespace {

mode_t type_bits(char type) { return type == 'b' ? S_IFBLK : type == 'p' ? S_IFIFO : S_IFCHR; }

void check_node(int node, const std::string& path, char type, unsigned major, unsigned minor) {
  struct stat info;
  check(::fstat(node, &info), "look at device {}", path);
  bool same_number = type == 'p' || info.st_rdev == ::makedev(major, minor);
  if ((info.st_mode & S_IFMT) != type_bits(type) || !same_number) fail(ENODEV, "use {} (it is not device {} {}:{})", path, type, major, minor);
}

std::uint32_t owner_outside(const std::vector<IdRange>& ranges, std::uint32_t id) {
  if (auto outside = outside_id(ranges, id)) return *outside;
  fail(EOVERFLOW, "give a device to id {} (the user namespace does not map it)", id);
}

bool is_on_host(const Device& device) {
  struct stat info;
  return ::lstat(device.path.c_str(), &info) == 0 && (info.st_mode & S_IFMT) == type_bits(device.type) && info.st_rdev == ::makedev(device.major, device.minor);
}

void make_node(int root, const Device& device) {
  std::string path = clean_path(device.path);
  std::size_t slash = path.rfind('/');
  Fd folder = make_below(root, slash == 0 ? "/" : path.substr(0, slash), Make::Directory, Links::Refuse);
  std::string name = path.substr(slash + 1);
  if (::mknodat(folder.get(), name.c_str(), type_bits(device.type) | 0600, ::makedev(device.major, device.minor)) == -1) {
    if (errno == EEXIST) return;  // the image, or a bind of the host's /dev, has one
    fail(errno, "make device {}", device.path);
  }
  // Whoever else can write to this folder may have put a link to a file of the host in its place by now: what is opened here is
  // looked at, and only that is changed.
  Fd node(check(::openat(folder.get(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC), "open device {}", device.path));
  check_node(node.get(), device.path, device.type, device.major, device.minor);
  check(::fchownat(node.get(), "", device.uid, device.gid, AT_EMPTY_PATH), "give {} its owner", device.path);
  check(::chmod(fd_path(node.get()).c_str(), device.mode), "set the mode of {}", device.path);
}

void attach_node(int root, const Device& device, int node, std::uint64_t attributes) {
  Fd target = make_below(root, device.path, Make::File, Links::Refuse);
  Fd mount = copy_mount(node, "", false);
  set_mount(mount.get(), attributes, 0, false, MS_PRIVATE);
  attach_mount(mount.get(), target.get(), device.path);
}

void bind_node(int root, const Device& device, int made, std::size_t place) {
  if (Fd node; made >= 0 && (node = Fd(::openat(made, std::to_string(place).c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC))))
    return attach_node(root, device, node.get(), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
  attach_node(root, device, open_host_device(device.path, device.type, device.major, device.minor).get(), kNodeAttributes);
}

void link(int dev, const char* to, const char* name) {
  if (::symlinkat(to, dev, name) == -1 && errno != EEXIST) fail(errno, "link /dev/{} to {}", name, to);
}

}  // namespace

Fd open_host_device(const std::string& path, char type, unsigned major, unsigned minor) {
  Fd node(check(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC), "open device {}", path));
  check_node(node.get(), path, type, major, minor);
  return node;
}

Fd make_devices(const Plan& plan) {
  Fd folder;
  if (!plan.makes(NamespaceKind::User) || !plan.privileged_start) return folder;
  for (std::size_t i = 0; i < plan.devices.size(); ++i) {
    if (plan.devices[i].type == 'p' || is_on_host(plan.devices[i])) continue;
    if (!folder) folder = new_mount("tmpfs", "tmpfs", {{"mode", "755"}}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    Device device = plan.devices[i];
    device.path = fmt::format("/{}", i);
    device.uid = owner_outside(plan.ids.uids, device.uid), device.gid = owner_outside(plan.ids.gids, device.gid);
    make_node(folder.get(), device);
  }
  return folder;
}

void fill_dev(int root, const Plan& plan, int console, int made) {
  if (plan.devices.empty()) return;
  bool in_namespace = plan.makes(NamespaceKind::User);
  // The modes are exact: the caller's umask must not take bits away from /dev/null.
  for (std::size_t i = 0; i < plan.devices.size(); ++i) {
    const Device& device = plan.devices[i];
    bool bind = in_namespace && device.type != 'p';  // only the initial user namespace may make nodes
    try {
      bind ? bind_node(root, device, made, i) : make_node(root, device);
    } catch (const SystemError& error) {
      if (bind || device.type == 'p' || error.code() != EPERM) throw;
      bind_node(root, device, made, i);  // we are root of somebody else's user namespace: an engine without rights
    }
  }

  Fd dev = open_below(root, "/dev", Links::Refuse);
  link(dev.get(), "/proc/self/fd", "fd");
  link(dev.get(), "/proc/self/fd/0", "stdin");
  link(dev.get(), "/proc/self/fd/1", "stdout");
  link(dev.get(), "/proc/self/fd/2", "stderr");
  auto is_pts = [](const Mount& mount) { return mount.to == "/dev/pts"; };
  bool has_pts = std::any_of(plan.mounts.begin(), plan.mounts.end(), is_pts);
  if (has_pts || find_below(root, "/dev/pts/ptmx", Links::Refuse)) link(dev.get(), "pts/ptmx", "ptmx");
  if (console >= 0) {
    Fd target = make_below(root, "/dev/console", Make::File, Links::Refuse);
    attach_mount(copy_mount(console, "", false).get(), target.get(), "/dev/console");
  }
  if (plan.read_only_dev) set_mount(dev.get(), MOUNT_ATTR_RDONLY, 0, false);
}

}  // namespace isolate
