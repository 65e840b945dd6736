#include "isolate/restorer.h"

#include <sched.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <optional>

#include "isolate/breakpoints.h"
#include "isolate/devices.h"
#include "isolate/execute.h"
#include "isolate/mounts.h"
#include "isolate/namespaces.h"
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

// Views of namespaces that do not exist yet: CRIU makes them. The cgroup namespace does exist, but its view cannot be mounted from
// outside a user namespace that is to own it.
bool of_namespace(const Mount& mount, const Plan& plan) {
  if (std::holds_alternative<CgroupView>(mount.what)) return plan.makes(NamespaceKind::User);
  auto* fs = std::get_if<FileSystem>(&mount.what);
  return fs && (fs->type == "proc" || fs->type == "devpts" || fs->type == "sysfs" || fs->type == "mqueue");
}

// Where mounts are laid out that stand on such a view ("/sys/fs/cgroup"), for which there is no place yet: by itself, or on another one like it. Empty for
// those that stand elsewhere.
std::vector<std::string> places_alone(const Plan& plan) {
  std::vector<std::string> at, alone(plan.mounts.size());
  for (std::size_t n = 0; n < plan.mounts.size(); ++n) {
    at.push_back(clean_path(plan.mounts[n].to));
    std::optional<std::size_t> below;
    for (std::size_t i = 0; i < n; ++i)
      if (at[n].starts_with(at[i] + "/") && (!below || at[i].size() >= at[*below].size())) below = i;
    if (!below) continue;
    if (of_namespace(plan.mounts[*below], plan)) alone[n] = fmt::format("/{}", n);
    else if (!alone[*below].empty()) alone[n] = alone[*below] + at[n].substr(at[*below].size());
  }
  return alone;
}

// The file systems are made out here, where root inside has the number that the map gives it.
void own(Mount& mount, const Plan& plan) {
  auto* fs = std::get_if<FileSystem>(&mount.what);
  if (!fs || fs->type != "tmpfs" || plan.ids.empty()) return;
  fs->options.push_back({"uid", std::to_string(root_outside(plan.ids.uids))});
  fs->options.push_back({"gid", std::to_string(root_outside(plan.ids.gids))});
}

void attach_flat(int root, const Plan& plan, const std::vector<std::string>& alone) {
  Fd flat = open_dir("/run/flat");
  for (std::size_t i = 0; i < plan.mounts.size(); ++i) {
    if (of_namespace(plan.mounts[i], plan)) continue;
    if (alone[i] == fmt::format("/{}", i)) continue;  // it is there already
    Fd laid = alone[i].empty() ? open_below(root, clean_path(plan.mounts[i].to), Links::InRoot) : open_below(flat.get(), alone[i], Links::Refuse);
    Fd copy = copy_mount(laid.get(), "", false);
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
  if (handles.devices) attach(handles.devices.get(), "/run/devices");
  attach(new_mount("tmpfs", "tmpfs", {{"size", "0"}, {"nr_inodes", "1"}, {"mode", "755"}, {"ro", ""}}, kMask).get(), kNoFiles);
  attach(handles.root.get(), kLaidOut);
  Fd null = copy_mount(open_host_device("/dev/null", 'c', 1, 3).get(), "", false), top = open_dir("/");
  set_mount(null.get(), kNodeAttributes, 0, false);  // as mask_paths() has it
  attach_mount(null.get(), make_below(top.get(), kNoFile, Make::File, Links::Refuse).get(), kNoFile);
  Fd bare = copy_mount(handles.root.get(), "", false);  // only now: a bind that is not attached yet cannot be copied
  if (plan.root.read_only) set_mount(bare.get(), MOUNT_ATTR_RDONLY, 0, false);
  attach(bare.get(), kBareRoot);

  std::vector<std::string> places = places_alone(plan);
  Plan rest = plan, alone = plan;
  MountHandles prepared, prepared_alone;
  rest.mounts.clear(), alone.mounts.clear(), alone.readonly_paths.clear();
  for (std::size_t i = 0; i < plan.mounts.size(); ++i) {
    if (of_namespace(plan.mounts[i], plan)) continue;
    bool off = !places[i].empty();
    Mount& mount = (off ? alone : rest).mounts.emplace_back(plan.mounts[i]);
    own(mount, plan);
    if (off) mount.to = places[i];
    (off ? prepared_alone : prepared).mounts.push_back(std::move(handles.mounts[i]));
  }
  if (!alone.mounts.empty()) attach_mounts(open_dir("/run/flat").get(), alone, prepared_alone);
  ::setfsgid(root_outside(plan.ids.gids)), ::setfsuid(root_outside(plan.ids.uids));
  attach_mounts(handles.root.get(), rest, prepared);
  // A place for the devpts that CRIU mounts: /dev cannot be written to once it is filled.
  for (const Mount& mount : plan.mounts)
    if (of_namespace(mount, plan)) make_below(handles.root.get(), clean_path(mount.to), Make::Directory, Links::Refuse);
  if (plan.process.terminal && !plan.init) make_below(handles.root.get(), "/dev/console", Make::File, Links::Refuse);  // CRIU mounts it
  fill_dev(handles.root.get(), plan, -1, handles.devices.get());
  ::setfsuid(0), ::setfsgid(0);
  attach_flat(handles.root.get(), plan, places);
}

[[noreturn]] void become_criu(const Plan& plan, std::vector<Fd> groups, const RestorerOptions& options, Link link) noexcept {
  Stage stage = Stage::Start;
  try {
    die_with_parent();
    ::umask(022);
    reset_signals();
    enter_v1(std::move(groups));
    stage = Stage::Namespaces;
    make_cgroup_namespace(plan);  // CRIU leaves cgroups to us: what it restores has the view that it has itself
    link.send(Signal::Rooted);
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

// In the mount namespace of CRIU, beside it.
[[noreturn]] void become_layout(const Plan& plan, int criu, MountHandles handles, const RestorerOptions& options, Link link) noexcept {
  Stage stage = Stage::Namespaces;
  try {
    die_with_parent();
    ::umask(022);
    check(::setns(criu, CLONE_NEWNS | CLONE_NEWCGROUP), "join the mount namespace of CRIU");
    stage = Stage::Root;
    lay_out(plan, std::move(handles), options);
    ::_exit(0);
  } catch (const std::exception& error) {
    link.report(stage, error);
  }
  ::_exit(125);
}

}  // namespace

void Restorer::ready() {
  link_.expect_end();
  layout_.link.expect_end();
  layout_.child.wait();
}

void Restorer::hold(const CgroupHost& host) {
  if (host.v2.empty()) fail(ENOTSUP, "hold a restored container (that needs a cgroup v2 hierarchy)");
  write_file(fmt::format("{}{}/cgroup.procs", host.v2, v2_group_of(0)), std::to_string(child_.pid()));
  cgroup_.freeze(true);
}

std::string flat_mount(std::size_t n) { return fmt::format("/run/flat/{}", n); }

Sandbox Restorer::take_up(pid_t root, Fd terminal) {
  Fd pidfd(static_cast<int>(check(::syscall(SYS_pidfd_open, root, 0), "watch process {}", root)));
  Child first(root, std::move(pidfd));
  child_.wait();
  return Sandbox(std::move(first), std::move(cgroup_), std::move(disk_), Link(), std::move(terminal), false, std::move(workspace_));
}

Restorer start_restorer(const Plan& plan, const RestorerOptions& options) {
  Stage stage = Stage::Prepare;
  try {
    Child breakpoints = ready_breakpoints();
    Cgroup cgroup = Cgroup::create(plan.cgroup, options.cgroups);
    std::vector<Fd> groups = cgroup.v1_doors();
    // CRIU is begun first: while its libraries are loaded there is time for all the rest.
    stage = Stage::Clone;
    auto [ours, theirs] = Link::make();
    Child criu = clone_process(CLONE_NEWNS, cgroup.v2_fd());
    if (criu.pid() == 0) {
      ours.close();
      become_criu(plan, std::move(groups), options, std::move(theirs));
    }
    theirs.close();
    groups.clear();
    stage = Stage::Prepare;
    Disk disk = plan.root.overlay && plan.root.overlay->disk ? Disk::limit(*plan.root.overlay) : Disk();
    Disk workspace = bound_workspace(plan);
    if (options.fill) options.fill(workspace);
    MountHandles mounts = prepare_mounts(plan, cgroup.v2_path(), disk, workspace);
    ours.expect(Signal::Rooted);
    stage = Stage::Clone;
    auto [told, tells] = Link::make();
    Child layout = clone_process(0);
    if (layout.pid() == 0) {
      told.close();
      become_layout(plan, criu.pidfd(), std::move(mounts), options, std::move(tells));
    }
    tells.close();
    return Restorer({std::move(criu), std::move(ours)}, {std::move(layout), std::move(told)}, std::move(breakpoints), std::move(cgroup), std::move(disk), std::move(workspace));
  } catch (const SetupError&) {
    throw;
  } catch (const std::exception& error) {
    throw SetupError(describe(stage, error));
  }
}

}  // namespace isolate
