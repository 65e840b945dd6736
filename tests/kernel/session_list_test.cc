// ls: what is told of sessions, running, paused, ended and dead.
#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

json listed(const Args& flags, const std::string& id) {
  Args arguments{"ls", "--format", "json"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  for (const json& each : events_of(runner(arguments).out))
    if (each["id"] == id) return each;
  return nullptr;
}

}  // namespace

TEST_SUITE("session list") {
  TEST_CASE("ls tells of a running session in one JSON object, and of an ended one with -a only") {
    SKIP_UNLESS(is_root(), "root");
    Away s({"-l", "team=red", "--policy", "default"}, {"/probe", "sleep", "60"});
    json one = listed({}, s.box.id);
    REQUIRE(!one.is_null());
    CHECK(one["status"] == "running");
    CHECK(one["pid"] == s.box.state()["pid"]);
    CHECK(one["command"] == json{"/probe", "sleep", "60"});
    CHECK(one["policy"] == "default");
    CHECK(one["labels"] == json{{"team", "red"}});
    CHECK(one["cgroup"] == "/runner/" + s.box.id);
    CHECK(one["result"].is_null());
    CHECK(one["exit_code"].is_null());
    CHECK(one["created"].get<std::string>().back() == 'Z');
    CHECK(runner({"ls", "-q"}).out.find(s.box.id + "\n") != std::string::npos);
    Ran table = runner({"ls", "--format", "table"});
    CHECK(table.out.rfind("ID ", 0) == 0);
    CHECK(table.out.find("/probe sleep 60") != std::string::npos);

    REQUIRE(runner({"kill", s.box.id, "KILL"}).code == 0);
    CHECK(eventually([&] { return listed({}, s.box.id).is_null(); }));
    CHECK(eventually([&] { return listed({"-a"}, s.box.id)["result"] == "cancelled"; }));
    one = listed({"-a"}, s.box.id);
    CHECK(one["status"] == "stopped");
    CHECK(one["exit_code"] == 137);
    CHECK(one["pid"].is_null());
    CHECK(one["cgroup"].is_null());
  }

  TEST_CASE("ls filters by label, status and name, and all must hold") {
    SKIP_UNLESS(is_root(), "root");
    Away red({"-l", "team=red", "-l", "x=1"}), blue({"-l", "team=blue"});
    auto has = [&](const Args& filters, const Away& s) {
      Args flags;
      for (const std::string& filter : filters) flags.insert(flags.end(), {"--filter", filter});
      return !listed(flags, s.box.id).is_null();
    };
    CHECK(has({"label=team=red"}, red));
    CHECK(!has({"label=team=red"}, blue));
    CHECK(has({"label=team"}, blue));
    CHECK(!has({"label=team", "label=x=1"}, blue));
    CHECK(has({"label=team", "label=x=1"}, red));
    CHECK(has({"name=^" + blue.box.id + "$"}, blue));
    CHECK(!has({"name=^" + blue.box.id + "$"}, red));
    REQUIRE(runner({"pause", red.box.id}).code == 0);
    CHECK(has({"status=paused"}, red));
    CHECK(!has({"status=running"}, red));
    CHECK(has({"status=running"}, blue));
    REQUIRE(runner({"resume", red.box.id}).code == 0);
  }

  TEST_CASE("a command with control characters is harmless in a table, and whole in JSON") {
    SKIP_UNLESS(is_root(), "root");
    Away s({}, {"/probe", "sleep", "60", "\x1b[31m\xc2\x9b\nX"});
    Ran table = runner({"ls", "--format", "table", "--filter", "name=" + s.box.id});
    CHECK(table.out.find('\x1b') == std::string::npos);
    CHECK(table.out.find('\xc2') == std::string::npos);
    CHECK(std::count(table.out.begin(), table.out.end(), '\n') == 2);
    CHECK(listed({}, s.box.id)["command"][3] == "\x1b[31m\xc2\x9b\nX");
  }

  TEST_CASE("a session whose supervisor was killed is told of as ended, by ls itself") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    Live live(runner_argv(session_arguments(box.id, {}, {"/probe", "sleep", "60"})));
    REQUIRE(live.await("ready="));
    live.signal(SIGKILL);
    CHECK(live.wait() == 137);
    json one = listed({"-a"}, box.id);
    CHECK(one["status"] == "stopped");
    CHECK(one["result"] == "runner-error");
  }

  TEST_CASE("a list that cannot be written is a failure") {
    SKIP_UNLESS(is_root(), "root");
    Away s;
    Ran ran = run({"sh", "-c", "exec \"$@\" >/dev/full", "sh", runner_path(), "--root", run_root(), "ls"});
    CHECK(ran.code == 125);
    CHECK(ran.err.find("No space left on device") != std::string::npos);
  }

  TEST_CASE("ls leaves containers out, and says what is wrong with its flags") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sleep", "60"});
    Box box;
    REQUIRE(create(bundle, box).code == 0);
    CHECK(runner({"ls", "-a", "-q"}).out.find(box.id) == std::string::npos);
    CHECK(runner({"list", "-q"}).out.find(box.id) != std::string::npos);
    for (const Args& wrong : {Args{"ls", "extra"}, Args{"ls", "--format", "xml"}, Args{"ls", "--filter", "team=red"}, Args{"ls", "--filter", "label="},
                              Args{"ls", "--filter", "status=dead"}, Args{"ls", "--filter", "name=("}, Args{"ls", "--nonsense"}}) {
      CAPTURE(wrong.back());
      Ran ran = runner(wrong);
      CHECK(ran.code == 125);
      CHECK(ran.out == "");
      CHECK(ran.err.rfind("runner: ", 0) == 0);
    }
  }

  TEST_CASE("a state.json of an older version is read, and one that is damaged hides no other session") {
    SKIP_UNLESS(is_root(), "root");
    Away s;
    Box old, damaged;
    for (const Box* box : {&old, &damaged}) {
      std::filesystem::create_directories(run_root() + "/" + box->id);
      std::ofstream(run_root() + "/" + box->id + "/lock");
    }
    std::ofstream(run_root() + "/" + old.id + "/state.json")
        << json{{"version", 1}, {"id", old.id}, {"session", true}, {"ociVersion", "1.2.0"}, {"created", "2026-11-20T10:00:00.123456Z"}, {"ended", true},
                {"started", true}, {"result", "success"}, {"exitCode", 0}};
    std::ofstream(run_root() + "/" + damaged.id + "/state.json") << "{\"id\":";
    json one = listed({"-a"}, old.id);
    CHECK(one["result"] == "success");
    CHECK(one["policy"].is_null());
    CHECK(one["command"] == json::array());
    CHECK(!listed({"-a"}, s.box.id).is_null());
    Ran ran = runner({"ls", "-a"});
    CHECK(ran.err.find(damaged.id) != std::string::npos);
    CHECK(session({}, {"/probe", "exit", "0"}).result() == "success");  // whose start sweeps
    std::filesystem::remove_all(run_root() + "/" + damaged.id);
  }
}
