#include "isolate/disk.h"

#include <fcntl.h>
#include <linux/dqblk_xfs.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/quota.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include <unistd.h>

#include "isolate/execute.h"
#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/mount.h"

namespace isolate {

using namespace sys;

namespace {

std::string folder_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

long quota_control(int fd, int command, std::uint32_t project, void* data) {
  return ::syscall(SYS_quotactl_fd, fd, QCMD(command, PRJQUOTA), project, data);
}

// Limits can be set where they are only counted: ext4 with the feature and without the mount option.
void check_enforced(int folder) {
  fs_quota_stat state{};
  check(quota_control(folder, Q_XGETQSTAT, 0, &state), "ask for project quotas");
  if (!(state.qs_flags & FS_QUOTA_PDQ_ENFD)) fail(ESRCH, "ask for project quotas");
}

// What a folder that others use has inside must have been written under the same quota: it would not be counted.
void check_counted(const Fd& folder, const std::string& path, std::uint32_t project) {
  fsxattr attributes{};
  check(::ioctl(folder.get(), FS_IOC_FSGETXATTR, &attributes), "read the project of {}", path);
  if (attributes.fsx_projid != project && !list_dir(path).empty())
    fail(ENOTEMPTY, "put a quota on {} (it has files that were written without one)", path);
}

void set_project(const std::string& path, std::uint32_t project) {
  Fd folder = open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  fsxattr attributes{};
  check(::ioctl(folder.get(), FS_IOC_FSGETXATTR, &attributes), "read the project of {}", path);
  attributes.fsx_projid = project;
  attributes.fsx_xflags |= FS_XFLAG_PROJINHERIT;
  check(::ioctl(folder.get(), FS_IOC_FSSETXATTR, &attributes), "set the project of {}", path);
}

// The number of the folder's inode: no other folder of this file system has it, and administrators begin with small numbers.
std::uint32_t project_of(int folder) {
  struct stat info;
  check(::fstat(folder, &info), "look at a session's folder");
  return static_cast<std::uint32_t>(info.st_ino ^ (info.st_ino >> 32)) | 0x80000000u;
}

void limit_project(int folder, const DiskPlace& place, std::uint32_t project) {
  check_enforced(folder);
  if_dqblk quota{};
  quota.dqb_bhardlimit = quota.dqb_bsoftlimit = (place.limit.bytes + 1023) / 1024;
  quota.dqb_valid = QIF_BLIMITS;
  check(quota_control(folder, Q_SETQUOTA, project, &quota), "set the quota of project {}", project);
  // One project for all: overlayfs makes files in `work` and moves them, which it could not do between two.
  for (const std::string& name : place.names) {
    std::string path = place.folder + "/" + name;
    if (place.shared) check_counted(open_file(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), path, project);
    set_project(path, project);
  }
}

void make_file_system(const std::string& image, bool lasting) {
  // Blocks as the device has them, none of them for root alone, and no journal for what ends with the session. What is to be zeroed is a hole, which is zero.
  std::vector<std::string> args{"mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"};
  if (!lasting) args.insert(args.end(), {"-O", "^has_journal"});
  args.push_back(image);
  std::string program = find_program(args, {"PATH=/usr/sbin:/sbin:/usr/bin:/bin"});
  Fd said = memory_file("mkfs", "");
  Child child = clone_process(0);
  if (child.pid() == 0) {
    reset_signals();
    for (int fd : {1, 2}) ::dup2(said.get(), fd);
    try {
      execute(program, args, {"PATH=/usr/sbin:/sbin:/usr/bin:/bin"});
    } catch (...) {
    }
    ::_exit(127);
  }
  Exit exit = child.wait();
  if (exit.code == 0 && exit.signal == 0) return;
  char text[512];
  ssize_t size = std::max<ssize_t>(0, ::pread(said.get(), text, sizeof text, 0));
  fail(ECANCELED, "make a file system in {}: {} says: {}", image, program, std::string(text, static_cast<std::size_t>(size)));
}

// The device lives as long as something holds it: first the descriptor, then the mount.
Fd attach_loop(int image, std::string& device) {
  Fd control = open_file("/dev/loop-control", O_RDWR);
  for (int attempt = 0;; ++attempt) {
    int number = check(::ioctl(control.get(), LOOP_CTL_GET_FREE), "find a free loop device");
    device = fmt::format("/dev/loop{}", number);
    Fd loop = open_file(device, O_RDWR);
    loop_config config{};
    config.fd = static_cast<std::uint32_t>(image);
    config.block_size = 4096;
    config.info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;  // one copy in the page cache, the session's
    if (::ioctl(loop.get(), LOOP_CONFIGURE, &config) == 0) return loop;
    if (errno != EBUSY || attempt == 64) fail(errno, "set up {}", device);  // another took it in between
  }
}

void make_folders(int mount, const DiskPlace& place) {
  // A single one is the file system's root, where nothing of the file system's own may lie.
  if (place.names.size() == 1) return void(::unlinkat(mount, "lost+found", AT_REMOVEDIR));
  for (const std::string& name : place.names) check(::mkdirat(mount, name.c_str(), 0700), "make {} in a session's own file system", name);
}

Fd mount_image(const DiskPlace& place) {
  std::string path = place.folder + "/disk.img", device;
  Fd image = open_file(path, O_RDWR | O_CREAT | O_EXCL, 0600);
  struct Unlink {
    const std::string& path;
    bool off = false;
    ~Unlink() {
      if (!off) ::unlink(path.c_str());
    }
  } unlink{path};  // the device keeps it for as long as the session lives
  check(::ftruncate(image.get(), static_cast<off_t>(place.limit.bytes)), "size {}", path);
  make_file_system(path, place.lasting);
  Fd loop = attach_loop(image.get(), device);
  // What is deleted inside is given back.
  Fd mount = new_mount("ext4", device, {{"discard", ""}}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
  make_folders(mount.get(), place);
  unlink.off = place.lasting;
  return mount;
}

Fd mount_memory(const DiskPlace& place) {
  Fd mount = new_mount("tmpfs", "tmpfs", {{"size", std::to_string(place.limit.bytes)}, {"mode", "755"}}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
  make_folders(mount.get(), place);
  return mount;
}

}  // namespace

Disk::Way best_way(const std::string& folder) {
  auto works = [](auto&& act) {
    try {
      act();
      return true;
    } catch (const SystemError&) {
      return false;
    }
  };
  if (works([&] { check_enforced(open_file(folder, O_RDONLY | O_DIRECTORY).get()); })) return Disk::Way::Project;
  if (works([] { check(::ioctl(open_file("/dev/loop-control", O_RDWR).get(), LOOP_CTL_GET_FREE), "find a free loop device"); })) return Disk::Way::Image;
  if (works([] { new_mount("tmpfs", "tmpfs", {{"size", "4096"}}, 0); })) return Disk::Way::Memory;
  return Disk::Way::None;
}

const char* name_of(Disk::Way way) {
  constexpr const char* kNames[] = {"", "project quota", "loop image", "memory"};
  return kNames[static_cast<int>(way)];
}

Disk Disk::limit(const Overlay& overlay) {
  auto name = [](const std::string& path) { return path.substr(path.rfind('/') + 1); };
  return limit(DiskPlace{folder_of(overlay.upper), {name(overlay.upper), name(overlay.work)}, *overlay.disk, overlay.lasting});
}

Disk Disk::limit(const DiskPlace& place) {
  Disk disk;
  std::string reasons;
  auto worked = [&](Way way, auto&& act) {
    try {
      act();
      disk.way_ = way;
      disk.bytes_ = place.limit.bytes;
      return true;
    } catch (const SystemError& error) {
      reasons += (reasons.empty() ? "" : "; ") + std::string(error.what());
      return false;
    }
  };
  if (worked(Way::Project, [&] {
        // Of a shared folder the number is its own: what lies beside it is counted apart.
        disk.place_ = open_file(place.shared ? place.folder + "/" + place.names.at(0) : place.folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        disk.project_ = project_of(disk.place_.get());
        limit_project(disk.place_.get(), place, disk.project_);
      }))
    return disk;
  if (!place.shared && worked(Way::Image, [&] { disk.place_ = mount_image(place); })) return disk;
  if (!place.shared && worked(Way::Memory, [&] { disk.place_ = mount_memory(place); })) return disk;
  if (!place.limit.warn_missing && place.shared)
    fail(ENOTSUP, "limit what {} takes on the disk (only a project quota of its file system can: {}; say on_missing: warn to go on without)",
         place.folder, reasons);
  if (!place.limit.warn_missing)
    fail(ENOTSUP, "limit the disk of the session (no project quota, no loop device, no tmpfs: {}; say on_missing: warn to go on without)", reasons);
  disk = {};
  disk.missing_ = std::move(reasons);
  return disk;
}

std::optional<Disk::Usage> Disk::usage() const {
  if (!place_) return std::nullopt;
  if (way_ == Way::Image || way_ == Way::Memory) {
    struct statfs info;
    if (::fstatfs(place_.get(), &info) == -1) return std::nullopt;
    auto block = static_cast<std::uint64_t>(info.f_bsize);
    return Usage{(info.f_blocks - info.f_bfree) * block, info.f_bavail * block, "statfs(2) of the session's file system"};
  }
  if_dqblk quota{};
  if (quota_control(place_.get(), Q_GETQUOTA, project_, &quota) == -1) return std::nullopt;
  std::uint64_t most = quota.dqb_bhardlimit * 1024;
  return Usage{quota.dqb_curspace, most > quota.dqb_curspace ? most - quota.dqb_curspace : 0, fmt::format("quotactl(2) of project {}", project_)};
}

}  // namespace isolate
