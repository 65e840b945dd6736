// What of the host a session could see, hold or speak to: files, environment, descriptors, names, cgroups.
#include <doctest/doctest.h>
#include <mqueue.h>
#include <stddef.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "tests/security/support.h"

using namespace security;

TEST_SUITE("host view") {
  TEST_CASE(
      "files of the host: secrets, homes, sockets and the tools that were lent are out of reach of eyes or of hands") {
    Canary canary;
    ::chmod(canary.file().c_str(), 0644);
    Args paths{"/etc/shadow",
               "/etc/gshadow",
               "/etc/ssh",
               "/etc/sudoers",
               canary.file(),
               "/var/run/docker.sock",
               "/run/docker.sock",
               "/var/log",
               "/var/lib",
               "/boot",
               "/srv",
               "/mnt",
               "/proc/1/root",
               "/proc/self/root/etc/shadow",
               "/proc/self/cwd/../etc/shadow",
               "/dev/vda",
               "/dev/sda"};
    for (const char* user : {"agent", "root"}) {
      Facts facts = inside({"-u", user}, concat({"read"}, paths));
      for (const std::string& path : paths) {
        CAPTURE(path);
        CHECK(facts[path] == "ENOENT");
      }
      const Args tools{"/attack", "/proc/self/exe", "/usr/bin/env", "/bin/sh", "/etc/ld.so.cache", "/etc/alternatives"};
      expect_shut(inside({"-u", user}, concat({"write"}, tools)),
                  {"/attack", "/proc/self/exe", "/usr/bin/env", "/bin/sh", "/etc/ld.so.cache"});
      // The mount and not the mode is what refuses.
      Folder folder;
      folder.write("open-to-all", "as it was", 0666);
      CHECK(inside({"-u", user, "-v", folder.path() + ":/lent:ro"},
                   {"write", "/lent/open-to-all"})["/lent/open-to-all"] == "EROFS");
    }
    CHECK(outside({"read", canary.file()})[canary.file()] == "0");
    SKIP_UNLESS(tests::is_root(), "root for the control");
    CHECK(outside({"read", "/etc/shadow"})["/etc/shadow"] == "0");
    CHECK(outside({"write", "/bin/true"})["/bin/true"] == "0");
  }

  TEST_CASE("the environment holds nothing of the host's") {
    tests::How how;
    how.env = {{"AWS_SECRET_ACCESS_KEY", Canary::kSecret},
               {"LD_PRELOAD_CANARY", Canary::kSecret},
               {"_RUNNER_CANARY", Canary::kSecret}};
    std::vector<std::string> names;
    for (const std::string& line : lines_with(inside({}, {"env"}, how).ran.out, "env="))
      names.push_back(line.substr(4, line.find('=', 4) - 4));
    CHECK(names == Args{"PATH", "HOME", "HOSTNAME", "LANG", "RUNNER_EPOCH_FILE", "TRACEPARENT"});
    CHECK(outside({"env"}, how).ran.out.find(Canary::kSecret) != std::string::npos);
  }

  TEST_CASE("no descriptor of the caller arrives") {
    Canary canary;
    std::string open_and = "exec 5<" + canary.file() + " 7<" + canary.dir() + " 9<>/dev/null 63</; exec \"$@\"";
    auto behind = [&](const Args& command) {
      return facts_of(tests::run(concat({"bash", "-c", open_and, "bash"}, command)));
    };
    Args runner{tests::runner_path(), "--root", tests::run_root()};
    CHECK(behind(concat(runner, session({"--output", "raw"}, {"/attack", "fds"})))["fds"] == "0 1 2");
    CHECK(behind(concat(runner, session({"--output", "raw", "-u", "root"}, {"/attack", "fds"})))["fds"] == "0 1 2");
    CHECK(behind({attack_path(), "fds"})["fds"].rfind("0 1 2 5 7 9 ", 0) == 0);

    std::string id = tests::fresh_id();
    data_dir();
    tests::How soon;
    soon.timeout_ms = 5000;  // what goes on in the background keeps none of the caller's pipes open
    REQUIRE(
        tests::runner(concat({"run", "-d", "--name", id, "--output", "raw", "-v", attack_path() + ":/attack:ro", "--"},
                             {"/attack", "hold", "30000"}),
                      soon)
            .code == 0);
    CHECK(behind(concat(runner, {"exec", id, "/attack", "fds"}))["fds"] == "0 1 2");
    // A detached one gets not even the caller's three: what it writes must not land in the caller's file.
    Folder out;
    tests::run({"bash", "-c", "exec \"$@\" <>'" + canary.file() + "' >'" + (out / "o") + "' 2>&1", "bash",
                tests::runner_path(), "--root", tests::run_root(), "exec", "-d", id, "/attack", "fds"});
    wait_ms(150);
    CHECK(tests::read(out / "o") == "");
    CHECK(canary.changed() == "");
    tests::runner({"delete", "-f", id});
  }

  TEST_CASE("names of the host's ipc are unknown: abstract sockets, shared memory, message queues") {
    std::string name = "attack-" + std::to_string(::getpid());
    int server = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    REQUIRE(::bind(server, reinterpret_cast<sockaddr*>(&address),
                   static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())) == 0);
    ::listen(server, 4);
    int key = 0x5ec0000 + ::getpid(), memory = ::shmget(key, 4096, IPC_CREAT | 0666);
    mqd_t queue = ::mq_open(("/" + name).c_str(), O_CREAT | O_RDWR, 0666, nullptr);
    Args words{"names", name, std::to_string(key), "/" + name};
    for (const char* user : {"agent", "root"})
      expect(inside({"-u", user}, words), {{"abstract", "ECONNREFUSED"}, {"shm", "ENOENT"}, {"queue", "ENOENT"}});
    Facts control = outside(words);
    CHECK(control["abstract"] == "0");
    CHECK(control["shm"] == "0");
    if (queue >= 0) CHECK(control["queue"] == "0");
    ::shmctl(memory, IPC_RMID, nullptr);
    ::mq_unlink(("/" + name).c_str());
    ::close(server);
  }

  TEST_CASE("the cgroup of the session tells nothing of the host's, and its files are not there") {
    Ran ran = tests::runner(session({"--output", "raw", "-u", "root"}, {"cat", "/proc/self/cgroup"}));
    for (const std::string& line : lines_with(ran.out, "")) CHECK(line.substr(line.rfind(':')) == ":/");
    CHECK(ran.out.find("runner/") == std::string::npos);
    Ran mounts = tests::runner(session({"--output", "raw"}, {"cat", "/proc/self/mountinfo"}));
    CHECK(mounts.out.find("cgroup") == std::string::npos);
    for (const std::string& line : lines_with(mounts.out, "")) CHECK(line.find("nosuid") != std::string::npos);
  }
}
