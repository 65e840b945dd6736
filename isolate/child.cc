#include "isolate/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdlib>

#include "isolate/devices.h"
#include "isolate/execute.h"
#include "isolate/hooks.h"
#include "isolate/listener.h"
#include "isolate/namespaces.h"
#include "isolate/network.h"
#include "isolate/privileges.h"
#include "isolate/scheduling.h"
#include "isolate/start.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"
#include "isolate/terminal.h"
#include "isolate/usher.h"

namespace isolate {

using namespace sys;

namespace {

constexpr int kSetupFailed = 125;

// PID 1 of a session starts programs for any user, signals all of them, and may do nothing else.
constexpr std::uint64_t kInitCapabilities = (1u << 5 /* KILL */) | (1u << 6 /* SETGID */) | (1u << 7 /* SETUID */);

// "INSIDE OUTSIDE COUNT", of the first line.
std::uint32_t first_id(const char* map) { return static_cast<std::uint32_t>(std::strtoul(read_file(map).c_str(), nullptr, 10)); }

// In a user namespace we are nobody until we take an id that its map knows.
void become_root_inside(const Plan& plan) {
  std::uint32_t uid = 0, gid = 0;
  if (plan.makes(NamespaceKind::User)) uid = plan.ids.uids.front().inside, gid = plan.ids.gids.front().inside;
  else if (joins_user_namespace(plan)) uid = first_id("/proc/self/uid_map"), gid = first_id("/proc/self/gid_map");
  else return;
  check(::setresgid(gid, gid, gid), "become group {} of the user namespace", gid);
  check(::setresuid(uid, uid, uid), "become user {} of the user namespace", uid);
}

void set_names(const Plan& plan) {
  if (!plan.hostname.empty()) check(::sethostname(plan.hostname.data(), plan.hostname.size()), "set host name {}", plan.hostname);
  if (!plan.domainname.empty()) check(::setdomainname(plan.domainname.data(), plan.domainname.size()), "set domain name {}", plan.domainname);
}

// Through the host's /proc, while it is still there: the values go to the namespaces of the writer.
void set_sysctl(const Plan& plan) {
  for (const auto& [key, value] : plan.sysctl) {
    std::string name = key;
    for (char& c : name) c = c == '.' ? '/' : c == '/' ? '.' : c;
    write_file("/proc/sys/" + name, value);
  }
}

void set_stdio(const int (&stdio)[3]) {
  for (int i = 0; i < 3; ++i)
    if (stdio[i] >= 0) check(::dup2(stdio[i], i), "set standard descriptor {}", i);
}

// The host's /dev/null is a file on no mount of the container's, which no checkpoint could name: it gets its own, as with runc.
void take_own_null() {
  struct stat info;
  for (int fd = 0; fd < 3; ++fd) {
    if (::fstat(fd, &info) == -1 || !S_ISCHR(info.st_mode) || info.st_rdev != ::makedev(1, 3)) continue;
    Fd own(::open("/dev/null", O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    struct stat opened;
    if (!own || ::fstat(own.get(), &opened) == -1 || !S_ISCHR(opened.st_mode) || opened.st_rdev != info.st_rdev) continue;
    check(::dup2(own.get(), fd), "set standard descriptor {}", fd);
  }
}

// What PID 1 of a session holds must lie inside, or no snapshot can name it. An ordinary user's is a copy out of the sandbox's reach.
Fd take_init(const StartOptions& options) {
  Fd nothing = open_file("/dev/null", O_RDWR);
  for (int i = 0; i < 3; ++i) check(::dup2(nothing.get(), i), "set standard descriptor {}", i);
  if (options.init_program >= 0) return Fd(check(::fcntl(options.init_program, F_DUPFD_CLOEXEC, 10), "keep the program of PID 1"));
  return open_file(kInitProgram, O_PATH);
}

// PID 1 of a session: it keeps three capabilities over execve as ambient ones, and everything it starts has none.
void become_init(const Plan& plan) {
  Process self;
  self.uid = plan.ids.uids.empty() ? 0 : plan.ids.uids.front().inside;
  self.gid = plan.ids.gids.empty() ? 0 : plan.ids.gids.front().inside;
  Capabilities keep = plan.process.capabilities;  // a bounding set can only shrink: it holds what the program may have
  std::uint64_t set = kInitCapabilities | keep.permitted;
  keep.effective = keep.permitted = keep.inheritable = keep.ambient = set;
  become_user(self, keep, true);
}

// Who waits where: `run` answers on the link itself, `create` goes away and `start` comes through the gate.
Link await_exec(Link link, int gate, std::string& hook_state) {
  if (gate >= 0) {
    link.close();
    // PID 1 of a namespace is not killed by a signal that it has no handler for: a container that is not wanted after all must go by SIGTERM.
    for (int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) ::signal(number, [](int signal) { ::_exit(128 + signal); });
    link = Link(Fd(check(::accept4(gate, nullptr, nullptr, SOCK_CLOEXEC), "await `start`")));
    ::close(gate);
    reset_signals();
  }
  hook_state = link.expect(Signal::Exec).bytes;
  return link;
}

}  // namespace

[[noreturn]] void become_program(const Plan& plan, Handles handles, Link link) noexcept {
  Stage stage = Stage::Start;
  const StartOptions& options = *handles.options;
  try {
    if (options.die_with_parent) die_with_parent();
    ::umask(022);
    enter_v1(std::move(handles.groups));
    reset_signals(plan.init);  // PID 1 loses a signal that it has no handler for: held, it waits for runner-init, which takes them all
    link.expect(Signal::Go);                      // our id maps are written
    make_time_namespace(plan);                    // while the files of /proc/self are still ours
    become_root_inside(plan);
    if (options.die_with_parent) die_with_parent();  // a change of user had cleared it
    ::prctl(PR_SET_DUMPABLE, 0);                  // what runs beside us inside must not look into this process

    stage = Stage::Namespaces;
    if (!joins_user_namespace(plan)) enter_namespaces(plan, handles.joins);
    make_cgroup_namespace(plan);
    set_names(plan);
    set_sysctl(plan);

    stage = Stage::Network;
    if (plan.makes(NamespaceKind::Network)) bring_up_loopback();  // needs CAP_NET_ADMIN, which is given up below

    stage = Stage::Root;
    if (!plan.privileged_start) handles.mounts = prepare_mounts(plan, {}, {}, {});
    Fd root = attach_root(plan, handles.mounts, handles.hooks);
    attach_mounts(root.get(), plan, handles.mounts);  // /proc before the old root goes: a user namespace must see one to make one

    if (!find_below(root.get(), plan.process.cwd, Links::InRoot))
      make_place(root.get(), plan.process.cwd, Make::Directory, Links::InRoot, plan.process);  // as docker and runc do

    stage = Stage::Terminal;
    TerminalPair terminal;
    if (plan.process.terminal && !plan.init) terminal = open_terminal(root.get(), *plan.process.terminal, plan.process.uid);

    stage = Stage::Devices;
    fill_dev(root.get(), plan, terminal.slave.get(), handles.mounts.devices.get());

    stage = Stage::Root;
    make_paths_read_only(root.get(), plan.readonly_paths);
    mask_paths(root.get(), plan.masked_paths);
    finish_root(root.get(), plan);

    stage = Stage::Hooks;
    if (handles.hooks) {
      link.send(Signal::Rooted);
      std::string state = link.expect(Signal::Pivot).bytes;
      check(::fchdir(root.get()), "enter the new root");  // where such hooks are with runc
      run_hooks(plan.hooks.create_container, "createContainer", state);
    }

    stage = Stage::Root;
    enter_root(root.get(), plan.root);
    root.close();

    stage = Stage::Terminal;
    Fd init = plan.init ? take_init(options) : Fd();
    if (!plan.init) set_stdio(options.stdio), take_own_null();
    ::setsid();
    if (terminal.master) {
      take_terminal(terminal.slave.get());
      link.send(Signal::Terminal, {}, {terminal.master.get()});
      terminal = {};
    }

    stage = Stage::Privileges;
    set_rlimits(plan.process.rlimits);
    if (!plan.init) reset_affinity(), set_scheduling(plan.process);
    // Without no_new_privs a filter needs CAP_SYS_ADMIN, so it is loaded while we have it.
    bool early_filter = !plan.process.no_new_privileges;
    if (!plan.init) close_from(3 + options.preserve_fds, {link.fd(), options.exec_program, options.gate});  // which a filter may forbid
    if (early_filter) load_filters(handles.filters, link);
    bool inside = !plan.init && can_enter(plan.process.cwd);
    plan.init ? become_init(plan) : become_user(plan.process, plan.process.capabilities, false);
    if (options.die_with_parent) die_with_parent();
    if (plan.process.no_new_privileges) forbid_new_privileges();
    std::string program;
    std::vector<std::string> env;
    if (!plan.init) {
      if (!inside) enter_directory(plan.process.cwd);
      program = find_program(plan.process.argv, plan.process.env);  // so that `create` already says what is missing
      env = with_home(plan.process.env, plan.process.uid);  // it reads a file, which a filter may forbid
    }

    // `create` passes a listener on, before it goes; and a startContainer hook is filtered as the program is.
    bool before_start = has_listener(handles.filters) || !plan.hooks.start_container.empty();
    if (!early_filter && before_start) load_filters(handles.filters, link);
    if (!plan.init) {                             // runner-init does nothing of its own: it need not wait
      link.send(Signal::Ready);
      std::string hook_state;
      link = await_exec(std::move(link), options.gate, hook_state);
      run_hooks(plan.hooks.start_container, "startContainer", hook_state, options.exec_program, &env);
    }

    stage = Stage::Seccomp;
    if (plan.init) close_from(3, {link.fd(), init.get(), options.init_control});
    if (!early_filter && !before_start) load_filters(handles.filters, link);  // last: it may forbid everything above

    stage = Stage::Exec;
    if (plan.init) execute_init(init.get(), options.init_control);
    link.send(Signal::Step);
    execute_through(options.exec_program, link.fd(), plan.process.apparmor, program, plan.process.argv, env);
  } catch (const std::exception& error) {
    link.report(stage, error);                    // the parent rethrows it as SetupError
  }
  ::_exit(kSetupFailed);
}

}  // namespace isolate
