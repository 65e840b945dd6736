#include "runner/supervise/parking.h"

#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "isolate/init/protocol.h"
#include "isolate/seccomp.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"
#include "isolate/sys/socket.h"
#include "runner/supervise/supervisor.h"

namespace runner::supervise {

using namespace isolate::sys;
using isolate::init::Frame;
using isolate::init::Kind;
using json = nlohmann::json;

namespace {

// Where a snapshot finds the files of a workspace that is not in the layer, and by which map they are the session's. No "from": it is.
json describe_workspace(const Request& request, const isolate::Sandbox& sandbox) {
  json said{{"at", request.workspace}, {"kept", request.kept}};
  auto ranges = [](const std::vector<isolate::IdRange>& list) {
    json all = json::array();
    for (const isolate::IdRange& each : list) all.push_back({each.inside, each.outside, each.count});
    return all;
  };
  for (const isolate::Mount& mount : request.plan.mounts) {
    auto* bind = std::get_if<isolate::Bind>(&mount.what);
    if (!bind || clean_path(mount.to) != request.workspace) continue;
    // With a quota it may be a file system of its own, which has no path, and its files are the session's as they are.
    int disk = bind->quota ? sandbox.workspace().mount() : -1;
    said["from"] = disk >= 0 ? fmt::format("/proc/{}/fd/{}", ::getpid(), disk) : bind->from;
    said["uids"] = ranges(disk >= 0 ? std::vector<isolate::IdRange>() : bind->ids.uids);
    said["gids"] = ranges(disk >= 0 ? std::vector<isolate::IdRange>() : bind->ids.gids);
  }
  return said;
}

}  // namespace

std::string parked_record(Calls& calls, isolate::Sandbox& sandbox, int control, const Request& request, std::uint64_t ran_ms) {
  constexpr int kPatience = 10'000;  // milliseconds: it does nothing that takes long, but it may be frozen or starved
  calls.park();
  while (!calls.parked()) {
    pollfd wait{control, POLLIN, 0};
    int ready = ::poll(&wait, 1, kPatience);
    if (ready == -1 && errno != EINTR) fail(errno, "wait for PID 1");
    if (ready == 0) throw std::runtime_error("PID 1 of the session does not answer: it is frozen, or starved by its limits");
    if (!calls.hear()) throw std::runtime_error("the session has ended");
  }
  const isolate::Plan& plan = request.plan;
  // With a limit the layer may lie in a file system of its own, which has no path.
  int disk = sandbox.disk().mount();
  std::string upper = disk >= 0 ? fmt::format("/proc/{}/fd/{}/upper", ::getpid(), disk) : plan.root.overlay->upper;
  auto is_bounded = [](const isolate::Mount& mount) {
    auto* bind = std::get_if<isolate::Bind>(&mount.what);
    return bind && bind->quota && !bind->quota->shared;
  };
  bool bounded = plan.root.overlay->disk || std::any_of(plan.mounts.begin(), plan.mounts.end(), is_bounded);
  return json{{"pid", sandbox.child().pid()}, {"far", *calls.parked()}, {"cgroup", plan.cgroup.path},
              {"first_id", plan.ids.uids.front().outside}, {"upper", upper}, {"workspace", describe_workspace(request, sandbox)}, {"bounded", bounded}, {"ran_ms", ran_ms}, {"hostname", plan.hostname},
              {"arguments", request.arguments}, {"policy", request.policy}, {"from", request.from}, {"filters", describe_filters(plan, request.filter_cache)}, {"uid", plan.process.uid},
              {"gid", plan.process.gid}, {"calls", json::parse(calls.save())}}.dump();
}

std::string describe_filters(const isolate::Plan& plan, const std::string& cache) {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a: it is signed with all else
  std::size_t count = 0;
  for (const isolate::SeccompRules& rules : plan.seccomp) {
    isolate::Filter filter = isolate::make_filter(rules, cache);
    auto* bytes = reinterpret_cast<const unsigned char*>(filter.program.data());
    for (std::size_t i = 0; i < filter.program.size() * sizeof(sock_filter); ++i) hash = (hash ^ bytes[i]) * 0x100000001b3;
    ++count;
  }
  return fmt::format("{}-{:016x}", count, hash);
}

void send_record(int client, const std::string& record) {
  Fd file = memory_file("record", record);
  isolate::init::send_frame(client, {Kind::Parked, 0, 0, 0, {}, {}}, {}, {file.get()});
}

Parking await_parking(int client, int pidfd) {
  for (;;) {
    pollfd wait[2] = {{client, POLLIN, 0}, {pidfd, POLLIN, 0}};
    if (::poll(wait, 2, -1) == -1) {
      if (errno == EINTR) continue;
      fail(errno, "wait for a snapshot");
    }
    if (!wait[0].revents) return Parking::GoesOn;  // PID 1 is dead, and nobody has said why
    std::optional<Frame> word;
    try {
      word = isolate::init::receive_frame(client);
    } catch (const SystemError&) {
      return Parking::GoesOn;
    }
    if (!word || word->kind == Kind::Wake) return Parking::GoesOn;
    if (word->kind == Kind::Forget) return Parking::Suspended;
  }
}

void answer_parking(int client) {
  try {
    isolate::init::send_frame(client, {Kind::Wake, 0, 0, 0, {}, {}}, {}, {}, true);
  } catch (const SystemError&) {
    // it has not waited
  }
}

events::SnapshotCreated parse_created(const std::string& text) {
  json j = json::parse(text);
  events::SnapshotCreated created;
  j.at("snapshot").get_to(created.snapshot);
  j.at("id").get_to(created.id);
  j.at("bytes").get_to(created.bytes);
  j.at("layer_bytes").get_to(created.layer_bytes);
  j.at("frozen_ms").get_to(created.frozen_ms);
  j.at("layer_ms").get_to(created.layer_ms);
  j.at("ms").get_to(created.ms);
  return created;
}

Fd take_descriptor(int pidfd, int number) {
  return Fd(static_cast<int>(check(::syscall(SYS_pidfd_getfd, pidfd, number, 0), "take over the control socket of PID 1")));
}

}  // namespace runner::supervise
