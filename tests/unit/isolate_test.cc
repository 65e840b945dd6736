// What of the isolate layer can be tested without privilege.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "isolate/cgroup_backends.h"
#include "isolate/execute.h"
#include "isolate/init/protocol.h"
#include "isolate/link.h"
#include "isolate/seccomp.h"
#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"
#include "isolate/sys/socket.h"

using namespace isolate;
using namespace isolate::sys;

namespace {

struct Folder {
  std::string path = std::filesystem::temp_directory_path() / "runner-unit-XXXXXX";
  Folder() { REQUIRE(::mkdtemp(path.data())); }
  ~Folder() { std::filesystem::remove_all(path); }
};

}  // namespace

TEST_SUITE("isolate") {
  TEST_CASE("a failed call says what was attempted, on what, and why") {
    try {
      open_dir("/no/such/place");
      FAIL("it was opened");
    } catch (const SystemError& error) {
      CHECK(std::string(error.what()) == "open directory /no/such/place: No such file or directory");
      CHECK(error.code() == ENOENT);
      CHECK(error.path() == "/no/such/place");
    }
  }

  TEST_CASE("a path is cleaned, and one with '..' is refused") {
    CHECK(clean_path("/a//b/./c/") == "/a/b/c");
    CHECK(clean_path("") == "/");
    CHECK_THROWS(clean_path("/a/../b"));
  }

  TEST_CASE("links below a root lead nowhere else") {
    Folder folder;
    std::filesystem::create_symlink("/etc", folder.path + "/out");
    std::filesystem::create_symlink("../../../../../../etc/passwd", folder.path + "/up");
    Fd root = open_dir(folder.path);
    CHECK_FALSE(find_below(root.get(), "/out/passwd", Links::InRoot));
    CHECK_FALSE(find_below(root.get(), "/up", Links::InRoot));
    CHECK_THROWS(open_below(root.get(), "/out", Links::Refuse));
    // Where it leads to is made, and lies below the root too.
    make_below(root.get(), "/up", Make::File, Links::InRoot);
    CHECK(std::filesystem::is_symlink(folder.path + "/up"));
    CHECK(std::filesystem::is_regular_file(folder.path + "/etc/passwd"));
    std::filesystem::create_symlink("../run/./x//y", folder.path + "/etc/resolv.conf");
    make_below(root.get(), "/etc/resolv.conf", Make::File, Links::InRoot);
    CHECK(std::filesystem::is_regular_file(folder.path + "/run/x/y"));
    std::filesystem::create_symlink("/loop/a", folder.path + "/loop");
    CHECK_THROWS(make_below(root.get(), "/loop", Make::Directory, Links::InRoot));
    CHECK_THROWS(make_below(root.get(), "/etc/resolv.conf/x", Make::File, Links::Refuse));
  }

  TEST_CASE("what is missing on the way to a mount point is made") {
    Folder folder;
    Fd root = open_dir(folder.path);
    CHECK(make_below(root.get(), "/a/b/c", Make::File, Links::InRoot));
    CHECK(std::filesystem::is_regular_file(folder.path + "/a/b/c"));
    CHECK(make_below(root.get(), "/a/d", Make::Directory, Links::InRoot));
    CHECK(std::filesystem::is_directory(folder.path + "/a/d"));
  }

  TEST_CASE("a removed tree takes its links with it, not what they name") {
    Folder folder, other;
    std::filesystem::create_directories(folder.path + "/x/y");
    std::filesystem::create_directory_symlink(other.path, folder.path + "/x/link");
    write_all(open_file(other.path + "/kept", O_CREAT | O_WRONLY, 0644).get(), "kept");
    remove_tree(folder.path + "/x");
    CHECK_FALSE(std::filesystem::exists(folder.path + "/x"));
    CHECK(read_file(other.path + "/kept") == "kept");
  }

  TEST_CASE("a spawn request comes back as it was sent") {
    init::SpawnRequest request;
    request.process.argv = {"sh", "-c", std::string("a\0b", 3)};
    request.process.env = {"A=1"};
    request.process.cwd = "/w";
    request.process.uid = 1000;
    request.process.groups = {5, 7};
    request.process.umask = 027;
    request.process.rlimits = {{7, 1024, 4096}};
    request.process.capabilities.bounding = 1u << 10;
    request.process.no_new_privileges = false;
    request.process.terminal = Terminal{24, 80};
    request.process.scheduler = Scheduler{1, 3, 0, 4, 5, 6, 7};
    request.process.io_priority = IoPriority{2, 3};
    request.process.personality = 8;
    request.process.exec_cpus = "0-1";
    request.process.apparmor = "docker-default";
    request.process.keep_groups = true;
    request.filters = {{{{1, 2, 3, 4}, {6, 0, 0, 0x7fff0000}}, 2, "/agent.sock", "told"}};
    init::SpawnRequest back = init::decode_spawn(init::encode(request));
    CHECK(back.process == request.process);
    CHECK(back.filters.size() == 1);
    CHECK(back.filters[0].program.size() == 2);
    CHECK(back.filters[0].flags == 2);
    CHECK(back.filters[0].listener == "/agent.sock");
    CHECK(back.filters[0].listener_metadata == "told");
  }

  TEST_CASE("a spawn request that is cut short is refused at every length") {
    init::SpawnRequest request;
    request.process.argv = {"true"};
    std::string bytes = init::encode(request);
    // What older versions did not write: a number, before that an empty text, and before that three numbers and two empty texts.
    const std::vector<std::size_t> older{8, 8 + 8, 8 + 8 + 5 * 8};
    for (std::size_t size = 0; size < bytes.size(); ++size)
      if (std::find(older.begin(), older.end(), bytes.size() - size) == older.end()) CHECK_THROWS(init::decode_spawn(bytes.substr(0, size)));
    for (std::size_t missing : older) CHECK(init::decode_spawn(bytes.substr(0, bytes.size() - missing)).process.argv == request.process.argv);
  }

  TEST_CASE("a failure crosses the link with all its parts") {
    auto [ours, theirs] = Link::make();
    theirs.report(Stage::Root, SystemError(EPERM, "mount proc", "/proc"));
    try {
      ours.expect(Signal::Ready);
      FAIL("nothing was reported");
    } catch (const SetupError& error) {
      CHECK(error.failure().stage == Stage::Root);
      CHECK(error.failure().code == EPERM);
      CHECK(error.failure().path == "/proc");
      CHECK(error.failure().cause == "mount proc: Operation not permitted");
    }
  }

  TEST_CASE("a peer that dies without a word is a failure, and at the end it is none") {
    auto [ours, theirs] = Link::make();
    theirs.close();
    CHECK_THROWS_AS(ours.expect(Signal::Ready), SetupError);
    CHECK_NOTHROW(ours.expect_end());
  }

  TEST_CASE("close_from closes what is not named, and nothing below") {
    Child child = clone_process(0);
    if (child.pid() == 0) {
      int low = ::open("/dev/null", O_RDONLY), kept = ::dup2(low, 40), gone = ::dup2(low, 41);
      close_from(20, {kept, -1});
      ::_exit(::fcntl(low, F_GETFD) >= 0 && ::fcntl(kept, F_GETFD) >= 0 && ::fcntl(gone, F_GETFD) == -1 ? 0 : 1);
    }
    CHECK(child.wait() == Exit{});
  }

  TEST_CASE("a program is looked up in the PATH of its own environment") {
    CHECK(find_program({"sh"}, {"PATH=/nowhere:/bin"}) == "/bin/sh");
    CHECK_THROWS_WITH_AS(find_program({"no-such"}, {"PATH=/bin"}),
                         "exec: \"no-such\": executable file not found in $PATH: No such file or directory", SystemError);
    CHECK_THROWS(find_program({"sh"}, {}));
    CHECK_THROWS(find_program({""}, {"PATH=/bin"}));
  }

  TEST_CASE("a compiled filter is found again by its rules, and a file of others is not believed") {
    Folder folder;
    SeccompRules rules;
    rules.default_action = SeccompAction::Allow;
    rules.rules = {{{"ptrace"}, SeccompAction::Errno, EPERM, {}}};
    Filter first = make_filter(rules, folder.path + "/cache");
    auto names = list_dir(folder.path + "/cache");
    REQUIRE(names.size() == 1);
    CHECK(make_filter(rules, folder.path + "/cache").program.size() == first.program.size());
    // Writable by others: it is made again.
    ::chmod((folder.path + "/cache/" + names[0]).c_str(), 0666);
    write_file(folder.path + "/cache/" + names[0], "12345678");
    CHECK(make_filter(rules, folder.path + "/cache").program.size() == first.program.size());
  }

  TEST_CASE("shares become a weight by the formula of the field") {
    CHECK(cgroups::weight_of_shares(2) == 1);
    CHECK(cgroups::weight_of_shares(1024) == 100);
    CHECK(cgroups::weight_of_shares(100) == 17);
    CHECK(cgroups::weight_of_shares(262144) == 10000);
  }

  TEST_CASE("threads that receive at once each get their own messages") {
    auto exchange = [](char letter, bool& good) {
      auto [here, there] = socket_pair();
      for (int i = 0; i < 5000; ++i) {
        std::string sent(10'000, letter);
        send_message(here.get(), sent);
        good = good && receive_message(there.get())->bytes == sent;
      }
    };
    bool first = true, second = true;
    std::thread beside(exchange, 'a', std::ref(first));
    exchange('b', second);
    beside.join();
    CHECK(first);
    CHECK(second);
  }
}
