// `runner checkpoint ID`: the processes of a container into a folder, with runc's flags.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <sstream>
#include <stdexcept>

#include "runner/cli/checkpoint.h"
#include "runner/cli/container.h"
#include "runner/oci/hierarchies.h"
#include "runner/snapshot/container.h"

namespace runner::cli {

void CriuWords::declare(Options& options) {
  options.value("--image-path", images, "folder of the checkpoint; ./checkpoint by default");
  options.value("--work-path", work, "folder of CRIU's log; by default it is with the container's state, and goes with it");
  options.flag("--tcp-established", tcp_established, "TCP connections with both ends inside are part of it");
  options.flag("--ext-unix-sk", ext_unix_sk, "UNIX sockets may be connected to the outside");
  options.flag("--shell-job", shell_job, "a terminal of the caller's may be in use");
  options.flag("--lazy-pages", lazy_pages, "memory stays with a page server until it is touched: criu(8)");
  options.flag("--file-locks", file_locks, "locks on files are part of it");
  options.value("--manage-cgroups-mode", cgroups_mode, "accepted as runc has it: cgroups are runner's own affair, never CRIU's");
  options.value("--empty-ns", empty_ns, "network: what the network namespace holds is not part of it");
  options.flag("--auto-dedup", auto_dedup, "page images give up what was dumped or restored since");
}

void CriuWords::check() const {
  constexpr const char* kModes[] = {"", "none", "props", "soft", "full", "strict", "ignore"};
  if (std::none_of(std::begin(kModes), std::end(kModes), [&](const char* mode) { return cgroups_mode == mode; }))
    throw UsageError(fmt::format("--manage-cgroups-mode: '{}' is not soft, full, strict or ignore", cgroups_mode));
  if (!empty_ns.empty() && empty_ns != "network") throw UsageError(fmt::format("--empty-ns: only network can be empty, not '{}'", empty_ns));
}

namespace {

// Before anything is stopped or made. As execvp(3) would find it.
std::string found_criu(const Globals& globals) {
  std::string program = criu_program(globals);
  if (program.find('/') != std::string::npos && ::access(program.c_str(), X_OK) == 0) return program;
  const char* path = std::getenv("PATH");
  std::istringstream folders(program.find('/') == std::string::npos && path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');)
    if (::access((folder + "/" + program).c_str(), X_OK) == 0) return program;
  throw std::runtime_error(fmt::format("there is no CRIU at {}: scripts/setup provides one, and --criu or RUNNER_CRIU names another", program));
}

}  // namespace

void CriuWords::give(snapshot::ImageOptions& options, const Context& context, const std::string& own_work) const {
  static_cast<snapshot::CriuFlags&>(options) = *this;
  options.criu = found_criu(context.globals);
  options.images = images.empty() ? "checkpoint" : images;
  options.work = work.empty() ? own_work : work;
  report_debug(context.globals, fmt::format("{} uses the images in {} and writes its log to {}", options.criu, options.images, options.work));
}

namespace {

void read_address(const std::string& text, snapshot::CheckpointOptions& options) {
  if (text.empty()) return;
  std::size_t colon = text.rfind(':');
  std::string port = colon == std::string::npos ? "" : text.substr(colon + 1);
  bool digits = !port.empty() && port.size() < 6 && std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (!digits || colon == 0 || std::stoi(port) > 65535 || std::stoi(port) == 0)
    throw UsageError(fmt::format("--page-server: '{}' is not ADDRESS:PORT", text));
  options.page_server = text.substr(0, colon);
  options.page_server_port = std::stoi(port);
}

isolate::Plan plan_of(Context& context, const session::State& state) {
  oci::LoadOptions load;
  load.id = state.id;
  load.privileged = ::geteuid() == 0;
  Diagnostics wrong;
  auto container = oci::load_bundle(state.bundle, state.config, load, wrong);
  if (!container) throw std::runtime_error(fmt::format("cannot checkpoint the container: its bundle is no longer readable: {}", wrong.text()));
  if (container->asked.init) run_under_init(container->plan);
  oci::show_hierarchies(container->plan, state.cgroup, context.cgroups());
  return std::move(container->plan);
}

}  // namespace

int checkpoint_main(Context& context) {
  CriuWords words;
  snapshot::CheckpointOptions checkpoint;
  bool skip_in_flight = false;
  std::string page_server;
  Options options("checkpoint", "Write the processes of a container into a folder, with CRIU, and end them.");
  words.declare(options);
  options.flag("--leave-running", checkpoint.leave_running, "the container goes on");
  options.flag("--tcp-skip-in-flight", skip_in_flight, "accepted as runc has it: connections that are being made are always left out");
  options.number("--status-fd", checkpoint.status_fd, "descriptor that gets a zero byte when the page server is ready");
  options.value("--page-server", page_server, "ADDRESS:PORT of who takes the pages");
  options.flag("--pre-dump", checkpoint.pre_dump, "only memory, and the container goes on");
  options.value("--parent-path", checkpoint.parent, "folder of an earlier --pre-dump, relative to --image-path");
  std::string id = one_argument(context.parse(options), "checkpoint");
  words.check();
  read_address(page_server, checkpoint);

  session::Entry entry = context.entry(id);
  session::State state = entry.read_state();
  if (state.is_session) throw std::runtime_error(fmt::format("{} is a session: `runner snapshot create {}`", id, id));
  session::Status status = session::status_of(state, context.cgroups());
  if (status == session::Status::Stopped) throw std::runtime_error("container not running");
  if (status != session::Status::Running && status != session::Status::Paused)
    throw std::runtime_error(fmt::format("cannot checkpoint a container that is {}", session::status_name(status)));
  words.give(checkpoint, context, entry.file("criu.work"));
  for (const std::string& note : snapshot::checkpoint(context.directories(), context.cgroups(), state, plan_of(context, state), checkpoint))
    report_warning(context.globals, note);
  return 0;
}

}  // namespace runner::cli
