// Nothing of a dead session is left: after many, after many at once, and after supervisors that were killed at any moment.
// SESSIONS, CONCURRENT and KILLS are the counts; the full figures are 1000, 200 and 200.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <filesystem>
#include <list>
#include <random>
#include <set>

#include "tests/security/support.h"

using namespace security;
namespace fs = std::filesystem;

namespace {

std::string listing(const std::string& folder, const std::string& except = "") {
  std::set<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (std::string name = entry.path().filename(); name != except) names.insert(folder + "/" + name);
  std::string text;
  for (const std::string& name : names) text += name + "\n";
  return text;
}

// Processes of ours that live: in a session's cgroup, or still with the command line of the runner that they were cloned from.
// What is dead and not yet reaped by the host's PID 1 is not ours to remove.
std::vector<pid_t> our_processes(const std::string& id) {
  std::vector<pid_t> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    std::string name = entry.path().filename();
    if (!std::isdigit(static_cast<unsigned char>(name[0])) || name == std::to_string(::getpid()) ||
        !alive(std::stoi(name)))
      continue;
    bool ours = tests::read(entry.path() / "cgroup").find("/runner/" + id) != std::string::npos ||
                tests::read(entry.path() / "cmdline").find(tests::run_root()) != std::string::npos;
    if (ours) found.push_back(std::stoi(name));
  }
  return found;
}

// Which namespaces they are in, the host's too. One that no process is in lives by a mount or a descriptor only: mounts are looked at
// on their own, and a descriptor needs a process.
std::string namespaces(const std::vector<pid_t>& pids, const char* kind) {
  std::set<std::string> found;
  std::error_code ignored;
  for (pid_t pid : pids)
    if (fs::path link = fs::read_symlink("/proc/" + std::to_string(pid) + "/ns/" + kind, ignored); !link.empty())
      found.insert(link);
  std::string text;
  for (const std::string& each : found) text += each + " ";
  return text;
}

// Mounts, cgroups, network and user namespaces, files, processes under the ids of sessions: all that a session could leave.
struct Host {
  std::string mounts, cgroups, net, user, run, data, processes, locks;

  static Host now(const std::string& id) {
    Host host;
    host.mounts = tests::read("/proc/self/mountinfo");
    for (const std::string& mount : cgroup_mounts())
      for (const std::string& line : lines_with(listing(mount) + listing(mount + "/runner"), ""))
        if (line.find(id) != std::string::npos) host.cgroups += line + "\n";
    std::vector<pid_t> pids = our_processes(id);
    for (pid_t pid : pids) host.processes += std::to_string(pid) + " ";
    host.net = namespaces(pids, "net");
    host.user = namespaces(pids, "user");
    host.run = listing(tests::run_root(), ".filters");
    host.data = listing(data_dir()) + listing(data_dir() + "/sessions");
    // Each session holds a lock on one byte of this file.
    struct flock all{};
    all.l_type = F_WRLCK;
    int ids = ::open("/run/runner/.ids", O_RDWR | O_CLOEXEC);  // of all run roots
    if (ids >= 0 && ::fcntl(ids, F_OFD_GETLK, &all) == 0 && all.l_type != F_UNLCK)
      host.locks = "a range of ids is locked";
    ::close(ids);
    return host;
  }
};

void check_same(const Host& before, const Host& after) {
  CHECK(after.mounts == before.mounts);
  CHECK(after.cgroups == "");
  CHECK(after.net == before.net);
  CHECK(after.user == before.user);
  CHECK(after.run == before.run);
  CHECK(after.data == before.data);
  CHECK(after.processes == "");
  CHECK(after.locks == before.locks);  // of all sessions on this machine, so others may have some
}

std::string prefix() { return "left" + std::to_string(::getpid()) + "-"; }

Args argv(const std::string& id, const Args& flags, const Args& words) {
  return concat({tests::runner_path(), "--root", tests::run_root()},
                session(concat({"--name", id}, flags), concat({"/attack"}, words)));
}

// What a first session makes for all that follow is no trace.
Host warm() {
  tests::run(argv(prefix() + "warm", {}, {"exit", "0"}));
  return Host::now(prefix());
}

}  // namespace

TEST_SUITE("left behind") {
  TEST_CASE("control: the look at the host sees a session that lives") {
    Host before = warm();
    Background one(argv(prefix() + "seen", {}, {"hold", "30000"}));
    REQUIRE(one.await("ready="));
    Host during = Host::now(prefix());
    CHECK(during.run != before.run);
    CHECK(during.data != before.data);
    CHECK(during.processes != "");
    if (tests::is_root()) CHECK(during.cgroups != "");
    if (tests::is_root()) CHECK(during.locks != "");
    CHECK(during.net != before.net);
    CHECK(during.user != before.user);
    one.signal(SIGTERM);
    CHECK(one.wait() == 128 + SIGTERM);
    check_same(before, Host::now(prefix()));
  }

  TEST_CASE("one after the other") {
    Host before = warm();
    for (int n = count("SESSIONS", 100); n > 0; --n) {
      Ran ran = tests::run(argv(prefix() + std::to_string(n), {"--output", "raw"}, {"exit", n % 2 ? "0" : "3"}));
      REQUIRE_MESSAGE(ran.code == (n % 2 ? 0 : 3), ran.err);
    }
    check_same(before, Host::now(prefix()));
  }

  TEST_CASE("all at once") {
    Host before = warm();
    std::list<Background> running;
    for (int n = count("CONCURRENT", 40); n > 0; --n)
      running.emplace_back(argv(prefix() + std::to_string(n), {}, {"hold", "300"}));
    for (Background& each : running) {
      int code = each.wait(60'000);
      REQUIRE_MESSAGE(code == 0, each.err());
    }
    check_same(before, Host::now(prefix()));
  }

  TEST_CASE("supervisors that are killed at a random moment leave nothing after the next start") {
    Host before = warm();
    std::mt19937 random(20261121);
    std::uniform_int_distribution<int> microseconds(0, 60'000);
    int kills = count("KILLS", 40), early = 0;
    for (int n = 0; n < kills; ++n) {
      Background victim(argv(prefix() + std::to_string(n), n % 3 ? Args{} : Args{"--memory", "64M"}, {"hold", "2000"}));
      ::usleep(static_cast<unsigned>(microseconds(random)));
      early += victim.out().find("ready=") == std::string::npos;
      victim.signal(SIGKILL);
      REQUIRE(victim.wait() == 128 + SIGKILL);
    }
    CHECK(early > 0);
    // Processes end by themselves; files, cgroups and locks with the next start.
    CHECK(eventually([] { return Host::now(prefix()).processes.empty(); }, 3000));
    Ran next = tests::run(argv(prefix() + "next", {}, {"exit", "0"}));
    CHECK(next.code == 0);
    CHECK(next.err.find("error") == std::string::npos);
    check_same(before, Host::now(prefix()));
  }

  TEST_CASE("an id whose supervisor was killed can be used again at once") {
    Host before = warm();
    for (int n = 0; n < 5; ++n) {
      Background victim(argv(prefix() + "again", {}, {"hold", "20000"}));
      REQUIRE(victim.await("ready="));
      victim.signal(SIGKILL);
      victim.wait();
      Ran ran = tests::run(argv(prefix() + "again", {"--output", "raw"}, {"exit", "0"}));
      CHECK_MESSAGE(ran.code == 0, ran.err);
    }
    check_same(before, Host::now(prefix()));
  }
}
