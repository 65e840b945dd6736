#include "runner/supervise/beginning.h"

#include <fmt/format.h>
#include <sys/utsname.h>

namespace runner::supervise {

events::SessionStarted first_event(const Request& request, const std::string& id) {
  utsname kernel;
  ::uname(&kernel);
  const isolate::Limits& l = request.plan.cgroup.limits;
  std::map<std::string, std::string> limits;
  if (l.memory) limits["memory"] = std::to_string(*l.memory);
  if (l.pids) limits["pids"] = std::to_string(*l.pids);
  if (l.cpu_quota) limits["cpus"] = fmt::format("{}", static_cast<double>(*l.cpu_quota) / static_cast<double>(l.cpu_period.value_or(100000)));
  const auto& overlay = request.plan.root.overlay;
  if (overlay && overlay->disk) limits["disk"] = std::to_string(overlay->disk->bytes);
  for (const isolate::Mount& mount : request.plan.mounts)
    if (auto* bind = std::get_if<isolate::Bind>(&mount.what); bind && bind->quota) limits["workspace"] = std::to_string(bind->quota->limit.bytes);
  if (request.wall_ms) limits["wall_ms"] = std::to_string(request.wall_ms);
  if (request.output_bytes) limits["output"] = std::to_string(request.output_bytes);
  const isolate::Process& process = request.plan.process;
  return {id, request.policy, process.argv, request.state.rootfs, fmt::format("{}:{}", process.uid, process.gid), limits, RUNNER_VERSION, kernel.release};
}

CallRequest restore_hooks(const isolate::Process& process) {
  CallRequest hooks;
  hooks.process = process;
  hooks.process.terminal.reset();
  hooks.process.cwd = "/";
  hooks.process.argv = {"/bin/sh", "-c", fmt::format("code=0; for hook in {}/*; do [ -x \"$hook\" ] || continue; \"$hook\" || {{ code=$?; echo \"$hook failed with status $code\" >&2; }}; done; exit $code", kRestoreHooks)};
  hooks.service = "restore-hooks";
  hooks.wall_ms = 60'000;
  return hooks;
}

}  // namespace runner::supervise
