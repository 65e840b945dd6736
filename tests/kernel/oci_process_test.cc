// What config.json says about the process: privileges, limits, descriptors, its place.
#include <doctest/doctest.h>
#include <signal.h>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

// What the probe says in a container with these changes.
Facts facts_with(const std::string& subjects, const std::function<void(json&)>& change = {}, const Args& more = {}) {
  Args argv{"probe", subjects};
  argv.insert(argv.end(), more.begin(), more.end());
  Bundle bundle(argv);
  if (change) change(bundle.config);
  bundle.save();
  Ran ran = bundle.run();
  INFO(ran.err);
  CHECK(ran.code == 0);
  return facts_of(ran.out);
}

}  // namespace

TEST_SUITE("container process") {
  TEST_CASE("the process has the sets of capabilities that it was given, and no others") {
    SKIP_UNLESS(is_root(), "root");
    Facts plain = facts_with("status");
    CHECK(plain["CapPrm"] == "0000000020000420");
    CHECK(plain["CapEff"] == "0000000020000420");
    CHECK(plain["CapBnd"] == "0000000020000420");
    CHECK(plain["CapInh"] == "0000000000000000");  // CVE-2022-29162
    CHECK(plain["CapAmb"] == "0000000000000000");
    CHECK(plain["NoNewPrivs"] == "1");

    Facts none = facts_with("status", [](json& c) { c["process"].erase("capabilities"); });
    for (const char* set : {"CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"}) CHECK(none[set] == "0000000000000000");

    Facts ambient = facts_with("status", [](json& c) {
      json kill = {"CAP_KILL"};
      c["process"]["capabilities"] = {{"bounding", kill}, {"permitted", kill}, {"effective", kill}, {"inheritable", kill}, {"ambient", kill}};
      c["process"]["user"] = {{"uid", 1000}, {"gid", 1000}};
      c["process"]["noNewPrivileges"] = false;
    });
    for (const char* set : {"CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"}) CHECK(ambient[set] == "0000000000000020");
    CHECK(ambient["NoNewPrivs"] == "0");
  }

  TEST_CASE("the process has the user, groups, umask, directory, environment, limits and score that it was given") {
    SKIP_UNLESS(is_root(), "root");
    Facts facts = facts_with("status,process,cwd,env,rlimits,hostname", [](json& c) {
      c["process"]["user"] = {{"uid", 11}, {"gid", 22}, {"additionalGids", {33, 44}}, {"umask", 63}};
      c["process"]["cwd"] = "/made/by/us";
      c["root"]["readonly"] = false;
      c["process"]["env"] = {"PATH=/bin", "A=1", "EMPTY="};
      c["process"]["rlimits"] = {{{"type", "RLIMIT_NOFILE"}, {"soft", 64}, {"hard", 128}}, {{"type", "RLIMIT_CORE"}, {"soft", 0}, {"hard", 0}}};
      c["process"]["oomScoreAdj"] = 500;
      c["hostname"] = "box";
      c["domainname"] = "example.org";
    });
    CHECK(facts["Uid"] == "11 11 11 11");
    CHECK(facts["Gid"] == "22 22 22 22");
    CHECK(facts["Groups"] == "33 44");
    CHECK(facts["umask"] == "0077");
    CHECK(facts["cwd"] == "/made/by/us");
    CHECK(facts["A"] == "1");
    CHECK(facts.count("EMPTY"));
    CHECK(facts["HOME"] == "/");  // of a user that /etc/passwd does not know
    CHECK(facts["nofile"] == "64:128");
    CHECK(facts["core"] == "0:0");
    CHECK(facts["oom_score_adj"] == "500");
    CHECK(facts["hostname"] == "box");
    CHECK(facts["domainname"] == "example.org");
    CHECK(facts["pid"] == "1");
  }

  TEST_CASE("no descriptor leaks into a container, whatever the caller had open") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"probe", "fds,signals"});
    Args argv{"sh", "-c", "trap '' HUP USR1; exec 3</etc 4</etc/passwd 7</proc 9</root; exec \"$@\"", "sh"};
    Args whole = runner_argv({"run", "-b", bundle.path(), fresh_id()});
    argv.insert(argv.end(), whole.begin(), whole.end());
    Facts facts = facts_of(run(argv).out);
    CHECK(facts.size() == 3 + 4);
    CHECK(facts["SigIgn"] == "0000000000000000");
    CHECK(facts["SigBlk"] == "0000000000000000");
  }

  TEST_CASE("--preserve-fds hands over as many as it says, and warns of one that is not open") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"probe", "fds"});
    auto with = [&](const std::string& open, const std::string& count) {
      Args argv{"sh", "-c", open + "; exec \"$@\"", "sh"};
      Args whole = runner_argv({"run", "--preserve-fds", count, "-b", bundle.path(), fresh_id()});
      argv.insert(argv.end(), whole.begin(), whole.end());
      return run(argv);
    };
    Ran two = with("exec 3</dev/null 4</dev/zero 5</dev/null", "2");
    CHECK(two.code == 0);
    Facts facts = facts_of(two.out);
    CHECK(facts.size() == 5);
    CHECK(facts["4"] == "/dev/zero");
    Ran one = with("exec 3</dev/null 4<&-", "2");  // as crun has it; runc refuses it
    CHECK(one.code == 0);
    CHECK(one.err.find("descriptor 4 is not open") != std::string::npos);
    CHECK(facts_of(one.out).size() == 4);
  }

  TEST_CASE("LISTEN_FDS come before the preserved ones, and the process is told") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"probe", "fds,env"});
    Args argv{"sh", "-c", "exec 3</dev/null 4</dev/zero; exec \"$@\"", "sh"};
    Args whole = runner_argv({"run", "-b", bundle.path(), fresh_id()});
    argv.insert(argv.end(), whole.begin(), whole.end());
    Facts facts = facts_of(run(argv, {.env = {{"LISTEN_FDS", "2"}}}).out);
    CHECK(facts["LISTEN_FDS"] == "2");
    CHECK(facts["LISTEN_PID"] == "1");
    CHECK(facts["3"] == "/dev/null");
    CHECK(facts["4"] == "/dev/zero");
  }

  TEST_CASE("a seccomp filter of config.json holds, with its errno, its arguments and its kill") {
    SKIP_UNLESS(is_root(), "root");
    auto filter = [](json rule) {
      return [rule](json& c) {
        c["linux"]["seccomp"] = {{"defaultAction", "SCMP_ACT_ALLOW"}, {"architectures", {"SCMP_ARCH_X86_64"}}, {"syscalls", json::array({rule})}};
      };
    };
    // 83 is mkdir, 109 is setpgid.
    Facts refused = facts_with("status,syscall", filter({{"names", {"mkdir"}}, {"action", "SCMP_ACT_ERRNO"}, {"errnoRet", 11}}), {"83", "0"});
    CHECK(refused["Seccomp"] == "2");
    CHECK(refused["result"] == "EAGAIN");
    json by_argument = {{"names", {"setpgid"}}, {"action", "SCMP_ACT_ERRNO"}, {"errnoRet", 95},
                        {"args", json::array({{{"index", 1}, {"value", 77}, {"op", "SCMP_CMP_EQ"}}})}};
    CHECK(facts_with("syscall", filter(by_argument), {"109", "0", "77"})["result"] == "EOPNOTSUPP");
    CHECK(facts_with("syscall", filter(by_argument), {"109", "99999", "78"})["result"] == "ESRCH");

    Bundle bundle({"probe", "syscall", "83", "0"});
    filter({{"names", {"mkdir"}}, {"action", "SCMP_ACT_KILL_PROCESS"}})(bundle.config);
    bundle.save();
    CHECK(bundle.run().code == 128 + SIGSYS);
  }

  TEST_CASE("a filter also holds without no_new_privs") {
    SKIP_UNLESS(is_root(), "root");
    Facts facts = facts_with("status,syscall", [](json& c) {
      c["process"]["noNewPrivileges"] = false;
      c["linux"]["seccomp"] = {{"defaultAction", "SCMP_ACT_ALLOW"}, {"syscalls", {{{"names", {"mkdir"}}, {"action", "SCMP_ACT_ERRNO"}}}}};
    }, {"83", "0"});
    CHECK(facts["NoNewPrivs"] == "0");
    CHECK(facts["Seccomp"] == "2");
    CHECK(facts["result"] == "EPERM");
  }

  TEST_CASE("a limit that may not be raised is an error and not a smaller limit") {
    SKIP_UNLESS(is_root(), "root");
    SKIP_UNLESS(run({"sh", "-c", "ulimit -Hn 9999999"}).code != 0, "a host that refuses a high RLIMIT_NOFILE");
    Bundle bundle({"true"});
    bundle.config["process"]["rlimits"] = {{{"type", "RLIMIT_NOFILE"}, {"soft", 9999999}, {"hard", 9999999}}};
    bundle.save();
    Ran ran = bundle.run();
    CHECK(ran.code == 1);
    CHECK(ran.err.find("resource limit") != std::string::npos);
  }
}
