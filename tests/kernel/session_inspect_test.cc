// inspect: what is known of one session.
#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

json inspected(const std::string& id) {
  Ran ran = runner({"inspect", id});
  return ran.code == 0 ? json::parse(ran.out).at(0) : json();
}

}  // namespace

TEST_SUITE("session inspect") {
  TEST_CASE("inspect tells limits, usage, directories and log, and of the environment only the names") {
    SKIP_UNLESS(is_root() && has_controller("memory") && has_controller("pids") && has_controller("cpu"), "root, and memory, pids and cpu controllers");
    Away s({"-e", "API_TOKEN=s3cr3t-value", "-m", "128M", "--pids-limit", "40", "--cpus", "1.5", "--timeout", "50s", "-w", "/tmp"},
           {"sh", "-c", "echo hello; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exec sleep 60"});
    CHECK(eventually([&] { return inspected(s.box.id)["usage"]["cpu_us"].get<int>() > 0; }));
    json one = inspected(s.box.id);
    CHECK(one["limits"] == json{{"memory", 128 << 20}, {"cpus", 1.5}, {"pids", 40}, {"wall_ms", 50'000}, {"output", one["limits"]["output"]}, {"disk", nullptr}, {"workspace", nullptr}});
    CHECK(one["usage"]["memory"].get<long>() > 0);
    CHECK(one["usage"]["memory_peak"].get<long>() >= one["usage"]["memory"].get<long>() / 2);
    CHECK(one["usage"]["pids"].get<int>() >= 2);
    CHECK(one["usage"]["cpu_user_us"].get<long>() + one["usage"]["cpu_system_us"].get<long>() <= one["usage"]["cpu_us"].get<long>() + 10);
    CHECK(exists(one["cgroup"]["directory"].get<std::string>() + "/cgroup.procs"));
    CHECK(one["directories"]["data"] == data_dir() + "/sessions/" + s.box.id);
    CHECK(one["log"]["path"] == data_dir() + "/sessions/" + s.box.id + "/events.ndjson");
    CHECK(one["log"]["bytes"].get<long>() > 100);
    CHECK(one["cwd"] == "/tmp");
    CHECK(one["user"].get<std::string>().find(':') != std::string::npos);
    CHECK(std::find(one["env"].begin(), one["env"].end(), "API_TOKEN") != one["env"].end());
    CHECK(runner({"inspect", s.box.id}).out.find("s3cr3t") == std::string::npos);

    REQUIRE(runner({"kill", s.box.id, "KILL"}).code == 0);
    CHECK(eventually([&] { return inspected(s.box.id)["result"] == "cancelled"; }));
    one = inspected(s.box.id);
    CHECK(one["usage"].is_null());
    CHECK(one["cgroup"].is_null());
    CHECK(one["limits"]["memory"] == 128 << 20);
    CHECK(one["limits"]["cpus"] == 1.5);
    CHECK(one["exit_code"] == 137);
  }

  TEST_CASE("I/O is counted where the kernel counts all of it, and is null with the reason elsewhere") {
    SKIP_UNLESS(is_root(), "root");
    Away s({}, {"/bin/sh", "-c", "dd if=/dev/zero of=/workspace/f bs=1M count=8 conv=fsync 2>/dev/null; echo written; exec sleep 60"});
    CHECK(runner({"wait", "--line", "written", "--timeout", "20s", s.box.id}).code == 0);
    json usage = inspected(s.box.id)["usage"];
    Ran top = runner({"top", "--once", "--interval", "50ms", "--format", "table", s.box.id});
    if (on_cgroup_v2() && has_controller("io")) {
      CHECK(usage["io"]["write_bytes"].get<std::uint64_t>() >= 8u << 20);
      CHECK(top.out.find("READ and WRITTEN:") == std::string::npos);
    } else {
      CHECK(usage["io"].is_null());
      CHECK(usage["io_missing"].get<std::string>().size() > 10);
      CHECK(top.out.find("READ and WRITTEN: " + usage["io_missing"].get<std::string>()) != std::string::npos);
    }
  }

  TEST_CASE("inspect prints those it finds and fails for those it does not") {
    SKIP_UNLESS(is_root(), "root");
    Away s;
    Ran ran = runner({"inspect", "no-such-session", s.box.id});
    CHECK(ran.code == 125);
    CHECK(ran.err.find("there is no session no-such-session") != std::string::npos);
    CHECK(json::parse(ran.out).size() == 1);
    CHECK(runner({"inspect"}).code == 125);
    CHECK(runner({"inspect", "../x"}).code == 125);
  }

  TEST_CASE("inspect takes no container, finds out that a supervisor was killed, and reads a state.json of an older version") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sleep", "60"});
    Box container, dead, old;
    REQUIRE(create(bundle, container).code == 0);
    Ran inspect = runner({"inspect", container.id});
    CHECK(inspect.code == 125);
    CHECK(json::parse(inspect.out) == json::array());
    CHECK(inspect.err.find("is a container, not a session") != std::string::npos);

    Live live(runner_argv(session_arguments(dead.id, {}, {"/probe", "sleep", "60"})));
    REQUIRE(live.await("ready="));
    live.signal(SIGKILL);
    CHECK(live.wait() == 137);
    CHECK(inspected(dead.id)["result"] == "runner-error");
    CHECK(inspected(dead.id)["finished"].is_string());

    std::filesystem::create_directories(run_root() + "/" + old.id);
    std::ofstream(run_root() + "/" + old.id + "/state.json")
        << json{{"version", 1}, {"id", old.id}, {"session", true}, {"created", "2026-11-20T10:00:00.123456Z"}, {"ended", true}, {"result", "success"}};
    std::ofstream(run_root() + "/" + old.id + "/lock");
    json one = inspected(old.id);
    CHECK(one["limits"]["memory"].is_null());
    CHECK(one["log"].is_null());
    CHECK(one["exit_code"].is_null());
  }
}
