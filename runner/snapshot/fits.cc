#include "runner/snapshot/fits.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "isolate/sys/fd.h"
#include "isolate/sys/paths.h"
#include "runner/snapshot/layers.h"

namespace runner::snapshot {

using json = nlohmann::json;

namespace {

void same(const char* what, const std::string& then, const std::string& now, const char* remedy) {
  if (then != now) throw Unfit(fmt::format("it was made on {} {}, and this is {}: {}", what, then, now, remedy));
}

void check_mapped(const Mapped& then, const isolate::Plan& plan) {
  std::string path = host_path(plan, then.path);
  isolate::sys::Fd file(path.empty() ? -1 : ::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file) throw Unfit(fmt::format("its processes run code from {}, which this session would not have: bring that file back, or make the snapshot again", then.path));
  Mapped now = describe_mapped(file.get(), then.path);
  if (now == then) return;
  auto name = [](const Mapped& m) { return m.build_id.empty() ? fmt::format("of {} bytes, SHA-256 {:.12}", m.size, m.sha256) : fmt::format("of {} bytes, build id {:.12}", m.size, m.build_id); };
  throw Unfit(fmt::format("its processes run code from {}, which has changed: it was {} and is {}: make the snapshot again", then.path, name(then), name(now)));
}

}  // namespace

std::string host_path(const isolate::Plan& plan, const std::string& path) {
  for (std::size_t i = plan.mounts.size(); i-- > 0;) {
    std::string to = isolate::sys::clean_path(plan.mounts[i].to);
    if (path != to && !path.starts_with(to == "/" ? to : to + "/")) continue;
    auto* bind = std::get_if<isolate::Bind>(&plan.mounts[i].what);
    return bind ? bind->from + path.substr(to.size()) : "";
  }
  if (!plan.root.overlay) return plan.root.path + path;
  for (const std::string& layer : plan.root.overlay->lower) {
    std::string base = layer == "/" ? "" : layer;
    Said said = look_in_layer(base, path);
    if (said == Said::Here) return base + path;
    if (said == Said::Gone) break;
  }
  return {};
}

void check_fits(const Manifest& then, const isolate::Plan& plan, const std::string& filters) {
  Manifest now = manifest_of_this_host();
  same("a machine of type", then.machine, now.machine, "restore it on such a machine, or make the snapshot again");
  same("Linux", then.kernel, now.kernel, "boot that one, or make the snapshot again");
  if (std::string difference = cpu_difference(then.cpu, now.cpu); !difference.empty())
    throw Unfit(fmt::format("its CPU was another one ({}): restore it on a host with the same features, or make the snapshot again", difference));
  json record = json::parse(then.session);
  if (record.value("filters", "") != filters)
    throw Unfit(fmt::format("the system calls that policy {} allows are not those of then, and its processes keep their filters: make the snapshot again", then.policy_name));
  for (auto [what, was, is] : {std::tuple{"user", record.value("uid", 0u), plan.process.uid}, {"group", record.value("gid", 0u), plan.process.gid}})
    if (was != is) throw Unfit(fmt::format("its program runs as {} {}, and policy {} says {} today: make the snapshot again", what, was, then.policy_name, is));
  for (const Mapped& mapped : then.mapped) check_mapped(mapped, plan);
}

}  // namespace runner::snapshot
