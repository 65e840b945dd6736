// rm, prune and rename: what becomes of a session that has ended.
#include <doctest/doctest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;
namespace fs = std::filesystem;

namespace {

std::string data_of(const std::string& id) { return data_dir() + "/sessions/" + id; }

void end_one(const Box& box, const Args& command = {"/probe", "exit", "0"}) {
  if (Ran ran = runner(session_arguments(box.id, {}, command)); ran.out.find("session.ended") == std::string::npos) throw std::runtime_error(ran.err);
}

void leave_running(const Box& box, const Args& flags = {}) {
  Args all{"-d"};
  all.insert(all.end(), flags.begin(), flags.end());
  if (Ran ran = runner(session_arguments(box.id, all, {"/probe", "sleep", "60"}), {.timeout_ms = 10'000}); ran.code) throw std::runtime_error(ran.err);
}

json inspected(const std::string& id) {
  Ran ran = runner({"inspect", "--size", id});
  return ran.code == 0 ? json::parse(ran.out).at(0) : json();
}

}  // namespace

TEST_SUITE("session removal") {
  TEST_CASE("rm takes the entry and the data of ended sessions, and leaves running ones alone") {
    SKIP_UNLESS(is_root(), "root");
    Box ended, running;
    end_one(ended);
    leave_running(running);
    Ran ran = runner({"rm", ended.id, running.id});
    CHECK(ran.code == 125);
    CHECK(ran.out == ended.id + "\n");
    CHECK(ran.err.find("is running: stop it first, or use --force") != std::string::npos);
    CHECK(remains_of(ended.id) == "");
    CHECK(running.status() == "running");
    pid_t init = running.state()["pid"];
    CHECK(runner({"rm", "-f", running.id}).code == 0);
    CHECK(remains_of(running.id) == "");
    CHECK(!alive(init));
  }

  TEST_CASE("rm -f ends paused and --rm sessions too, and is content with what is not there") {
    SKIP_UNLESS(is_root(), "root");
    Box paused, brief;
    leave_running(paused);
    leave_running(brief, {"--rm"});
    REQUIRE(runner({"pause", paused.id}).code == 0);
    CHECK(runner({"rm", paused.id}).code == 125);
    CHECK(runner({"rm", "-f", paused.id, brief.id, "no-such"}).code == 0);
    CHECK(remains_of(paused.id) + remains_of(brief.id) == "");
    CHECK(runner({"rm", "no-such"}).code == 125);
    CHECK(runner({"rm"}).code == 125);
    CHECK(runner({"rm", "-f", "../x"}).code == 125);
    Bundle bundle({"sleep", "60"});
    Box container;
    REQUIRE(create(bundle, container).code == 0);
    CHECK(runner({"rm", "-f", container.id}).code == 125);
    CHECK(container.status() == "created");
  }

  TEST_CASE("one of many that remove the same session at once does it, and the others fail or find it gone") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    end_one(box);
    std::vector<std::thread> threads;
    std::vector<Ran> rans(6);
    for (Ran& ran : rans) threads.emplace_back([&ran, &box] { ran = runner({"rm", box.id}); });
    for (std::thread& thread : threads) thread.join();
    CHECK(std::any_of(rans.begin(), rans.end(), [](const Ran& ran) { return ran.code == 0; }));
    for (const Ran& ran : rans) CHECK((ran.code == 0 || ran.err.find("there is no session") != std::string::npos));
    CHECK(remains_of(box.id) == "");
  }

  TEST_CASE("prune removes what has ended, tells the bytes, and only tells with --dry-run") {
    SKIP_UNLESS(is_root(), "root");
    Box ended, running, paused;
    end_one(ended, {"sh", "-c", "head -c 3000000 /dev/zero >/tmp/big; echo x >/tmp/small"});
    leave_running(running);
    leave_running(paused);
    REQUIRE(runner({"pause", paused.id}).code == 0);
    auto told = [&](const Ran& ran) {
      for (const json& line : events_of(ran.out))
        if (line["id"] == ended.id) return line["bytes"].get<long>();
      return -1L;
    };
    long bytes = inspected(ended.id)["data_bytes"];
    CHECK(told(runner({"prune", "--dry-run"})) >= bytes);
    CHECK(inspected(ended.id)["status"] == "stopped");
    CHECK(told(runner({"prune", "--older", "1h"})) == -1);
    CHECK(inspected(ended.id)["status"] == "stopped");
    Ran ran = runner({"prune"});
    CHECK(ran.code == 0);
    CHECK(told(ran) >= bytes);
    CHECK(ran.err.find("removed") != std::string::npos);
    CHECK(remains_of(ended.id) == "");
    CHECK(running.status() == "running");
    CHECK(paused.status() == "paused");
    for (const Args& wrong : {Args{"prune", "x"}, Args{"prune", "--older", "soon"}, Args{"prune", "--format", "xml"}}) {
      CAPTURE(wrong.back());
      CHECK(runner(wrong).code == 125);
    }
  }

  TEST_CASE("prune --older goes by the end of a session, and a tree deeper than any path is measured and removed") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    end_one(box, {"sh", "-c", "cd /tmp; i=0; while [ $i -lt 400 ]; do mkdir 0123456789abcdef && cd 0123456789abcdef || exit 1; i=$((i+1)); done"});
    std::string file = run_root() + "/" + box.id + "/state.json";
    json state = json::parse(read(file));
    state["finished"] = "2026-01-01T00:00:00.000000Z";
    std::ofstream(file) << state.dump();
    Ran ran = runner({"prune", "--older", "24h"});
    CHECK(ran.code == 0);
    CHECK(ran.out.find(box.id) != std::string::npos);
    CHECK(remains_of(box.id) == "");
  }
}

TEST_SUITE("session rename") {
  TEST_CASE("an ended session gets another name with all that it has, and the old name is free") {
    SKIP_UNLESS(is_root(), "root");
    Box old, other;
    end_one(old, {"sh", "-c", "echo kept >/tmp/kept"});
    json before = inspected(old.id);
    std::string log = runner({"logs", old.id}).out;
    CHECK(runner({"rename", old.id, other.id}).code == 0);
    CHECK(remains_of(old.id) == "");
    json after = inspected(other.id);
    for (const char* key : {"created", "finished", "result", "command", "exit_code"}) CHECK(after[key] == before[key]);
    CHECK(after["id"] == other.id);
    CHECK(runner({"logs", other.id}).out == log);
    CHECK(runner({"logs", "--verify", other.id}).code == 0);

    leave_running(old);  // the name is another session's now
    CHECK(runner({"rm", other.id}).code == 0);
    CHECK(remains_of(other.id) == "");
    CHECK(old.status() == "running");
    CHECK(exists(data_of(old.id)));
  }

  TEST_CASE("running and paused sessions keep their names, and so do those whose new name is taken or bad") {
    SKIP_UNLESS(is_root(), "root");
    Box running, ended, third, fresh;
    leave_running(running);
    end_one(ended);
    end_one(third);
    auto refused = [&](const Args& names, const std::string& why) {
      CAPTURE(why);
      Args arguments{"rename"};
      arguments.insert(arguments.end(), names.begin(), names.end());
      Ran ran = runner(arguments);
      CHECK(ran.code == 125);
      CHECK(ran.err.find(why) != std::string::npos);
    };
    refused({running.id, fresh.id}, "is running: only one that has ended can be renamed");
    REQUIRE(runner({"pause", running.id}).code == 0);
    refused({running.id, fresh.id}, "is paused: only one that has ended can be renamed");
    refused({ended.id, running.id}, "is in use");
    refused({ended.id, third.id}, "is in use");
    refused({ended.id, ended.id}, "has that name already");
    refused({ended.id, "../x"}, "id '../x'");
    refused({ended.id}, "takes OLD and NEW");
    refused({"no-such", fresh.id}, "there is no session no-such");
    fs::create_directories(data_of(fresh.id));
    refused({ended.id, fresh.id}, "is still in");
    fs::remove(data_of(fresh.id));
    CHECK(inspected(ended.id)["status"] == "stopped");
    CHECK(inspected(third.id)["status"] == "stopped");
    CHECK(remains_of(fresh.id) == "");
    CHECK(!exists(run_root() + "/.renaming"));
  }

  TEST_CASE("the work of a renamer that died is finished by the next command, whatever that is") {
    SKIP_UNLESS(is_root(), "root");
    // What each step leaves on the disk; the words are where it died.
    for (const std::string died : {"before the entry moved", "before the data moved", "before the state was written", "before the journal went"}) {
      for (const char* verb : {"inspect", "state", "ls", "run the old name"}) {
        CAPTURE(died);
        CAPTURE(verb);
        Box old, other;
        end_one(old);
        std::ofstream(run_root() + "/.renaming") << old.id << "\n" << other.id << "\n";
        bool moved = died != "before the entry moved";
        if (moved) fs::rename(run_root() + "/" + old.id, run_root() + "/" + other.id);
        if (moved && died != "before the data moved") fs::rename(data_of(old.id), data_of(other.id));
        if (died == "before the journal went") {
          std::string file = run_root() + "/" + other.id + "/state.json";
          json state = json::parse(read(file));
          state["id"] = other.id;
          std::ofstream(file) << state.dump();
        }
        const Box& now = moved ? other : old;
        if (std::string(verb) == "run the old name") {
          if (!moved) continue;
          end_one(old, {"/probe", "exit", "7"});
          CHECK(inspected(old.id)["exit_code"] == 7);
        } else {
          Ran ran = runner(std::string(verb) == "ls" ? Args{"ls", "-a"} : Args{verb, now.id});
          CHECK(ran.code == 0);
          CHECK(ran.out.find("\"" + now.id + "\"") != std::string::npos);
          CHECK(remains_of(moved ? old.id : other.id) == "");
        }
        CHECK(!exists(run_root() + "/.renaming"));
        CHECK(inspected(now.id)["exit_code"] == 0);
        CHECK(runner({"logs", "--verify", now.id}).code == 0);
      }
    }
  }

  TEST_CASE("a renamer killed at any moment leaves one name that works") {
    SKIP_UNLESS(is_root(), "root");
    Box a, b;
    end_one(a);
    std::string now = a.id, then = b.id;
    for (int delay = 0; delay < 40; ++delay) {
      Live live(runner_argv({"rename", now, then}));
      std::this_thread::sleep_for(std::chrono::microseconds(delay * 150));
      live.signal(SIGKILL);
      live.wait();
      bool moved = !inspected(then).is_null();
      CHECK(inspected(moved ? now : then).is_null());
      if (moved) std::swap(now, then);
      REQUIRE(inspected(now)["id"] == now);
      REQUIRE(runner({"logs", "--verify", now}).code == 0);
      CHECK(remains_of(then) == "");
    }
  }

  TEST_CASE("a renamer that is stopped in the middle keeps nobody from other sessions") {
    SKIP_UNLESS(is_root(), "root");
    Box other;
    leave_running(other);
    // What it holds: the lock of a journal.
    Live holder({"flock", run_root() + "/.renaming", "sh", "-c", "echo held; sleep 60"});
    REQUIRE(holder.await("held"));
    CHECK(other.status() == "running");
    CHECK(runner({"stop", "-t", "0", other.id}).code == 0);
    CHECK(runner({"rename", other.id, other.id + "-2"}).err.find("wait for another `runner rename`") != std::string::npos);
    fs::remove(run_root() + "/.renaming");
  }

  TEST_CASE("of many that want the same new name one gets it, and the others lose nothing") {
    SKIP_UNLESS(is_root(), "root");
    Box to;
    std::vector<Box> from(5);
    for (const Box& box : from) end_one(box);
    std::vector<std::thread> threads;
    std::vector<Ran> rans(from.size());
    for (std::size_t i = 0; i < from.size(); ++i) threads.emplace_back([&, i] { rans[i] = runner({"rename", from[i].id, to.id}); });
    for (std::thread& thread : threads) thread.join();
    CHECK(std::count_if(rans.begin(), rans.end(), [](const Ran& ran) { return ran.code == 0; }) == 1);
    CHECK(runner({"logs", "--verify", to.id}).code == 0);
    for (std::size_t i = 0; i < from.size(); ++i)
      if (rans[i].code) CHECK(runner({"logs", "--verify", from[i].id}).code == 0);
  }
}
