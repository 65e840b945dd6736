// The system calls of the agent profile: all that it denies really fails, by every door of the processor.
#include <doctest/doctest.h>

#include <cstring>
#include <set>

#include "isolate/seccomp.h"
#include "tests/security/support.h"

using namespace security;
using nlohmann::json;

namespace {

// What agent.json says of each call that it never allows: number -> errno's name.
std::map<std::string, std::string> denied() {
  json profile = json::parse(tests::read(policies_path() + "/seccomp/agent.json"));
  std::map<std::string, std::string> calls;
  std::set<std::string> allowed;
  for (const json& rule : profile["syscalls"])
    if (rule["action"] == "SCMP_ACT_ALLOW")
      for (const json& name : rule["names"]) allowed.insert(name);
  for (const json& rule : profile["syscalls"]) {
    if (rule["action"] != "SCMP_ACT_ERRNO") continue;
    for (const json& name : rule["names"]) {
      int number = isolate::syscall_number(name);
      if (number >= 0 && !allowed.count(name)) calls[std::to_string(number)] = ::strerrorname_np(rule["errnoRet"]);
    }
  }
  return calls;
}

Args numbers_of(const std::map<std::string, std::string>& calls, const std::string& without = "") {
  Args numbers;
  for (const auto& [number, answer] : calls)
    if (number != without) numbers.push_back(number);
  return numbers;
}

// Numbers that no kernel has, or that the profile does not name: the default answers.
const Args kUnknown{"335", "336", "500", "511", "600", "1000", "100000"};

}  // namespace

TEST_SUITE("system calls") {
  TEST_CASE("every call that the agent profile denies fails with its errno") {
    auto calls = denied();
    REQUIRE(calls.size() > 90);
    for (const char* user : {"agent", "root"}) {
      Facts facts = inside({"-u", user}, concat({"calls"}, numbers_of(calls)));
      for (const auto& [number, answer] : calls) {
        CAPTURE(user);
        CAPTURE(number);
        CHECK(facts[number] == answer);
      }
    }
  }

  TEST_CASE("control: on the host most of these calls reach the kernel's own checks") {
    SKIP_UNLESS(tests::is_root(), "root");
    auto calls = denied();
    constexpr const char* kVhangup = "153";  // takes no arguments: it would do it
    Facts facts = outside(concat({"calls"}, numbers_of(calls, kVhangup)));
    int reached = 0;
    for (const auto& [number, answer] : calls)
      reached += facts[number] != answer && facts[number] != "ENOSYS" && facts[number] != "(missing)";
    CAPTURE(facts.ran.out);
    CHECK(reached > 60);
    for (const char* door :
         {"101" /* ptrace */, "165" /* mount */, "272" /* unshare */, "308" /* setns */, "321" /* bpf */,
          "250" /* keyctl */, "304" /* open_by_handle_at */, "310" /* process_vm_readv */, "438" /* pidfd_getfd */,
          "276" /* tee */, "275" /* splice */})
      CHECK(facts[door] != calls[door]);
  }

  TEST_CASE("numbers that nobody knows answer ENOSYS") {
    Facts facts = inside({}, concat({"calls"}, kUnknown));
    for (const std::string& number : kUnknown)
      if (number != "335" && number != "336") CHECK(facts[number] == "ENOSYS");
  }

  TEST_CASE("x32 is shut") {
    Args numbers{"0", "1", "2", "39", "41", "56", "59", "101", "165", "272", "512", "520", "521", "539", "545"};
    Facts facts = inside({}, concat({"x32"}, numbers));
    for (const std::string& number : numbers) CHECK(facts[number] == "ENOSYS");
  }

  TEST_CASE("int 0x80 is shut") {
    Facts control = outside({"int80"});
    SKIP_UNLESS(control["getpid"] == "0", "a kernel with int 0x80");
    CHECK(control["ptrace"] == "0");
    CHECK(control["mount"] == "EFAULT");
    Facts facts = inside({}, {"int80"});
    REQUIRE(facts.values.size() >= 9);
    for (const auto& [name, answer] : facts.values) {
      CAPTURE(name);
      CHECK(answer == "ENOSYS");
    }
  }

  TEST_CASE("single uses of allowed calls are refused") {
    const std::map<std::string, std::string> expected{
        {"tiocsti", "EPERM"},         {"tiocsti-with-junk", "EPERM"}, {"tiocsetd", "EPERM"},
        {"udp-encap", "ENOPROTOOPT"}, {"udp-encap-6", "ENOPROTOOPT"}, {"tcp-ulp", "ENOPROTOOPT"},
        {"set-mm", "EPERM"},          {"memory-merge", "EINVAL"},     {"mergeable", "EINVAL"},
        {"listener", "EINVAL"},       {"personality", "ENOSYS"},      {"clone-newuser", "EPERM"},
        {"clone-newns", "EPERM"},     {"clone-newnet", "EPERM"},      {"clone-newpid", "EPERM"},
        {"clone-newipc", "EPERM"},    {"clone-newuts", "EPERM"},      {"clone-newcgroup", "EPERM"}};
    for (const char* user : {"agent", "root"}) {
      Facts facts = inside({"-u", user}, {"arguments"});
      for (const auto& [name, answer] : expected) {
        CAPTURE(name);
        CHECK(facts[name] == answer);
      }
    }
    Facts control = outside({"arguments"});
    for (const char* name : {"tiocsti", "tiocsti-with-junk", "tiocsetd", "listener", "personality", "clone-newuser",
                             "clone-newns", "clone-newnet"})
      if (tests::is_root()) CHECK(control[name] == "0");
    CHECK(control["tcp-ulp"] != "ENOPROTOOPT");
    // The kernel of the control may lack IPsec; the filter's answer is then the kernel's own.
    if (control["udp-encap"] == "ENOPROTOOPT") std::printf("SKIPPED: UDP_ENCAP in the control\n");
  }
}

TEST_SUITE("sockets") {
  TEST_CASE("only unix, inet, inet6 and netlink route sockets open") {
    for (const char* user : {"agent", "root"}) {
      Facts facts = inside({"-u", user}, {"sockets"});
      CHECK(facts["open"] == "1/1/0 1/2/0 1/5/0 2/1/0 2/1/6 2/2/0 2/2/17 10/1/0 10/1/6 10/2/0 10/2/17 16/2/0 16/3/0");
      CHECK(facts["pairs"] == "1/1 1/2 1/5");
      CHECK(facts["alg-with-junk"] == "EAFNOSUPPORT");
      CHECK(facts["packet-with-junk"] == "EAFNOSUPPORT");
      CHECK(facts["raw-with-junk"] == "EPERM");
      CHECK(facts["mptcp-with-junk"] == "EPROTONOSUPPORT");
    }
    if (!tests::is_root()) return;
    Facts control = outside({"sockets"});
    CHECK(control["open"].find(" 2/3/1") != std::string::npos);   // raw
    CHECK(control["open"].find(" 16/3/4") != std::string::npos);  // netlink sock_diag
    CHECK(control["packet-with-junk"] == "0");
    CHECK(control["raw-with-junk"] == "0");
  }

  TEST_CASE("nothing is reachable beyond loopback") {
    for (const Args& flags : {Args{}, Args{"-u", "root"}, Args{"--network", "none"}}) {
      Facts facts = inside(flags, {"network,tcp"});
      CHECK(facts["interfaces"] == "lo");
      CHECK(facts["loopback"] == "0");
      CHECK(facts["udp4"] == "ENETUNREACH");
      CHECK(facts["udp6"] == "ENETUNREACH");
      CHECK(facts["tcp4"] == "ENETUNREACH");
    }
    Facts control = outside({"network"});
    CHECK(control["loopback"] == "0");
    if (control["udp4"] != "0")
      std::printf("SKIPPED: a route to anywhere in the control\n");
    else
      CHECK(control["interfaces"] != "lo");
  }
}
