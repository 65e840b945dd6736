// One session or container in the run directory: <run>/<id>/{lock, state.json, process, ...}.
//
// An entry comes into being complete with its lock held: it is made aside and renamed. So a directory whose lock is free belongs
// to nobody that is alive, and whoever takes that lock may clean up after the dead.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "isolate/cgroup.h"
#include "isolate/init/protocol.h"
#include "isolate/sys/fd.h"
#include "runner/session/directories.h"

namespace runner::session {

/// What state.json holds; times are RFC 3339.
struct State {
  std::string id;
  bool is_session = false;       // false: an OCI container
  std::string oci_version;
  std::string bundle, rootfs;
  std::string config;            // of a container, where it is not the bundle's config.json
  std::map<std::string, std::string> annotations;
  std::string created;
  int owner = 0;                 // uid of the caller
  pid_t pid = 0;                 // PID 1, as the host sees it; 0 before and after
  std::uint64_t start_time = 0;  // field 22 of /proc/PID/stat: tells this process from a later one of the same number
  std::string cgroup;            // CgroupPlan::path
  std::string scope;             // the unit of systemd that it is in; empty: none
  bool ended = false;            // its supervisor has finished with it
  bool remove = false;           // --rm
  bool started = false;          // `start` was called; always so for `run`
  bool held = false;             // restored, and frozen until `start`
  std::string notify;            // sd_notify(3): who is told that it is ready; empty: nobody
  std::vector<isolate::Hook> poststart, poststop;  // what is left to run of a container's hooks
  std::string result;            // of an ended session
  int exit_code = -1;
  // Of sessions, for people and schedulers. New fields go at the end: old files have none of them.
  std::string policy, user, cwd;
  std::vector<std::string> command;
  std::vector<std::string> env_names;            // never the values, of which some are secret
  std::map<std::string, std::uint64_t> limits;   // as decided: memory and output in bytes, pids, wall_ms, millicpus
  std::string finished;                          // when it ended
  std::uint64_t sleep_ms = 0;                    // of quiet, after which it is frozen; 0: never
  std::string asleep_since;                      // when its supervisor froze it; empty: it did not
  std::vector<std::string> volumes;              // by name
  std::map<std::string, std::string> kept_by;    // the limits of "disk" and "workspace": isolate::name_of
  std::string suspended;                         // the snapshot that it is in; empty: it is not on disk
  std::string stays_in_memory;                   // why a session that sleeps could not go to disk
  bool standby = false;                          // CRIU waits to restore it, and is what `pid` names
};

/// The specification's words.
enum class Status { Creating, Created, Running, Paused, Stopped };
const char* status_name(Status status);

class Entry {
 public:
  /// A new entry, locked. Throws EEXIST when the id is taken; cleans up first when its owner is dead and it was a session.
  static Entry create(const Directories& directories, const std::string& id);
  /// An entry that exists, not locked; empty when there is none.
  static std::optional<Entry> find(const Directories& directories, const std::string& id);

  const std::string& id() const { return id_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }
  std::string path() const { return path_; }

  State read_state() const;
  std::optional<State> find_state() const;  ///< empty while the entry is being made, and when it has gone
  void write_state(const State& state) const;
  /// What `exec` starts from: the container's process, and its filters compiled.
  void write_process(const isolate::init::SpawnRequest& process) const;
  isolate::init::SpawnRequest read_process() const;

  void unlock() { lock_.close(); }
  bool try_lock();       ///< false while its owner lives
  void lock();           ///< waits
  void remove();         ///< the directory; the last thing that happens to it

 private:
  std::string id_, path_;
  isolate::sys::Fd lock_;
};

/// All that is there, by id.
std::vector<std::string> list_entries(const Directories& directories);

Status status_of(const State& state, const isolate::CgroupHost& cgroups);
/// The process that the state names, or an empty descriptor when it has ended or is a zombie.
isolate::sys::Fd open_process(const State& state);
int pid_inside(pid_t pid);  ///< what its session calls it: the second of NSpid, proc(5). 0 when there is none
std::uint64_t start_time_of(pid_t pid);  ///< 0 when there is no such process, or it is a zombie

/// Removes what sessions whose supervisor died have left: processes, cgroups, files. Cheap when there is nothing to do.
void sweep(const Directories& directories, const isolate::CgroupHost& cgroups);

/// The same for one entry: a session whose supervisor died is ended from now on, or gone.
void settle(const Directories& directories, const isolate::CgroupHost& cgroups, Entry& entry);

/// The snapshot that a session was suspended into, of a file beside its data: durable before any process of it is killed, and gone once it
/// runs again. Empty when it is not suspended.
std::string find_suspended(const Directories& directories, const std::string& id);
void write_suspended(const Directories& directories, const std::string& id, const std::string& snapshot);
void remove_suspended(const Directories& directories, const std::string& id);

/// Everything of one session but its entry: its cgroup, and with `files` its data.
void remove_remains(const Directories& directories, const isolate::CgroupHost& cgroups, const State& state, bool files);

}  // namespace runner::session
