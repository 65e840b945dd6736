#include "isolate/restorer.h"

#include <sched.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "isolate/devices.h"
#include "isolate/execute.h"
#include "isolate/mounts.h"
#include "isolate/privileges.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/mount.h"
#include "isolate/sys/paths.h"

namespace isolate {

using namespace sys;

namespace {

constexpr std::uint64_t kMask = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

std::uint32_t root_outside(const std::vector<IdRange>& ranges) { return ranges.empty() ? 0 : ranges.front().outside; }

// Views of namespaces that do not exist yet: CRIU makes them.
bool of_namespace(const Mount& mount) {
  auto* fs = std::get_if<FileSystem>(&mount.what);
  return (fs && (fs->type == "proc" || fs->type == "devpts" || fs->type == "sysfs" || fs->type == "mqueue")) ||
         std::holds_alternative<CgroupView>(mount.what);
}

// The file systems are made out here, where root inside has the number that the map gives it.
void own(Mount& mount, const Plan& plan) {
  auto* fs = std::get_if<FileSystem>(&mount.what);
  if (!fs || fs->type != "tmpfs") return;
  fs->options.push_back({"uid", std::to_string(root_outside(plan.ids.uids))});
  fs->options.push_back({"gid", std::to_string(root_outside(plan.ids.gids))});
}

void attach_flat(int root, const Plan& plan) {
  for (std::size_t i = 0; i < plan.mounts.size(); ++i) {
    if (of_namespace(plan.mounts[i])) continue;
    Fd copy = copy_mount(open_below(root, clean_path(plan.mounts[i].to), Links::InRoot).get(), "", false);
    struct stat info;
    check(::fstat(copy.get(), &info), "look at mount {}", plan.mounts[i].to);
    Fd place = make_below(open_dir("/").get(), flat_mount(i), S_ISDIR(info.st_mode) ? Make::Directory : Make::File, Links::Refuse);
    attach_mount(copy.get(), place.get(), plan.mounts[i].to);
  }
}

void lay_out(const Plan& plan, MountHandles handles, const RestorerOptions& options) {
  check(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make a private set of mounts");
  auto attach = [](int mount, const std::string& path) { attach_mount(mount, open_dir(path).get(), path); };
  attach(options.run, "/run");
  if (options.store >= 0) attach(options.store, "/run/store");
  if (handles.generated) attach(handles.generated.get(), "/run/generated");
  attach(new_mount("tmpfs", "tmpfs", {{"size", "0"}, {"nr_inodes", "1"}, {"mode", "755"}, {"ro", ""}}, kMask).get(), kNoFiles);
  Fd bare = copy_mount(handles.root.get(), "", false);
  if (plan.root.read_only) set_mount(bare.get(), MOUNT_ATTR_RDONLY, 0, false);
  attach(bare.get(), kBareRoot);
  attach(handles.root.get(), kLaidOut);

  Plan rest = plan;
  MountHandles prepared;
  rest.mounts.clear();
  for (std::size_t i = 0; i < plan.mounts.size(); ++i) {
    if (of_namespace(plan.mounts[i])) continue;
    rest.mounts.push_back(plan.mounts[i]);
    own(rest.mounts.back(), plan);
    prepared.mounts.push_back(std::move(handles.mounts[i]));
  }
  ::setfsgid(root_outside(plan.ids.gids)), ::setfsuid(root_outside(plan.ids.uids));
  attach_mounts(handles.root.get(), rest, prepared);
  // A place for the devpts that CRIU mounts: /dev cannot be written to once it is filled.
  for (const Mount& mount : plan.mounts)
    if (of_namespace(mount)) make_below(handles.root.get(), clean_path(mount.to), Make::Directory, Links::Refuse);
  fill_dev(handles.root.get(), plan, -1);
  ::setfsuid(0), ::setfsgid(0);
  attach_flat(handles.root.get(), plan);
}

[[noreturn]] void become_restorer(const Plan& plan, MountHandles handles, const RestorerOptions& options, Link link) noexcept {
  Stage stage = Stage::Start;
  try {
    die_with_parent();
    ::umask(022);
    reset_signals();
    link.expect(Signal::Go);  // we are in our cgroups
    stage = Stage::Root;
    lay_out(plan, std::move(handles), options);
    stage = Stage::Namespaces;
    // CRIU leaves cgroups to us, so what it restores has the view that it has itself.
    check(::unshare(CLONE_NEWCGROUP), "make a cgroup namespace");
    stage = Stage::Exec;
    std::vector<int> keep = options.keep;
    keep.push_back(link.fd());
    close_from(3, keep);
    options.become();
  } catch (const std::exception& error) {
    link.report(stage, error);
  }
  ::_exit(125);
}

}  // namespace

std::string flat_mount(std::size_t n) { return fmt::format("/run/flat/{}", n); }

Restorer start_restorer(const Plan& plan, const RestorerOptions& options) {
  Stage stage = Stage::Prepare;
  try {
    Cgroup cgroup = Cgroup::create(plan.cgroup, options.cgroups);
    Disk disk = plan.root.overlay && plan.root.overlay->disk ? Disk::limit(*plan.root.overlay) : Disk();
    Disk workspace = bound_workspace(plan);
    MountHandles mounts = prepare_mounts(plan, cgroup.v2_path(), disk, workspace);
    auto [ours, theirs] = Link::make();
    stage = Stage::Clone;
    Child child = clone_process(CLONE_NEWNS, cgroup.v2_fd());
    if (child.pid() == 0) {
      ours.close();
      become_restorer(plan, std::move(mounts), options, std::move(theirs));
    }
    theirs.close();
    stage = Stage::Start;
    cgroup.place_v1(child.pid());
    ours.send(Signal::Go);
    return Restorer(std::move(child), std::move(cgroup), std::move(disk), std::move(workspace), std::move(ours));
  } catch (const SetupError&) {
    throw;
  } catch (const std::exception& error) {
    throw SetupError(describe(stage, error));
  }
}

}  // namespace isolate
