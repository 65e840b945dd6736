#include "runner/snapshot/take.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <stdexcept>

#include "isolate/init/protocol.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"
#include "runner/snapshot/hazards.h"
#include "runner/snapshot/layers.h"
#include "runner/snapshot/mounts.h"
#include "runner/snapshot/scan.h"
#include "runner/snapshot/store.h"
#include "runner/snapshot/swrk.h"
#include "runner/snapshot/workspace.h"
#include "runner/supervise/client.h"

namespace runner::snapshot {

using namespace isolate::sys;
using isolate::init::Frame;
using isolate::init::Kind;
using json = nlohmann::json;

namespace {

// Of a Failed frame: STAGE, PATH, CAUSE and HINT with a zero between them.
std::string cause_in(const std::string& failed) {
  std::istringstream fields(failed);
  std::string cause;
  for (int i = 0; i < 3; ++i) std::getline(fields, cause, '\0');
  return cause;
}

// The session stands still for as long as this lives, unless it is told what has become of it.
class Parked {
 public:
  Parked(const session::Entry& entry, const std::string& snapshot) : socket_(supervise::connect_to_session(entry.file("control.sock"))) {
    isolate::init::send_frame(socket_.get(), {Kind::Park, 0, 0, 0, {}, {}}, snapshot);
    auto answer = isolate::init::receive_frame(socket_.get());
    if (!answer || answer->kind != Kind::Parked || answer->fds.empty())
      throw std::runtime_error(fmt::format("session {} did not stand still for a snapshot: {}", entry.id(), answer ? cause_in(answer->bytes) : "its supervisor has gone"));
    record_ = json::parse(read_file(fmt::format("/proc/self/fd/{}", answer->fds[0].get())));
  }
  const json& record() const { return record_; }
  void wake() { say(socket_, Kind::Wake, {}); }
  void suspend() { say(socket_, Kind::Forget, {}); }

  // Waits until it is done: the session's next command finds it so.
  static void say(const Fd& socket, Kind kind, const std::string& text) {
    try {
      isolate::init::send_frame(socket.get(), {kind, 0, 0, 0, {}, {}}, text);
      isolate::init::receive_frame(socket.get());
    } catch (const SystemError&) {
      // it has ended: suspended, or on its own
    }
  }

 private:
  Fd socket_;
  json record_;
};

// Files whose pages the processes execute, each once.
std::vector<Mapped> mapped_files(const std::vector<pid_t>& pids) {
  std::vector<Mapped> all;
  std::set<std::string> seen;
  for (pid_t pid : pids) {
    std::istringstream maps(find_file(fmt::format("/proc/{}/maps", pid)).value_or(""));
    for (std::string line; std::getline(maps, line);) {
      std::size_t path = line.find('/');
      if (path == std::string::npos || line.find(" r-xp ") == std::string::npos || !seen.insert(line.substr(path)).second) continue;
      // The link is the file itself, whatever its name means by now. Its own has no leading zeros.
      std::uint64_t from = std::stoull(line, nullptr, 16), to = std::stoull(line.substr(line.find('-') + 1), nullptr, 16);
      Fd file(::open(fmt::format("/proc/{}/map_files/{:x}-{:x}", pid, from, to).c_str(), O_RDONLY | O_CLOEXEC));
      if (file) all.push_back(describe_mapped(file.get(), line.substr(path)));
    }
  }
  return all;
}

// For the session's log. It may have ended since: the snapshot is there all the same.
void tell_created(const session::Entry& entry, const json& created) {
  try {
    Parked::say(supervise::connect_to_session(entry.file("control.sock")), Kind::Wake, created.dump());
  } catch (const std::exception&) {
  }
}

// What the session itself came out of lies below its own layer.
void add_parents(const Store& store, const json& record, Manifest& manifest) {
  std::string from = record.at("from");
  if (from.empty()) return;
  Snapshot parent = store.get(from);
  for (const std::string& layer : parent.manifest().layers) manifest.layers.push_back(layer.find('/') == std::string::npos ? from + "/" + layer : layer);
  manifest.lineage = parent.manifest().lineage;
  manifest.lineage.insert(manifest.lineage.begin(), parent.manifest().id);
}

// A process that ended in the moment in which CRIU came to it: a session that starts many has one in 500 dumps or so. The next finds none.
bool was_too_late(const std::string& why) { return why.find(" on procfs: ") != std::string::npos; }

// Its manifest, too, has words of the session: the flags that it was run with, and their variables.
void check_no_secrets(const Draft& draft, const Manifest& manifest, const TakeOptions& options) {
  Scanned scanned = scan(draft.path(), *options.without);
  std::string words = manifest.session;
  for (const std::string& argument : manifest.config) words += "\n" + argument;
  scan_text("manifest.json", words, *options.without, scanned);
  if (!scanned.findings.empty()) throw SecretsFound(options.name, scanned.findings);
}

}  // namespace

Taken take(const session::Directories& directories, const isolate::CgroupHost& cgroups, const session::Entry& entry, const TakeOptions& options) {
  supervise::Clock::time_point began = supervise::Clock::now();
  Store store(directories);
  Draft draft = store.draft();
  Taken taken;
  taken.name = options.name;
  Manifest manifest = manifest_of_this_host();

  // All that can be done before is done before: the session stands still from here.
  Fd run = make_run(directories);
  Dumper dumper = start_dumper(options.criu, run.get());
  Fd images = open_file(draft.criu(), O_RDONLY | O_DIRECTORY);
  auto work_folder = [&] { return Fd(check(::openat(run.get(), "work", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open {}", "work")); };
  Fd work = work_folder();
  manifest.criu_version = dumper.criu.version();
  std::string layer = options.layer ? draft.make_layer("0") : "";

  session::State state = entry.read_state();
  if (state.asleep_since.empty() && session::status_of(state, cgroups) == session::Status::Paused)
    throw std::runtime_error(fmt::format("session {} is paused: `runner resume {}` first", entry.id(), entry.id()));
  supervise::Clock::time_point parked_at = supervise::Clock::now();
  Parked parked(entry, options.name);
  const json& record = parked.record();
  // Their limits would have to be put on files that are there already.
  if (options.suspend && record.at("bounded"))
    throw std::runtime_error(fmt::format("session {} has a limit of its own on the disk, and cannot be suspended: `snapshot create --leave-running`, then `restore`", entry.id()));
  pid_t pid = record.at("pid");
  std::vector<MountPoint> mounts = mounts_of(pid);
  isolate::Cgroup group = isolate::Cgroup::open(record.at("cgroup").get<std::string>(), cgroups);

  CriuOptions criu;
  criu.images = images.get();
  criu.work = work.get();
  criu.pid = pid;
  criu.external = external_at_dump(mounts);
  criu.leave_running = true;
  criu.empty_namespaces = CLONE_NEWNET;
  criu.tcp_established = true;
  criu.file_locks = criu.link_remap = true;
  criu.ghost_limit = 1u << 30;
  auto explain = [&](const std::string& why) {
    std::string text = why;
    for (const Hazard& each : find_hazards(group.processes()))
      if (each.effect == Hazard::Effect::Fails)
        text += fmt::format("; process {} ({}) has {}{}: {}", each.pid, each.process, each.what, each.fd < 0 ? "" : fmt::format(" (descriptor {})", each.fd), each.remedy);
    return std::runtime_error(text);
  };
  auto dump = [&] {
    dumper.criu.dump(criu, [&](const std::string& when, pid_t) {
      if (when != "post-dump") return;
      CopiedLayer copied;
      if (options.layer) copied = copy_layer(record.at("upper").get<std::string>(), layer, record.at("first_id").get<std::uint32_t>());
      CopiedLayer workspace;
      if (options.layer) workspace = copy_workspace(record.dump(), draft);
      taken.layer_bytes = copied.bytes + workspace.bytes;
      taken.layer_ms = copied.ms + workspace.ms;
      manifest.mapped = mapped_files(group.processes());
      if (options.suspend) group.freeze(true);  // so that nothing happens any more that this would not have
    });
  };
  constexpr int kTries = 3;
  for (int tries = 1;; ++tries) try {
      dump();
      break;
    } catch (const std::exception& error) {
      if (tries == kTries || !was_too_late(error.what())) throw explain(error.what());
      for (const std::string& name : list_dir(draft.criu())) remove_tree(draft.criu() + "/" + name);
      run = make_run(directories);
      work = work_folder();
      criu.work = work.get();
      dumper = start_dumper(options.criu, run.get());
    }
  taken.frozen_ms = supervise::milliseconds_since(parked_at);
  if (!options.suspend) parked.wake();

  manifest.session_id = entry.id();
  manifest.left_running = !options.suspend;
  manifest.automatic = options.automatic;
  manifest.policy_name = record.at("policy");
  manifest.policy_hash = record.at("filters");
  manifest.config = record.at("arguments").get<std::vector<std::string>>();
  manifest.first_id = record.at("first_id");
  manifest.id_count = session::IdRangeLease::kSize;
  json session = record;
  session["mounts"] = mounts;
  session["contexts"] = options.contexts;
  manifest.session = session.dump();
  if (options.layer) manifest.layers = {"0"};
  add_parents(store, record, manifest);
  if (options.without) check_no_secrets(draft, manifest, options);
  Snapshot snapshot = draft.publish(options.name, std::move(manifest));
  taken.id = snapshot.manifest().id;
  for (const File& file : snapshot.manifest().files)
    if (file.path.starts_with("criu/")) taken.bytes += file.size;
  taken.ms = supervise::milliseconds_since(began);
  json created{{"snapshot", options.name}, {"id", taken.id}, {"bytes", taken.bytes}, {"layer_bytes", taken.layer_bytes},
               {"frozen_ms", taken.frozen_ms}, {"layer_ms", taken.layer_ms}, {"ms", taken.ms}};
  if (options.suspend) parked.suspend();
  else tell_created(entry, created);
  keep_learnt(directories, run.get());
  return taken;
}

}  // namespace runner::snapshot
