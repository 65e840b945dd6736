// The `linux` object: namespaces and their ids, paths to hide, kernel parameters; and what of it is not built yet.
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/stat.h>

#include <algorithm>

#include "isolate/namespaces.h"
#include "isolate/sys/error.h"
#include "runner/oci/config_parts.h"
#include "runner/oci/mount_options.h"

namespace runner::oci {

using isolate::NamespaceKind;
using json::in_quotes;

namespace {

std::optional<NamespaceKind> kind_named(const std::string& name) {
  for (int i = 0; i <= static_cast<int>(NamespaceKind::Time); ++i)
    if (name == isolate::namespace_name(static_cast<NamespaceKind>(i))) return static_cast<NamespaceKind>(i);
  return std::nullopt;
}

const isolate::Namespace* find_namespace(const isolate::Plan& plan, NamespaceKind kind) {
  for (const isolate::Namespace& n : plan.namespaces)
    if (n.kind == kind) return &n;
  return nullptr;
}

void read_namespace(json::Value entry, isolate::Plan& to) {
  std::string type, path;
  if (!entry || !entry["type"].require(type)) return;
  std::optional<NamespaceKind> kind = kind_named(type);
  if (!kind) return entry["type"].wrong("must be a kind of namespace such as pid or network, not {}", in_quotes(type));
  if (find_namespace(to, *kind)) return entry["type"].wrong("{} is there twice", type);
  if (entry["path"].read(path) && !path.empty() && path[0] != '/')
    return entry["path"].wrong("must be an absolute path, not {}", in_quotes(path));
  to.namespaces.push_back({*kind, path});
}

void check_id_ranges(json::Value list, const std::vector<isolate::IdRange>& ranges) {
  // The kernel answers a bad map with EINVAL and no more: user_namespaces(7).
  constexpr std::size_t kMost = 340;
  if (ranges.size() > kMost) return list.wrong("must not have more than {} entries", kMost);
  auto overlap = [&](std::uint32_t isolate::IdRange::* start) {
    std::vector<isolate::IdRange> sorted = ranges;
    std::sort(sorted.begin(), sorted.end(), [&](const auto& a, const auto& b) { return a.*start < b.*start; });
    for (std::size_t i = 1; i < sorted.size(); ++i)
      if (sorted[i].*start - sorted[i - 1].*start < sorted[i - 1].count) return true;
    return false;
  };
  if (overlap(&isolate::IdRange::inside) || overlap(&isolate::IdRange::outside)) list.wrong("has ranges that overlap");
}

void read_user_namespace(json::Value linux, Container& to, const LoadOptions& options) {
  json::Value uids = linux["uidMappings"].array(), gids = linux["gidMappings"].array();
  const isolate::Namespace* user = find_namespace(to.plan, NamespaceKind::User);
  if (!user) {
    for (json::Value each : {uids, gids})
      if (!each.blank()) each.wrong("is for a new user namespace, and there is none");
    if (!options.privileged) linux["namespaces"].wrong("must have a user namespace: only root can do without");
    return;
  }
  if (!user->join.empty()) {
    // containerd and CRI-O give both the path and what they believe is its map.
    if (!uids.blank() || !gids.blank())
      warn(to.warnings, "{}: ignoring the id mappings beside it: the user namespace that is joined has its own",
           linux.name());
    return;
  }
  for (json::Value each : {uids, gids})
    if (each.blank()) each.wrong("is missing: a new user namespace needs it");
  read_id_ranges(uids, to.plan.ids.uids);
  read_id_ranges(gids, to.plan.ids.gids);
}

// sysctl(8) also takes slashes; then a dot is part of a name: "net/ipv4/conf/eth0.1/forwarding" is
// "net.ipv4.conf.eth0/1.forwarding".
std::string with_dots(std::string key) {
  std::size_t first = key.find_first_of("./");
  if (first == std::string::npos || key[first] == '.') return key;
  for (char& c : key) c = c == '.' ? '/' : c == '/' ? '.' : c;
  return key;
}

// The key becomes a path below /proc/sys, in which '/' stands for a dot: "net.//.kernel" would lead out of net.
bool has_dot_parts(const std::string& key) {
  for (std::size_t at = 0; at <= key.size();) {
    std::size_t end = std::min(key.find('.', at), key.size());
    std::string part = key.substr(at, end - at);
    if (part.empty() || part == "/" || part == "//") return true;
    at = end + 1;
  }
  return false;
}

// "Host" is the namespace that we are in ourselves.
bool is_host_network(const isolate::Namespace* network, const LoadOptions& options) {
  if (!network) return true;
  struct stat theirs, ours;
  if (network->join.empty() || !options.look_at_files) return false;
  return ::stat(network->join.c_str(), &theirs) == 0 && ::stat("/proc/self/ns/net", &ours) == 0 &&
         theirs.st_dev == ours.st_dev && theirs.st_ino == ours.st_ino;
}

bool belongs_to_ipc(const std::string& key) {
  constexpr const char* kOfIpc[] = {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
                                    "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced"};
  return std::find(std::begin(kOfIpc), std::end(kOfIpc), key) != std::end(kOfIpc) || key.rfind("fs.mqueue.", 0) == 0;
}

void check_sysctl(json::Value field, const std::string& key, const isolate::Plan& plan, const LoadOptions& options) {
  if (has_dot_parts(key)) return field.wrong("is not the name of a kernel parameter");
  if (belongs_to_ipc(key)) {
    if (!find_namespace(plan, NamespaceKind::Ipc)) field.wrong("is not allowed in the host's ipc namespace");
  } else if (key.rfind("net.", 0) == 0) {
    if (is_host_network(find_namespace(plan, NamespaceKind::Network), options))
      field.wrong("is not allowed in the host's network namespace");
  } else if (key == "kernel.hostname" && find_namespace(plan, NamespaceKind::Uts)) {
    field.wrong("is not allowed: it is the same as the field hostname");
  } else if (key != "kernel.domainname" || !find_namespace(plan, NamespaceKind::Uts)) {
    field.wrong("is not in a separate kernel namespace");
  }
}

void read_path_list(json::Value list, std::vector<std::string>& to) {
  std::vector<std::string> paths;
  if (!list.read(paths)) return;
  std::size_t i = 0;
  for (json::Value each : list.values()) to.push_back(absolute_path(each, paths[i++]));
}

}  // namespace

void read_id_ranges(json::Value list, std::vector<isolate::IdRange>& to) {
  for (json::Value each : list.values()) {
    json::Value entry = each.object();
    isolate::IdRange range;
    if (!entry || !(entry["containerID"].require(range.inside) & entry["hostID"].require(range.outside) &
                    entry["size"].require(range.count, 1u, ~0u)))
      continue;
    if (std::uint64_t{std::max(range.inside, range.outside)} + range.count - 1 > kLastId)
      entry.wrong("goes beyond the last id");
    else
      to.push_back(range);
  }
  check_id_ranges(list, to);
}

void read_namespaces(json::Value linux, Container& to, const LoadOptions& options) {
  for (json::Value each : linux["namespaces"].array().values()) read_namespace(each.object(), to.plan);
  const isolate::Namespace* mount = find_namespace(to.plan, NamespaceKind::Mount);
  // Otherwise the container's root would become that of everybody in the namespace: on the host, of the host.
  if (!mount)
    linux["namespaces"].wrong("must have a mount namespace");
  else if (!mount->join.empty())
    linux["namespaces"].wrong("must make its own mount namespace: {} cannot be joined", in_quotes(mount->join));
  read_user_namespace(linux, to, options);
}

void read_paths(json::Value linux, isolate::Plan& to) {
  read_path_list(linux["maskedPaths"], to.masked_paths);
  read_path_list(linux["readonlyPaths"], to.readonly_paths);
  std::string propagation;
  json::Value field = linux["rootfsPropagation"];
  if (!field.read(propagation) || propagation.empty()) return;
  const MountOption* option = find_mount_option(propagation);
  if (!option || option->effect != MountEffect::Propagation)
    return field.wrong("must be shared, slave, private or unbindable, not {}", in_quotes(propagation));
  // Without a pivot the host's mounts stay below the new root: unmounting them there must not reach the host.
  if (!to.root.pivot && (option->flag & MS_PRIVATE))
    return field.wrong("{} is not safe without pivot_root", propagation);
  to.root.propagation = option->flag;
}

void read_sysctl(json::Value linux, isolate::Plan& to, const LoadOptions& options) {
  std::map<std::string, std::string> values;
  json::Value field = linux["sysctl"];
  if (!field.read(values)) return;
  for (json::Value each : field.values()) {
    std::string name(each.key()), key = with_dots(name);
    check_sysctl(each, key, to, options);
    if (!to.sysctl.emplace(key, values[name]).second) each.wrong("is there twice, as {}", in_quotes(key));
  }
}

void refuse_unsupported(json::Value linux) {
  refuse(linux["mountLabel"], "cannot be applied: this version does not support SELinux");
  refuse(linux["intelRdt"]);
  refuse(linux["netDevices"]);
  refuse(linux["memoryPolicy"]);
}

void read_time_offsets(json::Value linux, isolate::Plan& to) {
  json::Value offsets = linux["timeOffsets"].object();
  if (!offsets || offsets.blank()) return;
  if (!to.makes(NamespaceKind::Time)) return offsets.wrong("is for a new time namespace, and there is none");
  for (json::Value each : offsets.values()) {
    std::string clock(each.key());
    if (clock != "monotonic" && clock != "boottime") {
      each.wrong("is no clock of a time namespace: there are monotonic and boottime");
      continue;
    }
    json::Value entry = each.object();
    std::int64_t seconds = 0;
    std::uint32_t nanoseconds = 0;
    entry["secs"].read(seconds);
    entry["nanosecs"].read(nanoseconds, 0u, 999'999'999u);
    to.time_offsets[clock] = {seconds, nanoseconds};
  }
}

void read_personality(json::Value linux, isolate::Process& to) {
  json::Value personality = linux["personality"].object();
  std::string domain;
  if (!personality || !personality["domain"].require(domain)) return;
  if (domain == "LINUX") to.personality = PER_LINUX;
  else if (domain == "LINUX32") to.personality = PER_LINUX32;
  else personality["domain"].wrong("must be LINUX or LINUX32, not {}", in_quotes(domain));
  refuse(personality["flags"]);
}

}  // namespace runner::oci
