#include "isolate/cgroup.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "isolate/cgroup_backends.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/mount.h"

namespace isolate {

using namespace sys;
using cgroups::words_of;

namespace {

// The options of the file system name v1's controllers.
void read_mounts(CgroupHost& host) {
  for (const MountEntry& mount : mount_table()) {
    if (mount.type == "cgroup2" && host.v2.empty()) host.v2 = mount.at;
    if (mount.type != "cgroup") continue;
    std::istringstream options(mount.options);
    for (std::string option; std::getline(options, option, ',');)
      if (option != "rw" && option != "ro" && option != "xattr" && (option.find('=') == std::string::npos || option.rfind("name=", 0) == 0))
        host.v1.try_emplace(option, mount.at);
  }
}

bool can_write(const std::string& path) { return ::faccessat(AT_FDCWD, path.c_str(), W_OK, AT_EACCESS) == 0; }

void sleep_a_moment() {
  timespec moment{0, 1'000'000};
  ::nanosleep(&moment, nullptr);
}

}  // namespace

std::string v2_group_of(pid_t pid) {
  std::istringstream groups(find_file(pid ? fmt::format("/proc/{}/cgroup", pid) : "/proc/self/cgroup").value_or(""));
  for (std::string line; std::getline(groups, line);)
    if (line.rfind("0::", 0) == 0) return line.substr(3) == "/" ? "" : line.substr(3);
  return {};
}

bool CgroupHost::has(const std::string& controller) const {
  return std::find(v2_controllers.begin(), v2_controllers.end(), controller) != v2_controllers.end() ||
         v1.count(cgroups::v1::controller_for(controller));
}

CgroupHost find_cgroup_host() {
  CgroupHost host;
  struct statfs info;
  constexpr long kCgroup2Magic = 0x63677270;  // CGROUP2_SUPER_MAGIC
  if (::statfs("/sys/fs/cgroup", &info) == 0 && info.f_type == kCgroup2Magic) host.v2 = "/sys/fs/cgroup";
  else read_mounts(host);
  if (host.v2.empty()) {
    host.writable = !host.v1.empty() && ::geteuid() == 0;
    return host;
  }
  // An ordinary user may use the part that a manager gave to it: delegation containment, cgroups(7).
  if (!can_write(host.v2 + "/cgroup.procs") || ::geteuid() != 0) {
    host.v2_base = v2_group_of(0);
    host.v1.clear();
  }
  host.writable = can_write(host.v2 + host.v2_base + "/cgroup.procs") && can_write(host.v2 + host.v2_base);
  host.v2_controllers = words_of(find_file(host.v2 + host.v2_base + "/cgroup.controllers").value_or(""));
  return host;
}

Cgroup& Cgroup::operator=(Cgroup&& other) noexcept {
  std::swap(v2_path_, other.v2_path_);
  std::swap(v2_, other.v2_);
  std::swap(v1_, other.v1_);
  std::swap(missing_, other.missing_);
  std::swap(owned_, other.owned_);
  return *this;
}

Cgroup::~Cgroup() {
  if (!owned_) return;
  try {
    remove();
  } catch (const std::exception&) {
    // Processes in uninterruptible sleep: the next start's sweep tries again.
  }
}

Cgroup Cgroup::create(const CgroupPlan& plan, const CgroupHost& host) {
  Cgroup group;
  if (plan.path.empty()) return group;
  std::vector<cgroups::Need> needs = cgroups::needs_of(plan.limits);
  if (!host.writable && !plan.given) {
    if (!plan.warn_missing && !needs.empty())
      fail(EACCES, "set the {} (this user may not make cgroups; ask for delegation, or say on_missing: warn)", needs[0].what);
    for (const cgroups::Need& need : needs) group.missing_.push_back(need.what);
    return group;
  }
  auto given = plan.given ? words_of(find_file(host.v2 + plan.path + "/cgroup.controllers").value_or("")) : std::vector<std::string>();
  const std::vector<std::string>& v2_controllers = plan.given ? given : host.v2_controllers;
  auto in_v2 = [&](const std::string& name) { return std::find(v2_controllers.begin(), v2_controllers.end(), name) != v2_controllers.end(); };
  // Who owns a group kills what is in it at the end: one with processes is somebody else's.
  Cgroup before = open(plan.path, host);
  bool used = !plan.given && before.populated();
  if (!plan.given)
    for (const auto& [controller, directory] : before.v1_) used |= !find_file(directory + "/cgroup.procs").value_or("").empty();
  if (used) fail(EBUSY, "make cgroup {} (container's cgroup is not empty)", plan.path);
  if (before.frozen()) fail(EBUSY, "make cgroup {} (container's cgroup unexpectedly frozen)", plan.path);
  group.owned_ = true;  // from here on a failure removes what was made
  if (!host.v2.empty()) {
    group.v2_path_ = host.v2 + plan.path;
    // io without a limit too: so that it counts. A session without any limit is given nothing, for there may be processes beside it.
    std::vector<cgroups::Need> enabled = needs;
    if (!needs.empty()) enabled.push_back({"io", "io accounting", true});
    // Not on a hybrid host, where v2 has the few that v1 has left, and a group that gives them to others could have no process of its own.
    bool all = plan.everywhere && host.v1.empty();
    if (!plan.given) cgroups::v2::create(host, plan.path, enabled, all ? host.v2_controllers : std::vector<std::string>());
    group.v2_ = open_file(group.v2_path_, O_RDONLY | O_DIRECTORY);
  }
  for (const cgroups::Need& need : needs) {
    std::string controller = cgroups::v1::controller_for(need.controller);
    if (in_v2(need.controller) && !need.v1_only) continue;
    auto hierarchy = need.v2_only ? host.v1.end() : host.v1.find(controller);
    if (hierarchy != host.v1.end()) {
      std::string directory = hierarchy->second + plan.path;
      if (group.v1_.try_emplace(controller, directory).second) cgroups::v1::create(controller, hierarchy->second, plan.path);
    } else if (plan.warn_missing) {
      group.missing_.push_back(need.what);
    } else if (need.v2_only && host.has(need.controller)) {
      fail(ENOTSUP, "set {} (invalid configuration: that is a file of cgroup v2, and this host has the {} controller in v1)", need.what, need.controller);
    } else {
      fail(ENOTSUP, "set the {} (the requested cgroup controller `{}` is not available: no hierarchy of this host has it; say on_missing: warn to go on without)",
           need.what, need.controller);
    }
  }
  if (plan.everywhere)
    for (const auto& [controller, mount] : host.v1)
      if (group.v1_.try_emplace(controller, mount + plan.path).second) cgroups::v1::create(controller, mount, plan.path);
  group.update(plan.limits);
  return group;
}

void Cgroup::change(const Limits& limits, const CgroupHost& host) {
  auto here = v2_ ? words_of(find_file_at(v2_.get(), "cgroup.controllers").value_or("")) : std::vector<std::string>();
  for (const cgroups::Need& need : cgroups::needs_of(limits)) {
    bool has = (!need.v1_only && std::find(here.begin(), here.end(), need.controller) != here.end()) || (!need.v2_only && v1_.count(cgroups::v1::controller_for(need.controller)));
    if (!has) fail(ENOTSUP, "change the {} ({})", need.what, host.has(need.controller) ? "the container was made without this controller" : "no cgroup hierarchy of this host has the " + need.controller + " controller");
  }
  update(limits);
}

bool Cgroup::takes_no_process() const {
  if (!v2_) return false;
  std::vector<std::string> given = words_of(find_file_at(v2_.get(), "cgroup.subtree_control").value_or(""));
  auto of_domains = [](const std::string& name) { return name != "cpu" && name != "cpuset" && name != "perf_event" && name != "pids"; };
  return std::any_of(given.begin(), given.end(), of_domains);
}

Cgroup Cgroup::below(const std::string& path, const std::vector<std::string>& controllers) const {
  Cgroup group;
  auto missing = [](const std::string& directory) { throw std::runtime_error(fmt::format("adding pid to {}/cgroup.procs: no such file or directory", directory)); };
  if (v2_) {
    group.v2_path_ = v2_path_ + path;
    group.v2_ = Fd(::open(group.v2_path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!group.v2_ && v1_.empty()) missing(group.v2_path_);
    if (!group.v2_) group.v2_path_ = v2_path_, group.v2_ = open_file(v2_path_, O_RDONLY | O_DIRECTORY);  // on a hybrid host limits are elsewhere
  }
  for (const std::string& controller : controllers)
    if (!v1_.count(controller)) throw std::runtime_error(fmt::format("unknown controller {}", controller));
  for (const auto& [controller, directory] : v1_) {
    bool moves = controllers.empty() || std::find(controllers.begin(), controllers.end(), controller) != controllers.end();
    group.v1_[controller] = moves ? directory + path : directory;
    if (moves && !find_dir(directory + path)) missing(directory + path);
  }
  return group;
}

void Cgroup::make_room(const CgroupHost& host) {
  if (!v2_ || host.v2_controllers.empty()) return;
  std::string leaf = v2_path_ + "/init/cgroup.procs";
  if (::mkdir((v2_path_ + "/init").c_str(), 0755) == -1 && errno != EEXIST) fail(errno, "make cgroup {}", v2_path_ + "/init");
  // Again while there are some: a process may fork while it is moved.
  for (std::string pids; !(pids = read_file(v2_path_ + "/cgroup.procs")).empty();) {
    for (const std::string& pid : words_of(pids)) {
      try {
        write_file(leaf, pid);
      } catch (const SystemError& error) {
        if (error.code() != ESRCH) throw;  // it has ended
      }
    }
  }
}

Cgroup Cgroup::open(const std::string& path, const CgroupHost& host) {
  Cgroup group;
  if (path.empty()) return group;
  if (!host.v2.empty()) {
    std::string directory = host.v2 + path;
    group.v2_ = Fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (group.v2_) group.v2_path_ = directory;
    else if (errno != ENOENT && errno != ENODEV) fail(errno, "open cgroup {}", directory);
  }
  for (const auto& [controller, mount] : host.v1)
    if (find_dir(mount + path)) group.v1_.emplace(controller, mount + path);
  return group;
}

void Cgroup::update(const Limits& limits) {
  if (v2_) {
    auto controllers = words_of(find_file_at(v2_.get(), "cgroup.controllers").value_or(""));
    cgroups::v2::set_limits(v2_.get(), limits, controllers);
    if (!limits.devices.empty()) cgroups::set_device_rules(v2_.get(), limits.devices);
  }
  cgroups::v1::set_limits(v1_, limits);
}

void Cgroup::let_enter(uid_t uid) const {
  if (v2_) check(::fchownat(v2_.get(), "cgroup.procs", uid, static_cast<gid_t>(-1), 0), "let PID 1 of the session enter {}", v2_path_);
}

std::vector<Fd> Cgroup::v1_doors() const {
  std::vector<Fd> doors;
  for (const auto& [controller, directory] : v1_) doors.push_back(open_file(directory + "/tasks", O_WRONLY | O_CLOEXEC));
  return doors;
}

void Cgroup::place(pid_t pid) const {
  for (const auto& [controller, directory] : v1_) write_file(directory + "/cgroup.procs", std::to_string(pid));
  if (v2_) write_file_at(v2_.get(), "cgroup.procs", std::to_string(pid));
}

void Cgroup::freeze(bool frozen) const {
  if (v2_) return write_file_at(v2_.get(), "cgroup.freeze", frozen ? "1" : "0");
  auto freezer = v1_.find("freezer");
  if (freezer == v1_.end()) fail(ENOTSUP, "freeze (the sandbox has no cgroup that can)");
  write_file(freezer->second + "/freezer.state", frozen ? "FROZEN" : "THAWED");
}

bool Cgroup::frozen() const {
  if (v2_) return cgroups::keyed_value(find_file_at(v2_.get(), "cgroup.freeze").value_or("0"), "") == 1;
  auto freezer = v1_.find("freezer");
  return freezer != v1_.end() && find_file(freezer->second + "/freezer.state").value_or("").rfind("FR", 0) == 0;
}

std::vector<pid_t> Cgroup::processes() const {
  std::vector<pid_t> pids;
  std::string directory = v2_ ? v2_path_ : v1_.empty() ? "" : v1_.begin()->second;
  if (directory.empty()) return pids;
  std::vector<std::string> pending{directory};
  while (!pending.empty()) {
    std::string at = std::move(pending.back());
    pending.pop_back();
    for (const std::string& word : words_of(find_file(at + "/cgroup.procs").value_or(""))) pids.push_back(std::stoi(word));
    std::error_code gone;
    for (std::filesystem::directory_iterator each(at, gone), end; !gone && each != end; each.increment(gone))
      if (each->is_directory(gone)) pending.push_back(each->path());
  }
  std::sort(pids.begin(), pids.end());
  return pids;
}

void Cgroup::kill() const {
  if (v2_) {
    try {
      return write_file_at(v2_.get(), "cgroup.kill", "1");
    } catch (const SystemError& error) {
      if (error.code() == ENODEV) return;  // the group has just been removed, by whoever else ends it
      if (error.code() != ENOENT) throw;   // before Linux 5.14
    }
  }
  for (pid_t pid : processes()) ::kill(pid, SIGKILL);
}

bool Cgroup::populated() const {
  if (v2_) return cgroups::keyed_value(find_file_at(v2_.get(), "cgroup.events").value_or(""), "populated") == 1;
  return !processes().empty();
}

CgroupCounters Cgroup::counters() const {
  CgroupCounters counters;
  if (v2_) cgroups::v2::count(v2_.get(), counters);
  cgroups::v1::count(v1_, counters);
  return counters;
}

std::vector<std::string> Cgroup::event_files() const {
  std::vector<std::string> files;
  auto add = [&](const std::string& file) {
    if (::access(file.c_str(), R_OK) == 0) files.push_back(file);
  };
  if (v2_) {
    add(v2_path_ + "/memory.events");
    add(v2_path_ + "/pids.events");
  }
  return files;
}

// "<eventfd> <memory.oom_control>" in cgroup.event_control: admin-guide/cgroup-v1/memory, section 10.
Fd Cgroup::v1_oom_event() const {
  auto memory = v1_.find("memory");
  if (memory == v1_.end()) return Fd();
  Fd event(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "make an event descriptor"));
  Fd control = open_file(memory->second + "/memory.oom_control", O_RDONLY);
  write_file(memory->second + "/cgroup.event_control", fmt::format("{} {}", event.get(), control.get()));
  return event;
}

void Cgroup::remove() {
  if (v2_path_.empty() && v1_.empty()) return;
  if (populated()) {
    kill();
    // A frozen group dies only once it is thawed; cgroup.kill does both from 5.14 on.
    for (int tries = 0; populated() && tries < 2000; ++tries) sleep_a_moment();
    if (populated()) fail(EBUSY, "end the processes in cgroup {}", v2_path_);
  }
  v2_.close();
  if (!v2_path_.empty()) cgroups::v2::remove(v2_path_);
  for (const auto& [controller, directory] : v1_) cgroups::v2::remove(directory);
  owned_ = false;
  v2_path_.clear();
  v1_.clear();
}

namespace cgroups {

std::vector<Need> needs_of(const Limits& limits) {
  // "No limit" is what a group has anyway: it needs no controller.
  auto set = [](const std::optional<std::int64_t>& limit) { return limit && *limit > 0; };
  std::vector<Need> needs;
  if (set(limits.memory) || set(limits.memory_reservation) || set(limits.memory_and_swap)) needs.push_back({"memory", "memory limit"});
  if (set(limits.pids)) needs.push_back({"pids", "pids limit"});
  if (set(limits.cpu_quota) || limits.cpu_period || limits.cpu_shares || limits.cpu_burst.value_or(0) || limits.cpu_idle.value_or(false)) needs.push_back({"cpu", "cpu limit"});
  if (!limits.cpuset_cpus.empty() || !limits.cpuset_mems.empty()) needs.push_back({"cpuset", "cpuset"});
  if (limits.io_weight || !limits.io_weights.empty() || !limits.io.empty()) needs.push_back({"io", "io limit"});
  if (!limits.hugepages.empty()) needs.push_back({"hugetlb", "limit of huge pages"});
  if (!limits.rdma.empty()) needs.push_back({"rdma", "rdma limit"});
  if (limits.realtime_runtime || limits.realtime_period) needs.push_back({"cpu", "realtime limit", false, true});
  if (limits.network_class) needs.push_back({"net_cls", "network class", false, true});
  if (!limits.network_priorities.empty()) needs.push_back({"net_prio", "network priorities", false, true});
  for (const auto& [file, value] : limits.unified) {
    std::string controller = file.substr(0, file.find('.'));
    if (controller != "cgroup") needs.push_back({controller, file, true});
  }
  return needs;
}

std::uint64_t weight_of_shares(std::uint64_t shares) {
  if (shares <= 2) return 1;
  if (shares >= 262144) return 10000;
  double l = std::log2(static_cast<double>(shares));
  return static_cast<std::uint64_t>(std::ceil(std::pow(10, (l * l + 125 * l) / 612 - 7.0 / 34)));
}

std::uint64_t io_weight_of(std::uint64_t weight) { return 1 + ((std::clamp<std::uint64_t>(weight, 10, 1000) - 10) * 9999) / 990; }

std::string rdma_line(const std::string& device, const RdmaLimit& limit) {
  auto number = [](const std::optional<std::uint32_t>& value) { return value ? std::to_string(*value) : "max"; };
  return fmt::format("{} hca_handle={} hca_object={}", device, number(limit.handles), number(limit.objects));
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::uint64_t keyed_value(const std::string& text, const std::string& key) {
  std::istringstream stream(text);
  std::string word;
  std::uint64_t value = 0;
  if (key.empty()) return stream >> value ? value : 0;
  while (stream >> word >> value)
    if (word == key) return value;
  return 0;
}

}  // namespace cgroups

}  // namespace isolate
