#include "runner/plan/json.h"

#include <sys/mount.h>
#include <sys/resource.h>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "isolate/namespaces.h"
#include "isolate/privileges.h"

namespace runner::plan {

namespace {

using json = nlohmann::ordered_json;
using namespace isolate;

void put(json& j, const char* key, json value) {
  if (!value.empty()) j[key] = std::move(value);
}

json ids(const std::vector<IdRange>& ranges) {
  json list = json::array();
  for (const IdRange& r : ranges) list.push_back({{"inside", r.inside}, {"outside", r.outside}, {"count", r.count}});
  return list;
}

json attributes(std::uint64_t bits) {
  constexpr std::pair<std::uint64_t, const char*> kNames[] = {
      {MOUNT_ATTR_RDONLY, "ro"}, {MOUNT_ATTR_NOSUID, "nosuid"}, {MOUNT_ATTR_NODEV, "nodev"}, {MOUNT_ATTR_NOEXEC, "noexec"}};
  json list = json::array();
  for (auto [bit, name] : kNames)
    if (bits & bit) list.push_back(name);
  return list;
}

json mount(const Mount& m) {
  json j{{"to", m.to}};
  if (auto* bind = std::get_if<Bind>(&m.what)) {
    j["bind"] = bind->from;
    put(j, "uids", ids(bind->ids.uids));
    put(j, "gids", ids(bind->ids.gids));
    if (bind->quota) j["quota"] = bind->quota->limit.bytes;
  } else if (auto* fs = std::get_if<FileSystem>(&m.what)) {
    j["type"] = fs->type;
    json options;
    for (const auto& [key, value] : fs->options) options[key] = value;
    put(j, "options", options);
  } else {
    j["type"] = "cgroup";
  }
  put(j, "attributes", attributes(m.set | m.set_recursive));
  return j;
}

json capabilities(std::uint64_t set) {
  json list = json::array();
  for (int c = 0; c < 64; ++c)
    if (set >> c & 1) list.push_back(capability_name(c));
  return list;
}

json process(const Process& p) {
  json j{{"argv", p.argv}, {"env", p.env}, {"cwd", p.cwd}, {"uid", p.uid}, {"gid", p.gid}};
  put(j, "groups", p.groups);
  j["capabilities"] = capabilities(p.capabilities.permitted);
  j["no_new_privileges"] = p.no_new_privileges;
  for (const Rlimit& limit : p.rlimits) j["rlimits"].push_back({{"resource", limit.resource}, {"soft", limit.soft}, {"hard", limit.hard}});
  j["terminal"] = p.terminal.has_value();
  return j;
}

json cgroup(const CgroupPlan& c) {
  json j{{"path", c.path}}, limits;
  if (c.limits.memory) limits["memory"] = *c.limits.memory;
  if (c.limits.memory_and_swap) limits["memory_and_swap"] = *c.limits.memory_and_swap;
  if (c.limits.pids) limits["pids"] = *c.limits.pids;
  if (c.limits.cpu_quota) limits["cpu_quota"] = *c.limits.cpu_quota;
  if (c.limits.cpu_period) limits["cpu_period"] = *c.limits.cpu_period;
  put(j, "limits", limits);
  j["on_missing"] = c.warn_missing ? "warn" : "error";
  return j;
}

}  // namespace

std::string to_json(const SessionPlan& plan) {
  const Plan& p = plan.sandbox;
  json j{{"id", p.id}, {"policy", plan.policy}, {"hostname", p.hostname}};
  for (const Namespace& n : p.namespaces) j["namespaces"].push_back(namespace_name(n.kind));
  put(j, "uids", ids(p.ids.uids));
  put(j, "gids", ids(p.ids.gids));
  json root{{"read_only", p.root.read_only}};
  if (p.root.overlay) {
    root["generated"] = p.root.overlay->generated;
    put(root, "lower", p.root.overlay->lower);
    root["lasting"] = p.root.overlay->lasting;
    root["upper"] = p.root.overlay->upper;
    if (p.root.overlay->disk) root["disk"] = p.root.overlay->disk->bytes;
    put(root, "lower_uids", ids(p.root.overlay->lower_ids.uids));
  }
  j["root"] = root;
  for (const GeneratedFile& f : p.files)
    j["files"].push_back(f.link_to.empty() ? json{{"path", f.path}, {"mode", fmt::format("{:04o}", f.mode)}} : json{{"path", f.path}, {"link", f.link_to}});
  for (const Mount& m : p.mounts) j["mounts"].push_back(mount(m));
  for (const Device& d : p.devices) j["devices"].push_back(d.path);
  put(j, "masked_paths", p.masked_paths);
  put(j, "readonly_paths", p.readonly_paths);
  put(j, "volumes", plan.volumes);
  j["workspace"] = {{"path", plan.workspace}, {"snapshot", word(plan.kept)}};
  j["cgroup"] = cgroup(p.cgroup);
  j["process"] = process(p.process);
  for (const SeccompRules& rules : p.seccomp) {
    std::size_t names = 0;
    for (const SeccompRule& rule : rules.rules) names += rule.names.size();
    j["seccomp"].push_back({{"profile", rules.name}, {"rules", rules.rules.size()}, {"names", names}});
  }
  j["wall_ms"] = plan.wall_ms;
  j["output_bytes"] = plan.output_bytes;
  j["sleep_ms"] = plan.sleep_ms;
  j["log"] = {{"file_bytes", plan.log.file_bytes}, {"files", plan.log.files}};
  return j.dump(2, ' ', true, json::error_handler_t::replace);
}

}  // namespace runner::plan
