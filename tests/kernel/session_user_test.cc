// An ordinary user, without root and without a delegated cgroup.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

struct User {
  Folder home;
  How how;
  User() {
    home.write("w/file", "mine");
    if (run({"cp", probe_path(), home / "probe"}).code != 0) throw std::runtime_error("cp");
    run({"chown", "-R", "1234:1234", home.path()});
    how = {.env = {{"HOME", home.path()}, {"XDG_RUNTIME_DIR", home / "run"}, {"XDG_DATA_HOME", ""}, {"RUNNER_DATA", ""}}, .cwd = home.path(), .uid = 1234};
    ::mkdir((home / "run").c_str(), 0700);
    run({"chown", "1234:1234", home / "run"});
  }
  Ran operator()(const Args& flags, const Args& command) const {
    Args arguments{"run", "--rm", "-v", home / "probe:/probe:ro"};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    arguments.push_back("--");
    arguments.insert(arguments.end(), command.begin(), command.end());
    return runner(arguments, how);
  }
};

}  // namespace

TEST_SUITE("ordinary user") {
  TEST_CASE("a user can run a session behind the same walls, and is told which limits are not in force") {
    SKIP_UNLESS(is_root(), "root, to become an ordinary user");
    User user;
    Ran ran = user({}, {"/probe", "status,securebits,namespaces,fds,cwd"});
    INFO(ran.err);
    Events events = events_of(ran.out);
    CHECK(ran.code == 0);
    CHECK(ended(events)["result"] == "success");
    Facts facts = facts_of(stdio_text(events));
    CHECK(facts["Uid"] == "1000 1000 1000 1000");
    for (const char* set : {"CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"}) CHECK(facts[set] == "0000000000000000");
    CHECK(facts["NoNewPrivs"] == "1");
    CHECK(facts["Seccomp_filters"] == "2");
    CHECK(facts["securebits"] == "0xef");
    CHECK(facts["cwd"] == "/workspace");
    for (int fd = 3; fd < 16; ++fd) CHECK(facts.count(std::to_string(fd)) == 0);
    std::string missing;
    for (const json& event : events)
      if (event["type"] == "limit.missing") missing += event["data"]["limit"].get<std::string>() + ";";
    CHECK(missing == "memory limit;pids limit;cpu limit;");
    CHECK(has(ran.err, "not in force"));
    CHECK(has(ran.err, "runner check"));
  }

  TEST_CASE("the user's workspace belongs to the user inside and outside") {
    SKIP_UNLESS(is_root(), "root, to become an ordinary user");
    User user;
    Ran ran = user({"-v", user.home / "w:/workspace", "--output", "raw"}, {"sh", "-c", "/probe stat file; /probe write made x; /probe open r /etc/shadow /home/agent"});
    INFO(ran.err);
    CHECK(ran.code == 0);
    Facts facts = facts_of(ran.out);
    CHECK(has(facts["file"], "uid=1000 gid=1000"));
    CHECK(facts["made"] == "0");
    CHECK(facts["/etc/shadow"] == "ENOENT");
    struct stat info;
    REQUIRE(::stat((user.home / "w/made").c_str(), &info) == 0);
    CHECK(info.st_uid == 1234);
  }

  TEST_CASE("exit statuses, timeouts and missing programs are the same for a user, and nothing is left") {
    SKIP_UNLESS(is_root(), "root, to become an ordinary user");
    User user;
    CHECK(user({}, {"/probe", "exit", "3"}).code == 3);
    CHECK(user({}, {"no-such"}).code == 127);
    CHECK(user({"--timeout", "300ms"}, {"sh", "-c", "sleep 75.5 & sleep 75.5"}).code == 124);
    CHECK(processes_with("75.5").empty());
    CHECK(run({"find", user.home / "run", user.home / ".local", "-name", "s-*"}).out == "");
  }

  TEST_CASE("a user can make a terminal, detach, exec, kill and delete") {
    SKIP_UNLESS(is_root(), "root, to become an ordinary user");
    User user;
    std::string id = fresh_id();
    Ran ran = runner({"run", "-d", "--name", id, "-v", user.home / "probe:/probe:ro", "--", "/probe", "sleep", "60"}, user.how);
    INFO(ran.err);
    REQUIRE(ran.code == 0);
    CHECK(has(runner({"list", "-q"}, user.how).out, id));
    Ran exec = runner({"exec", id, "/probe", "status"}, user.how);
    CHECK_MESSAGE(exec.code == 0, exec.err);
    CHECK(facts_of(exec.out)["CapEff"] == "0000000000000000");
    CHECK(facts_of(exec.out)["Seccomp_filters"] == "2");
    CHECK(runner({"delete", "-f", id}, user.how).code == 0);
    CHECK(!has(runner({"list", "-q"}, user.how).out, id));
  }

  TEST_CASE("a user can list, inspect, follow, stop, rename and remove; what no cgroup counts is null and not 0") {
    SKIP_UNLESS(is_root(), "root, to become an ordinary user");
    User user;
    auto as_user = [&](const Args& arguments) { return runner(arguments, user.how); };
    std::string id = fresh_id(), other = fresh_id();
    REQUIRE(as_user({"run", "-d", "--name", id, "-v", user.home / "probe:/probe:ro", "--", "/probe", "await-signal", "4"}).code == 0);
    Live follower({"setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "env", "-u", "RUNNER_DATA", "HOME=" + user.home.path(),
                   "XDG_RUNTIME_DIR=" + (user.home / "run"), "XDG_DATA_HOME=", runner_path(), "logs", "-f", id});
    CHECK(follower.await("ready="));
    json one = events_of(as_user({"ls"}).out).at(0);
    CHECK(one["id"] == id);
    CHECK(one["status"] == "running");
    one = json::parse(as_user({"inspect", id}).out).at(0);
    CHECK(one["limits"]["memory"].is_null());  // not in force
    CHECK(one["usage"]["cpu_us"].is_null());
    one = events_of(as_user({"top", "--once", "--interval", "50ms", "--format", "json", id}).out).at(0);
    CHECK(one["cpu_percent"].is_null());
    CHECK(one["pids"].is_null());
    Ran stop = as_user({"stop", id});
    CHECK_MESSAGE(stop.code == 0, stop.err);
    CHECK(follower.wait(5000) == 0);
    CHECK(json::parse(as_user({"inspect", id}).out).at(0)["exit_code"] == 4);
    CHECK(as_user({"rename", id, other}).code == 0);
    CHECK(as_user({"logs", "--verify", other}).code == 0);
    CHECK(as_user({"rm", other}).code == 0);
    CHECK(as_user({"ls", "-aq"}).out == "");
    CHECK(run({"find", user.home.path(), "-name", other}).out == "");
  }

  TEST_CASE("another user's sessions are not seen") {
    SKIP_UNLESS(is_root(), "root, to become an ordinary user");
    User one, two;
    std::string id = fresh_id();
    REQUIRE(runner({"run", "-d", "--name", id, "-v", one.home / "probe:/probe:ro", "--", "/probe", "sleep", "60"}, one.how).code == 0);
    two.how.uid = 1235;
    run({"chown", "-R", "1235:1235", two.home.path()});
    CHECK(runner({"state", id}, two.how).code == 1);
    CHECK(runner({"delete", "-f", id}, one.how).code == 0);
  }
}
