#include "runner/plan/session_plan.h"

#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <charconv>

#include "isolate/environment.h"
#include "isolate/privileges.h"
#include "isolate/sys/error.h"
#include "isolate/sys/paths.h"
#include "runner/config/units.h"

namespace runner::plan {

using namespace isolate;

namespace {

constexpr std::uint32_t kAgent = 1000;
constexpr std::uint64_t kLeastMemory = 4u << 20;  // as in policies
constexpr std::uint64_t kNoSuidDevExec = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

struct User {
  std::uint32_t uid = 0, gid = 0;
};

// Without doubled slashes and one at the end; there are no ".." in what gets here.
std::string clean(const std::string& path) { return isolate::sys::clean_path(path); }

bool is_below(const std::string& path, const std::string& folder) {
  return path == folder || (path.rfind(folder, 0) == 0 && (folder == "/" || path[folder.size()] == '/'));
}

std::optional<std::uint32_t> parse_id(const std::string& text) {
  std::uint32_t id = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), id);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || id > 65535) return std::nullopt;
  return id;
}

User find_user(const Config& config, const Policy& policy, Diagnostics& wrong) {
  if (config.user.empty()) return {policy.user.uid, policy.user.gid};
  if (config.user == "agent") return {kAgent, kAgent};
  if (config.user == "root") return {0, 0};
  std::size_t colon = config.user.find(':');
  auto uid = parse_id(config.user.substr(0, colon));
  auto gid = colon == std::string::npos ? uid : parse_id(config.user.substr(colon + 1));
  if (!uid || !gid) wrong.add({"--user"}, "must be agent, root, or UID[:GID] with ids from 0 to 65535, not '{}'", config.user);
  return {uid.value_or(0), gid.value_or(0)};
}

// A flag may ask for less than the policy, never for more.
std::uint64_t within(const char* flag, std::optional<std::uint64_t> wish, std::optional<std::uint64_t> most, const Policy& policy,
                     std::string (*format)(std::uint64_t), Diagnostics& wrong) {
  if (wish && most && *wish > *most)
    wrong.add({flag}, "{} is more than policy {} allows ({})", format(*wish), policy.name, format(*most));
  return wish ? *wish : most.value_or(0);
}

Limits decide_limits(const Config& config, const Policy& policy, Diagnostics& wrong) {
  auto plain = [](std::uint64_t n) { return std::to_string(n); };
  Limits limits;
  if (std::uint64_t memory = within("--memory", config.memory, policy.limits.memory, policy, format_size, wrong)) {
    if (memory < kLeastMemory) wrong.add({"--memory"}, "{} is too small to start anything", format_size(memory));
    limits.memory = static_cast<std::int64_t>(memory);
    limits.memory_and_swap = limits.memory;  // no swap: a limit that swaps is a limit that slows everybody down
  }
  if (std::uint64_t cpus = within("--cpus", config.cpus, policy.limits.cpus, policy, format_cpus, wrong)) {
    limits.cpu_period = 100'000;
    limits.cpu_quota = std::max<std::int64_t>(1000, static_cast<std::int64_t>(cpus * 100));  // microseconds; the kernel's least is 1 ms
  }
  if (std::uint64_t pids = within("--pids-limit", config.pids, policy.limits.pids, policy, plain, wrong))
    limits.pids = static_cast<std::int64_t>(pids);
  return limits;
}

// ---- files -------------------------------------------------------------------------------------------------------

std::string passwd(const User& user) {
  std::string text = "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000:agent:/home/agent:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n";
  if (user.uid != 0 && user.uid != kAgent && user.uid != 65534)
    text += fmt::format("user{0}:x:{0}:{1}::/home/agent:/bin/sh\n", user.uid, user.gid);
  return text;
}

std::string group(const User& user) {
  std::string text = "root:x:0:\ntty:x:5:\nagent:x:1000:\nnogroup:x:65534:\n";
  if (user.gid != 0 && user.gid != 5 && user.gid != kAgent && user.gid != 65534) text += fmt::format("group{0}:x:{0}:\n", user.gid);
  return text;
}

void add_network_files(const std::string& hostname, std::vector<GeneratedFile>& files) {
  files.push_back({"/etc/hosts", fmt::format("127.0.0.1 localhost\n::1 localhost\n127.0.0.1 {}\n", hostname)});
  files.push_back({"/etc/hostname", hostname + "\n"});
  files.push_back({"/etc/resolv.conf", "# no name server: this sandbox has no network but its loopback\n"});
}

// /usr and its like bound read-only as they are; a small /etc of our own; the rest empty and writable.
void add_host_view(const Host& host, const Policy& policy, const User& user, const std::string& hostname, Plan& plan) {
  auto directory = [&](const char* path, std::uint32_t mode, User owner = {}) {
    plan.files.push_back({path, "", "", mode, owner.uid, owner.gid});
  };
  directory("/", 0755);
  for (const char* path : {"/etc/", "/etc/ssl/"}) directory(path, 0755);
  plan.files.push_back({"/etc/passwd", passwd(user)});
  plan.files.push_back({"/etc/group", group(user)});
  plan.files.push_back({"/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"});
  add_network_files(hostname, plan.files);
  for (const char* path : {"/proc/", "/dev/", "/run/", "/var/", "/home/", "/opt/"}) directory(path, 0755);
  for (const char* path : {"/tmp/", "/var/tmp/"}) directory(path, 01777);
  directory("/home/agent/", 0755, user);
  directory("/root/", 0700);
  for (const auto& [from, to] : host.links) plan.files.push_back({from, "", to, 0777});

  // Places to mount at are made here too: making one through the overlay costs a copy in the upper layer.
  std::vector<std::string> shown;
  for (const std::string& path : host.directories) directory((path + "/").c_str(), 0755), shown.push_back(path);
  for (const std::string& path : host.etc) {
    plan.files.push_back({path, "", "", path.back() == '/' ? 0755u : 0644u});
    shown.push_back(path.back() == '/' ? path.substr(0, path.size() - 1) : path);
  }
  shown.insert(shown.end(), policy.rootfs.expose.begin(), policy.rootfs.expose.end());
  // Unmapped: in the sandbox the host's root is nobody, so what only root may read stays unread.
  for (const std::string& path : shown) {
    Mount mount{path, Bind{path}};
    mount.set_recursive = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    plan.mounts.push_back(mount);
  }
}

void add_rootfs(const Config& config, const Host& host, const std::string& hostname, Plan& plan, Diagnostics& wrong) {
  // Through a link of the image our own mounts and files would land where the image says.
  for (const char* path : {"/dev", "/proc", "/sys", "/etc", "/etc/hosts"})
    if (auto link = host.links.find(path); link != host.links.end())
      wrong.add({"--rootfs " + config.rootfs}, "{} is a symbolic link to {}; a session needs a real one there", path, link->second);
  plan.files.push_back({"/", "", "", 0755});
  plan.files.push_back({"/etc/", "", "", 0755});
  add_network_files(hostname, plan.files);
}

// ---- mounts ------------------------------------------------------------------------------------------------------

Mount file_system(const char* to, const char* type, std::vector<std::pair<std::string, std::string>> options, std::uint64_t set) {
  Mount mount{to, FileSystem{type, type, std::move(options)}};
  mount.set = set;
  return mount;
}

void add_kernel_mounts(const Host& host, Plan& plan) {
  // hidepid: the program sees its own processes and not those of PID 1's user.
  plan.mounts.push_back(file_system("/proc", "proc", {{"hidepid", "2"}}, kNoSuidDevExec));
  plan.mounts.push_back(file_system("/dev", "tmpfs", {{"mode", "755"}, {"size", "64k"}}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
  std::vector<std::pair<std::string, std::string>> pts{{"ptmxmode", "0666"}, {"mode", "0620"}};
  if (host.privileged) pts.push_back({"gid", "5"});  // tty; an ordinary user's map has no such group
  plan.mounts.push_back(file_system("/dev/pts", "devpts", pts, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC));
  plan.mounts.push_back(file_system("/dev/shm", "tmpfs", {{"mode", "1777"}, {"size", "64m"}}, kNoSuidDevExec));

  plan.devices = {{"/dev/null", 'c', 1, 3},   {"/dev/zero", 'c', 1, 5},    {"/dev/full", 'c', 1, 7},
                  {"/dev/random", 'c', 1, 8}, {"/dev/urandom", 'c', 1, 9}, {"/dev/tty", 'c', 5, 0}};
  plan.read_only_dev = true;
  // The specification's, and what tells of the host or of its kernel's addresses.
  plan.masked_paths = {"/proc/acpi",       "/proc/asound",      "/proc/kcore",       "/proc/keys",     "/proc/latency_stats",
                       "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",     "/proc/interrupts",
                       "/proc/kallsyms",   "/proc/kmsg",        "/proc/modules",     "/proc/pagetypeinfo", "/proc/slabinfo",
                       "/proc/vmallocinfo"};
  plan.readonly_paths = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"};
}

void add_init(const Host& host, Plan& plan) {
  plan.files.push_back({"/run/", "", "", 0755});
  plan.files.push_back({"/run/runner/", "", "", 0755});
  if (!host.privileged) return;  // an ordinary user's is a copy that nothing inside can reach
  plan.files.push_back({kInitProgram, "", "", 0755});
  plan.mounts.push_back(init_mount(host.init_program));
}

// Where nothing is mounted yet: the folder above first, whatever the order of the flags.
std::vector<Volume> from_the_top(std::vector<Volume> volumes) {
  auto depth = [](const Volume& volume) { return std::ranges::count(clean(volume.to), '/'); };
  std::ranges::stable_sort(volumes, {}, depth);
  return volumes;
}

// A quota is of the workspace alone: a folder of the session's own, or a volume. What else the caller brings is not ours to limit.
void bound_workspace(const Volume& volume, const Policy& policy, const Quota& quota, Plan& plan, Diagnostics& wrong) {
  if (volume.name.empty())
    return wrong.add({volume.flag}, "policy {} has a quota for {}, which cannot be put on a folder of the host: leave it out, or use a volume (-v NAME:{})",
                     policy.name, volume.to, volume.to);
  for (Mount& mount : plan.mounts)
    if (auto* bind = std::get_if<Bind>(&mount.what); bind && bind->from == volume.from) bind->quota = quota, bind->quota->shared = true;
}

// What is not to be in the session's layer, which has one limit and is in every snapshot, is a folder beside it.
void place_workspace(const Config& config, const Policy& policy, const Host& host, const User& user, Plan& plan, Diagnostics& wrong) {
  std::optional<Quota> quota;
  if (policy.workspace.quota)
    quota = Quota{{*policy.workspace.quota, policy.on_missing == Policy::Missing::Warn}, false, !config.remove, host.first_id + user.uid, host.first_id + user.gid};
  for (const Volume& volume : config.volumes) {
    if (clean(volume.to) != policy.workspace.path) continue;
    if (quota) bound_workspace(volume, policy, *quota, plan, wrong);
    return;
  }
  if (!quota && !config.own_workspace && policy.workspace.snapshot != Policy::Kept::Exclude) return;
  Bind bind{host.workspace};
  bind.quota = quota;
  Mount mount{policy.workspace.path, bind};
  mount.set_recursive = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (config.workspace_read_only ? MOUNT_ATTR_RDONLY : 0);
  // Below what is mounted in it.
  auto first = std::ranges::find_if(plan.mounts, [&](const Mount& each) { return is_below(each.to, policy.workspace.path); });
  plan.mounts.insert(first, mount);
}

// Mounted over itself: whatever the workspace is, and whoever owns the files.
void protect_inputs(const Config& config, const Policy& policy, Plan& plan, Diagnostics& wrong) {
  if (!policy.workspace.read_only_inputs) return;
  std::string inputs = policy.workspace.path + "/inputs";
  for (const Volume& volume : config.volumes)
    if (!volume.read_only && is_below(clean(volume.to), inputs)) wrong.add({volume.flag}, "{} may not be writable (policy: {}, workspace.inputs)", volume.to, policy.name);
  plan.readonly_paths.push_back(inputs + "/");
}

void add_volumes(const Config& config, const Policy& policy, const Host& host, const User& user, Plan& plan, Diagnostics& wrong) {
  for (const Volume& volume : from_the_top(config.volumes)) {
    // The policy's own workspace is the workload's, whatever it says of binds.
    bool workspace = !volume.name.empty() && volume.name == policy.workspace.volume && clean(volume.to) == policy.workspace.path;
    bool ours = workspace || may_be_writable(policy, volume.to);
    if (!volume.read_only && !ours) wrong.add({volume.flag}, "{} may not be writable (policy: {})", volume.to, policy.name);
    // A volume lies among runner's own files, and its name leads nowhere else.
    if (auto never = volume.name.empty() ? forbidden_source(policy, volume.from) : std::nullopt)
      wrong.add({volume.flag}, "{} of the host may not be shown in a sandbox (policy: {})", *never, policy.name);
    for (const char* taken : {"/proc", "/dev", "/sys"})
      if (is_below(volume.to, taken)) wrong.add({volume.flag}, "nothing may be mounted at {}", volume.to);
    if (volume.to == "/") wrong.add({volume.flag}, "the root itself is chosen by --rootfs");

    Bind bind{volume.from};
    bind.follow_links = false;  // `from` is a real path, and the policy was asked about that one
    auto owner = host.owners.find(volume.from);
    if (owner == host.owners.end()) {
      wrong.add({volume.flag}, "there is no {} on the host", volume.from);
      continue;
    }
    // The owner of a workspace is the session's user inside, so that both can write to it; all other ids are nobody.
    if ((ours || !volume.name.empty()) && host.privileged)
      bind.ids = {{{owner->second.first, host.first_id + user.uid, 1}}, {{owner->second.second, host.first_id + user.gid, 1}}};
    Mount mount{volume.to, bind};
    mount.set_recursive = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (volume.read_only ? MOUNT_ATTR_RDONLY : 0);
    plan.mounts.push_back(mount);
  }
  for (const TmpfsWish& wish : config.tmpfs) {
    std::vector<std::pair<std::string, std::string>> options{{"mode", "1777"}};
    options.push_back({"size", std::to_string(wish.bytes.value_or(64u << 20))});
    plan.mounts.push_back(file_system(wish.to.c_str(), "tmpfs", options, kNoSuidDevExec));
  }
}

// ---- process -----------------------------------------------------------------------------------------------------

Process make_process(const Config& config, const Policy& policy, const User& user, const std::string& hostname) {
  Process process;
  process.argv = config.argv;
  process.uid = user.uid;
  process.gid = user.gid;
  process.cwd = config.workdir.empty() ? policy.workspace.path : config.workdir;
  process.env = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                 std::string("HOME=") + (user.uid == 0 ? "/root" : config.rootfs == "host" ? "/home/agent" : "/"), "HOSTNAME=" + hostname,
                 "LANG=C.UTF-8"};
  if (config.terminal) process.env.push_back("TERM=xterm");
  for (const std::string& entry : config.env) set_variable(process.env, entry);
  for (const auto& [name, limit] : policy.rlimits) process.rlimits.push_back({rlimit_number(name), limit.soft, limit.hard});
  if (config.terminal) process.terminal = Terminal{config.rows, config.columns, config.scrollback.value_or(0)};
  return process;
}

IdMap map_ids(const Host& host, const User& user) {
  if (host.privileged) return {{{0, host.first_id, 65536}}, {{0, host.first_id, 65536}}};
  return {{{user.uid, host.uid, 1}}, {{user.gid, host.gid, 1}}};
}

}  // namespace

isolate::Mount init_mount(const std::string& program) { return {isolate::kInitProgram, isolate::Bind{program}, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV}; }

int rlimit_number(const std::string& name) {
  constexpr std::pair<const char*, int> kNames[] = {
      {"as", RLIMIT_AS},           {"core", RLIMIT_CORE},         {"cpu", RLIMIT_CPU},   {"data", RLIMIT_DATA},
      {"fsize", RLIMIT_FSIZE},     {"locks", RLIMIT_LOCKS},       {"memlock", RLIMIT_MEMLOCK}, {"msgqueue", RLIMIT_MSGQUEUE},
      {"nice", RLIMIT_NICE},       {"nofile", RLIMIT_NOFILE},     {"nproc", RLIMIT_NPROC}, {"rss", RLIMIT_RSS},
      {"rtprio", RLIMIT_RTPRIO},   {"rttime", RLIMIT_RTTIME},     {"sigpending", RLIMIT_SIGPENDING}, {"stack", RLIMIT_STACK}};
  for (auto [known, number] : kNames)
    if (name == known) return number;
  isolate::sys::fail(EINVAL, "set resource limit {}", name);  // the policy's parser knows the same names
}

std::uint64_t granted_capabilities(const Config& config, const Policy& policy, Diagnostics& wrong) {
  auto bits_of = [&](const std::vector<std::string>& names, const char* flag) {
    std::uint64_t bits = 0;
    for (const std::string& name : names) {
      int number = capability_number(name);
      if (name == "ALL" || name == "all") bits = ~std::uint64_t{0};
      else if (number < 0) wrong.add({flag}, "unknown capability '{}'", name);
      else bits |= std::uint64_t{1} << number;
    }
    return bits;
  };
  std::uint64_t most = bits_of(policy.capabilities, "capabilities");
  if (std::uint64_t more = bits_of(config.cap_add, "--cap-add") & ~most; more && !config.cap_add.empty())
    wrong.add({"--cap-add"}, "policy {} does not allow {}", policy.name, fmt::format("{}", fmt::join(config.cap_add, ", ")));
  return most & ~bits_of(config.cap_drop, "--cap-drop");
}

std::optional<SessionPlan> make_plan(const Config& config, const Policy& policy, const SeccompProfiles& profiles, const Host& host,
                                     Diagnostics& wrong) {
  SessionPlan session;
  Plan& plan = session.sandbox;
  session.policy = policy.name;
  session.wall_ms = within("--timeout", config.wall_ms, policy.limits.wall, policy, format_duration, wrong);
  session.call = {policy.tool_call.memory.value_or(0), policy.tool_call.pids.value_or(0), policy.tool_call.wall.value_or(0)};
  session.output_bytes = policy.limits.output.value_or(0);
  session.sleep_ms = config.sleep_ms.value_or(0);
  session.cold_when_unfit = policy.cold_when_unfit;
  session.log = config.log;
  session.workspace = policy.workspace.path;
  session.kept = policy.workspace.snapshot;
  for (const Volume& volume : config.volumes)
    if (!volume.name.empty()) session.volumes.push_back(volume.name);

  User user = find_user(config, policy, wrong);
  plan.id = config.id;
  plan.hostname = !config.hostname.empty() ? config.hostname : !policy.hostname.empty() ? policy.hostname : config.id.substr(0, 63);
  if (plan.hostname.size() > 64) wrong.add({"--hostname"}, "has at most 64 characters");
  plan.privileged_start = host.privileged;
  plan.init = true;
  for (NamespaceKind kind : {NamespaceKind::User, NamespaceKind::Mount, NamespaceKind::Pid, NamespaceKind::Network, NamespaceKind::Ipc,
                             NamespaceKind::Uts, NamespaceKind::Cgroup})
    plan.namespaces.push_back({kind, {}});
  plan.ids = map_ids(host, user);

  bool host_view = config.rootfs == "host";
  plan.root.overlay = Overlay{host.generated, {}, {}, host.upper, host.work};
  plan.root.overlay->lasting = !config.remove;
  if (std::uint64_t disk = within("--storage-opt", config.disk, policy.limits.disk, policy, format_size, wrong))
    plan.root.overlay->disk = DiskLimit{disk, policy.on_missing == Policy::Missing::Warn};
  if (!host_view) plan.root.overlay->lower = {config.rootfs};
  if (!host_view && host.privileged) plan.root.overlay->lower_ids = plan.ids;
  plan.root.read_only = config.read_only;
  if (host_view) add_host_view(host, policy, user, plan.hostname, plan);
  else add_rootfs(config, host, plan.hostname, plan, wrong);
  if (host_view && policy.rootfs.view != Policy::View::Host) wrong.add({"--rootfs"}, "policy {} wants a directory", policy.name);
  bool workspace_given = std::any_of(config.volumes.begin(), config.volumes.end(), [&](const Volume& v) { return clean(v.to) == policy.workspace.path; });
  if (!workspace_given) plan.files.push_back({policy.workspace.path + "/", "", "", 0755, user.uid, user.gid});

  add_init(host, plan);
  add_kernel_mounts(host, plan);
  add_volumes(config, policy, host, user, plan, wrong);
  place_workspace(config, policy, host, user, plan, wrong);
  protect_inputs(config, policy, plan, wrong);
  plan.process = make_process(config, policy, user, plan.hostname);
  for (const auto& [name, value] : policy.environment) session.fixed_env.push_back(name + "=" + value);
  for (const std::string& entry : session.fixed_env) set_variable(plan.process.env, entry);  // the policy has the last word
  std::uint64_t capabilities = granted_capabilities(config, policy, wrong);
  plan.process.capabilities = {capabilities, capabilities, capabilities, capabilities, capabilities};
  plan.seccomp = profiles;
  plan.cgroup.path = "/runner/" + config.id;
  plan.cgroup.limits = decide_limits(config, policy, wrong);
  plan.cgroup.warn_missing = policy.on_missing == Policy::Missing::Warn;

  if (!wrong.empty()) return std::nullopt;
  return session;
}

}  // namespace runner::plan
