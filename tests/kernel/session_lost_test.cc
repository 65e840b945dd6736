// What a crash of the machine, or a damaged file, leaves of a session: it is listed, and it can be removed.
#include <doctest/doctest.h>
#include <signal.h>

#include <cstdio>

#include <filesystem>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

std::string entry_of(const std::string& id) { return run_root() + "/" + id; }

json listed(const std::string& id, const How& how = {}) {
  Ran ran = runner({"ls", "-a", "--filter", "name=^" + id + "$", "--format", "json"}, how);
  return ran.code == 0 && !ran.out.empty() ? json::parse(ran.out) : json();
}

}  // namespace

TEST_SUITE("session lost") {
  TEST_CASE("after a reboot what has ended is listed with its result, and can be removed") {
    SKIP_UNLESS(is_root(), "root");
    Box box;
    CHECK(runner({"run", "--name", box.id, "--", "sh", "-c", "exit 3"}).code == 3);
    std::filesystem::remove_all(entry_of(box.id));  // as a new /run has it
    json line = listed(box.id);
    REQUIRE(line.is_object());
    CHECK(line["status"] == "stopped");
    CHECK(line["result"] == "exit-code");
    CHECK(line["exit_code"] == 3);
    CHECK(line["policy"] == "default");
    CHECK(line["command"] == json{"sh", "-c", "exit 3"});
    CHECK(runner({"logs", "--verify", box.id}).code == 0);
    std::filesystem::remove_all(entry_of(box.id));
    CHECK(runner({"rm", box.id}).code == 0);  // also without being listed first
    CHECK(remains_of(box.id) == "");
    CHECK(runner({"rm", box.id}).code == 125);
    CHECK(runner({"rm", "-f", box.id}).code == 0);
  }

  TEST_CASE("one that ran when the machine went down is a runner-error, and prune takes it") {
    SKIP_UNLESS(is_root(), "root");
    Folder data;
    How how{.env = {{"RUNNER_DATA", data.path()}}};
    Box box;
    {
      Live live(runner_argv({"run", "--name", box.id, "--", "sh", "-c", "echo up; sleep 60"}), how);
      REQUIRE(live.await("up"));
      live.signal(SIGKILL);
      live.wait();
    }
    CHECK(eventually([&] { return processes_with(box.id).empty(); }));
    std::filesystem::remove_all(entry_of(box.id));
    CHECK(listed(box.id, how)["result"] == "runner-error");
    std::filesystem::remove_all(entry_of(box.id));
    Ran pruned = runner({"prune"}, how);
    CHECK(pruned.out.find(box.id) != std::string::npos);
    CHECK(!exists(data / "sessions/" + box.id));
    run({"sh", "-c", "rmdir /sys/fs/cgroup/*/runner/" + box.id + " /sys/fs/cgroup/runner/" + box.id + " 2>/dev/null"});
  }

  TEST_CASE("a session of another root is none of ours, lost or not") {
    SKIP_UNLESS(is_root(), "root");
    Folder other;
    std::string id = fresh_id();
    Args argv{runner_path(), "--root", other / "run", "run", "-d", "--name", id, "--", "sleep", "60"};
    CHECK(run(argv, {.env = {{"RUNNER_DATA", data_dir()}}}).code == 0);
    CHECK(listed(id).is_null());
    CHECK(runner({"rm", id}).code == 125);
    CHECK(exists(data_dir() + "/sessions/" + id));
    CHECK(run({runner_path(), "--root", other / "run", "rm", "-f", id}, {.env = {{"RUNNER_DATA", data_dir()}}}).code == 0);
    CHECK(!exists(data_dir() + "/sessions/" + id));
  }

  TEST_CASE("a session whose state.json is damaged is named, refused its name, and removed by rm -f, running or not") {
    SKIP_UNLESS(is_root(), "root");
    for (bool runs : {true, false})
      for (const char* damage : {"", "{\"id\":", "[1]", "{\"pid\":\"x\"}"}) {
        Box box;
        CHECK(runner({"run", "-d", "--name", box.id, "--", "/bin/sleep", "61"}).code == 0);
        if (!runs) runner({"stop", "-t", "0", box.id});
        std::string path = entry_of(box.id) + "/state.json";
        FILE* file = std::fopen(path.c_str(), "w");
        std::fputs(damage, file);
        std::fclose(file);
        Ran list = runner({"ls", "-a"});
        CHECK(list.code == 0);
        CHECK(list.err.find("runner rm -f " + box.id) != std::string::npos);
        CHECK(runner({"rm", box.id}).code == 125);
        CHECK(runner({"run", "--name", box.id, "--", "true"}).code == 125);
        Ran removed = runner({"rm", "-f", box.id});
        CHECK(removed.code == 0);
        CHECK(removed.out == box.id + "\n");
        CHECK_MESSAGE(removed.err.find("could not be read") != std::string::npos, removed.err);
        CHECK(removed.err.find(data_dir() + "/sessions/" + box.id) != std::string::npos);
        CHECK(remains_of(box.id) == "");
        CHECK(runner({"run", "--rm", "--name", box.id, "--", "true"}).code == 0);
      }
  }
}
