#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <stdexcept>

#include "isolate/namespaces.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/snapshot/container.h"
#include "runner/snapshot/manifest.h"
#include "runner/snapshot/swrk.h"

namespace runner::snapshot {

using namespace isolate::sys;
using isolate::NamespaceKind;
using json = nlohmann::ordered_json;

namespace {

[[noreturn]] void refuse(const std::string& why) { throw std::runtime_error("cannot checkpoint the container: " + why); }

void check_namespaces(const isolate::Plan& plan, pid_t pid) {
  if (!isolate::shares_namespace(pid, NamespaceKind::User))
    refuse("it has a user namespace of its own, which only sessions are snapshotted with: `runner run` and `runner snapshot create`");
  if (isolate::shares_namespace(pid, NamespaceKind::Pid)) refuse("it has no pid namespace of its own, so its pids could not be had again");
  if (isolate::shares_namespace(pid, NamespaceKind::Mount)) refuse("it has no mount namespace of its own");
  for (const isolate::Namespace& n : plan.namespaces)
    if (!n.join.empty() && n.kind != NamespaceKind::Network)
      refuse(fmt::format("it shares the {} namespace {} with others, from whom it would be parted", isolate::namespace_name(n.kind), n.join));
}

void check_mounts(const isolate::Plan& plan) {
  for (const isolate::Mount& mount : plan.mounts)
    if (auto* bind = std::get_if<isolate::Bind>(&mount.what); bind && bind->inside)
      refuse(fmt::format("its mount at {} is made of other mounts inside, which a restore could not make again", mount.to));
}

// proc(5): a page that is written to gets bit 55 of its pagemap entry back once that was cleared.
bool tracks_memory() {
  long size = ::sysconf(_SC_PAGESIZE);
  auto* page = static_cast<volatile char*>(::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  Fd map(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)), clear(::open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC));
  auto dirty = [&] {
    std::uint64_t entry = 0;
    off_t at = static_cast<off_t>(reinterpret_cast<std::uintptr_t>(page) / static_cast<std::uintptr_t>(size) * sizeof entry);
    return ::pread(map.get(), &entry, sizeof entry, at) == sizeof entry && (entry >> 55 & 1);
  };
  page[0] = 1;
  bool cleared = clear && ::write(clear.get(), "4", 1) == 1 && !dirty();
  page[0] = 2;
  bool works = cleared && dirty();
  ::munmap(const_cast<char*>(page), static_cast<std::size_t>(size));
  return works;
}

void check_options(const CheckpointOptions& options) {
  if ((options.pre_dump || !options.parent.empty()) && !tracks_memory())
    refuse("this kernel does not track which memory was changed (CONFIG_MEM_SOFT_DIRTY): leave out --pre-dump and --parent-path");
  if (!options.parent.empty() && !find_dir(options.images + "/" + options.parent))
    refuse(fmt::format("--parent-path: there is no folder {}, seen from {}", options.parent, options.images));
  if (options.lazy_pages && !options.page_server_port) refuse("--lazy-pages needs --page-server ADDRESS:PORT, where the pages are to be had");
}

struct Stdio {
  std::vector<std::string> links;     // as runc keeps them
  std::vector<std::string> keys;      // what CRIU takes from us in their place; empty: it makes it again
  std::vector<std::string> external;  // to be told at the dump
};

// A file of the host has no mount inside.
bool on_host_mount(pid_t pid, int fd, std::string& mount_id) {
  std::istringstream info(find_file(fmt::format("/proc/{}/fdinfo/{}", pid, fd)).value_or(""));
  for (std::string word; info >> word;)
    if (word == "mnt_id:") info >> mount_id;
  std::istringstream lines(read_file(fmt::format("/proc/{}/mountinfo", pid)));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(mount_id + " ")) return false;
  return !mount_id.empty();
}

Stdio standard_descriptors(pid_t pid) {
  Stdio stdio;
  for (int fd = 0; fd < 3; ++fd) {
    std::string path = fmt::format("/proc/{}/fd/{}", pid, fd), mount_id;
    std::string link = find_link(path).value_or(""), key;
    struct stat info;
    bool known = ::stat(path.c_str(), &info) == 0;
    if (link.starts_with("pipe:[")) key = link;
    else if (known && (S_ISREG(info.st_mode) || S_ISCHR(info.st_mode)) && !link.starts_with("/dev/pts") && on_host_mount(pid, fd, mount_id)) {
      key = fmt::format("file[{:x}:{:x}]", std::stoul(mount_id), info.st_ino);
      if (std::find(stdio.external.begin(), stdio.external.end(), key) == stdio.external.end()) stdio.external.push_back(key);
    }
    stdio.links.push_back(link);
    stdio.keys.push_back(key);
  }
  return stdio;
}

pid_t parent_of(pid_t pid) {
  std::string text = find_file(fmt::format("/proc/{}/stat", pid)).value_or("");
  std::istringstream rest(text.substr(std::min(text.rfind(')') + 1, text.size())));
  std::string state;
  pid_t parent = 0;
  rest >> state >> parent;
  return parent;
}

// CRIU takes the first process and what descends from it.
std::vector<std::string> strangers(const isolate::Cgroup& cgroup, pid_t root) {
  std::vector<std::string> notes;
  for (pid_t pid : cgroup.processes()) {
    pid_t at = pid;
    for (int steps = 0; at > 1 && at != root && steps < 10'000; ++steps) at = parent_of(at);
    if (at != root && session::start_time_of(pid)) notes.push_back(fmt::format("process {} came by `exec` and does not descend from the container's first: it is not in the checkpoint", pid));
  }
  return notes;
}

void write_record(const CheckpointOptions& options, int images, const Stdio& stdio, const std::vector<MountPoint>& mounts, bool network, bool terminal) {
  Manifest host = manifest_of_this_host();
  json record{{"version", 1}, {"runner", host.runner_version}, {"kernel", host.kernel}, {"machine", host.machine}, {"cpu", host.cpu},
              {"network", network}, {"terminal", terminal}, {"stdio", stdio.keys}, {"mounts", mounts}};
  for (const std::string& name : list_dir(options.images)) {
    struct stat info;
    if (name.ends_with(".img") && ::fstatat(images, name.c_str(), &info, 0) == 0 && S_ISREG(info.st_mode)) record["files"][name] = info.st_size;
  }
  replace_file(options.images + "/" + kDescriptors, json(stdio.links).dump(), 0600);
  replace_file(options.images + "/" + kContainerRecord, record.dump(-1, ' ', true, json::error_handler_t::replace), 0600);
}

}  // namespace

std::vector<std::string> checkpoint(const session::Directories& directories, const isolate::CgroupHost& cgroups, const session::State& state,
                                    const isolate::Plan& plan, const CheckpointOptions& options) {
  pid_t pid = state.pid;
  check_namespaces(plan, pid);
  check_mounts(plan);
  check_options(options);
  make_dirs(options.images, 0700);
  make_dirs(options.work, 0700);
  Fd images = open_file(options.images, O_RDONLY | O_DIRECTORY), work = open_file(options.work, O_RDONLY | O_DIRECTORY);
  // An older checkpoint in that folder is none from here on.
  if (::unlinkat(images.get(), kContainerRecord, 0) == -1 && errno != ENOENT) fail(errno, "write to {}", options.images);
  if (::faccessat(images.get(), ".", W_OK, AT_EACCESS) == -1) fail(errno, "write to {}", options.images);

  isolate::Cgroup cgroup = isolate::Cgroup::open(state.cgroup, cgroups);
  std::vector<std::string> notes = strangers(cgroup, pid);
  std::vector<MountPoint> mounts = container_mounts(pid, plan);
  Stdio stdio = standard_descriptors(pid);
  bool network = !isolate::shares_namespace(pid, NamespaceKind::Network);

  CriuOptions criu;
  static_cast<CriuFlags&>(criu) = options;
  criu.images = images.get();
  criu.work = work.get();
  criu.log = "dump.log";
  criu.log_level = 4;  // engines show this log
  criu.pid = pid;
  criu.external = external_at_dump(mounts);
  criu.external.insert(criu.external.end(), stdio.external.begin(), stdio.external.end());
  if (network) {
    struct stat info;
    check(::stat(fmt::format("/proc/{}/ns/net", pid).c_str(), &info), "look at the network namespace of process {}", pid);
    criu.external.push_back(fmt::format("net[{}]:{}", info.st_ino, kNetworkKey));
  }
  criu.leave_running = options.leave_running || options.pre_dump;
  criu.link_remap = true;
  criu.ghost_limit = 1u << 30;
  criu.parent = options.parent;
  criu.track_memory = options.pre_dump || !options.parent.empty();
  criu.status_fd = options.status_fd;
  criu.page_server = options.page_server;
  criu.page_server_port = options.page_server_port;
  criu.orphan_pts_master = true;
  criu.ext_masters = true;
  if (!state.cgroup.empty() && cgroup.frozen()) criu.freeze_cgroup = cgroup.v2_path();

  Fd process = session::open_process(state);
  Fd run = make_run(directories);
  Dumper dumper = start_dumper(options.criu, run.get());
  if (options.pre_dump) {
    dumper.criu.pre_dump(criu, [](const std::string&, pid_t) {});
    return notes;
  }
  // Before its processes go: what is written here is part of it.
  dumper.criu.dump(criu, [&](const std::string& when, pid_t) {
    if (when == "post-dump") write_record(options, images.get(), stdio, mounts, network, plan.process.terminal.has_value());
  });
  keep_learnt(directories, run.get());
  if (options.leave_running) return notes;
  pollfd ended{process.get(), POLLIN, 0};
  if (process && ::poll(&ended, 1, 10'000) == 0) fail(ETIMEDOUT, "end process {} of the container", pid);
  return notes;
}

}  // namespace runner::snapshot
