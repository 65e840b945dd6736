// Named volumes: made at first use, shared, seen as the session's own, and never removed under a session.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

// One of this test alone, removed at its end.
struct Named {
  std::string name = "v" + fresh_id();
  Named() = default;
  Named(const Named&) = delete;
  ~Named() { runner({"volume", "rm", "-f", name}); }
  std::string folder() const { return data_dir() + "/volumes/" + name; }
  std::string at(const std::string& place) const { return name + ":" + place; }
};

Ran in(const Args& flags, const std::string& script) {
  Args arguments{"run", "--rm", "--output", "raw"};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  arguments.insert(arguments.end(), {"--", "sh", "-c", script});
  return runner(arguments);
}

json inspected(const std::string& name) {
  Ran ran = runner({"volume", "inspect", name});
  return ran.code == 0 ? json::parse(ran.out).at(0) : json();
}

}  // namespace

TEST_SUITE("volumes") {
  TEST_CASE("what one session has written the next one has, as its own user's, in another range of ids") {
    SKIP_UNLESS(is_root(), "root");
    Named v;
    Away holds;  // takes the lowest range
    Ran first = in({"-v", v.at("/workspace")}, "echo kept >note; mkdir d; stat -c %u:%g note .");
    CHECK(first.code == 0);
    CHECK(first.out == "1000:1000\n1000:1000\n");
    Away more;  // and this one the next
    Ran second = in({"--mount", "type=volume,src=" + v.name + ",dst=/workspace", "-u", "4321:1234"}, "cat note; stat -c %u:%g note; echo more >>note; touch d/x");
    CHECK(second.code == 0);
    CHECK(second.out == "kept\n4321:1234\n");
    CHECK(in({"-v", v.at("/workspace:ro")}, "cat note; touch y 2>/dev/null || echo no").out == "kept\nmore\nno\n");

    struct stat info;
    for (const char* file : {"/data", "/data/note", "/data/d/x"}) {
      REQUIRE(::lstat((v.folder() + file).c_str(), &info) == 0);
      CHECK(info.st_uid >= 0x7fff0000);  // in no session's range
      CHECK(info.st_gid == info.st_uid);
    }
    CHECK(::stat(v.folder().c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0700);
  }

  TEST_CASE("two sessions share a volume, and it cannot be removed before both have ended") {
    SKIP_UNLESS(is_root(), "root");
    Named v;
    Away one({"-v", v.at("/workspace")}), two({"-v", v.at("/workspace")});
    CHECK(inspected(v.name)["sessions"].size() == 2);
    CHECK(json::parse(runner({"inspect", one.box.id}).out)[0]["volumes"] == json::array({v.name}));
    Ran refused = runner({"volume", "rm", v.name});
    CHECK(refused.code == 125);
    CHECK(refused.err.find(one.box.id) != std::string::npos);
    CHECK(refused.err.find(two.box.id) != std::string::npos);
    runner({"rm", "-f", one.box.id});
    CHECK(runner({"volume", "rm", v.name}).err.find("is in use by session " + two.box.id) != std::string::npos);
    runner({"stop", "-t", "0", two.box.id});
    CHECK(inspected(v.name)["ended_sessions"] == json::array({two.box.id}));
    CHECK(runner({"volume", "prune", "--all", "--dry-run"}).out.find(v.name) == std::string::npos);  // it is listed still
    CHECK(runner({"volume", "rm", v.name}).out == v.name + "\n");
    CHECK(!exists(v.folder()));
    CHECK(runner({"volume", "rm", v.name}).code == 125);
    CHECK(runner({"volume", "rm", "-f", v.name}).code == 0);
  }

  TEST_CASE("sessions that begin together make one volume, and rm in between neither harms them nor leaves a part of it") {
    SKIP_UNLESS(is_root(), "root");
    Named v;
    std::vector<std::unique_ptr<Live>> all;
    for (int i = 0; i < 8; ++i)
      all.push_back(std::make_unique<Live>(runner_argv({"run", "--rm", "--output", "raw", "-v", v.at("/workspace"), "--", "sh", "-c", "echo x >>all; echo done; sleep 0.3"})));
    for (auto& each : all) {
      CHECK(each->wait() == 0);
      CHECK(each->out == "done\n");
    }
    CHECK(in({"-v", v.at("/workspace")}, "wc -l <all").out == "8\n");
    for (int i = 0; i < 8; ++i) {
      Live session(runner_argv({"run", "--rm", "--output", "raw", "-v", v.at("/workspace"), "--", "sh", "-c", "touch x && echo done"}));
      runner({"volume", "rm", v.name});
      CHECK(session.wait() == 0);
      CHECK(session.out == "done\n");
    }
    CHECK(runner({"volume", "rm", "-f", v.name}).code == 0);
    for (const auto& entry : std::filesystem::directory_iterator(data_dir() + "/volumes")) CHECK(entry.path().filename().string().rfind(".old-" + v.name, 0) != 0);
  }

  TEST_CASE("a session that was killed with its supervisor holds its volume no longer") {
    SKIP_UNLESS(is_root(), "root");
    Named v;
    Box box;
    {
      Live live(runner_argv({"run", "--name", box.id, "-v", v.at("/workspace"), "--", "sh", "-c", "echo up; sleep 60"}));
      REQUIRE(live.await("up"));
      CHECK(runner({"volume", "rm", v.name}).code == 125);
      live.signal(SIGKILL);
      live.wait();
    }
    CHECK(runner({"volume", "rm", v.name}).code == 0);
  }

  TEST_CASE("a refused session makes no volume, plan makes none, and neither name nor link leads out") {
    SKIP_UNLESS(is_root(), "root");
    Named v, linked;
    CHECK(runner({"run", "--rm", "-v", v.at("/workspace"), "-m", "100G", "--", "true"}).code == 125);
    CHECK(runner({"plan", "-v", v.at("/workspace"), "--", "true"}).out.find("/volumes/" + v.name + "/data") != std::string::npos);
    CHECK(!exists(v.folder()));
    CHECK(runner({"run", "--rm", "-v", v.at("/elsewhere"), "--", "true"}).err.find("may not be writable") != std::string::npos);
    for (const char* bad : {"a b:/workspace", "-x:/workspace", ".hid:/workspace", ":/workspace"}) CHECK(runner({"run", "--rm", "--volume=" + std::string(bad), "--", "true"}).code == 125);
    CHECK(runner({"volume", "rm", "../x"}).code == 125);

    Folder secret;
    secret.write("file", "secret");
    in({"-v", linked.at("/workspace")}, "true");
    std::filesystem::remove_all(linked.folder() + "/data");
    std::filesystem::create_directory_symlink(secret.path(), linked.folder() + "/data");
    Ran ran = in({"-v", linked.at("/workspace")}, "cat file");
    CHECK(ran.code == 125);
    CHECK(ran.err.find("no folder that runner has made") != std::string::npos);
    CHECK(runner({"volume", "rm", linked.name}).code == 0);  // the link goes, and not what it leads to
    CHECK(exists(secret / "file"));
  }

  TEST_CASE("what a maker left that was killed is no volume, and goes with the next one that is made") {
    SKIP_UNLESS(is_root(), "root");
    Named v;
    Folder data;
    How how{.env = {{"RUNNER_DATA", data.path()}}};
    std::filesystem::create_directories(data / "volumes/.new-x/data");
    data.write("volumes/.old-y-1/lock", "");
    CHECK(runner({"volume", "ls", "-q"}, how).out.empty());
    CHECK(runner({"volume", "create", v.name}, how).out == v.name + "\n");
    CHECK(runner({"volume", "ls", "-q"}, how).out == v.name + "\n");
    CHECK(!exists(data / "volumes/.new-x"));
    CHECK(!exists(data / "volumes/.old-y-1"));
    CHECK(runner({"volume", "prune"}, how).code == 125);
    CHECK(runner({"volume", "prune", "--older", "1h"}, how).out.empty());
    CHECK(runner({"volume", "prune", "--all"}, how).out == "{\"name\":\"" + v.name + "\",\"bytes\":4096}\n");
    CHECK(runner({"volume", "ls", "-q"}, how).out.empty());
  }

  TEST_CASE("a policy's workspace may be a volume") {
    SKIP_UNLESS(is_root(), "root");
    Named v;
    Folder folder;
    folder.write("user.yaml", "version: 1\nextends: default\nbinds: {writable: []}\nworkspace: {path: /work, volume: " + v.name + "}\n");
    Args flags{"--policy", folder / "user.yaml"};
    CHECK(in(flags, "pwd; echo 1 >>count; stat -c %u count").out == "/work\n1000\n");
    CHECK(in(flags, "echo 2 >>count; cat count").out == "1\n2\n");
    CHECK(runner({"run", "--rm", "--policy", folder / "user.yaml", "-v", v.at("/else"), "--", "true"}).err.find("may not be writable") != std::string::npos);
  }

  TEST_CASE("an ordinary user has volumes of his own") {
    SKIP_UNLESS(is_root(), "root, to become an ordinary user");
    Folder home;
    run({"chown", "1234:1234", home.path()});
    How how{.env = {{"HOME", home.path()}, {"XDG_RUNTIME_DIR", home.path()}, {"RUNNER_DATA", home / "data"}}, .cwd = home.path(), .uid = 1234};
    for (const char* expected : {"1\n", "1\n1\n"}) {
      Ran ran = runner({"run", "--rm", "--output", "raw", "-v", "mine:/workspace", "--", "sh", "-c", "echo 1 >>n; cat n"}, how);
      CHECK_MESSAGE(ran.out == expected, ran.err);
    }
  }
}
