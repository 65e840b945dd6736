#include "runner/session/entry.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/session/rename.h"
#include "runner/session/time.h"

namespace runner::session {

using namespace isolate::sys;
using json = nlohmann::ordered_json;

namespace {

// Entries in the making, and ones that are being removed. The lock is taken before the first rename and its file goes last, so a
// sweep that gets it has found a dead maker or remover; one that finds no lock may only remove an empty directory.
constexpr const char* kAside = ".new-";
constexpr const char* kGone = ".old-";

json hooks_to_json(const std::vector<isolate::Hook>& hooks) {
  json list = json::array();
  for (const isolate::Hook& h : hooks) {
    list.push_back({{"path", h.path}, {"args", h.args}});
    if (h.env) list.back()["env"] = *h.env;
    if (h.timeout) list.back()["timeout"] = *h.timeout;
  }
  return list;
}

std::vector<isolate::Hook> hooks_from_json(const json& j, const char* key) {
  std::vector<isolate::Hook> hooks;
  for (const json& h : j.value(key, json::array())) {
    hooks.push_back({h.at("path"), h.at("args"), std::nullopt, std::nullopt});
    if (h.contains("env")) hooks.back().env = h["env"].get<std::vector<std::string>>();
    if (h.contains("timeout")) hooks.back().timeout = h["timeout"].get<int>();
  }
  return hooks;
}

// Only with what still is the lock of that directory: between open and flock it may have been removed, and made anew by another.
bool lock_now(const Fd& file, const std::string& path) {
  struct stat locked, there;
  return ::flock(file.get(), LOCK_EX | LOCK_NB) == 0 && ::fstat(file.get(), &locked) == 0 && ::stat((path + "/lock").c_str(), &there) == 0 &&
         locked.st_dev == there.st_dev && locked.st_ino == there.st_ino;
}

Fd open_lock(const std::string& path) { return Fd(::open((path + "/lock").c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW)); }

void remove_directory(const std::string& path) {
  for (const std::string& name : list_dir(path))
    if (name != "lock") remove_tree(path + "/" + name);
  ::unlink((path + "/lock").c_str());
  ::rmdir(path.c_str());
}

Fd make_aside(const std::string& path) {
  for (int tries = 0; tries < 100; ++tries) {
    check(::mkdir(path.c_str(), 0700), "make directory {}", path);
    // A sweep may take the directory between these lines, as it has no lock yet: then it is made again.
    Fd lock(::open((path + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!lock && errno != ENOENT) fail(errno, "make {}", path + "/lock");
    if (lock && lock_now(lock, path)) return lock;
    remove_directory(path);
  }
  fail(EAGAIN, "make directory {}", path);
}

// A session whose supervisor died: nothing of it may stay that costs anything. Its log stays unless it was to be removed.
void bury(const Directories& directories, const isolate::CgroupHost& cgroups, Entry& entry) {
  auto text = find_file(entry.file("state.json"));
  if (!text) {  // its supervisor died before it had anything but names
    State unborn;
    unborn.id = entry.id();
    unborn.is_session = true;
    unborn.cgroup = cgroups.v2_base + "/runner/" + entry.id();
    remove_remains(directories, cgroups, unborn, true);
    return entry.remove();
  }
  State state = entry.read_state();
  if (!state.is_session || state.ended) return;
  bool removes = state.remove && find_suspended(directories, state.id).empty();
  remove_remains(directories, cgroups, state, removes);
  if (removes) return entry.remove();
  state.ended = true;
  state.pid = 0;
  state.suspended = find_suspended(directories, state.id);
  state.result = state.suspended.empty() ? "runner-error" : "suspended";
  state.finished = rfc3339_now();  // when it was found
  entry.write_state(state);
}

}  // namespace

std::string find_suspended(const Directories& directories, const std::string& id) {
  return find_file(directories.session_data(id) + "/suspended").value_or("");
}

void write_suspended(const Directories& directories, const std::string& id, const std::string& snapshot) {
  replace_file(directories.session_data(id) + "/suspended", snapshot, 0600, true);
}

void remove_suspended(const Directories& directories, const std::string& id) { ::unlink((directories.session_data(id) + "/suspended").c_str()); }

const char* status_name(Status status) {
  constexpr const char* kNames[] = {"creating", "created", "running", "paused", "stopped"};
  return kNames[static_cast<int>(status)];
}

Entry Entry::create(const Directories& directories, const std::string& id) {
  make_dirs(directories.run, 0700);
  Entry entry;
  entry.id_ = id;
  entry.path_ = directories.run + "/" + id;
  std::string aside = fmt::format("{}/{}{}-{}", directories.run, kAside, id, ::getpid());
  entry.lock_ = make_aside(aside);
  auto rename = [&] { return ::renameat2(AT_FDCWD, aside.c_str(), AT_FDCWD, entry.path_.c_str(), RENAME_NOREPLACE); };
  auto claim = [&] {
    if (rename() != 0) return false;
    // The name may be one that a session is just giving up: its data goes before ours comes.
    if (!finish_rename(directories)) entry.remove(), fail(EBUSY, "make {} (a `runner rename` has begun and does not go on)", entry.path_);
    return true;
  };
  if (claim()) return entry;
  int code = errno;
  if (auto old = code == EEXIST ? find(directories, id) : std::nullopt; old && old->try_lock()) {
    try {
      bury(directories, isolate::find_cgroup_host(), *old);
    } catch (const json::exception&) {
      remove_directory(aside);
      fail(EEXIST, "make {} (the id is in use by a session whose state.json cannot be read: `runner rm -f {}` removes it)", entry.path_, id);
    }
    if (!find(directories, id) && claim()) return entry;
  }
  remove_directory(aside);
  fail(code, "make {} (the id is in use)", entry.path_);
}

std::optional<Entry> Entry::find(const Directories& directories, const std::string& id) {
  Entry entry;
  entry.id_ = id;
  entry.path_ = directories.run + "/" + id;
  if (!why_bad_id(id).empty() || !find_dir(entry.path_)) return std::nullopt;
  return entry;
}

State Entry::read_state() const {
  auto state = find_state();
  if (!state) fail(ENOENT, "read {}", file("state.json"));
  return std::move(*state);
}

std::optional<State> Entry::find_state() const {
  auto text = find_file(file("state.json"));  // a command line may have megabytes
  if (!text) return std::nullopt;
  json j = json::parse(*text);
  State s;
  s.id = j.value("id", id_);
  s.is_session = j.value("session", false);
  s.oci_version = j.value("ociVersion", "1.2.0");
  s.bundle = j.value("bundle", "");
  s.rootfs = j.value("rootfs", "");
  s.annotations = j.value("annotations", s.annotations);
  s.created = j.value("created", "");
  s.owner = j.value("owner", 0);
  s.pid = j.value("pid", 0);
  s.start_time = j.value("startTime", std::uint64_t{0});
  s.cgroup = j.value("cgroup", "");
  s.config = j.value("config", "");
  s.scope = j.value("scope", "");
  s.notify = j.value("notify", "");
  s.held = j.value("held", false);
  s.ended = j.value("ended", false);
  s.remove = j.value("remove", false);
  s.started = j.value("started", false);
  s.poststart = hooks_from_json(j, "poststart");
  s.poststop = hooks_from_json(j, "poststop");
  s.result = j.value("result", "");
  s.exit_code = j.value("exitCode", -1);
  s.policy = j.value("policy", "");
  s.user = j.value("user", "");
  s.cwd = j.value("cwd", "");
  s.command = j.value("command", s.command);
  s.env_names = j.value("env", s.env_names);
  s.limits = j.value("limits", s.limits);
  s.finished = j.value("finished", "");
  s.sleep_ms = j.value("sleepMs", std::uint64_t{0});
  s.asleep_since = j.value("asleepSince", "");
  s.volumes = j.value("volumes", s.volumes);
  s.suspended = j.value("suspended", "");
  s.stays_in_memory = j.value("staysInMemory", "");
  s.standby = j.value("standby", false);
  s.kept_by = j.value("keptBy", s.kept_by);
  return s;
}

void Entry::write_state(const State& s) const {
  json j{{"version", 1},           {"id", s.id},           {"session", s.is_session}, {"ociVersion", s.oci_version},
         {"bundle", s.bundle},     {"rootfs", s.rootfs},   {"annotations", s.annotations}, {"created", s.created},
         {"owner", s.owner},       {"pid", s.pid},         {"startTime", s.start_time}, {"cgroup", s.cgroup},
         {"ended", s.ended},       {"remove", s.remove},   {"started", s.started},    {"result", s.result},
         {"exitCode", s.exit_code},
         {"poststart", hooks_to_json(s.poststart)}, {"poststop", hooks_to_json(s.poststop)}};
  if (!s.config.empty()) j["config"] = s.config;
  if (!s.scope.empty()) j["scope"] = s.scope;
  if (!s.notify.empty()) j["notify"] = s.notify;
  if (s.held) j["held"] = true;
  if (s.is_session)
    j.update({{"policy", s.policy}, {"user", s.user}, {"cwd", s.cwd}, {"command", s.command}, {"env", s.env_names},
              {"limits", s.limits}, {"finished", s.finished}, {"sleepMs", s.sleep_ms}, {"asleepSince", s.asleep_since}, {"volumes", s.volumes}, {"keptBy", s.kept_by}, {"suspended", s.suspended}, {"standby", s.standby},
              {"staysInMemory", s.stays_in_memory}});
  replace_file(file("state.json"), j.dump(-1, ' ', true, json::error_handler_t::replace), 0600);
}

void Entry::write_process(const isolate::init::SpawnRequest& process) const {
  replace_file(file("process"), isolate::init::encode(process), 0600);
}

isolate::init::SpawnRequest Entry::read_process() const { return isolate::init::decode_spawn(read_file(file("process"))); }

bool Entry::try_lock() {
  if (!lock_) lock_ = open_lock(path_);
  if (lock_ && lock_now(lock_, path_)) return true;
  lock_.close();
  return false;
}

void Entry::lock() {
  if (!lock_) lock_ = open_lock(path_);
  if (!lock_ && errno == ENOENT) return;  // it is gone, or about to go
  check(lock_.get(), "open {}", file("lock"));
  while (::flock(lock_.get(), LOCK_EX) == -1)
    if (errno != EINTR) fail(errno, "lock {}", file("lock"));
}

// It vanishes at once, and nobody sees half of it: a sweep would take one without a lock for a dead session's.
void Entry::remove() {
  std::size_t slash = path_.rfind('/');
  std::string aside = fmt::format("{}{}{}-{}", path_.substr(0, slash + 1), kGone, id_, ::getpid());
  if (::rename(path_.c_str(), aside.c_str()) == -1) {
    if (errno == ENOENT) return;
    fail(errno, "remove {}", path_);
  }
  remove_directory(aside);
}

std::vector<std::string> list_entries(const Directories& directories) {
  std::vector<std::string> ids;
  for (const std::string& name : list_dir(directories.run))
    if (name[0] != '.' && find_dir(directories.run + "/" + name)) ids.push_back(name);
  return ids;
}

int pid_inside(pid_t pid) {
  std::string status = find_file(fmt::format("/proc/{}/status", pid)).value_or("");
  std::size_t at = status.find("\nNSpid:");
  int outer = 0, inner = 0;
  return at != std::string::npos && std::sscanf(status.c_str() + at + 7, "%d %d", &outer, &inner) == 2 ? inner : 0;
}

std::uint64_t start_time_of(pid_t pid) {
  auto text = find_file(fmt::format("/proc/{}/stat", pid));
  if (!text) return 0;
  // The second field is the name in parentheses, which may hold anything: count from its end.
  std::istringstream rest(text->substr(std::min(text->rfind(')') + 1, text->size())));
  std::string field;
  for (int n = 3; rest >> field; ++n) {
    if (n == 3 && (field == "Z" || field == "X")) return 0;
    if (n == 22) return std::stoull(field);
  }
  return 0;
}

Fd open_process(const State& state) {
  if (state.pid <= 0) return Fd();
  Fd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, state.pid, 0)));
  // Checked behind the open: from then on the descriptor means this process and no other.
  if (!pidfd || start_time_of(state.pid) != state.start_time) return Fd();
  return pidfd;
}

Status status_of(const State& state, const isolate::CgroupHost& cgroups) {
  if (state.pid == 0) return state.ended ? Status::Stopped : state.started ? Status::Stopped : Status::Creating;
  if (!open_process(state)) return Status::Stopped;
  if (state.held) return Status::Created;
  if (!state.cgroup.empty() && isolate::Cgroup::open(state.cgroup, cgroups).frozen()) return Status::Paused;
  return state.started ? Status::Running : Status::Created;
}

void remove_remains(const Directories& directories, const isolate::CgroupHost& cgroups, const State& state, bool files) {
  if (Fd process = open_process(state)) signal_pidfd(process.get(), SIGKILL);
  isolate::Cgroup::open(state.cgroup, cgroups).remove();
  if (files && state.is_session) remove_tree(directories.session_data(state.id));
}

void settle(const Directories& directories, const isolate::CgroupHost& cgroups, Entry& entry) {
  if (!entry.try_lock()) return;
  bury(directories, cgroups, entry);
  entry.unlock();
}

void sweep(const Directories& directories, const isolate::CgroupHost& cgroups) {
  for (const std::string& name : list_dir(directories.run)) {
    if (name.rfind(kAside, 0) == 0 || name.rfind(kGone, 0) == 0) {
      std::string path = directories.run + "/" + name;
      Fd lock = open_lock(path);
      if (!lock) ::rmdir(path.c_str());
      else if (lock_now(lock, path)) remove_directory(path);
    } else if (auto entry = name[0] == '.' ? std::nullopt : Entry::find(directories, name); entry && entry->try_lock()) {
      try {
        bury(directories, cgroups, *entry);
      } catch (const nlohmann::json::exception&) {
        // A damaged state.json is no reason to start nothing any more: the verbs that are asked about it say what is wrong.
      }
    }
  }
}

}  // namespace runner::session
