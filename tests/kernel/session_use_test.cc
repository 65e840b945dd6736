// top and events: what sessions and containers use, as the kernel counts it.
#include <doctest/doctest.h>
#include <signal.h>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

void leave(const Box& box, const Args& command, const Args& flags = {}) {
  Args all{"-d"};
  all.insert(all.end(), flags.begin(), flags.end());
  if (Ran ran = runner(session_arguments(box.id, all, command), {.timeout_ms = 10'000}); ran.code) throw std::runtime_error(ran.err);
}

json top_of(const std::string& id, const Args& flags = {}) {
  Args arguments{"top", "--once", "--interval", "400ms", "--format", "json"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  for (const json& line : events_of(runner(arguments).out))
    if (line["id"] == id) return line;
  return nullptr;
}

}  // namespace

TEST_SUITE("session use") {
  TEST_CASE("a session that computes and one that waits differ in CPU, not in time") {
    SKIP_UNLESS(is_root(), "root");
    Box busy, idle;
    leave(busy, {"sh", "-c", "while :; do :; done"});
    leave(idle, {"/probe", "sleep", "60"});
    json b = top_of(busy.id), i = top_of(idle.id);
    CHECK(b["cpu_percent"].get<double>() > 30);  // this machine has other work too
    CHECK(b["cpu_percent"].get<double>() < 150);
    CHECK(b["cpu_us"].get<long>() > 100'000);
    CHECK(i["cpu_percent"].get<double>() < 5);
    CHECK(i["pids"].get<int>() >= 2);
    CHECK(top_of(busy.id, {idle.id}).is_null());  // only those that are named
    REQUIRE(runner({"pause", busy.id}).code == 0);
    b = top_of(busy.id);
    CHECK(b["status"] == "paused");
    CHECK(b["cpu_percent"].get<double>() < 1);
  }

  TEST_CASE("top tells memory, its peak and the limits") {
    SKIP_UNLESS(is_root() && has_controller("memory") && has_controller("pids"), "root, and memory and pids controllers");
    Box box;
    leave(box, {"sh", "-c", "x=$(head -c 20000000 /dev/zero | tr '\\0' x); x=; sleep 60"}, {"-m", "128M", "--pids-limit", "33"});
    CHECK(eventually([&] { return top_of(box.id)["memory_peak"].get<long>() > 20'000'000; }));
    json one = top_of(box.id);
    CHECK(one["memory_limit"] == 128 << 20);
    CHECK(one["pids_limit"] == 33);
    CHECK(one["memory"].get<long>() > 0);
    Ran table = runner({"top", "--once", "--interval", "50ms", "--format", "table", box.id});
    CHECK(table.out.rfind("ID ", 0) == 0);
    CHECK(table.out.find("128.0M") != std::string::npos);
  }

  TEST_CASE("top goes on until all that were named have ended, or nobody reads") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    leave(box, {"/probe", "sleep", "60"});
    Live top(runner_argv({"top", "--interval", "50ms", box.id}));
    CHECK(top.await("cpu_percent"));
    Live piped({"sh", "-c", "\"$@\" | head -n 1", "sh", runner_path(), "--root", run_root(), "top", "--interval", "50ms"});
    CHECK(piped.wait(5000) == 0);
    REQUIRE(runner({"stop", "-t", "0", box.id}).code == 0);
    CHECK(top.wait(5000) == 0);
    CHECK(events_of(top.out).size() >= 1);
  }

  TEST_CASE("top says what is wrong") {
    SKIP_UNLESS(is_root(), "root");
    Box ended, container;
    REQUIRE(runner(session_arguments(ended.id, {}, {"/probe", "exit", "0"})).code == 0);
    Bundle bundle({"sleep", "60"});
    REQUIRE(create(bundle, container).code == 0);
    for (const auto& [arguments, why] : std::vector<std::pair<Args, std::string>>{
             {{"no-such"}, "there is no session"}, {{ended.id}, "is stopped"}, {{container.id}, "is a container"}, {{"../x"}, "id '../x'"},
             {{"--interval", "0s"}, "--interval"}, {{"--interval", "x"}, "--interval"}, {{"--format", "xml"}, "--format"}}) {
      CAPTURE(why);
      Args all{"top", "--once"};
      all.insert(all.end(), arguments.begin(), arguments.end());
      Ran ran = runner(all);
      CHECK(ran.code == 125);
      CHECK(ran.out == "");
      CHECK(ran.err.find(why) != std::string::npos);
    }
  }

  TEST_CASE("events --stats has runc's shape, for a session and for a container") {
    SKIP_UNLESS(is_root() && has_controller("memory") && has_controller("pids"), "root, and memory and pids controllers");
    Box box, container;
    leave(box, {"sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; sleep 60"}, {"-m", "64M", "--pids-limit", "20"});
    Bundle bundle({"sleep", "60"});
    bundle.config["linux"]["resources"]["memory"] = {{"limit", 64 << 20}};
    bundle.config["linux"]["resources"]["pids"] = {{"limit", 20}};
    bundle.save();
    REQUIRE(create(bundle, container).code == 0);
    REQUIRE(start(container).code == 0);
    for (const Box* each : {&box, &container}) {
      Ran ran = runner({"events", "--stats", each->id});
      REQUIRE(ran.code == 0);
      json line = json::parse(ran.out);
      CHECK(line["type"] == "stats");
      CHECK(line["id"] == each->id);
      const json& data = line["data"];
      CHECK(data["cpu"]["usage"]["total"].get<long>() > 0);
      CHECK(data["cpu"]["usage"].contains("kernel"));
      CHECK(data["cpu"]["usage"].contains("user"));
      CHECK(data["cpu"].contains("throttling"));
      CHECK(data["memory"]["usage"]["limit"] == 64 << 20);
      CHECK(data["memory"]["usage"]["usage"].get<long>() > 0);
      CHECK(data["memory"]["raw"].size() > 5);
      CHECK(data["pids"]["limit"] == 20);
      CHECK(data["pids"]["current"].get<int>() >= 1);
      CHECK(data.contains("blkio"));
      CHECK(data.contains("hugetlb"));
    }
  }

  TEST_CASE("events repeats until the container ends, and tells of an OOM kill") {
    SKIP_UNLESS(is_root() && has_controller("memory"), "root, and a memory controller");
    Box box;
    leave(box, {"sh", "-c", "while [ ! -e /tmp/go ]; do sleep 0.05; done; sh -c 'x=$(head -c 200000000 /dev/zero | tr \"\\0\" x)'; sleep 60"}, {"-m", "48M"});
    Live events(runner_argv({"events", "--interval", "100ms", box.id}));
    CHECK(events.await("\"stats\""));
    CHECK(events.out.find("oom") == events.out.find("oom_"));  // memory.stat has such names
    REQUIRE(runner({"exec", box.id, "touch", "/tmp/go"}).code == 0);
    CHECK(events.await("{\"type\":\"oom\",\"id\":\"" + box.id + "\"}"));
    REQUIRE(runner({"stop", "-t", "0", box.id}).code == 0);
    CHECK(events.wait(5000) == 0);
    Ran ran = runner({"events", "--stats", box.id});
    CHECK(ran.code == 1);
    CHECK(ran.err.find("is not running") != std::string::npos);
    CHECK(runner({"events", "--stats", "no-such"}).err.find("container does not exist") != std::string::npos);
    CHECK(runner({"events", "--interval", "0s", box.id}).code == 1);
  }
}
