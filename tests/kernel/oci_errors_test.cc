// What engines read when something is wrong: exit statuses, the words, and the log. "oci" as runc has it.
#include <doctest/doctest.h>
#include <signal.h>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

bool says(const Ran& ran, const std::string& words) { return ran.err.find(words) != std::string::npos; }

struct Running {
  Bundle bundle{{"sleep", "60"}};
  Box box;
  Running() {
    if (runner_apart({"run", "-d", "-b", bundle.path(), box.id}, bundle).code != 0) throw std::runtime_error(read(bundle / "err"));
  }
  void stop() {
    runner({"kill", box.id, "KILL"});
    eventually([&] { return box.status() == "stopped"; });
  }
};

}  // namespace

TEST_SUITE("container errors") {
  TEST_CASE("a verb on a container that is not there says 'container does not exist' and fails") {
    for (const char* verb : {"state", "start", "kill", "delete", "pause", "resume", "ps"}) {
      CAPTURE(verb);
      Ran ran = runner({verb, "nobody"});
      CHECK(ran.code == 1);
      CHECK(ran.out == "");
      CHECK(says(ran, "container does not exist"));
    }
    Ran exec = runner({"exec", "nobody", "true"});
    CHECK(exec.code == 255);  // runc's, for all that goes wrong before the command runs
    CHECK(says(exec, "container does not exist"));
    Ran forced = runner({"delete", "--force", "nobody"});
    CHECK(forced.code == 0);
    CHECK(forced.err == "");
  }

  TEST_CASE("verbs that do not fit a running container are refused with runc's words") {
    SKIP_UNLESS(is_root(), "root");
    Running c;
    Ran again = runner_apart({"create", "-b", c.bundle.path(), c.box.id}, Folder());
    CHECK(again.code == 1);
    CHECK(says(again, "container with given ID already exists"));
    Ran started = start(c.box);
    CHECK(started.code == 1);
    CHECK(says(started, "cannot start an already running container"));
    Ran deleted = runner({"delete", c.box.id});
    CHECK(deleted.code == 1);
    CHECK(says(deleted, "cannot delete container " + c.box.id + " that is not stopped: running"));
    Ran signalled = runner({"kill", c.box.id, "NOSUCH"});
    CHECK(signalled.code == 1);
    CHECK(says(signalled, "unknown signal \"NOSUCH\""));
    CHECK(c.box.status() == "running");
  }

  TEST_CASE("verbs that do not fit a stopped container are refused with runc's words") {
    SKIP_UNLESS(is_root(), "root");
    Running c;
    c.stop();
    Ran signalled = runner({"kill", c.box.id, "KILL"});
    CHECK(signalled.code == 1);
    CHECK(says(signalled, "container not running"));
    Ran started = start(c.box);
    CHECK(started.code == 1);
    CHECK(says(started, "cannot start a container that has stopped"));
    Ran paused = runner({"pause", c.box.id});
    CHECK(paused.code == 1);
    CHECK(says(paused, "container not running"));
    Ran exec = runner({"exec", c.box.id, "true"});
    CHECK(exec.code == 255);
    CHECK(says(exec, "cannot exec in a stopped container"));
    CHECK(runner({"kill", "--all", c.box.id, "KILL"}).code == 0);
  }

  TEST_CASE("create already says that the program is missing, and leaves nothing") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"nosuchprogram"});
    Box box;
    Ran ran = create(bundle, box, {"--pid-file", bundle / "pid"});
    CHECK(ran.code == 1);
    CHECK(says(ran, "exec: \"nosuchprogram\": executable file not found in $PATH"));
    CHECK(remains_of(box.id) == "");
    bundle.config["process"]["args"] = {"/etc"};
    bundle.save();
    ran = create(bundle, box);
    CHECK(ran.code == 1);
    CHECK(says(ran, "ermission denied"));
    CHECK(remains_of(box.id) == "");
  }

  TEST_CASE("exec of a missing program answers 255 with the words by which podman knows 127") {
    SKIP_UNLESS(is_root(), "root");
    Running c;
    Ran ran = runner({"exec", c.box.id, "nothere"});
    CHECK(ran.code == 255);
    CHECK(says(ran, "executable file not found in $PATH"));
    ran = runner({"exec", c.box.id, "/bin"});
    CHECK(ran.code == 255);
    CHECK(says(ran, "ermission denied"));
  }

  TEST_CASE("--log with --log-format json gets one JSON object a message, with a time that RFC 3339 knows") {
    Folder folder;
    std::string log = folder / "log.json";
    Ran ran = runner({"--log", log, "--log-format", "json", "state", "nobody"});
    CHECK(ran.code == 1);
    Ran again = runner({"--log=" + log, "--log-format=json", "kill", "nobody", "9"});
    CHECK(again.code == 1);
    Events lines = events_of(read(log));
    REQUIRE(lines.size() == 2);
    for (const json& line : lines) {
      CHECK(line["level"] == "error");
      CHECK(line["msg"] == "container does not exist");
      std::string time = line["time"];
      CHECK(time.size() >= 20);
      CHECK(time[10] == 'T');
      CHECK(time.back() == 'Z');
    }
    Ran text = runner({"--log", folder / "log.txt", "state", "nobody"});
    CHECK(text.code == 1);
    CHECK(read(folder / "log.txt").find("level=error msg=\"container does not exist\"") != std::string::npos);
  }

  TEST_CASE("quotes and control characters of a message cannot break the log's JSON") {
    Folder folder;
    Ran ran = runner({"--log", folder / "log", "--log-format", "json", "create", "-b", "/tmp/\"},\n{\"level\":\"x\xff", "idid"});
    CHECK(ran.code == 1);
    CHECK(events_of(read(folder / "log")).size() == 1);
  }

  TEST_CASE("wrong usage is exit status 1 and one line that says what") {
    for (const Args& words : {Args{"create"}, Args{"create", "a", "b"}, Args{"list", "--nosuch"}, Args{"nosuchverb"}, Args{"kill"},
                              Args{"state"}, Args{"state", "a", "b"}, Args{"list", "-f", "yaml"}}) {
      Ran ran = runner(words);
      CAPTURE(words[0]);
      CHECK(ran.code == 1);
      CHECK(ran.out == "");
      CHECK(ran.err.rfind("runner: ", 0) == 0);
      CHECK(ran.err.rfind("runner: runner", 0) != 0);
      CHECK(ran.err.find('\n') == ran.err.size() - 1);
    }
  }

  TEST_CASE("global flags may stand before and behind the verb, with a blank or an equals sign") {
    Folder folder;
    for (const Args& words : {Args{"--root", folder / "r", "list", "-q"}, Args{"--root=" + (folder / "r"), "list", "--quiet"},
                              Args{"list", "-q", "--root", folder / "r"}, Args{"--debug", "list", "-q"}}) {
      Args argv{runner_path()};
      argv.insert(argv.end(), words.begin(), words.end());
      CHECK(run(argv).code == 0);
    }
    CHECK(runner({"--systemd-cgroup", "list"}).code == 0);
  }
}
