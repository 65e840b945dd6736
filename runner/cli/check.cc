// What this host can do, and what it lacks, each lack with its remedy. Everything is tried, not looked up, where that is possible.
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <linux/landlock.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "isolate/disk.h"
#include "isolate/seccomp.h"
#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/mount.h"
#include "runner/cli/context.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

struct Finding {
  std::string subject;
  bool good = false;
  bool needed = false;  // without it no session starts
  std::string found, remedy;
};

// In a process of its own, since a namespace cannot be left again.
template <typename Try>
std::string attempt(std::uint64_t namespaces, Try&& body) {
  try {
    Child child = clone_process(namespaces);
    if (child.pid() == 0) ::_exit(body() ? 0 : errno ? errno : 1);
    Exit exit = child.wait();
    return exit.code || exit.signal ? error_text(exit.code) : "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

Finding kernel() {
  utsname name;
  ::uname(&name);
  int major = 0, minor = 0;
  std::sscanf(name.release, "%d.%d", &major, &minor);
  bool good = major > 5 || (major == 5 && minor >= 14);
  return {"kernel", good, true, name.release, "Linux 5.14 or later is needed, for cgroup.kill, mount_setattr and id-mapped mounts"};
}

Finding user_namespaces() {
  std::string why = attempt(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS, [] { return true; });
  return {"user namespaces", why.empty(), true, why.empty() ? "with mount, pid, network, ipc, uts" : why,
          "sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0, and no AppArmor restriction"};
}

Finding id_mapped_mounts() {
  if (::geteuid() != 0) return {"id-mapped mounts", false, false, "not for an ordinary user", "run as root, or use volumes that you own"};
  std::string why;
  try {
    Fd mount = copy_mount(AT_FDCWD, "/", false);
  } catch (const std::exception& error) {
    why = error.what();
  }
  return {"mount API", why.empty(), true, why.empty() ? "open_tree, move_mount, mount_setattr" : why, "Linux 5.12 or later, and CAP_SYS_ADMIN"};
}

std::vector<Finding> controllers(const isolate::CgroupHost& host) {
  std::vector<Finding> findings;
  findings.push_back({"cgroup v2", !host.v2.empty(), false, host.v2.empty() ? "not mounted" : host.v2 + host.v2_base,
                      "mount -t cgroup2 none /sys/fs/cgroup; freezing, killing and device rules need it"});
  findings.push_back({"cgroups writable", host.writable, false, host.writable ? "yes" : "no: limits are not in force for this user",
                      "run as root, or in a delegated unit: systemd-run --user --scope -p Delegate=yes"});
  for (const char* name : {"memory", "pids", "cpu", "cpuset", "io"}) {
    bool v2 = std::find(host.v2_controllers.begin(), host.v2_controllers.end(), name) != host.v2_controllers.end();
    bool good = host.writable && host.has(name);
    findings.push_back({fmt::format("controller {}", name), good, false, !good ? "missing" : v2 ? "v2" : "v1 (hybrid host)",
                        fmt::format("boot with systemd.unified_cgroup_hierarchy=1, or enable {} in cgroup.subtree_control of the groups above", name)});
  }
  return findings;
}

Finding seccomp() {
  auto actions = isolate::kernel_seccomp_actions();
  bool notify = std::find(actions.begin(), actions.end(), "user_notif") != actions.end();
  return {"seccomp", !actions.empty(), true, fmt::format("{}{}", fmt::join(actions, " "), notify ? "" : " (no user_notif)"),
          "a kernel with CONFIG_SECCOMP_FILTER"};
}

Finding landlock() {
  long version = ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return {"landlock", version > 0, false, version > 0 ? fmt::format("ABI {} (not used by this version)", version) : error_text(errno),
          "a kernel with CONFIG_SECURITY_LANDLOCK, and landlock in the lsm= boot parameter"};
}

Finding bpf() {
  bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_ARRAY;
  attributes.key_size = attributes.value_size = 4;
  attributes.max_entries = 1;
  Fd map(static_cast<int>(::syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof attributes)));
  return {"bpf", static_cast<bool>(map), false, map ? "device rules of containers can be set" : error_text(errno),
          "CAP_BPF, or root; device rules of containers need it"};
}

Finding overlay() {
  bool known = find_file("/proc/filesystems").value_or("").find("\toverlay\n") != std::string::npos;
  return {"overlay", known, true, known ? "known to the kernel" : "unknown", "modprobe overlay"};
}

// Asked of the nearest folder that is there: nothing is made.
Finding disk_limits(std::string folder) {
  while (folder.size() > 1 && ::access(folder.c_str(), F_OK) == -1) folder.resize(std::max<std::size_t>(1, folder.rfind('/')));
  isolate::Disk::Way way = isolate::best_way(folder);
  std::string found = way == isolate::Disk::Way::None     ? "cannot be kept by this user on this host"
                      : way == isolate::Disk::Way::Memory ? "memory: files count against the memory limit, and are lost at the end; volumes can have none"
                                                          : isolate::name_of(way);
  if (way == isolate::Disk::Way::Image) found += " (volumes can have none: they want project quotas)";
  return {"disk limits", way == isolate::Disk::Way::Project || way == isolate::Disk::Way::Image, false, found,
          fmt::format("as root: loop devices (modprobe loop), or project quotas where {} is (ext4: tune2fs -O project,quota, mount -o prjquota)", folder)};
}

Finding criu(const Globals& globals) {
  std::string path = criu_program(globals);
  Child child = clone_process(0);
  if (child.pid() == 0) {
    int nothing = ::open("/dev/null", O_RDWR);
    ::dup2(nothing, 1);
    ::dup2(nothing, 2);
    ::execlp(path.c_str(), "criu", "check", nullptr);
    ::_exit(127);
  }
  Exit exit = child.wait();
  std::string found = exit.code == 0 && !exit.signal ? path + ": criu check passes"
                      : exit.code == 127             ? path + " is not there"
                                                     : path + ": criu check fails";
  return {"criu", exit == Exit{}, false, found, "scripts/setup installs one that works on this kernel; --criu or RUNNER_CRIU name another"};
}

}  // namespace

int check_main(Context& context) {
  bool as_json = false;
  Options options("check", "Print what this host can do, and the remedy for what it lacks. Exit status 1 when no session can start.");
  options.flag("--json", as_json, "as JSON");
  if (!context.parse(options).empty()) throw UsageError("check: takes no arguments");

  std::vector<Finding> findings{kernel(), user_namespaces(), id_mapped_mounts(), overlay(), seccomp()};
  for (Finding& f : controllers(context.cgroups())) findings.push_back(std::move(f));
  findings.insert(findings.end(), {disk_limits(context.directories().data), landlock(), bpf(), criu(context.globals)});

  bool fit = true;
  auto list = nlohmann::ordered_json::array();
  for (const Finding& f : findings) {
    fit &= f.good || !f.needed;
    if (as_json) {
      list.push_back({{"subject", f.subject}, {"ok", f.good}, {"needed", f.needed}, {"found", f.found}});
      if (!f.good) list.back()["remedy"] = f.remedy;
    } else {
      fmt::print("{:8} {:<20} {}\n", f.good ? "ok" : f.needed ? "MISSING" : "lacking", f.subject, f.found);
      if (!f.good) fmt::print("{:8} {:<20} {}\n", "", "", "remedy: " + f.remedy);
    }
  }
  if (as_json) fmt::print("{}\n", list.dump(2));
  return fit ? 0 : 1;
}

}  // namespace runner::cli
