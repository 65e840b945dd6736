#include "runner/config/policy_settings.h"

#include <algorithm>
#include <iterator>

#include "runner/config/units.h"

namespace runner {

namespace {

constexpr std::uint64_t kKiB = 1024, kMiB = kKiB * 1024, kGiB = kMiB * 1024, kTiB = kGiB * 1024;
constexpr std::uint64_t kSmallestMemory = 4 * kMiB;  // less does not start even a shell
constexpr std::uint64_t kLargestMemory = 1024 * kTiB;
constexpr std::uint64_t kMostPids = 4'194'304;  // PID_MAX_LIMIT of the kernel
constexpr std::uint64_t kMostCpus = 1'024'000;  // thousandths
constexpr std::uint64_t kLongestWall = 30ull * 24 * 3'600'000;
constexpr std::uint64_t kSmallestOutput = kKiB, kLargestOutput = kTiB;
constexpr std::uint64_t kLargestId = 65'535;  // a session has a range of 65 536 ids
constexpr std::size_t kLongestHostname = 64;  // __NEW_UTS_LEN
constexpr std::size_t kLongestPath = 4095;    // PATH_MAX without the end
constexpr std::size_t kLongestVolume = 128;   // as an id: runner/session/directories.h

// By the names of capabilities(7) without "CAP_".
constexpr std::string_view kCapabilities[] = {"AUDIT_CONTROL",   "AUDIT_READ",   "AUDIT_WRITE",
                                              "BLOCK_SUSPEND",   "BPF",          "CHECKPOINT_RESTORE",
                                              "CHOWN",           "DAC_OVERRIDE", "DAC_READ_SEARCH",
                                              "FOWNER",          "FSETID",       "IPC_LOCK",
                                              "IPC_OWNER",       "KILL",         "LEASE",
                                              "LINUX_IMMUTABLE", "MAC_ADMIN",    "MAC_OVERRIDE",
                                              "MKNOD",           "NET_ADMIN",    "NET_BIND_SERVICE",
                                              "NET_BROADCAST",   "NET_RAW",      "PERFMON",
                                              "SETFCAP",         "SETGID",       "SETPCAP",
                                              "SETUID",          "SYSLOG",       "SYS_ADMIN",
                                              "SYS_BOOT",        "SYS_CHROOT",   "SYS_MODULE",
                                              "SYS_NICE",        "SYS_PACCT",    "SYS_PTRACE",
                                              "SYS_RAWIO",       "SYS_RESOURCE", "SYS_TIME",
                                              "SYS_TTY_CONFIG",  "WAKE_ALARM"};

struct RlimitName {
  std::string_view name;
  bool is_size;  // bytes, which may be written as 64K; the others are counts or seconds
  std::string_view meaning;
};

constexpr RlimitName kRlimits[] = {
    {"as", true, "Address space of a process: a runaway allocation fails inside the program that makes it."},
    {"core", true, "Size of a core file: it is the memory of a process, secrets included, written to disk."},
    {"cpu", false, "Seconds of CPU time of a process: a busy loop is killed, however long the session may last."},
    {"data", true, "Heap of a process: a runaway allocation fails inside the program that makes it."},
    {"fsize", true, "Size of a file: one runaway log cannot fill the disk."},
    {"locks", false, "Locks on files, a limit that Linux itself no longer enforces."},
    {"memlock", true, "Memory that a process may lock: the kernel cannot take such memory back."},
    {"msgqueue", true, "Bytes in POSIX message queues of a user: they stay in the kernel after the process is gone."},
    {"nice", false, "How far a process may raise its priority (20 minus the value): above 20 others come after it."},
    {"nofile", false, "Open descriptors of a process: each is memory of the kernel."},
    {"nproc", false, "Processes and threads of a user: limits.pids is the stronger form of it."},
    {"rss", true, "Resident memory, a limit that Linux itself no longer enforces."},
    {"rtprio", false, "Real-time priority: a process that has it can keep everybody else off a CPU."},
    {"rttime", false, "Microseconds that a real-time process may run without waiting."},
    {"sigpending", false, "Signals that wait for the processes of a user: each is memory of the kernel."},
    {"stack", true, "Stack of a thread: endless recursion ends here."},
};

const RlimitName* find_rlimit(std::string_view name) {
  for (const RlimitName& resource : kRlimits)
    if (resource.name == name) return &resource;
  return nullptr;
}

// <cctype> asks the locale; these are the letters that the kernel's own names are made of.
bool is_letter_or_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

std::string upper(std::string text) {
  for (char& c : text)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  return text;
}

std::string did_you_mean(const std::optional<std::string>& word) {
  return word ? fmt::format(", did you mean '{}'?", *word) : std::string();
}

// ---- readers of one value ----------------------------------------------------------------------------------------

// Each item of a list that must hold text. `example` is a list that would be right.
template <typename Read>
void read_list(const Node& node, std::string_view what, std::string_view example, Reading& to, Read read) {
  if (node.kind() != Node::Kind::List)
    return to.refuse(node.where(), "{} must be a list such as {}, not {}", what, example, node.shown());
  for (const Node& item : node.items()) {
    if (item.kind() == Node::Kind::Text)
      read(item);
    else
      to.refuse(item.where(), "{} must hold text only, not {}", what, item.shown());
  }
}

std::optional<std::string> read_path(const Node& node, std::string_view what, Reading& to) {
  auto path = plain_path(node.text());
  if (!path) to.refuse(node.where(), "{} must be an absolute path without '.' and '..', not {}", what, node.shown());
  return path;
}

std::vector<std::string> read_paths(const Node& node, std::string_view what, Reading& to) {
  std::vector<std::string> paths;
  read_list(node, what, "[/opt/tools]", to, [&](const Node& item) {
    if (auto path = read_path(item, what, to)) paths.push_back(*path);
  });
  return paths;
}

void read_description(const Node& node, Reading& to) {
  if (node.kind() != Node::Kind::Text) return to.refuse(node.where(), "description must be text, not {}", node.shown());
  to.policy.description = node.text();
}

void read_view(const Node& node, Reading& to) {
  if (node.text() == "host")
    to.policy.rootfs.view = Policy::View::Host;
  else if (node.text() == "none")
    to.policy.rootfs.view = Policy::View::None;
  else
    to.refuse(node.where(), "view must be host or none, not {}", node.shown());
}

void read_expose(const Node& node, Reading& to) {
  to.policy.rootfs.expose = read_paths(node, "expose", to);
  for (const Node& item : node.items())
    if (plain_path(item.text()) == "/") to.refuse(item.where(), "expose may not hold '/': that is the whole host");
}

void read_user(const Node& node, Reading& to) {
  std::string_view text = node.text();
  if (text == "agent" || text == "root") {
    std::uint32_t id = text == "agent" ? 1000 : 0;
    to.policy.user = {node.text(), id, id};
    return;
  }
  std::size_t colon = text.find(':');
  auto uid = parse_whole(text.substr(0, colon));
  auto gid = colon == std::string_view::npos ? std::nullopt : parse_whole(text.substr(colon + 1));
  if (!uid || !gid)
    return to.refuse(node.where(), "user must be agent, root or UID:GID such as 1000:1000, not {}", node.shown());
  if (*uid > kLargestId || *gid > kLargestId)
    return to.refuse(node.where(), "user {} is out of range; ids inside are 0 to {}", node.text(), kLargestId);
  to.policy.user = {"", static_cast<std::uint32_t>(*uid), static_cast<std::uint32_t>(*gid)};
}

void read_workspace_path(const Node& node, Reading& to) {
  auto path = read_path(node, "workspace path", to);
  if (!path) return;
  if (*path == "/") return to.refuse(node.where(), "workspace path may not be '/': it is a folder below the root");
  for (std::string_view system : {"/proc", "/sys", "/dev"})
    if (is_within(*path, system))
      return to.refuse(node.where(), "workspace path {} is inside {}, which the kernel fills", *path, system);
  to.policy.workspace.path = *path;
}

void read_workspace_volume(const Node& node, Reading& to) {
  const std::string& name = node.text();
  auto fits = [](char c) { return c == '_' || c == '.' || c == '+' || c == '-' || is_letter_or_digit(c); };
  if (name.empty() || name.size() > kLongestVolume || name[0] == '.' || name[0] == '-' || !std::all_of(name.begin(), name.end(), fits))
    return to.refuse(node.where(), "volume must be a name of letters, digits, '_', '.', '+' and '-', not {}", node.shown());
  to.policy.workspace.volume = name;
}

void read_writable(const Node& node, Reading& to) { to.policy.binds.writable = read_paths(node, "writable", to); }
void read_forbid_sources(const Node& node, Reading& to) {
  to.policy.binds.forbid_sources = read_paths(node, "forbid_sources", to);
}

template <Policy::Limits Policy::*Of>
void read_memory(const Node& node, Reading& to) {
  auto bytes = parse_size(node.text());
  if (!bytes) return to.refuse(node.where(), "memory must be a size such as 512MiB, not {}", node.shown());
  if (*bytes < kSmallestMemory)
    return to.refuse(node.where(), "memory {} is too small to start anything; the least is {}", node.text(),
                     format_size(kSmallestMemory));
  if (*bytes > kLargestMemory)
    return to.refuse(node.where(), "memory {} is too large; the most is {}", node.text(), format_size(kLargestMemory));
  (to.policy.*Of).memory = bytes;
}

void read_disk_size(const Node& node, std::string_view what, std::optional<std::uint64_t>& size, Reading& to) {
  auto bytes = parse_size(node.text());
  if (!bytes) return to.refuse(node.where(), "{} must be a size such as 4G, not {}", what, node.shown());
  if (*bytes < Policy::kLeastDisk || *bytes > Policy::kMostDisk)
    return to.refuse(node.where(), "{} must be from {} to {}, not {}", what, format_size(Policy::kLeastDisk), format_size(Policy::kMostDisk), node.text());
  size = bytes;
}

void read_disk(const Node& node, Reading& to) { read_disk_size(node, "disk", to.policy.limits.disk, to); }
void read_quota(const Node& node, Reading& to) { read_disk_size(node, "quota", to.policy.workspace.quota, to); }

void read_inputs(const Node& node, Reading& to) {
  if (node.text() != "read-only" && node.text() != "writable")
    return to.refuse(node.where(), "inputs must be read-only or writable, not {}", node.shown());
  to.policy.workspace.read_only_inputs = node.text() == "read-only";
}

void read_kept(const Node& node, Reading& to) {
  for (Policy::Kept kept : {Policy::Kept::Share, Policy::Kept::Copy, Policy::Kept::Exclude})
    if (node.text() == word(kept)) return static_cast<void>(to.policy.workspace.snapshot = kept);
  to.refuse(node.where(), "snapshot must be share, copy or exclude, not {}", node.shown());
}

void read_cpus(const Node& node, Reading& to) {
  auto cpus = parse_cpus(node.text());
  if (!cpus) return to.refuse(node.where(), "cpus must be a number above 0 such as 1.5, not {}", node.shown());
  if (*cpus > kMostCpus)
    return to.refuse(node.where(), "cpus {} is too many; the most is {}", node.text(), format_cpus(kMostCpus));
  to.policy.limits.cpus = cpus;
}

template <Policy::Limits Policy::*Of>
void read_pids(const Node& node, Reading& to) {
  auto pids = parse_whole(node.text());
  if (!pids || *pids < 1 || *pids > kMostPids)
    return to.refuse(node.where(), "pids must be a whole number from 1 to {}, not {}", kMostPids, node.shown());
  (to.policy.*Of).pids = pids;
}

template <Policy::Limits Policy::*Of>
void read_wall(const Node& node, Reading& to) {
  auto time = parse_duration(node.text());
  if (!time || *time == 0)
    return to.refuse(node.where(), "wall must be a time such as 30s, 5m or 2h, not {}", node.shown());
  if (*time > kLongestWall)
    return to.refuse(node.where(), "wall {} is too long; the most is {} (30 days)", node.text(),
                     format_duration(kLongestWall));
  (to.policy.*Of).wall = time;
}

void read_output(const Node& node, Reading& to) {
  auto bytes = parse_size(node.text());
  if (!bytes) return to.refuse(node.where(), "output must be a size such as 64M, not {}", node.shown());
  if (*bytes < kSmallestOutput || *bytes > kLargestOutput)
    return to.refuse(node.where(), "output {} is out of range; it is {} to {}", node.text(),
                     format_size(kSmallestOutput), format_size(kLargestOutput));
  to.policy.limits.output = bytes;
}

void read_on_missing(const Node& node, Reading& to) {
  if (node.text() == "error")
    to.policy.on_missing = Policy::Missing::Error;
  else if (node.text() == "warn")
    to.policy.on_missing = Policy::Missing::Warn;
  else
    to.refuse(node.where(), "on_missing must be error or warn, not {}", node.shown());
}

void read_unfit(const Node& node, Reading& to) {
  if (node.text() != "refuse" && node.text() != "cold") return to.refuse(node.where(), "unfit must be refuse or cold, not {}", node.shown());
  to.policy.cold_when_unfit = node.text() == "cold";
}

void read_capabilities(const Node& node, Reading& to) {
  std::vector<std::string> capabilities;
  read_list(node, "capabilities", "[NET_BIND_SERVICE], or [] for none", to, [&](const Node& item) {
    std::string name = upper(item.text());
    if (name.starts_with("CAP_")) name.erase(0, 4);
    if (std::find(std::begin(kCapabilities), std::end(kCapabilities), name) != std::end(kCapabilities))
      return capabilities.push_back("CAP_" + name);
    auto meant = nearest(name, {std::begin(kCapabilities), std::end(kCapabilities)});
    to.refuse(item.where(), "unknown capability {}{}", item.shown(), did_you_mean(meant));
  });
  to.policy.capabilities = capabilities;
}

// A name is looked up by whoever loads the filters. A path is made whole now, while the file that named it is known.
void read_profiles(const Node& node, Reading& to) {
  std::vector<std::string> profiles;
  auto read = [&](const Node& item) {
    const std::string& text = item.text();
    bool is_path = text.find('/') != std::string::npos || text.ends_with(".json");
    if (text.empty())
      to.refuse(item.where(), "a seccomp profile must have a name; write [] for no filter");
    else if (is_path && text[0] != '/' && !to.folder.empty())
      profiles.push_back(to.folder + "/" + text);
    else
      profiles.push_back(text);
  };
  if (node.kind() == Node::Kind::Text)
    read(node);
  else
    read_list(node, "a seccomp profile", "[agent, agent-arguments]", to, read);
  to.policy.seccomp = profiles;
}

void read_environment(const Node& node, Reading& to) {
  if (node.kind() != Node::Kind::Mapping)
    return to.refuse(node.where(), "environment must be a mapping such as {{LANG: C.UTF-8}}, not {}", node.shown());
  for (const Node& variable : node.items()) {
    const std::string& name = variable.key();
    auto fits = [](char c) { return c == '_' || is_letter_or_digit(c); };
    if (name.empty() || (name[0] >= '0' && name[0] <= '9') || !std::all_of(name.begin(), name.end(), fits)) {
      to.refuse(variable.key_where(), "{} cannot be the name of a variable; letters, digits and '_' can", quote(name));
    } else if (variable.kind() != Node::Kind::Text) {
      to.refuse(variable.where(), "variable {} must be text (\"\" for an empty one), not {}", name, variable.shown());
    } else {
      to.policy.environment[name] = variable.text();
      to.policy.set_at["environment." + name] = variable.key_where();
    }
  }
}

std::optional<std::uint64_t> parse_rlimit(std::string_view text, bool is_size) {
  if (text == "unlimited") return Policy::kUnlimited;
  return is_size ? parse_size(text) : parse_whole(text);
}

void read_rlimit(const Node& node, const RlimitName& resource, Reading& to) {
  std::string_view text = node.text();
  std::size_t colon = text.find(':');
  auto soft = parse_rlimit(text.substr(0, colon), resource.is_size);
  auto hard = colon == std::string_view::npos ? soft : parse_rlimit(text.substr(colon + 1), resource.is_size);
  if (!soft || !hard)
    return to.refuse(node.where(), "rlimit {} must be {}, SOFT:HARD or unlimited, not {}", resource.name,
                     resource.is_size ? "a size such as 64K" : "a whole number", node.shown());
  if (*soft > *hard)
    return to.refuse(node.where(), "rlimit {}: the soft limit is above the hard one in '{}'", resource.name, text);
  std::string name(resource.name);
  to.policy.rlimits[name] = {*soft, *hard};
  to.policy.set_at["rlimits." + name] = node.key_where();
}

void read_rlimits(const Node& node, Reading& to) {
  if (node.kind() != Node::Kind::Mapping)
    return to.refuse(node.where(), "rlimits must be a mapping such as {{core: 0}}, not {}", node.shown());
  for (const Node& item : node.items()) {
    if (const RlimitName* resource = find_rlimit(item.key())) {
      read_rlimit(item, *resource, to);
      continue;
    }
    std::vector<std::string> names;
    for (const RlimitName& known : kRlimits) names.emplace_back(known.name);
    auto meant = nearest(item.key(), names);
    to.refuse(item.key_where(), "unknown rlimit {}{}", quote(item.key()), did_you_mean(meant));
  }
}

void read_hostname(const Node& node, Reading& to) {
  auto fits = [](char c) { return c == '-' || c == '.' || is_letter_or_digit(c); };
  const std::string& name = node.text();
  bool good = !name.empty() && name.size() <= kLongestHostname && name[0] != '-' && name[0] != '.';
  if (!good || !std::all_of(name.begin(), name.end(), fits))
    return to.refuse(node.where(), "hostname must be 1 to {} letters, digits, '-' and '.', not {}", kLongestHostname,
                     node.shown());
  to.policy.hostname = name;
}

// ---- what `policy explain` prints --------------------------------------------------------------------------------

std::string show_list(const std::vector<std::string>& items) { return fmt::format("[{}]", fmt::join(items, ", ")); }

std::string show_view(Policy::View view) { return view == Policy::View::Host ? "host" : "none"; }
std::string show_missing(Policy::Missing missing) { return missing == Policy::Missing::Warn ? "warn" : "error"; }
std::string format_count(std::uint64_t count) { return std::to_string(count); }

template <typename Format>
std::string show_limit(const std::optional<std::uint64_t>& limit, Format format) {
  return limit ? format(*limit) : "no limit";
}

std::string show_user(const Policy::User& user) {
  std::string ids = fmt::format("{}:{}", user.uid, user.gid);
  return user.name.empty() ? ids : fmt::format("{} ({})", user.name, ids);
}

// ---- every key ---------------------------------------------------------------------------------------------------

constexpr Setting kSettings[] = {
    {"", "description", read_description, [](const Policy& p) { return quote(p.description); },
     "Says in one line whom the policy is for."},
    {"rootfs", "view", read_view, [](const Policy& p) { return show_view(p.rootfs.view); },
     "The root that the workload sees: host shows this machine's system folders read-only, none asks for --rootfs."},
    {"rootfs", "expose", read_expose, [](const Policy& p) { return show_list(p.rootfs.expose); },
     "More folders of the host, read-only in the same place: what is not named cannot be read."},
    {"", "user", read_user, [](const Policy& p) { return show_user(p.user); },
     "Whom the workload runs as: an ordinary user cannot change what the image or the host installed."},
    {"workspace", "path", read_workspace_path, [](const Policy& p) { return p.workspace.path; },
     "The one folder that is the workload's own, and where it starts."},
    {"workspace", "volume", read_workspace_volume, [](const Policy& p) { return p.workspace.volume.empty() ? "none" : p.workspace.volume; },
     "The named volume that is there unless the caller brings another: the work of one session goes on in the next."},
    {"workspace", "inputs", read_inputs, [](const Policy& p) { return std::string(p.workspace.read_only_inputs ? "read-only" : "writable"); },
     "Its folder inputs: when that is read-only, what the work was done on can be compared with what came out."},
    {"workspace", "quota", read_quota, [](const Policy& p) { return show_limit(p.workspace.quota, format_size); },
     "Bytes that the workspace alone may take on the disk."},
    {"workspace", "snapshot", read_kept, [](const Policy& p) { return std::string(word(p.workspace.snapshot)); },
     "What a session that comes out of a snapshot has there: share the same folder or volume, copy its own as it was then, exclude an empty one."},
    {"binds", "writable", read_writable, [](const Policy& p) { return show_list(p.binds.writable); },
     "Binds (-v) may be writable only at or below these places inside: elsewhere nothing of the host can be changed."},
    {"binds", "forbid_sources", read_forbid_sources, [](const Policy& p) { return show_list(p.binds.forbid_sources); },
     "Places of the host that no bind may show, not even read-only: they hold keys, devices or control over the host."},
    {"limits", "memory", read_memory<&Policy::limits>, [](const Policy& p) { return show_limit(p.limits.memory, format_size); },
     "Memory of all processes together: a leak or a memory bomb ends in the sandbox, not on the host."},
    {"limits", "cpus", read_cpus, [](const Policy& p) { return show_limit(p.limits.cpus, format_cpus); },
     "CPU time per second, in CPUs: a busy loop leaves the rest to the other sandboxes."},
    {"limits", "pids", read_pids<&Policy::limits>, [](const Policy& p) { return show_limit(p.limits.pids, format_count); },
     "Processes and threads together: a fork bomb stops here."},
    {"limits", "disk", read_disk, [](const Policy& p) { return show_limit(p.limits.disk, format_size); },
     "Bytes that the files of the sandbox may take: a flood of them cannot fill the disk that all sandboxes share."},
    {"limits", "wall", read_wall<&Policy::limits>, [](const Policy& p) { return show_limit(p.limits.wall, format_duration); },
     "Time from start to end: a workload that hangs is ended and reported as a timeout."},
    {"limits", "output", read_output, [](const Policy& p) { return show_limit(p.limits.output, format_size); },
     "Bytes of stdout and stderr together: a flood cannot fill the disk that holds the log."},
    {"tool_call", "memory", read_memory<&Policy::tool_call>, [](const Policy& p) { return show_limit(p.tool_call.memory, format_size); },
     "Memory of one call (exec) and what it starts: it dies of it alone, and the session lives."},
    {"tool_call", "pids", read_pids<&Policy::tool_call>, [](const Policy& p) { return show_limit(p.tool_call.pids, format_count); },
     "Processes and threads of one call together."},
    {"tool_call", "wall", read_wall<&Policy::tool_call>, [](const Policy& p) { return show_limit(p.tool_call.wall, format_duration); },
     "Time of one call that somebody waits for. A service has none: it is there to go on."},
    {"", "on_missing", read_on_missing, [](const Policy& p) { return show_missing(p.on_missing); },
     "A limit that this host cannot enforce: error refuses to start, warn starts and names the limit in an event."},
    {"restore", "unfit", read_unfit, [](const Policy& p) { return std::string(p.cold_when_unfit ? "cold" : "refuse"); },
     "A snapshot whose processes cannot go on here (kernel, CPU, a changed library): cold begins its command anew on its files, and says so."},
    {"", "capabilities", read_capabilities, [](const Policy& p) { return show_list(p.capabilities); },
     "The privileges of root, one by one, that the workload may have: each widens what the kernel lets it try."},
    {"seccomp", "profile", read_profiles, [](const Policy& p) { return show_list(p.seccomp); },
     "Filters of system calls, all of them loaded: what one of them does not allow is refused."},
    {"", "environment", read_environment, nullptr, "Variables that every workload gets, whatever the caller says."},
    {"", "rlimits", read_rlimits, nullptr, "Limits of each single process: setrlimit(2)."},
    {"", "hostname", read_hostname, [](const Policy& p) { return quote(p.hostname); },
     "The name that the sandbox calls itself: the host's own is nobody's business inside."},
};

constexpr NotBuilt kNotBuilt[] = {
    {"", "egress", "the sandbox has no network"},
    {"", "watch", "the seccomp filters are what stops system calls"},
};

// How many letters must be put in, left out or changed to make one word of the other (Levenshtein).
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::span<const Setting> all_settings() { return kSettings; }
std::span<const NotBuilt> all_not_built() { return kNotBuilt; }

std::string show_rlimit(const std::string& name, const Policy::Rlimit& limit) {
  const RlimitName* resource = find_rlimit(name);
  bool is_size = resource && resource->is_size;
  auto show = [&](std::uint64_t value) -> std::string {
    if (value == Policy::kUnlimited) return "unlimited";
    return is_size ? format_size(value) : std::to_string(value);
  };
  return limit.soft == limit.hard ? show(limit.soft) : show(limit.soft) + ":" + show(limit.hard);
}

std::string_view rlimit_meaning(const std::string& name) {
  const RlimitName* resource = find_rlimit(name);
  return resource ? resource->meaning : std::string_view();
}

std::optional<std::string> nearest(std::string_view text, const std::vector<std::string>& candidates) {
  std::size_t least = std::min<std::size_t>(2, std::max<std::size_t>(1, text.size() / 3)) + 1;
  std::optional<std::string> best;
  for (const std::string& candidate : candidates) {
    if (text.size() > candidate.size() + 2) continue;  // too far in any case, and perhaps very long
    std::size_t distance = edit_distance(text, candidate);
    if (distance >= least) continue;
    least = distance;
    best = candidate;
  }
  return best;
}

std::optional<std::string> plain_path(std::string_view text) {
  if (text.empty() || text[0] != '/' || text.size() > kLongestPath) return std::nullopt;
  std::string path;
  while (!text.empty()) {
    std::size_t end = std::min(text.find('/'), text.size());
    std::string_view part = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (part == "." || part == "..") return std::nullopt;
    if (!part.empty()) path.append("/").append(part);
  }
  return path.empty() ? "/" : path;
}

bool is_within(std::string_view path, std::string_view folder) {
  if (folder == "/" || path == folder) return true;
  return path.size() > folder.size() && path.substr(0, folder.size()) == folder && path[folder.size()] == '/';
}

}  // namespace runner
