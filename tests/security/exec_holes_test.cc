// Holes of other runtimes in what becomes a program: its file, its directory, its rights, its user.
#include <doctest/doctest.h>
#include <sys/stat.h>

#include <filesystem>

#include "tests/security/support.h"

using namespace security;
namespace fs = std::filesystem;

namespace {

// A copy of the programs, so that an attack which works hits nothing else.
class Victim : public Folder {
 public:
  Victim() {
    fs::create_directories(*this / "bin");
    fs::copy_file(tests::runner_path(), runner());
    for (const std::string& helper : kHelpers)
      fs::copy_file(fs::path(tests::runner_path()).parent_path() / helper, *this / ("bin/" + helper));
    before_ = print();
  }
  std::string runner() const { return *this / "bin/runner"; }
  Args argv(const Args& arguments) const { return concat({runner(), "--root", tests::run_root()}, arguments); }
  bool untouched() const { return print() == before_; }

 private:
  std::string print() const {
    std::string all = fingerprint(runner());
    for (const std::string& helper : kHelpers) all += fingerprint(*this / ("bin/" + helper));
    return all;
  }
  const Args kHelpers{"runner-init", "runner-exec"};
  std::string before_;
};

const Args kAllCapabilities{"CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",
                            "CAP_MKNOD",   "CAP_NET_RAW",      "CAP_SETGID",           "CAP_SETUID",
                            "CAP_SETFCAP", "CAP_SETPCAP",      "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
                            "CAP_KILL",    "CAP_AUDIT_WRITE"};

void give_docker_capabilities(Container& container) {
  for (const char* set : {"bounding", "effective", "permitted"})
    container.config["process"]["capabilities"][set] = kAllCapabilities;
  container.save();
}

}  // namespace

TEST_SUITE("holes of exec") {
  TEST_CASE("CVE-2019-5736: to a container whose program is /proc/self/exe that is runner-exec, which cannot be written to") {
    SKIP_UNLESS(tests::is_root(), "root");
    Victim victim;
    Canary canary;
    Container container({"/proc/self/exe", "--version"});
    container.write("rootfs/bin/script", "#!/proc/self/exe --version\n", 0755);
    give_docker_capabilities(container);
    Ran ran = tests::run(victim.argv({"run", "-b", container.path(), container.id}));
    CHECK(ran.err == "runner-exec: only runner starts this\n");  // it is a file of ours indeed that runs inside
    container.config["process"]["args"] = {"/bin/script"};
    container.save();
    CHECK(tests::run(victim.argv({"run", "-b", container.path(), container.id})).err == "runner-exec: only runner starts this\n");
    CHECK(victim.untouched());
    CHECK(canary.changed() == "");
  }

  TEST_CASE("CVE-2019-5736, CVE-2016-9962: exec into a container that lies in wait") {
    SKIP_UNLESS(tests::is_root(), "root");
    Victim victim;
    Container container({"/bin/probe", "hunt", "2500"});
    give_docker_capabilities(container);
    REQUIRE(container.start_detached().code == 0);
    REQUIRE(eventually([&] { return tests::read(container / "out").find("ready=") != std::string::npos; }));
    int execs = 0;
    for (std::int64_t end = now_ms() + 2000; now_ms() < end; ++execs) {
      Ran ran =
          tests::run(victim.argv({"exec", container.id, execs % 2 ? "/proc/self/exe" : "/bin/true", "--version"}));
      // /proc/self/exe is runner-exec, which does nothing for others. And the hunter may hold a file of its own image open for
      // writing: its own loss.
      bool expected = execs % 2 ? ran.err == "runner-exec: only runner starts this\n"
                                : ran.code == 0 || ran.err == "runner: exec /bin/true: text file busy\n";
      CHECK_MESSAGE(expected, ran.err);
    }
    CHECK(execs >= 20);
    REQUIRE(eventually([&] { return tests::read(container / "out").find("written=") != std::string::npos; }));
    std::string out = tests::read(container / "out");
    CAPTURE(out);
    CHECK(facts_of({0, out, ""})["seen"] != "0");  // it did see them
    // Of runner-exec it may see the link, whose worst use is a delay of two seconds; of what was before, nothing.
    for (const std::string& line : lines_with(out, "took=")) CHECK_MESSAGE(line.find(" socket:[") != std::string::npos, line);
    for (const std::string& line : lines_with(out, "writable=")) {
      bool own = line.find("=/bin/") != std::string::npos;  // of the container's own image
      bool sealed = line.find("=/memfd:runner-exec") != std::string::npos;
      CHECK_MESSAGE((own || sealed), line);
    }
    CHECK(lines_with(out, "overwritten=").empty());
    CHECK(victim.untouched());
  }

  TEST_CASE("control: the hunter takes descriptors and files where nothing is done against it") {
    SKIP_UNLESS(tests::is_root(), "root");
    Folder folder;
    fs::copy_file("/usr/bin/busybox", folder / "sleeper");
    std::string script = "\"$0\" hunt 2000 & cd " + folder.path() +
                         "; for i in 1 2 3; do bash -c 'exec 5</etc/passwd; exec ./sleeper sleep 0.2'; done; wait";
    // It hunts by polling: on a busy machine it may miss all three, and then hunts again.
    Facts facts;
    for (int hunt = 0; hunt < 5 && (lines_with(facts.ran.out, "writable=").empty() || lines_with(facts.ran.out, "took=").empty()); ++hunt)
      facts = outside_behind({"unshare", "--pid", "--fork", "--mount-proc", "bash", "-c", script}, {});
    CHECK(!lines_with(facts.ran.out, "took=").empty());
    CHECK(!lines_with(facts.ran.out, "writable=").empty());
  }

  TEST_CASE("CVE-2024-21626: a working directory through any of our descriptors is refused") {
    SKIP_UNLESS(tests::is_root(), "root");
    Container container({"/bin/true"});
    fs::create_directory_symlink("/proc/self/fd/7", container.rootfs() + "/link");
    for (int fd = 3; fd <= 64; ++fd) {
      CAPTURE(fd);
      for (const std::string& cwd :
           {"/proc/self/fd/" + std::to_string(fd), "/proc/self/fd/" + std::to_string(fd) + "/../../.."}) {
        bool dots = cwd.find("..") != std::string::npos;
        if (dots && fd > 12) continue;
        container.config["process"]["cwd"] = cwd;
        container.save();
        Ran ran = container.run();
        CHECK(ran.code != 0);
        CHECK(ran.err.find("/proc/self/fd/" + std::to_string(fd)) != std::string::npos);
      }
    }
    container.config["process"]["cwd"] = "/link";
    container.save();
    CHECK(container.run().code != 0);
    // Control: where descriptors are left open, this is a way.
    CHECK(tests::run({"bash", "-c", "exec 7</; cd /proc/self/fd/7 && ls"}).out.find("usr") != std::string::npos);
  }

  TEST_CASE("CVE-2024-21626: a program behind any of our descriptors is not found") {
    SKIP_UNLESS(tests::is_root(), "root");
    Container container({"/bin/true"});
    CHECK(container.run().code == 0);
    for (int fd = 3; fd <= 24; ++fd) {
      std::string path = "/proc/self/fd/" + std::to_string(fd);
      CAPTURE(path);
      for (const std::string& program : {path, path + "/bin/sh", path + "/../../../bin/sh"}) {
        container.config["process"]["args"] = {program, "-c", "ls /"};
        container.save();
        Ran ran = container.run();
        CHECK(ran.code != 0);
        CHECK(ran.out == "");
        bool reason = ran.err.find("exec") != std::string::npos;
        CHECK_MESSAGE(reason, ran.err);
      }
    }
  }

  TEST_CASE("CVE-2024-21626: exec --cwd through our descriptors, in containers and sessions") {
    SKIP_UNLESS(tests::is_root(), "root");
    Container container({"/bin/probe", "hold", "60000"});
    REQUIRE(container.start_detached().code == 0);
    std::string id = tests::fresh_id();
    Background session_there(concat({tests::runner_path(), "--root", tests::run_root()},
                                    session({"--name", id, "--output", "raw"}, {"/attack", "hold", "60000"})));
    REQUIRE(session_there.await("ready="));
    CHECK(container.exec({"--cwd", "/bin"}, {"/bin/pwd"}).out == "/bin\n");
    CHECK(tests::runner({"exec", "--cwd", "/usr", id, "pwd"}).out == "/usr\n");
    for (int fd = 3; fd <= 24; ++fd) {
      std::string path = "/proc/self/fd/" + std::to_string(fd);
      CAPTURE(path);
      for (const Ran& ran :
           {container.exec({"--cwd", path}, {"/bin/ls"}), tests::runner({"exec", "--cwd", path, id, "ls"})}) {
        CHECK(ran.code != 0);
        CHECK(ran.out == "");
        CHECK(ran.err.find("enter directory " + path) != std::string::npos);
      }
    }
  }

  TEST_CASE("CVE-2022-29162: inheritable and ambient capabilities are empty under run and exec") {
    SKIP_UNLESS(tests::is_root(), "root");
    Container container({"/bin/sh", "-c", "/bin/probe rights; /bin/probe hold 60000"});
    give_docker_capabilities(container);
    REQUIRE(container.start_detached().code == 0);
    REQUIRE(eventually([&] { return tests::read(container / "out").find("ready=") != std::string::npos; }));
    Facts run = facts_of({0, tests::read(container / "out"), ""});
    for (const Facts& facts : {run, facts_of(container.exec({}, {"/bin/probe", "rights"})),
                               facts_of(container.exec({"--cap", "CAP_SYS_PTRACE"}, {"/bin/probe", "rights"}))}) {
      CHECK(facts["CapInh"] == "0000000000000000");
      CHECK(facts["CapAmb"] == "0000000000000000");
      CHECK(facts["CapEff"] != "0000000000000000");
    }
    Container control({"/bin/probe", "rights"});
    for (const char* set : {"bounding", "effective", "permitted", "inheritable"})
      control.config["process"]["capabilities"][set] = {"CAP_KILL"};
    control.save();
    CHECK(facts_of(control.run())["CapInh"] == "0000000000000020");
  }

  TEST_CASE("CVE-2026-30892: exec -u takes whole decimal numbers and nothing else") {
    SKIP_UNLESS(tests::is_root(), "root");
    Container container({"/bin/probe", "hold", "60000"});
    REQUIRE(container.start_detached().code == 0);
    for (auto [user, uid] :
         {std::pair{"0", "0"}, {"1000", "1000"}, {"1000:1000", "1000"}, {"4294967294", "4294967294"}}) {
      CAPTURE(user);
      CHECK(facts_of(container.exec({"-u", user}, {"/bin/probe", "rights"}))["euid"] == uid);
    }
    for (const char* user : {"0x0",        "0x3e8",
                             " 0",         "0 ",
                             "+0",         "-0",
                             "-1",         "1000 ",
                             "1000\n",     "1e3",
                             "1_000",      "4294967295",
                             "4294967296", "18446744073709551616",
                             "root",       "root:0",
                             "0:root",     "1000:",
                             ":1000",      ":",
                             "0:0:0",      "1000:0x0",
                             "1000: 0",    "1000:4294967295"}) {
      CAPTURE(user);
      Ran ran = container.exec({"--user=" + std::string(user)}, {"/bin/probe", "rights"});
      CHECK(ran.code != 0);
      CHECK(ran.out == "");
      CHECK(ran.err.find("is not a number below 4294967295") != std::string::npos);
    }
  }

  TEST_CASE("exec in a session grants nothing that its policy does not, whatever --process says") {
    SKIP_UNLESS(tests::is_root(), "root");
    std::string id = tests::fresh_id();
    Background there(concat({tests::runner_path(), "--root", tests::run_root()},
                            session({"--name", id, "--output", "raw"}, {"/attack", "hold", "60000"})));
    REQUIRE(there.await("ready="));
    Folder folder;
    nlohmann::json capabilities, process{{"args", {"/attack", "rights"}},
                                         {"cwd", "/"},
                                         {"user", {{"uid", 0}, {"gid", 0}}},
                                         {"noNewPrivileges", false}};
    for (const char* set : {"bounding", "effective", "permitted", "inheritable", "ambient"})
      capabilities[set] = {"CAP_SYS_ADMIN"};
    process["capabilities"] = capabilities;
    folder.write("process.json", process.dump());
    for (const Args& how :
         {Args{"exec", "--process", folder / "process.json", id}, Args{"exec", id, "/attack", "rights"}}) {
      Facts facts = facts_of(tests::runner(how));
      for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"})
        CHECK(facts[set] == "0000000000000000");
      CHECK(facts["NoNewPrivs"] == "1");
      CHECK(facts["Seccomp_filters"] == "2");
      CHECK(facts["capset"] == "EPERM");
    }
    Ran refused = tests::runner({"exec", "--cap", "CAP_SYS_ADMIN", id, "/attack", "rights"});
    CHECK(refused.code != 0);
    CHECK(refused.err.find("a session's processes have no capabilities") != std::string::npos);
  }
}
