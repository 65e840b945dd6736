// A further process in a running container.
#include <doctest/doctest.h>
#include <signal.h>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

struct Running {
  Bundle bundle{{"sleep", "60"}};
  Box box;
  explicit Running(const std::function<void(json&)>& change = {}) {
    if (change) change(bundle.config);
    bundle.save();
    if (runner_apart({"run", "-d", "-b", bundle.path(), box.id}, bundle).code != 0) throw std::runtime_error(read(bundle / "err"));
  }
  Ran exec(const Args& words, const How& how = {}) const {
    Args arguments{"exec"};
    arguments.insert(arguments.end(), words.begin(), words.end());
    return runner(arguments, how);
  }
};

}  // namespace

TEST_SUITE("container exec") {
  TEST_CASE("exec runs in the namespaces of the container and gives the command's own output and status") {
    SKIP_UNLESS(is_root(), "root");
    Running c;
    Ran ran = c.exec({c.box.id, "sh", "-c", "hostname; echo bad >&2; exit 9"});
    CHECK(ran.code == 9);
    CHECK(ran.out == "runner\n");
    CHECK(ran.err == "bad\n");
    CHECK(c.exec({c.box.id, "sh", "-c", "kill -KILL $$"}).code == 137);
    CHECK(c.exec({c.box.id, "probe", "stdin-echo"}, {.input = "through the wall"}).out == "through the wall");

    Facts inside = facts_of(c.exec({c.box.id, "probe", "namespaces"}).out);
    std::string pid = std::to_string(c.box.state()["pid"].get<int>());
    for (const char* kind : {"mnt", "pid", "net", "ipc", "uts", "cgroup"}) {
      char target[64] = {};
      CHECK(::readlink(("/proc/" + pid + "/ns/" + kind).c_str(), target, sizeof target - 1) > 0);
      CHECK(inside[kind] == target);
    }
  }

  TEST_CASE("exec takes the container's walls, and its flags change what they say") {
    SKIP_UNLESS(is_root(), "root");
    Running c;
    Facts facts = facts_of(c.exec({c.box.id, "probe", "status,cwd,env"}).out);
    CHECK(facts["CapEff"] == "0000000020000420");
    CHECK(facts["CapBnd"] == "0000000020000420");
    CHECK(facts["CapInh"] == "0000000000000000");
    CHECK(facts["NoNewPrivs"] == "1");
    CHECK(facts["cwd"] == "/");
    facts = facts_of(c.exec({"--cwd", "/tmp", "-u", "12:34", "-g", "56", "-e", "A=b c", "--cap", "CAP_CHOWN", c.box.id, "probe", "status,cwd,env"}).out);
    CHECK(facts["cwd"] == "/tmp");
    CHECK(facts["Uid"] == "12 12 12 12");
    CHECK(facts["Gid"] == "34 34 34 34");
    CHECK(facts["Groups"] == "56");
    CHECK(facts["A"] == "b c");
    CHECK(facts["CapBnd"] == "0000000020000421");
  }

  TEST_CASE("exec gives the command no descriptor but the three, and --preserve-fds exactly those asked for") {
    SKIP_UNLESS(is_root(), "root");
    Running c;
    std::string command = "exec 3</dev/null 4</dev/null 5</dev/null 6</dev/null; exec \"$@\"";
    auto with = [&](const Args& flags) {
      Args argv{"sh", "-c", command, "sh"};
      Args arguments{"exec"};
      arguments.insert(arguments.end(), flags.begin(), flags.end());
      arguments.insert(arguments.end(), {c.box.id, "probe", "fds"});
      Args whole = runner_argv(arguments);
      argv.insert(argv.end(), whole.begin(), whole.end());
      return facts_of(run(argv).out);
    };
    CHECK(with({}).size() == 3);
    Facts two = with({"--preserve-fds", "2"});
    CHECK(two.size() == 5);
    CHECK(two.count("3"));
    CHECK(two.count("4"));
  }

  TEST_CASE("exec --process takes all from the file") {
    SKIP_UNLESS(is_root(), "root");
    Running c;
    json process = c.bundle.config["process"];
    process["args"] = {"probe", "status,cwd,env,rlimits"};
    process["cwd"] = "/etc";
    process["user"] = {{"uid", 7}, {"gid", 8}, {"additionalGids", {9, 10}}, {"umask", 63}};
    process["env"] = {"PATH=/bin", "X=y"};
    process["rlimits"] = {{{"type", "RLIMIT_NOFILE"}, {"soft", 100}, {"hard", 200}}};
    process["capabilities"] = {{"bounding", {"CAP_KILL"}}, {"permitted", {"CAP_KILL"}}, {"effective", {"CAP_KILL"}}};
    c.bundle.write("process.json", process.dump());
    Ran ran = c.exec({"--process", c.bundle / "process.json", c.box.id});
    CHECK(ran.code == 0);
    Facts facts = facts_of(ran.out);
    CHECK(facts["Uid"] == "7 7 7 7");
    CHECK(facts["Groups"] == "9 10");
    CHECK(facts["CapBnd"] == "0000000000000020");
    CHECK(facts["cwd"] == "/etc");
    CHECK(facts["X"] == "y");
    CHECK(facts["nofile"] == "100:200");
    CHECK(facts.count("TERM") == 0);
  }

  TEST_CASE("exec --detach returns while the command runs; the pid file names it, and it dies with the container") {
    SKIP_UNLESS(is_root(), "root");
    Running c;
    Folder folder;
    Ran ran = runner_apart({"exec", "-d", "--pid-file", folder / "pid", c.box.id, "sh", "-c", "echo on; sleep 60; true"}, folder);
    CHECK(ran.code == 0);
    pid_t pid = std::stoi(read(folder / "pid"));
    CHECK(eventually([&] { return written(folder) == "on\n"; }));
    CHECK(alive(pid));
    CHECK(json::parse(runner({"ps", "-f", "json", c.box.id}).out).size() == 3);
    CHECK(runner({"delete", "-f", c.box.id}).code == 0);
    CHECK(eventually([&] { return !alive(pid); }));
  }

  TEST_CASE("an exec'ed process is subject to the container's seccomp filter") {
    SKIP_UNLESS(is_root(), "root");
    Running c([](json& config) {
      config["linux"]["seccomp"] = {{"defaultAction", "SCMP_ACT_ALLOW"},
                                    {"syscalls", {{{"names", {"mkdir", "mkdirat"}}, {"action", "SCMP_ACT_ERRNO"}, {"errnoRet", 95}}}}};
    });
    Ran ran = c.exec({c.box.id, "probe", "status,syscall", "83", "0"});
    CHECK(facts_of(ran.out)["Seccomp"] == "2");
    CHECK(facts_of(ran.out)["result"] == "EOPNOTSUPP");
  }

  TEST_CASE("exec -u takes numbers and nothing that only looks like one") {
    SKIP_UNLESS(is_root(), "root");
    Running c;
    for (const char* user : {"0x0", " 0", "1e3", "4294967296", "4294967295", "-1", "root", "0:", ":0", "0:0:0", "00000000000000000000:1x"}) {
      CAPTURE(user);
      Ran ran = c.exec({std::string("--user=") + user, c.box.id, "id"});
      CHECK(ran.code != 0);
      CHECK(ran.out == "");
    }
    CHECK(c.exec({"-u", "1000", c.box.id, "id", "-u"}).out == "1000\n");
  }
}
