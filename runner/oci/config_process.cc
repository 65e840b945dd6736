// The `process` object: who runs what, with which rights.
#include <sys/resource.h>

#include <algorithm>
#include <string_view>
#include <unordered_map>

#include "isolate/privileges.h"
#include "isolate/scheduling.h"
#include "runner/oci/config_parts.h"
#include "runner/oci/process.h"

namespace runner::oci {

using json::in_quotes;

namespace {

constexpr std::pair<const char*, int> kRlimits[] = {
    {"RLIMIT_AS", RLIMIT_AS},           {"RLIMIT_CORE", RLIMIT_CORE},         {"RLIMIT_CPU", RLIMIT_CPU},
    {"RLIMIT_DATA", RLIMIT_DATA},       {"RLIMIT_FSIZE", RLIMIT_FSIZE},       {"RLIMIT_LOCKS", RLIMIT_LOCKS},
    {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK}, {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}, {"RLIMIT_NICE", RLIMIT_NICE},
    {"RLIMIT_NOFILE", RLIMIT_NOFILE},   {"RLIMIT_NPROC", RLIMIT_NPROC},       {"RLIMIT_RSS", RLIMIT_RSS},
    {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},   {"RLIMIT_RTTIME", RLIMIT_RTTIME},     {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING},
    {"RLIMIT_STACK", RLIMIT_STACK}};

void read_user(json::Value user, isolate::Process& to) {
  user["uid"].read(to.uid, 0u, kLastId);
  user["gid"].read(to.gid, 0u, kLastId);
  user["umask"].read(to.umask, 0u, 0777u);
  user["additionalGids"].read(to.groups, 0u, kLastId);
  constexpr std::size_t kMostGroups = 65536;  // NGROUPS_MAX
  if (to.groups.size() > kMostGroups) user["additionalGids"].wrong("must not be more than {} groups", kMostGroups);
}

// The last of several values of one variable counts, as with runc; programs differ in which one they would find.
void read_environment(json::Value field, std::vector<std::string>& to) {
  std::vector<std::string> list;
  if (!field.read(list)) return;
  std::unordered_map<std::string_view, std::size_t> last;
  std::size_t i = 0;
  for (json::Value each : field.values()) {
    std::size_t equals = list[i].find('=');
    if (equals == 0 || equals == std::string::npos)
      each.wrong("must have the form NAME=value, not {}", in_quotes(list[i]));
    last[std::string_view(list[i]).substr(0, equals)] = i;
    ++i;
  }
  for (i = 0; i < list.size(); ++i)
    if (last[std::string_view(list[i]).substr(0, list[i].find('='))] == i) to.push_back(list[i]);
}

std::uint64_t read_capability_set(json::Value field, std::string& unknown) {
  std::vector<std::string> names;
  field.read(names);
  std::uint64_t set = 0;
  for (const std::string& name : names) {
    int number = name.rfind("CAP_", 0) == 0 ? isolate::capability_number(name) : -1;
    if (number >= 0)
      set |= std::uint64_t{1} << number;
    else if (unknown.size() < 1000)
      unknown += (unknown.empty() ? "" : ", ") + in_quotes(name);
  }
  return set;
}

std::string names_of(std::uint64_t set) {
  std::string names;
  for (int c = 0; c <= isolate::last_capability(); ++c)
    if (set & std::uint64_t{1} << c) names += (names.empty() ? "" : ", ") + isolate::capability_name(c);
  return names;
}

void read_capabilities(json::Value field, isolate::Capabilities& to, Warnings& warnings) {
  std::string unknown;
  to.bounding = read_capability_set(field["bounding"], unknown);
  to.effective = read_capability_set(field["effective"], unknown);
  to.inheritable = read_capability_set(field["inheritable"], unknown);
  to.permitted = read_capability_set(field["permitted"], unknown);
  // capabilities(7): a capability is only ambient while it is both permitted and inheritable. Engines list more.
  to.ambient = read_capability_set(field["ambient"], unknown);
  if (std::uint64_t idle = to.ambient & ~(to.permitted & to.inheritable))
    warn(warnings, "can't raise ambient capability {}: it is not both permitted and inheritable", names_of(idle));
  if (!unknown.empty())
    warn(warnings, "{}: ignoring capabilities that this kernel does not know: {}", field.name(), unknown);
  // capset(2) would answer EPERM to either, when it is too late to say why.
  if (std::uint64_t extra = to.effective & ~to.permitted)
    field["effective"].wrong("must not hold what is not permitted: {}", names_of(extra));
  if (std::uint64_t extra = to.inheritable & ~to.bounding)
    field["inheritable"].wrong("must not hold what is not in the bounding set: {}", names_of(extra));
}

void read_rlimits(json::Value list, std::vector<isolate::Rlimit>& to) {
  for (json::Value each : list.array().values()) {
    json::Value limit = each.object();
    std::string type;
    isolate::Rlimit value;
    if (!limit || !limit["type"].require(type)) continue;
    bool complete = limit["soft"].require(value.soft) & limit["hard"].require(value.hard);
    auto known = std::find_if(std::begin(kRlimits), std::end(kRlimits), [&](const auto& r) { return type == r.first; });
    if (known == std::end(kRlimits)) {
      limit["type"].wrong("must be a resource of setrlimit(2) such as RLIMIT_NOFILE, not {}", in_quotes(type));
      continue;
    }
    value.resource = known->second;
    if (std::any_of(to.begin(), to.end(), [&](const isolate::Rlimit& r) { return r.resource == value.resource; }))
      limit["type"].wrong("{} is there twice", type);
    else if (complete && value.soft > value.hard)
      limit.wrong("has a soft limit ({}) above the hard one ({})", value.soft, value.hard);
    else
      to.push_back(value);
  }
}

void read_terminal(json::Value process, isolate::Process& to) {
  bool terminal = false;
  process["terminal"].read(terminal);
  isolate::Terminal size;
  json::Value console = process["consoleSize"].object();
  console["height"].read(size.rows);
  console["width"].read(size.columns);
  if (terminal) to.terminal = size;
}

template <std::size_t N>
bool read_word(json::Value field, const std::pair<const char*, unsigned> (&known)[N], unsigned& to) {
  std::string word;
  if (!field.require(word)) return false;
  for (const auto& [name, number] : known)
    if (word == name) return to = number, true;
  std::string names;
  for (const auto& [name, number] : known) names += (names.empty() ? "" : ", ") + std::string(name);
  field.wrong("must be one of {}, not {}", names, in_quotes(word));
  return false;
}

// sched.h and sched_setattr(2).
void read_scheduler(json::Value scheduler, std::optional<isolate::Scheduler>& to) {
  constexpr std::pair<const char*, unsigned> kPolicies[] = {{"SCHED_OTHER", 0}, {"SCHED_FIFO", 1}, {"SCHED_RR", 2}, {"SCHED_BATCH", 3},
                                                            {"SCHED_ISO", 4},   {"SCHED_IDLE", 5}, {"SCHED_DEADLINE", 6}};
  constexpr std::pair<const char*, unsigned> kFlags[] = {{"SCHED_FLAG_RESET_ON_FORK", 1}, {"SCHED_FLAG_RECLAIM", 2},     {"SCHED_FLAG_DL_OVERRUN", 4},
                                                         {"SCHED_FLAG_KEEP_POLICY", 8},   {"SCHED_FLAG_KEEP_PARAMS", 16}, {"SCHED_FLAG_UTIL_CLAMP_MIN", 32},
                                                         {"SCHED_FLAG_UTIL_CLAMP_MAX", 64}};
  if (!scheduler || scheduler.blank()) return;
  isolate::Scheduler read;
  if (!read_word(scheduler["policy"], kPolicies, read.policy)) return;
  std::int64_t nice = 0, priority = 0;
  scheduler["nice"].read(nice, std::int64_t{-20}, std::int64_t{19});
  scheduler["priority"].read(priority, std::int64_t{0}, std::int64_t{99});
  read.nice = static_cast<std::int32_t>(nice), read.priority = static_cast<std::uint32_t>(priority);
  if (priority && read.policy != 1 && read.policy != 2) scheduler["priority"].wrong("is for SCHED_FIFO and SCHED_RR only");
  for (json::Value each : scheduler["flags"].array().values())
    if (unsigned flag = 0; read_word(each, kFlags, flag)) read.flags |= flag;
  scheduler["runtime"].read(read.runtime);
  scheduler["deadline"].read(read.deadline);
  scheduler["period"].read(read.period);
  if ((read.runtime || read.deadline || read.period) && read.policy != 6) scheduler.wrong("has runtime, deadline or period, which are for SCHED_DEADLINE only");
  to = read;
}

void read_io_priority(json::Value priority, std::optional<isolate::IoPriority>& to) {
  constexpr std::pair<const char*, unsigned> kClasses[] = {{"IOPRIO_CLASS_RT", 1}, {"IOPRIO_CLASS_BE", 2}, {"IOPRIO_CLASS_IDLE", 3}};
  if (!priority || priority.blank()) return;
  unsigned io_class = 0;
  isolate::IoPriority read;
  if (!read_word(priority["class"], kClasses, io_class)) return;
  priority["priority"].read(read.priority, 0, 7);
  read.io_class = static_cast<int>(io_class);
  to = read;
}

void read_cpus(json::Value field, std::string& to) {
  if (field.read(to) && !to.empty() && !isolate::parse_cpu_list(to)) field.wrong("must be a list of CPUs such as 0-2,5, not {}", in_quotes(to));
}

}  // namespace

void read_process(json::Value process, isolate::Process& to, const isolate::Capabilities& otherwise,
                  Warnings& warnings) {
  read_terminal(process, to);
  read_user(process["user"].object(), to);
  if (process["args"].require(to.argv) && to.argv.empty()) process["args"].wrong("must not be empty");
  read_environment(process["env"], to.env);
  if (process["cwd"].require(to.cwd)) to.cwd = absolute_path(process["cwd"], to.cwd);
  json::Value capabilities = process["capabilities"].object();
  if (capabilities)
    read_capabilities(capabilities, to.capabilities, warnings);
  else
    to.capabilities = otherwise;
  to.no_new_privileges = false;  // the specification's default, and not that of a session
  process["noNewPrivileges"].read(to.no_new_privileges);
  read_rlimits(process["rlimits"], to.rlimits);
  process["oomScoreAdj"].read(to.oom_score_adj, -1000, 1000);
  if (process["apparmorProfile"].read(to.apparmor) && to.apparmor == "unconfined") to.apparmor.clear();
  refuse(process["selinuxLabel"], "cannot be applied: this version does not support SELinux");
  read_scheduler(process["scheduler"].object(), to.scheduler);
  read_io_priority(process["ioPriority"].object(), to.io_priority);
  json::Value affinity = process["execCPUAffinity"].object();
  read_cpus(affinity["initial"], to.exec_cpus_initial);
  read_cpus(affinity["final"], to.exec_cpus);
}

std::optional<isolate::Process> read_process(std::string_view text, const std::string& name,
                                             const isolate::Capabilities& otherwise, std::vector<std::string>& warnings,
                                             Diagnostics& wrong) {
  std::size_t before = wrong.entries().size();
  json::Document document(text, name, wrong);
  if (!document) return std::nullopt;
  isolate::Process process;
  if (json::Value root = document.root().object()) read_process(root, process, otherwise, warnings);
  if (wrong.entries().size() != before) return std::nullopt;
  return process;
}

std::optional<isolate::Process> load_process(const std::string& path, const isolate::Capabilities& otherwise,
                                             std::vector<std::string>& warnings, Diagnostics& wrong) {
  auto text = json::read_text(path, wrong);
  if (!text) return std::nullopt;
  return read_process(*text, path, otherwise, warnings, wrong);
}

}  // namespace runner::oci
