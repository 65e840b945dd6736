// Sessions on disk, and many from one: suspend, wake, fork.
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstdlib>
#include <set>
#include <sstream>

#include "isolate/sys/file.h"
#include "tests/kernel/live.h"
#include "tests/snapshot/support.h"

using namespace tests;
using nlohmann::json;

namespace {

constexpr const char* kCounter = "n=0; while :; do n=$((n+1)); echo $n > /workspace/new; mv /workspace/new /workspace/n; sleep 0.05; done";

// At next to no CPU time, which would keep it from falling asleep.
constexpr const char* kSlow = "n=0; while :; do n=$((n+1)); echo $n > /workspace/n; sleep 0.3; done";

struct Counter {
  Box box;
  explicit Counter(const Args& flags = {}, const char* command = kCounter) {
    Args all{"run", "-d", "--name", box.id};
    all.insert(all.end(), flags.begin(), flags.end());
    all.insert(all.end(), {"--", "sh", "-c", command});
    Ran ran = runner_apart(all, Folder());
    if (ran.code != 0) throw std::runtime_error("the session did not start: " + ran.err);
    if (!eventually([&] { return count() > 2; })) throw std::runtime_error("the session does not count");
  }
  int count() const { return count_of(box.id); }
  static int count_of(const std::string& id) { return std::atoi(runner({"exec", id, "--", "cat", "/workspace/n"}).out.c_str()); }
};

std::string status_of(const std::string& id) {
  Ran ran = runner({"inspect", id});
  return ran.code == 0 ? json::parse(ran.out).at(0).value("status", "") : "";
}

std::string one_fact(const std::string& id, const std::string& command) { return runner({"exec", id, "--", "sh", "-c", command}).out; }

std::set<std::string> snapshots() {
  std::set<std::string> names;
  std::istringstream lines(runner({"snapshot", "ls", "-q"}).out);
  for (std::string line; std::getline(lines, line);) names.insert(line);
  return names;
}

}  // namespace

TEST_SUITE("suspend") {
  TEST_CASE("a suspended session has no process, and goes on where it was") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter;
    Ran suspended = runner({"suspend", counter.box.id});
    REQUIRE_MESSAGE(suspended.code == 0, suspended.err);
    CHECK(status_of(counter.box.id) == "suspended");
    CHECK(isolate::sys::list_dir("/sys/fs/cgroup/unified/runner/" + counter.box.id).empty());
    CHECK(snapshots().count(counter.box.id + ".suspended") == 1);
    Ran refused = runner({"rm", counter.box.id});
    CHECK(refused.code == 125);
    CHECK(refused.err.find("is suspended") != std::string::npos);
    CHECK(runner({"snapshot", "rm", counter.box.id + ".suspended"}).code != 0);  // it is all that is left of the session

    Ran woken = runner_apart({"wake", counter.box.id}, Folder());
    REQUIRE_MESSAGE(woken.code == 0, woken.err);
    int then = counter.count();
    CHECK(then > 2);
    CHECK(eventually([&] { return counter.count() > then; }));
    CHECK(eventually([&] { return snapshots().count(counter.box.id + ".suspended") == 0; }));
    CHECK(runner({"logs", counter.box.id, "--verify"}).code == 0);
    std::string log = read(data_dir() + "/sessions/" + counter.box.id + "/events.ndjson");
    for (const char* type : {"snapshot.started", "session.suspended", "session.restored"}) CHECK(log.find(type) != std::string::npos);
    CHECK(log.find("\"kind\":\"warm\"") != std::string::npos);
  }

  TEST_CASE("whoever wants something of it wakes it") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter;
    REQUIRE(runner({"suspend", counter.box.id}).code == 0);
    CHECK(counter.count() > 2);
    CHECK(status_of(counter.box.id) == "running");
  }

  TEST_CASE("who waits for its end waits on while it is on disk; who watches its files keeps it in memory") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter({"--sleep-after", "1s"}, kSlow);
    Live waits(runner_argv({"wait", "--exit", counter.box.id}));
    REQUIRE(eventually([&] { return status_of(counter.box.id) == "suspended"; }, 15'000));
    CHECK(waits.wait(500) == -1);
    CHECK(counter.count() > 0);
    CHECK(waits.wait(500) == -1);
    Live watches(runner_argv({"watch", counter.box.id, "/workspace"}));
    REQUIRE(watches.await("n"));
    CHECK(eventually([&] { return status_of(counter.box.id) == "paused"; }));
    CHECK(runner({"kill", counter.box.id, "KILL"}).code == 0);
    CHECK(waits.wait() == 137);
  }

  TEST_CASE("it survives the loss of /run, as a reboot brings it") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter;
    REQUIRE(runner({"suspend", counter.box.id}).code == 0);
    isolate::sys::remove_tree(run_root() + "/" + counter.box.id);
    CHECK(runner({"ls", "--all"}).out.find("\"status\":\"suspended\"") != std::string::npos);
    CHECK(runner({"prune"}).code == 0);  // which takes what has ended
    REQUIRE(runner_apart({"wake", counter.box.id}, Folder()).code == 0);
    CHECK(counter.count() > 2);
  }

  TEST_CASE("removed by force, nothing of it stays") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter;
    REQUIRE(runner({"suspend", counter.box.id}).code == 0);
    CHECK(runner({"rm", "-f", counter.box.id}).code == 0);
    CHECK(snapshots().count(counter.box.id + ".suspended") == 0);
    CHECK(!exists(data_dir() + "/sessions/" + counter.box.id));
    // Also when a wake died before it had removed what it came from.
    Counter woken;
    REQUIRE(runner({"suspend", woken.box.id}).code == 0);
    std::string kept = data_dir() + "/snapshots/" + woken.box.id + ".suspended", aside = data_dir() + "/snapshots/.kept-" + woken.box.id;
    REQUIRE(run({"cp", "-a", kept, aside}).code == 0);
    REQUIRE(runner_apart({"wake", woken.box.id}, Folder()).code == 0);
    REQUIRE(eventually([&] { return ::rename(aside.c_str(), kept.c_str()) == 0; }));  // it is removed behind the answer
    CHECK(runner({"rm", "-f", woken.box.id}).code == 0);
    CHECK(snapshots().count(woken.box.id + ".suspended") == 0);
  }

  TEST_CASE("again and again: state right each time, nothing left") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter;
    const char* wanted = std::getenv("CYCLES");
    int cycles = wanted ? std::atoi(wanted) : 12, last = counter.count();
    for (int i = 0; i < cycles; ++i) {
      Ran suspended = runner({"suspend", counter.box.id}), woken = runner_apart({"wake", counter.box.id}, Folder());
      REQUIRE_MESSAGE(suspended.code == 0, suspended.err);
      REQUIRE_MESSAGE(woken.code == 0, woken.err);
      int now = counter.count();
      REQUIRE(now >= last);
      last = now;
    }
    CHECK(eventually([&] { return counter.count() > last; }));
    CHECK(eventually([&] { return snapshots().count(counter.box.id + ".suspended") == 0; }));
    CHECK(runner({"logs", counter.box.id, "--verify"}).code == 0);
  }

  TEST_CASE("forks have the same state, and nothing else in common") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter;
    std::string name = fresh_id();
    REQUIRE(runner({"snapshot", "create", counter.box.id, "--name", name, "--leave-running"}).code == 0);
    std::string prefix = fresh_id();
    Ran forked = runner_apart({"fork", name, "-n", "4", "--name", prefix}, Folder());
    REQUIRE_MESSAGE(forked.code == 0, forked.err);
    std::set<std::string> hosts, owners, files;
    for (int i = 1; i <= 4; ++i) {
      std::string id = prefix + "-" + std::to_string(i);
      int then = Counter::count_of(id);
      CHECK(then > 2);
      CHECK(eventually([&] { return Counter::count_of(id) > then; }));
      hosts.insert(one_fact(id, "hostname; cat /etc/hostname"));
      owners.insert(one_fact(id, "cat /proc/self/uid_map"));
      one_fact(id, "echo " + id + " > /workspace/mine");
      files.insert(one_fact(id, "cat /workspace/mine"));
    }
    CHECK(hosts.size() == 4);
    CHECK(owners.size() == 4);
    CHECK(files.size() == 4);
    CHECK(one_fact(counter.box.id, "cat /workspace/mine 2>&1").find("No such file") != std::string::npos);
    Ran kept = runner({"snapshot", "rm", name});
    CHECK(kept.code != 0);
    CHECK(kept.err.find(prefix + "-1") != std::string::npos);
    for (int i = 1; i <= 4; ++i) CHECK(runner({"rm", "-f", prefix + "-" + std::to_string(i)}).code == 0);
    CHECK(runner({"snapshot", "rm", name}).code == 0);
  }

  TEST_CASE("a snapshot that nobody named is called after its session, and can be used by that name") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter;
    Ran made = runner({"snapshot", "create", "--leave-running", counter.box.id});
    REQUIRE_MESSAGE(made.code == 0, made.err);
    std::string name;
    for (const std::string& each : snapshots())
      if (each.starts_with(counter.box.id + "-")) name = each;
    REQUIRE(name != "");
    CHECK(runner({"snapshot", "verify", name}).code == 0);
    CHECK(runner({"snapshot", "rm", name}).code == 0);
  }

  TEST_CASE("a quiet session goes to disk by itself, and whoever wants something of it wakes it") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter({"--sleep-after", "1s"}, kSlow);
    auto on_disk = [&] { return eventually([&] { return status_of(counter.box.id) == "suspended"; }, 15'000); };
    for (int i = 0; i < 3; ++i) {
      int then = counter.count();
      REQUIRE(on_disk());
      CHECK(isolate::sys::list_dir("/sys/fs/cgroup/unified/runner/" + counter.box.id).empty());
      int now = counter.count();
      CHECK(now >= then);
      CHECK(now < then + 100);  // it did not count on disk
    }
    REQUIRE(on_disk());
    CHECK(runner({"kill", counter.box.id, "STOP"}).code == 0);  // a signal too
    CHECK(status_of(counter.box.id) != "suspended");
    // Who looks on at it keeps it in memory, where it sleeps.
    Live looking(runner_argv({"attach", "--no-stdin", counter.box.id}));
    CHECK(eventually([&] { return status_of(counter.box.id) == "paused"; }));
    CHECK(runner({"logs", "--verify", counter.box.id}).code == 0);
  }

  TEST_CASE("one that cannot go to disk sleeps in memory, and says why") {
    SKIP_UNLESS(is_root(), "root");
    Counter bounded({"--sleep-after", "1s", "--storage-opt", "size=50m"}, kSlow), kept({"--sleep-after", "1s", "--sleep-to", "memory"}, kSlow);
    CHECK(eventually([&] { return status_of(bounded.box.id) == "paused"; }, 15'000));
    CHECK(json::parse(runner({"inspect", bounded.box.id}).out).at(0)["sleep"]["in_memory"].get<std::string>().find("limit of its own on the disk") != std::string::npos);
    CHECK(eventually([&] { return status_of(kept.box.id) == "paused"; }));
    CHECK(!json::parse(runner({"inspect", kept.box.id}).out).at(0)["sleep"].contains("in_memory"));
    CHECK(kept.count() > 0);
    Box box;
    CHECK(runner_apart({"run", "--name", box.id, "--sleep-after", "1s", "--sleep-to", "mars", "--", "true"}, Folder()).err.find("--sleep-to: is disk or memory") != std::string::npos);
  }

  TEST_CASE("a paused session says so, and is as it was") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter;
    REQUIRE(runner({"pause", counter.box.id}).code == 0);
    Ran refused = runner({"suspend", counter.box.id}, {.timeout_ms = 20'000});
    CHECK(refused.code == 125);
    CHECK(refused.err.find("is paused") != std::string::npos);
    REQUIRE(runner({"resume", counter.box.id}).code == 0);
    CHECK(counter.count() > 2);
  }

  TEST_CASE("with a limit of its own on the disk it is not suspended, and a snapshot has its files") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter({"--storage-opt", "size=64M"});
    Ran refused = runner({"suspend", counter.box.id});
    CHECK(refused.code == 125);
    CHECK(refused.err.find("limit of its own on the disk") != std::string::npos);
    int then = counter.count();
    CHECK(then > 2);
    std::string name = fresh_id();
    Box other;
    Ran taken = runner({"snapshot", "create", counter.box.id, "--name", name, "--leave-running"});
    REQUIRE_MESSAGE(taken.code == 0, taken.err);
    Ran restored = runner_apart({"restore", "-d", "--from", name, other.id}, Folder());
    REQUIRE_MESSAGE(restored.code == 0, restored.err);
    CHECK(Counter::count_of(other.id) >= then);
    CHECK(runner({"rm", "-f", other.id}).code == 0);
    CHECK(runner({"snapshot", "rm", name}).code == 0);
  }

  TEST_CASE("its wall time goes on where it was") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter({"--timeout", "4s"});
    ::sleep(2);
    REQUIRE(runner({"suspend", counter.box.id}).code == 0);
    ::sleep(3);  // on disk, which does not count
    REQUIRE(runner_apart({"wake", counter.box.id}, Folder()).code == 0);
    CHECK(status_of(counter.box.id) == "running");
    // The processes are gone a moment before the supervisor has written how they ended.
    CHECK(eventually([&] { return runner({"inspect", counter.box.id}).out.find("\"result\": \"timeout\"") != std::string::npos; }, 3500));
  }

  TEST_CASE("the memory of a suspended session is nobody else's") {
    SKIP_UNLESS(is_root(), "root");
    Counter counter;
    REQUIRE(runner({"suspend", counter.box.id}).code == 0);
    Ran refused = runner_apart({"restore", "-d", "--from", counter.box.id + ".suspended", fresh_id()}, Folder());
    CHECK(refused.code == 125);
    CHECK(refused.err.find("whose files are its own") != std::string::npos);
    CHECK(runner({"wake", "no-such-session"}).code == 125);
    Counter runs;
    CHECK(runner({"wake", runs.box.id}).code == 0);  // it runs: as it is wanted
  }
}
