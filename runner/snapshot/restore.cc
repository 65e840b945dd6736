#include "runner/snapshot/restore.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "criu-hooks/network.h"
#include "isolate/ids.h"
#include "isolate/restorer.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/mount.h"
#include "isolate/sys/socket.h"
#include "runner/snapshot/fits.h"
#include "runner/snapshot/identity.h"
#include "runner/snapshot/images.h"
#include "runner/snapshot/layers.h"
#include "runner/snapshot/mounts.h"
#include "runner/snapshot/swrk.h"
#include "runner/snapshot/workspace.h"
#include "runner/supervise/parking.h"

namespace runner::snapshot {

using namespace isolate::sys;
using json = nlohmann::json;

namespace {

// Milliseconds of each phase, for the event.
class Phases {
 public:
  void end(const char* name) {
    double now = milliseconds();
    times_[name] = fmt::format("{:.1f}", now - last_);
    last_ = now;
  }
  // All until now was done ahead of the request.
  void end_ahead() {
    double now = milliseconds();
    times_ = {{"ahead", fmt::format("{:.1f}", now - began_)}};
  }
  void begin_again() { began_ = last_ = milliseconds(); }
  std::uint64_t total() const { return static_cast<std::uint64_t>(milliseconds() - began_ + 0.5); }
  const std::map<std::string, std::string>& times() const { return times_; }

 private:
  static double milliseconds() {
    timespec now;
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
  }
  double began_ = milliseconds(), last_ = began_;
  std::map<std::string, std::string> times_;
};

// Whether one of the layers has something to say of this path. A folder stays, as it was.
bool changed_in(const std::vector<std::string>& layers, isolate::GeneratedFile& file) {
  bool folder = file.path.ends_with('/');
  std::string path = folder ? file.path.substr(0, file.path.size() - 1) : file.path;
  for (const std::string& layer : layers) {
    Said said = look_in_layer(layer, path);
    if (said == Said::Nothing) continue;
    struct stat info;
    if (said == Said::Gone || !folder || ::lstat((layer + path).c_str(), &info) == -1 || !S_ISDIR(info.st_mode)) return true;
    file.mode = info.st_mode & 07777, file.uid = info.st_uid, file.gid = info.st_gid;
    return false;
  }
  return false;
}

Fd open_folder(int at, const char* name) { return Fd(check(::openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open {}", name)); }

}  // namespace

std::map<std::string, std::string> contexts_of(const Snapshot& snapshot) {
  return json::parse(snapshot.manifest().session).value("contexts", std::map<std::string, std::string>());
}

void put_layers(isolate::Plan& plan, const Snapshot& snapshot, bool wakes) {
  std::vector<std::string> layers = snapshot.layer_paths();
  if (wakes && !layers.empty() && snapshot.manifest().layers.front().find('/') == std::string::npos) layers.erase(layers.begin());
  if (layers.empty()) return;
  isolate::Overlay& overlay = *plan.root.overlay;
  overlay.lower.insert(overlay.lower.begin(), layers.begin(), layers.end());
  overlay.lower_ids = plan.ids;  // as an image's
  // What the plan generates lies above them: but for what names the session, the snapshot's is what was there.
  std::erase_if(plan.files, [&](isolate::GeneratedFile& file) {
    return file.path != "/etc/hosts" && file.path != "/etc/hostname" && file.path != "/" && !file.path.starts_with("/run/runner/") && changed_in(layers, file);
  });
}

supervise::Restored restore(const session::Directories& directories, const Snapshot& snapshot, const RestoreSetting& setting) {
  Phases phases;
  Readable readable;
  json record = json::parse(snapshot.manifest().session);
  auto refuse = [&](const std::string& why) { return supervise::Refused(snapshot.name(), why, false); };
  bool fills = !setting.keeps_workspace;
  auto check_it_fits = [&] {
    try {
      check_fits(snapshot.manifest(), fills ? before_filling(snapshot, setting.plan) : setting.plan, supervise::describe_filters(setting.plan, directories.filters()));
    } catch (const Unfit& unfit) {
      throw refuse(unfit.what());
    }
    phases.end("fits");
  };
  check_it_fits();
  Fd run = make_restore_run(directories);
  Fd images = open_folder(run.get(), "images"), work = open_folder(run.get(), "work");
  auto [ours, theirs] = socket_pair();

  // Processes in the new user namespace open the page images, whose folder is for root alone: here that is its root.
  Fd store = copy_mount(AT_FDCWD, snapshot.path() + "/criu", false);
  set_mount(store.get(), MOUNT_ATTR_RDONLY, 0, false, 0, isolate::make_id_map(setting.plan.ids).get());

  isolate::RestorerOptions options;
  options.store = store.get();
  options.cgroups = setting.cgroups;
  options.run = run.get();
  if (fills) options.fill = [&](const isolate::Disk& disk) { fill_workspace(snapshot, setting.plan, disk); };
  options.keep = {theirs.get()};
  options.become = [&, socket = theirs.get()] { Criu::become(setting.criu, socket, true, true); };
  isolate::Restorer restorer = isolate::start_restorer(setting.plan, options);
  theirs.close();
  phases.end("prepare");
  // While it lays out the root and starts CRIU.
  try {
    snapshot.take_verified(images.get(), "../store", setting.verify);
  } catch (const BadSnapshot& bad) {
    throw supervise::Refused(snapshot.name(), fmt::format("{}: {}", bad.file(), bad.why()), true);
  }
  set_id_map(images.get(), setting.plan.ids);
  phases.end("verify");
  restorer.ready();
  phases.end("wait");

  CriuOptions criu;
  criu.images = images.get();
  criu.work = work.get();
  criu.root = isolate::kBareRoot;
  criu.external = external_at_restore(record.at("mounts").get<std::vector<MountPoint>>(), setting.plan);
  criu.empty_namespaces = CLONE_NEWNET;
  criu.tcp_established = true;
  criu.file_locks = criu.link_remap = true;
  pid_t pid = 0;
  std::exception_ptr failed;  // what CRIU is told is that it failed
  int alone = 0;
  criu.stuck = [&] {
    alone = restorer.cgroup().processes().size() <= 1 ? alone + 1 : 0;
    return alone > 1 ? std::string("the processes that it made have ended") : std::string();
  };
  auto hook = [&](const std::string& when, pid_t root) {
    if (when == "post-setup-namespaces") criu_hooks::prepare_namespaces(root, setting.plan.hostname);
    phases.end(when.c_str());
    // The last point at which nothing of the session is there yet, its clocks included.
    if (when == "pre-restore" && setting.stand_by) {
      phases.end_ahead();
      setting.stand_by(restorer.child());
      phases.begin_again();
      check_it_fits();  // libraries may have been upgraded meanwhile
    }
    if (when != "pre-resume") return;
    try {
      check_identity(setting.plan, root, restorer.child().pid(), restorer.cgroup().processes());
    } catch (const Unfit& unfit) {
      throw refuse(unfit.what());
    }
    phases.end("identity");
  };
  try {
    pid = Criu(std::move(ours)).restore(criu, [&](const std::string& when, pid_t root) {
      try {
        hook(when, root);
      } catch (...) {
        failed = std::current_exception();
        throw;
      }
    });
  } catch (...) {
    if (failed) std::rethrow_exception(failed);
    throw;
  }
  isolate::Sandbox sandbox = restorer.take_up(pid);
  Fd control = supervise::take_descriptor(sandbox.child().pidfd(), record.at("far"));
  phases.end("resume");
  keep_learnt(directories, run.get());

  events::SessionRestored event;
  event.kind = setting.kind;
  event.snapshot = snapshot.name();
  event.lineage = snapshot.manifest().lineage;
  event.lineage.insert(event.lineage.begin(), snapshot.manifest().id);
  event.pid = pid;
  event.phases = phases.times();
  event.ms = phases.total();
  return {std::move(sandbox), std::move(control), record.at("calls").dump(), setting.kind == "warm" ? record.at("ran_ms").get<std::uint64_t>() : 0, event};
}

}  // namespace runner::snapshot
