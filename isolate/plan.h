// The complete description of one sandbox, as plain values: no descriptors, no pointers, no hidden defaults.
// A Plan can be compared, printed and tested; isolate::start() makes it a fact. Terms are those of the OCI runtime
// specification and of the manual pages named at each field.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace isolate {

// ---- identity ----------------------------------------------------------------------------------------------------

enum class NamespaceKind { User, Mount, Pid, Network, Ipc, Uts, Cgroup, Time };

struct Namespace {
  NamespaceKind kind;
  std::string join;  // an existing namespace's file; empty: a new one
  bool operator==(const Namespace&) const = default;
};

/// user_namespaces(7): `count` ids from `inside` on are the ids from `outside` on in the parent namespace.
struct IdRange {
  std::uint32_t inside = 0, outside = 0, count = 1;
  bool operator==(const IdRange&) const = default;
};

struct IdMap {
  std::vector<IdRange> uids, gids;
  bool empty() const { return uids.empty() && gids.empty(); }
  bool operator==(const IdMap&) const = default;
};

// ---- file systems ------------------------------------------------------------------------------------------------

/// What the files of a folder may take on the disk: see isolate/disk.h.
struct DiskLimit {
  std::uint64_t bytes = 0;
  bool warn_missing = false;  // a limit that cannot be enforced is reported in Disk::missing, not an error
  bool operator==(const DiskLimit&) const = default;
};

/// A ceiling for a bind whose source is a folder of runner's own.
struct Quota {
  DiskLimit limit;
  bool shared = false;         // other sandboxes use it as well, now or later: it is there already, and must stay where it is
  bool lasting = true;         // else nothing waits for its files to reach the disk
  std::uint32_t uid = 0, gid = 0;  // of a folder that is not shared, and is made for this sandbox: ids of the host
  bool operator==(const Quota&) const = default;
};

/// A directory or file of the host. Sources are opened with the caller's rights, before the sandbox exists.
struct Bind {
  std::string from;
  bool recursive = true;
  IdMap ids;                   // on-disk ids to ids of the sandbox's parent; empty: unmapped
  std::string ids_of;          // or a user namespace, by path, that has the map
  bool ids_recursive = false;  // of the mounts below too
  bool replaces = false;       // the attributes of the source: see isolate/attributes.h
  bool inside = false;         // `from` is a path of the new root, as the mounts before this one leave it
  bool follow_links = true;    // false: a symbolic link anywhere in the path of the source is refused
  std::optional<Quota> quota;  // of one bind at the most
  bool operator==(const Bind&) const = default;
};

/// A fresh file system: fsopen(2) name and its options.
struct FileSystem {
  std::string type;
  std::string source;
  std::vector<std::pair<std::string, std::string>> options;
  bool copy_up = false;     // begins with what the folder holds that it hides
  bool like_place = false;  // has the mode of that folder, where there is one
  bool operator==(const FileSystem&) const = default;
};

/// The cgroup hierarchy, as the sandbox's cgroup namespace shows it.
struct CgroupView {
  bool operator==(const CgroupView&) const = default;
};

struct Mount {
  std::string to;
  std::variant<Bind, FileSystem, CgroupView> what;
  std::uint64_t set = 0, clear = 0;                      // MOUNT_ATTR_*, this mount only
  std::uint64_t set_recursive = 0, clear_recursive = 0;  // MOUNT_ATTR_*, and all below
  std::uint64_t propagation = 0;                         // MS_PRIVATE, MS_SLAVE, ...; with MS_REC for all below
  bool operator==(const Mount&) const = default;
};

/// Layers of an overlay, lowest last. Files are written to `upper`; `work` is overlayfs's own, on the same file system.
struct Overlay {
  std::string generated;           // where the first lower layer, which gets Plan::files, is a directory of this sandbox alone: before Linux 6.15
  std::vector<std::string> lower;  // below it
  IdMap lower_ids;                 // of `lower`; empty: those layers are shown as they are
  std::string upper, work;
  std::optional<DiskLimit> disk;   // of `upper` and `work` together
  bool lasting = true;             // false: the upper layer is thrown away, and nothing waits for it to reach the disk
  bool operator==(const Overlay&) const = default;
};

struct Root {
  std::string path;                // a directory, used when there is no overlay
  std::optional<Overlay> overlay;
  bool read_only = false;
  std::uint64_t propagation = 0;   // of the root mount; 0: slave before the pivot, and left so
  bool pivot = true;               // false: move and chroot, for hosts whose root is a ramdisk
  bool operator==(const Root&) const = default;
};

/// A device node in /dev. In a user namespace it is a bind of the host's node of that path and number; one that the host has not is made, where the
/// namespace is the sandbox's own.
struct Device {
  std::string path;
  char type = 'c';  // c, b or p
  std::uint32_t major = 0, minor = 0;
  std::uint32_t mode = 0666, uid = 0, gid = 0;
  bool operator==(const Device&) const = default;
};

/// What the plan writes into the generated layer before the start.
struct GeneratedFile {
  std::string path;     // ends in '/': a directory. With link_to: a symbolic link
  std::string content;
  std::string link_to;
  std::uint32_t mode = 0644, uid = 0, gid = 0;  // ids inside the sandbox
  bool operator==(const GeneratedFile&) const = default;
};

// ---- limits ------------------------------------------------------------------------------------------------------

struct DeviceRule {
  bool allow = false;
  char type = 'a';                            // a, b, c
  std::optional<std::int64_t> major, minor;   // empty: any
  std::string access = "rwm";
  bool operator==(const DeviceRule&) const = default;
};

/// One line of io.max or blkio.throttle.*: bytes or operations a second.
struct IoLimit {
  std::uint32_t major = 0, minor = 0;
  std::optional<std::uint64_t> read_bytes, write_bytes, read_ops, write_ops;
  bool operator==(const IoLimit&) const = default;
};

/// rdma.max of one device; empty: no limit.
struct RdmaLimit {
  std::optional<std::uint32_t> handles, objects;
  bool operator==(const RdmaLimit&) const = default;
};

/// cgroup limits. -1 is "no limit" where the specification says so; an empty field is not touched.
struct Limits {
  std::optional<std::int64_t> memory;               // bytes
  std::optional<std::int64_t> memory_reservation;   // bytes
  std::optional<std::int64_t> memory_and_swap;      // bytes, both together, as the OCI specification has it
  bool check_usage = false;                         // a limit below what is in use is an error, where v2 would kill
  std::optional<std::int64_t> cpu_quota;            // microseconds of CPU a period
  std::optional<std::uint64_t> cpu_period;          // microseconds; 100000 when only the quota is given
  std::optional<std::uint64_t> cpu_shares;          // v1 weight, 2..262144
  std::string cpuset_cpus, cpuset_mems;
  std::optional<std::int64_t> pids;
  std::optional<std::uint64_t> io_weight;           // 10..1000
  std::map<std::pair<std::uint32_t, std::uint32_t>, std::uint64_t> io_weights;  // of single devices, by number
  std::vector<IoLimit> io;
  std::map<std::string, std::uint64_t> hugepages;   // bytes, by the size of a page as the kernel names it: "2MB"
  std::map<std::string, RdmaLimit> rdma;            // by device
  std::vector<DeviceRule> devices;                  // in order; none: no device filter
  std::optional<std::uint64_t> cpu_burst;           // microseconds that may be saved up for a period
  std::optional<bool> cpu_idle;                     // only while nobody else wants the CPU
  std::map<std::string, std::string> unified;       // cgroup v2 files by name
  // Of cgroup v1 only: v2 has nothing in their place.
  std::optional<std::int64_t> realtime_runtime;     // microseconds a period
  std::optional<std::uint64_t> realtime_period;     // microseconds
  std::optional<std::uint32_t> network_class;       // net_cls.classid
  std::map<std::string, std::uint32_t> network_priorities;  // net_prio, by interface
  bool operator==(const Limits&) const = default;
};

struct CgroupPlan {
  std::string path;           // below the hierarchy's mount point, "/runner/s-1"; empty: no cgroup of its own
  bool given = false;         // a manager of cgroups has made it, with a process that keeps it until the sandbox is born in it
  Limits limits;
  bool warn_missing = false;  // a limit without a controller is reported in Sandbox::missing, not an error
  bool everywhere = false;    // in each v1 hierarchy, else with all controllers of v2, and not only where a limit is: others look for a container's group, and change its limits later
  bool operator==(const CgroupPlan&) const = default;
};

struct Rlimit {
  int resource = 0;  // RLIMIT_*
  std::uint64_t soft = 0, hard = 0;
  bool operator==(const Rlimit&) const = default;
};

// ---- privileges --------------------------------------------------------------------------------------------------

/// capabilities(7): bit n is capability n.
struct Capabilities {
  std::uint64_t bounding = 0, effective = 0, permitted = 0, inheritable = 0, ambient = 0;
  bool operator==(const Capabilities&) const = default;
};

enum class SeccompAction { Allow, Log, Errno, KillThread, KillProcess, Trap, Trace, Notify };

struct SeccompArgument {
  unsigned index = 0;
  std::string op;  // SCMP_CMP_*
  std::uint64_t value = 0, value_two = 0;
  bool operator==(const SeccompArgument&) const = default;
};

struct SeccompRule {
  std::vector<std::string> names;
  SeccompAction action = SeccompAction::Allow;
  std::uint32_t errno_value = 1;
  std::vector<SeccompArgument> arguments;
  bool operator==(const SeccompRule&) const = default;
};

/// One filter. Several may be loaded: the kernel takes the strictest verdict of all.
struct SeccompRules {
  std::string name;  // where it came from, for people
  SeccompAction default_action = SeccompAction::Errno;
  std::uint32_t default_errno = 1;
  std::vector<std::string> architectures;  // SCMP_ARCH_*; empty: the native one only
  std::vector<std::string> flags;          // SECCOMP_FILTER_FLAG_*
  std::string listener_path;               // where the descriptor of SCMP_ACT_NOTIFY goes
  std::string listener_metadata;
  bool newer_unknown = false;              // calls newer than all that the rules name answer ENOSYS, not the default error: libc then tries an older one
  std::vector<SeccompRule> rules;
  bool operator==(const SeccompRules&) const = default;
};

// ---- the process -------------------------------------------------------------------------------------------------

struct Terminal {
  unsigned short rows = 0, columns = 0;  // 0: left as the kernel makes it
  std::uint64_t scrollback = 0;          // bytes of output that a session keeps for who attaches later; 0: init::kTerminalRing
  bool operator==(const Terminal&) const = default;
};

/// sched_setattr(2).
struct Scheduler {
  std::uint32_t policy = 0, priority = 0;
  std::int32_t nice = 0;
  std::uint64_t flags = 0, runtime = 0, deadline = 0, period = 0;  // nanoseconds
  bool operator==(const Scheduler&) const = default;
};

/// ioprio_set(2).
struct IoPriority {
  int io_class = 0, priority = 0;
  bool operator==(const IoPriority&) const = default;
};

struct Process {
  std::vector<std::string> argv, env;
  std::string cwd = "/";
  std::uint32_t uid = 0, gid = 0;
  std::vector<std::uint32_t> groups;
  bool keep_groups = false;                     // those of whoever starts the sandbox instead
  std::optional<std::uint32_t> umask;
  Capabilities capabilities;
  bool no_new_privileges = true;
  std::vector<Rlimit> rlimits;
  std::optional<int> oom_score_adj;
  std::optional<Terminal> terminal;
  std::optional<Scheduler> scheduler;
  std::optional<IoPriority> io_priority;
  std::optional<std::uint32_t> personality;     // PER_*
  std::string apparmor;                         // the profile that it runs under; empty: that of whoever runs it
  std::string exec_cpus_initial, exec_cpus;     // of `exec`: the CPUs until it is in the container's cgroup, and from then on; empty: all
  bool operator==(const Process&) const = default;
};

struct Hook {
  std::string path;
  std::vector<std::string> args;
  std::optional<std::vector<std::string>> env;  // empty: that of whoever runs it
  std::optional<int> timeout;  // seconds
  bool operator==(const Hook&) const = default;
};

struct Hooks {
  std::vector<Hook> prestart, create_runtime, create_container, start_container, poststart, poststop;
  bool operator==(const Hooks&) const = default;
};

/// Where a session sees runner-init, read-only: so that its PID 1 runs a file that a snapshot can name.
inline constexpr const char* kInitProgram = "/run/runner/init";

// ---- all of it ---------------------------------------------------------------------------------------------------

struct Plan {
  std::string id;
  std::string hostname, domainname;         // empty: the host's
  std::vector<Namespace> namespaces;
  std::map<std::string, std::pair<std::int64_t, std::uint32_t>> time_offsets;  // of a new time namespace: "monotonic", "boottime" to seconds and nanoseconds
  IdMap ids;                                // of the new user namespace
  Root root;
  std::vector<GeneratedFile> files;         // only with an overlay
  std::vector<Mount> mounts;                // in the order they are made
  std::vector<Device> devices;
  bool read_only_dev = false;               // /dev becomes read-only once it is filled
  std::vector<std::string> masked_paths;
  std::vector<std::string> readonly_paths;  // one that ends in '/' is a directory that is made when it is missing
  std::map<std::string, std::string> sysctl;
  CgroupPlan cgroup;
  Process process;
  std::vector<SeccompRules> seccomp;        // loaded in this order
  Hooks hooks;
  bool init = false;                        // PID 1 is runner-init, which starts `process` (a session)
  bool privileged_start = true;             // false: made by an ordinary user, mounts are prepared inside the namespace
  bool operator==(const Plan&) const = default;

  bool makes(NamespaceKind kind) const {
    for (const Namespace& n : namespaces)
      if (n.kind == kind) return n.join.empty();
    return false;
  }
};

}  // namespace isolate
