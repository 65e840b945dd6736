#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

#include "isolate/hooks.h"
#include "isolate/network.h"
#include "isolate/restorer.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"
#include "runner/snapshot/container.h"
#include "runner/snapshot/manifest.h"
#include "runner/snapshot/swrk.h"

namespace runner::snapshot {

using namespace isolate::sys;
using isolate::NamespaceKind;
using json = nlohmann::json;

namespace {

[[noreturn]] void refuse(const std::string& images, const std::string& why) {
  throw std::runtime_error(fmt::format("cannot restore from {}: {}", images, why));
}

json read_record(int images, const std::string& path) {
  auto text = find_file_at(images, kContainerRecord, 16u << 20);
  if (!text && ::faccessat(images, "inventory.img", F_OK, 0) == 0)
    refuse(path, fmt::format("it has no {}: it is a pre-dump, was cut short, or is the work of another runtime", kContainerRecord));
  if (!text) refuse(path, "there is no checkpoint in this folder");
  try {
    json record = json::parse(*text);
    if (record.at("version") != 1) refuse(path, "it is of a later version of runner");
    return record;
  } catch (const json::exception& error) {
    refuse(path, fmt::format("{} is damaged ({})", kContainerRecord, error.what()));
  }
}

void check_files(int images, const std::string& path, const json& record) {
  for (const auto& [name, size] : record.at("files").items()) {
    struct stat info;
    if (::fstatat(images, name.c_str(), &info, 0) == -1) refuse(path, fmt::format("{} is missing", name));
    if (info.st_size != size.get<off_t>()) refuse(path, fmt::format("{} is damaged: it has {} bytes, not {}", name, info.st_size, size.get<off_t>()));
  }
}

void check_host(const std::string& path, const json& record) {
  Manifest here = manifest_of_this_host();
  if (record.at("machine") != here.machine) refuse(path, fmt::format("it is of a {} machine, and this is {}", record.at("machine").get<std::string>(), here.machine));
  if (record.at("kernel") != here.kernel)
    refuse(path, fmt::format("it was taken on Linux {}, and this is {}: memory of the one kernel's vdso does not fit the other", record.at("kernel").get<std::string>(), here.kernel));
  std::string cpu = cpu_difference(record.at("cpu").get<std::string>(), here.cpu);
  if (!cpu.empty()) refuse(path, fmt::format("the CPU it was taken on has other features ({})", cpu));
}

// A new one with its loopback up. Made by us before CRIU starts: it would call ip and iptables for its contents.
Fd new_network() {
  Fd home = open_file("/proc/self/ns/net", O_RDONLY);
  check(::unshare(CLONE_NEWNET), "make a network namespace");
  Fd made;
  try {
    isolate::bring_up_loopback();
    made = open_file("/proc/self/ns/net", O_RDONLY);
  } catch (...) {
    if (::setns(home.get(), CLONE_NEWNET) == -1) ::abort();  // nothing may go on in the wrong one
    throw;
  }
  if (::setns(home.get(), CLONE_NEWNET) == -1) ::abort();
  return made;
}

Fd network_for(const isolate::Plan& plan, bool fresh) {
  for (const isolate::Namespace& n : plan.namespaces)
    if (n.kind == NamespaceKind::Network && !n.join.empty() && !fresh) return open_file(n.join, O_RDONLY);
  return new_network();
}

bool has_network(const isolate::Plan& plan) {
  for (const isolate::Namespace& n : plan.namespaces)
    if (n.kind == NamespaceKind::Network) return true;
  return false;
}

}  // namespace

isolate::Sandbox restore_container(const session::Directories& directories, const isolate::CgroupHost& cgroups, const isolate::Plan& plan,
                                   const RestoreOptions& options) {
  Readable readable;
  auto found = find_dir(options.images);
  if (!found) throw std::runtime_error(fmt::format("cannot restore from {}: there is no such folder", options.images));
  Fd images = open_file(options.images, O_RDONLY | O_DIRECTORY);
  json record = read_record(images.get(), options.images);
  if (plan.makes(NamespaceKind::User)) refuse(options.images, "its bundle has a user namespace now, which it was not taken in");
  bool network = record.at("network");
  if (network != has_network(plan))
    refuse(options.images, fmt::format("it was taken {} a network namespace of its own, and its bundle is {} one now", network ? "in" : "without", network ? "without" : "with"));
  make_dirs(options.work, 0700);
  Fd work = open_file(options.work, O_RDONLY | O_DIRECTORY);

  CriuOptions criu;
  static_cast<CriuFlags&>(criu) = options;
  criu.images = images.get();
  criu.work = work.get();
  criu.log = "restore.log";
  criu.root = isolate::kBareRoot;
  criu.external = external_of_container(record.at("mounts").get<std::vector<MountPoint>>(), plan);
  criu.link_remap = true;
  criu.orphan_pts_master = true;
  criu.ext_masters = true;
  std::vector<std::string> keys = record.at("stdio");
  Fd stdio[3];
  for (int fd = 0; fd < 3; ++fd) {
    const std::string& key = keys.at(static_cast<std::size_t>(fd));
    bool seen = false;
    for (const auto& each : criu.inherit) seen = seen || each.first == key;
    if (key.empty() || seen) continue;
    // Not 0 itself: CRIU closes that one with --shell-job.
    stdio[fd] = Fd(check(::fcntl(fd, F_DUPFD, 3), "keep standard descriptor {}", fd));
    criu.inherit.push_back({key, stdio[fd].get()});
  }
  Fd run = make_restore_run(directories);
  isolate::RestorerOptions restorer_options;
  restorer_options.cgroups = cgroups;
  restorer_options.run = run.get();
  auto [ours, theirs] = socket_pair();
  restorer_options.keep = {theirs.get()};
  for (const Fd& fd : stdio)
    if (fd) restorer_options.keep.push_back(fd.get());
  Fd net;
  if (network) {
    net = network_for(plan, options.fresh_network);
    check(::fcntl(net.get(), F_SETFD, 0), "hand a network namespace to CRIU");
    criu.inherit.push_back({kNetworkKey, net.get()});
    restorer_options.keep.push_back(net.get());
  }
  // CRIU leaves lazy pages to its daemon, and what it has read of a file with auto-dedup it takes out of it.
  bool reads = !options.lazy_pages && !options.auto_dedup;
  restorer_options.become = [&, socket = theirs.get()] { Criu::become(options.criu, socket, false, reads); };
  isolate::Restorer restorer = isolate::start_restorer(plan, restorer_options);
  theirs.close();
  // While it lays out the root. Nothing of the images is read before.
  check_host(options.images, record);
  check_files(images.get(), options.images, record);
  options.meanwhile();
  restorer.ready();

  Fd terminal;
  criu.on_terminal = [&](Fd master) { terminal = std::move(master); };
  pid_t pid = Criu(std::move(ours)).restore(criu, [&](const std::string& when, pid_t root) {
    // As runc runs them: the processes are not there yet, their namespaces are.
    if (when == "setup-namespaces" && (!plan.hooks.prestart.empty() || !plan.hooks.create_runtime.empty())) {
      std::string state = options.hook_state("creating", root);
      isolate::run_hooks(plan.hooks.prestart, "prestart", state);
      isolate::run_hooks(plan.hooks.create_runtime, "createRuntime", state);
    }
    if (when == "post-restore") options.on_restored(root);
    // Not before: CRIU has them run its own code until then.
    if (when == "pre-resume" && options.held) restorer.hold(cgroups);
  });
  isolate::Sandbox sandbox = restorer.take_up(pid, std::move(terminal));
  keep_learnt(directories, run.get());
  return sandbox;
}

}  // namespace runner::snapshot
