// The cgroup of one sandbox: limits, placement, freeze, kill, counters, removal. cgroups(7), and the kernel's
// admin-guide/cgroup-v2. The v2 hierarchy is used wherever it is mounted; on a hybrid host the controllers that are bound
// to v1 hierarchies are set there (cgroup_v1.cc), behind this same interface.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "isolate/plan.h"
#include "isolate/sys/fd.h"

namespace isolate {

/// Where this host keeps its hierarchies.
struct CgroupHost {
  std::string v2;                          // mount point of the v2 hierarchy; empty: none
  std::string v2_base;                     // "" or the delegated part of it that this user may write to
  std::vector<std::string> v2_controllers; // available at v2 + v2_base
  std::map<std::string, std::string> v1;   // controller -> mount point
  bool writable = false;                   // whether this user can make groups at all
  bool operator==(const CgroupHost&) const = default;

  bool has(const std::string& controller) const;
};

/// Reads the mount table once, and for an ordinary user looks for a delegated subtree.
CgroupHost find_cgroup_host();

/// The v2 group of a process (0: of this one) below the mount point, as /proc/PID/cgroup has it; empty for the root.
std::string v2_group_of(pid_t pid);

/// Counters at one moment. Fields are 0 where the host cannot tell.
struct CgroupCounters {
  std::uint64_t oom_kills = 0;      // processes that the kernel killed for the memory limit
  std::uint64_t forks_refused = 0;  // by pids.max
  std::uint64_t memory_now = 0, memory_peak = 0;  // bytes
  std::uint64_t cpu_microseconds = 0, throttled_microseconds = 0;
  std::uint64_t pids_now = 0;
  std::string oom_source, pids_source;  // the files that said so: evidence for an event
};

/// Owns the directories of one group in all hierarchies: kills what is inside and removes them when destroyed.
class Cgroup {
 public:
  Cgroup() = default;
  Cgroup(Cgroup&&) noexcept = default;
  Cgroup& operator=(Cgroup&& other) noexcept;
  ~Cgroup();

  /// Makes the directories and sets the limits. Throws when a limit's controller is missing, unless the plan says
  /// warn_missing: then missing() names each limit that is not in force.
  static Cgroup create(const CgroupPlan& plan, const CgroupHost& host);
  /// A group that exists already; destroying the object leaves it alone.
  static Cgroup open(const std::string& path, const CgroupHost& host);

  int v2_fd() const noexcept { return v2_.get(); }  ///< for CLONE_INTO_CGROUP; -1 without a v2 hierarchy
  std::string v2_path() const { return v2_path_; }  ///< absolute; empty without one
  const std::vector<std::string>& missing() const noexcept { return missing_; }

  /// Lets `uid` (PID 1 of a session) start processes in this v2 group and those below it, by CLONE_INTO_CGROUP: it must be so for
  /// both ends' common ancestor as well. A move by cgroup.procs would wait for an RCU grace period, 10 ms and more.
  void let_enter(uid_t uid) const;
  /// Into the v1 groups, where nobody can be born, a child moves itself by enter_v1() (execute.h): these are descriptors of their `tasks`, with the rights
  /// of who calls. A move by somebody else, or of a whole process, would wait for an RCU grace period, 5 to 15 ms: the kernel's
  /// cgroup_procs_write_start() takes cgroup_threadgroup_rwsem for all but "0" in `tasks`.
  std::vector<sys::Fd> v1_doors() const;
  void place(pid_t pid) const;      ///< into all groups. Of a process that runs: the kernel takes 10 ms and more
  /// Moves all processes into a group "init" below, so that groups beside that one can have limits of their own: cgroup v2 wants
  /// processes only in leaves. Does nothing where the limits are set through v1.
  void make_room(const CgroupHost& host);
  void update(const Limits& limits);
  /// The same for a group in which something runs: throws when a controller that a limit needs is not there.
  void change(const Limits& limits, const CgroupHost& host);
  /// Whether groups below have controllers that keep processes out of this one: cgroups(7), the "no internal processes" rule of v2.
  bool takes_no_process() const;
  /// The group below this one at `path`, in the v2 hierarchy and those of `controllers` (empty: of all); elsewhere it stays this one. Throws when it is missing.
  Cgroup below(const std::string& path, const std::vector<std::string>& controllers) const;
  void freeze(bool frozen) const;   ///< returns once the request is made
  bool frozen() const;
  void kill() const;                ///< SIGKILL to all inside
  std::vector<pid_t> processes() const;
  bool populated() const;
  CgroupCounters counters() const;
  /// Files whose modification (inotify) means that a limit was met; and an eventfd of v1's OOM notifier, or empty.
  std::vector<std::string> event_files() const;
  sys::Fd v1_oom_event() const;
  /// v1's pids.events tells nobody when it changes (as of Linux 6.18): counters() must be asked from time to time.
  bool must_be_asked() const { return v1_.count("pids") > 0; }

  /// Kills and removes the group and all below it. Throws EBUSY when processes do not die.
  void remove();
  void leave() noexcept { owned_ = false; }  ///< it outlives this object

 private:
  std::string v2_path_;
  sys::Fd v2_;
  std::map<std::string, std::string> v1_;  // controller -> directory of this group
  std::vector<std::string> missing_;
  bool owned_ = false;
};

}  // namespace isolate
