// A session goes on from a snapshot, in the middle of what it did, and the one that it was taken from does too.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <chrono>
#include <thread>

#include "tests/snapshot/support.h"

using namespace tests;
using nlohmann::json;

namespace {

void pass(int milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

// "0\n1\n...": as long as there is nothing else in it, its last number; else -1.
int counted(const std::string& text, int from) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line); ++from)
    if (line != std::to_string(from)) return -1;
  return from - 1;
}

json restored(const Box& box) { return find(log_of(box), "session.restored").value_or(json())["data"]; }

std::uint64_t first_offset(const Box& box, const std::string& call) {
  for (const json& event : log_of(box))
    if (event["type"] == "stdio" && event["data"].value("call", "0") == call) return event["data"]["offset"];
  return 0;
}

}  // namespace

TEST_SUITE("snapshot session") {
  TEST_CASE("a pipeline goes on in both, no line is lost or doubled, and offsets go on") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins({"sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done | tee /tmp/all | cat"});
    pass(500);
    twins.part();
    pass(700);
    int then = counted(written_by(twins.one, "0"), 0);
    CHECK(then > 25);
    // What was said before the snapshot is in the log of the first.
    std::uint64_t from = first_offset(twins.other, "0");
    std::string before = written_by(twins.one, "0").substr(0, from);
    CHECK(from > 20);
    CHECK(counted(before + written_by(twins.other, "0", from), 0) > counted(before, 0) + 10);
    std::string all = sh(twins.other, "cat /tmp/all");
    CHECK(counted(all, 0) > 35);
    CHECK(restored(twins.other)["kind"] == "fork");
    CHECK(restored(twins.other)["snapshot"] == twins.shot.name);
  }

  TEST_CASE("job control, variables and descriptors of a shell are there") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins({"bash", "-c",
                 "declare -A map=([k]=v); exec 7>/tmp/seven; sleep 300 & job=$!; trap 'echo caught ${map[k]} $job; echo seven >&7; jobs -r >/tmp/jobs' USR1; "
                 "echo ready; while :; do read -t 0.1 <> <(:); done"});
    REQUIRE(runner({"wait", "--line", "ready", twins.one.id}).code == 0);
    twins.part();
    for (const Box* box : {&twins.one, &twins.other}) {
      CHECK(runner({"kill", box->id, "USR1"}).code == 0);
      CHECK(eventually([&] { return runner({"logs", box->id}).out.find("caught v ") != std::string::npos; }));
      CHECK(eventually([&] { return sh(*box, "cat /tmp/jobs").find("sleep 300") != std::string::npos; }));
      CHECK(sh(*box, "cat /tmp/seven") == "seven");
    }
  }

  TEST_CASE("services keep their names, their logs and their restart policy; exec, stop and rm work, and leave nothing") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins;
    for (const char* name : {"one", "two"}) twins.serve(name, {"sh", "-c", fmt::format("echo {}; i=0; while :; do echo $i; i=$((i+1)); sleep 0.05; done", name)});
    twins.serve("again", {"sh", "-c", "echo born; exec sleep 300.5"}, {"--restart", "always"});
    pass(300);
    twins.part();
    CHECK(exec(twins.other, {"hostname"}).out == twins.other.id + "\n");
    pass(300);
    for (const char* name : {"one", "two"}) CHECK(first_offset(twins.other, name) > 5);
    CHECK(sh(twins.other, "ps -e -o args | grep -c '[s]leep 300.5'") == "1");
    CHECK(sh(twins.other, "kill -9 $(pgrep -f '[s]leep 300.5')") == "");
    CHECK(eventually([&] { return runner({"logs", twins.other.id}).out.find("born") != std::string::npos; }));
    CHECK(eventually([&] { return sh(twins.other, "ps -e -o args | grep -c '[s]leep 300.5'") == "1"; }));
    CHECK(runner({"logs", twins.one.id}).out.find("\"born\\n\"") != std::string::npos);
    Ran taken = runner({"exec", "-d", "--service", "one", twins.other.id, "--", "true"});
    CHECK(taken.code != 0);  // the name is taken
    CHECK(runner({"logs", "--verify", twins.other.id}).code == 0);
    for (const Box* box : {&twins.one, &twins.other}) {
      CHECK(runner({"stop", "--time", "1", box->id}).code == 0);
      CHECK(runner({"rm", box->id}).code == 0);
      CHECK(remains_of(box->id) == "");
    }
    CHECK(runner({"snapshot", "rm", twins.shot.name}).code == 0);
    CHECK(runner({"snapshot", "ls"}).out.find(twins.shot.name) == std::string::npos);
  }

  TEST_CASE("the exit code and the signal of the restored program are the session's") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins({"sh", "-c", "while [ ! -e /tmp/end ]; do sleep 0.05; done; exit $(cat /tmp/end)"});
    twins.part();
    CHECK(sh(twins.other, "echo 42 >/tmp/end") == "");
    CHECK(eventually([&] { return inspected(twins.other)["exit_code"] == 42; }));
    CHECK(inspected(twins.one)["status"] == "running");
    CHECK(sh(twins.one, "echo 7 >/tmp/end") == "");
    CHECK(eventually([&] { return inspected(twins.one)["exit_code"] == 7; }));
  }

  TEST_CASE("in the foreground it is like run: input, output, exit code, and --rm leaves nothing") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins({"sh", "-c", "sum=5; echo ready; while read n; do sum=$((sum+n)); echo sum $sum; [ $n = 0 ] && exit 9; done"}, {"-i"});
    REQUIRE(runner({"wait", "--line", "ready", twins.one.id}).code == 0);
    REQUIRE(twins.snapshot().code == 0);
    Live live(runner_argv({"restore", "--from", twins.shot.name, "-i", "--rm", "--output", "raw", twins.other.id}));
    live.send("4\n");
    CHECK(live.await("sum 9"));
    live.send("0\n");
    CHECK(live.wait() == 9);
    CHECK(live.out == "sum 9\nsum 9\n");
    CHECK(remains_of(twins.other.id) == "");
    Live first(runner_argv({"attach", twins.one.id}));
    first.send("1\n");
    CHECK(first.await("sum 6"));
  }

  TEST_CASE("monotonic time goes on where it was, wall time is now, and a sleep ends when it would have") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    Twins twins({"python3", "-u", "-c",
                 "import time, threading\n"
                 "def nap():\n m=time.monotonic(); time.sleep(4); print('slept' + f' {time.monotonic()-m}', flush=True)\n"
                 "threading.Thread(target=nap).start()\nlast=time.monotonic()\nprint('ready', last)\n"
                 "while True:\n time.sleep(0.05); now=time.monotonic()\n"
                 " if now<last or now-last>2: print('jump', last, now)\n last=now\n"
                 " open('/tmp/now','w').write(f'{time.time():.3f} {now:.3f}')\n"});
    REQUIRE(runner({"wait", "--line", "ready", twins.one.id}).code == 0);
    REQUIRE(twins.snapshot().code == 0);
    pass(3000);  // more than would be a jump
    REQUIRE(twins.restore().code == 0);
    auto slept = [](const Box& box) {
      std::string out = runner({"logs", box.id}).out;
      std::size_t at = out.find("slept ");
      return at == std::string::npos ? 0.0 : std::stod(out.substr(at + 6));
    };
    CHECK(eventually([&] { return slept(twins.other) > 0; }));
    CHECK(slept(twins.other) < 6);
    CHECK(slept(twins.other) >= 4);
    CHECK(slept(twins.one) >= 4);
    for (const Box* box : {&twins.one, &twins.other}) CHECK(runner({"logs", box->id}).out.find("\"text\":\"jump") == std::string::npos);
    CHECK(std::abs(std::stod(sh(twins.other, "cat /tmp/now")) - static_cast<double>(::time(nullptr))) < 3);
  }

  TEST_CASE("a snapshot of a session that comes from one is like any other") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins({"sh", "-c", "i=0; while :; do i=$((i+1)); echo $i >/tmp/n; mv /tmp/n /tmp/i; sleep 0.05; done"});
    pass(200);
    twins.part();
    Shot next;
    Box third;
    CHECK(sh(twins.other, "echo b >/tmp/b") == "");
    Ran taken = runner({"snapshot", "create", "--leave-running", "--name", next.name, twins.other.id});
    INFO(taken.err);
    REQUIRE(taken.code == 0);
    Ran ran = runner({"restore", "-d", "--from", next.name, third.id});
    INFO(ran.err, ran.out);
    REQUIRE(ran.code == 0);
    CHECK(sh(third, "cat /tmp/b") == "b");
    int i = std::stoi(sh(third, "cat /tmp/i"));
    CHECK(i > 4);
    CHECK(eventually([&] { return std::stoi(sh(third, "cat /tmp/i")) > i; }));
    runner({"rm", "-f", third.id});
  }
}
