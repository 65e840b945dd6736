#include "isolate/start.h"

#include <fcntl.h>
#include <sched.h>

#include "isolate/birth.h"
#include "isolate/child.h"
#include "isolate/hooks.h"
#include "isolate/ids.h"
#include "isolate/listener.h"
#include "isolate/namespaces.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/usher.h"

namespace isolate {

using namespace sys;

namespace {

bool has_start_hooks(const Hooks& hooks) {
  return !hooks.prestart.empty() || !hooks.create_runtime.empty() || !hooks.create_container.empty() ||
         !hooks.start_container.empty();
}

Handles prepare(const Plan& plan, const StartOptions& options, const Cgroup& cgroup, const Disk& disk, const Disk& workspace) {
  Handles handles;
  if (plan.privileged_start) handles.mounts = prepare_mounts(plan, cgroup.v2_path(), disk, workspace);
  handles.groups = cgroup.v1_doors();
  for (const Namespace& n : plan.namespaces)
    handles.joins.push_back(n.join.empty() ? Fd() : open_file(n.join, O_RDONLY));
  // A session's filters go to its init, which loads them for what it starts.
  if (!plan.init)
    for (const SeccompRules& rules : plan.seccomp) handles.filters.push_back(make_filter(rules, options.filter_cache));
  handles.hooks = has_start_hooks(plan.hooks);
  handles.options = &options;
  return handles;
}

}  // namespace

Sandbox start(const Plan& plan, const StartOptions& options) {
  Stage stage = Stage::Prepare;
  try {
    Cgroup cgroup = Cgroup::create(plan.cgroup, options.cgroups);  // removed again if anything below throws
    Disk disk = plan.root.overlay && plan.root.overlay->disk ? Disk::limit(*plan.root.overlay) : Disk();
    Disk workspace = bound_workspace(plan);
    if (options.fill) options.fill(workspace);
    Handles handles = prepare(plan, options, cgroup, disk, workspace);  // filters, mounts, namespaces to join
    auto [ours, theirs] = Link::make();

    stage = Stage::Clone;
    PidNamespaceOfChildren joined(plan, handles.joins);            // a pid namespace is joined before the clone, or never
    std::optional<Birth> birth;
    if (!plan.makes(NamespaceKind::User)) birth.emplace(plan.process.oom_score_adj);  // else its id maps could not be written by a user
    Child child = joins_user_namespace(plan) ? clone_through_usher(plan, handles.joins, cgroup.v2_fd()) : clone_process(new_namespaces(plan), cgroup.v2_fd());
    if (child.pid() == 0) {
      ours.close();
      become_program(plan, std::move(handles), std::move(theirs));
    }
    birth.reset();
    joined.leave();
    theirs.close();                                                // so that end-of-stream can only mean the child

    stage = Stage::Start;
    if (plan.makes(NamespaceKind::User)) write_id_maps(child.pid(), plan.ids, plan.privileged_start);
    if (plan.process.oom_score_adj && plan.makes(NamespaceKind::User))
      write_file(fmt::format("/proc/{}/oom_score_adj", child.pid()), std::to_string(*plan.process.oom_score_adj));
    ours.send(Signal::Go);
    options.on_born(child.pid());

    if (handles.hooks) {
      ours.expect(Signal::Rooted);
      stage = Stage::Hooks;
      std::string state = options.hook_state("creating", child.pid());
      run_hooks(plan.hooks.prestart, "prestart", state);
      run_hooks(plan.hooks.create_runtime, "createRuntime", state);
      ours.send(Signal::Pivot, state);
      stage = Stage::Start;
    }
    Fd terminal;
    if (plan.process.terminal && !plan.init) terminal = std::move(ours.expect(Signal::Terminal).fds.at(0));
    if (!plan.init) {
      pass_listeners(handles.filters, ours, child, options.listener_state);
      ours.expect(Signal::Ready);
    }
    return Sandbox(std::move(child), std::move(cgroup), std::move(disk), std::move(ours), std::move(terminal), !plan.init, std::move(workspace));
  } catch (const SetupError&) {
    throw;
  } catch (const std::exception& error) {
    throw SetupError(describe(stage, error));
  }
}

void Sandbox::execute(const std::string& hook_state) {
  if (waits_) open_gate(std::move(link_), hook_state);
  else link_.expect_end();
}

void open_gate(Link link, const std::string& hook_state) {
  link.send(Signal::Exec, hook_state);
  link.expect_end();
}

}  // namespace isolate
