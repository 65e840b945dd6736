#include "runner/snapshot/restore.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
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
#include "runner/snapshot/mounts.h"
#include "runner/snapshot/swrk.h"
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

std::vector<MountPoint> read_mounts(const json& record) {
  std::vector<MountPoint> all;
  for (const json& one : record.at("mounts")) all.push_back({one.at("at"), one.at("kind").get<MountPoint::Kind>()});
  return all;
}

// Whether one of the layers has something to say of this path: it is there, or it or a folder above was deleted. A folder stays, as it was.
bool changed_in(const std::vector<std::string>& layers, isolate::GeneratedFile& file) {
  const std::string& path = file.path;
  for (const std::string& layer : layers) {
    for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
      std::string here = layer + path.substr(0, slash);
      struct stat info;
      if (::lstat(here.c_str(), &info) == -1) break;
      if (!S_ISDIR(info.st_mode) || slash == std::string::npos) return true;
      if (slash + 1 == path.size()) {
        file.mode = info.st_mode & 07777, file.uid = info.st_uid, file.gid = info.st_gid;
        return false;
      }
      char opaque;
      if (::lgetxattr(here.c_str(), "trusted.overlay.opaque", &opaque, 1) == 1 && opaque == 'y') return true;
    }
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
  // Processes in the new user namespace read what we make here: its root is not ours.
  struct Readable {
    mode_t before = ::umask(022);
    ~Readable() { ::umask(before); }
  } readable;
  json record = json::parse(snapshot.manifest().session);
  auto refuse = [&](const std::string& why) { return supervise::Refused(snapshot.name(), why); };
  try {
    check_fits(snapshot.manifest(), setting.plan, supervise::describe_filters(setting.plan, directories.filters()));
  } catch (const Unfit& unfit) {
    throw refuse(unfit.what());
  }
  phases.end("fits");
  Fd run = make_run(directories, setting.criu);
  for (const char* folder : isolate::kRestoreFolders) check(::mkdirat(run.get(), folder, 0755), "make {}", folder);
  Fd images = open_folder(run.get(), "images"), work = open_folder(run.get(), "work");
  auto [ours, theirs] = socket_pair();

  // Processes in the new user namespace open the page images, whose folder is for root alone: here that is its root.
  Fd store = copy_mount(AT_FDCWD, snapshot.path() + "/criu", false);
  set_mount(store.get(), MOUNT_ATTR_RDONLY, 0, false, 0, isolate::make_id_map(setting.plan.ids).get());

  isolate::RestorerOptions options;
  options.store = store.get();
  options.cgroups = setting.cgroups;
  options.run = run.get();
  options.keep = {theirs.get()};
  options.become = [&, socket = theirs.get()] { Criu::become(setting.criu, socket); };
  isolate::Restorer restorer = isolate::start_restorer(setting.plan, options);
  theirs.close();
  phases.end("prepare");
  // While it lays out the root and starts CRIU.
  try {
    snapshot.take_verified(images.get(), "../store", setting.verify);
  } catch (const BadSnapshot& bad) {
    throw refuse(fmt::format("{}: {}", bad.file(), bad.why()));
  }
  set_id_map(images.get(), setting.plan.ids);
  phases.end("verify");
  restorer.ready();
  phases.end("wait");

  CriuOptions criu;
  criu.images = images.get();
  criu.work = work.get();
  criu.root = isolate::kBareRoot;
  criu.external = external_at_restore(read_mounts(record), setting.plan);
  criu.empty_namespaces = CLONE_NEWNET;
  criu.tcp_established = true;
  criu.link_remap = true;
  pid_t pid = 0;
  std::string unfit;
  int alone = 0;
  criu.stuck = [&] {
    alone = restorer.cgroup().processes().size() <= 1 ? alone + 1 : 0;
    return alone > 1 ? std::string("the processes that it made have ended") : std::string();
  };
  try {
    pid = Criu(std::move(ours)).restore(criu, [&](const std::string& when, pid_t root) {
      if (when == "post-setup-namespaces") criu_hooks::prepare_namespaces(root, setting.plan.hostname);
      phases.end(when.c_str());
      if (when == "pre-resume") try {
          check_identity(setting.plan, root, restorer.child().pid(), restorer.cgroup().processes());
          phases.end("identity");
        } catch (const Unfit& error) {
          unfit = error.what();
          throw;
        }
    });
  } catch (...) {
    if (!unfit.empty()) throw refuse(unfit);
    throw;
  }
  Fd pidfd(static_cast<int>(check(::syscall(SYS_pidfd_open, pid, 0), "watch process {}", pid)));
  Child root(pid, std::move(pidfd));
  Fd control = supervise::take_descriptor(root.pidfd(), record.at("far"));
  restorer.child().wait();
  phases.end("resume");
  keep_learnt(directories, setting.criu, run.get());

  events::SessionRestored event;
  event.kind = setting.kind;
  event.snapshot = snapshot.name();
  event.lineage = snapshot.manifest().lineage;
  event.lineage.insert(event.lineage.begin(), snapshot.manifest().id);
  event.pid = pid;
  event.phases = phases.times();
  event.ms = phases.total();
  return {isolate::Sandbox(std::move(root), std::move(restorer.cgroup()), std::move(restorer.disk()), isolate::Link(), Fd(), false, std::move(restorer.workspace())), std::move(control),
          record.at("calls").dump(), setting.kind == "warm" ? record.at("ran_ms").get<std::uint64_t>() : 0, event};
}

}  // namespace runner::snapshot
