// runner cp: docker's rules, and what a hostile session or stream may try.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "tests/kernel/live.h"

using namespace tests;
namespace fs = std::filesystem;

namespace {

// A session that runs `script` and then waits; its workspace is a folder of the host that it can write to.
struct Running {
  Box box;
  Folder work;
  explicit Running(const std::string& script = "true", const Args& flags = {}) {
    Args all{"-d", "-v", work.path() + ":/workspace"};
    all.insert(all.end(), flags.begin(), flags.end());
    Ran ran =
        runner(session_arguments(box.id, all, {"sh", "-c", script + "; touch /tmp/started; exec /probe sleep 120"}),
               {.timeout_ms = 20'000});
    if (ran.code != 0) throw std::runtime_error("the session did not start: " + ran.err);
    eventually([&] { return sh("test -e /tmp/started").code == 0; });
  }
  Ran sh(const std::string& script) const { return runner({"exec", box.id, "sh", "-c", script}); }
  std::string at(const std::string& path) const { return box.id + ":" + path; }
};

Ran cp(const std::string& from, const std::string& to, const Args& flags = {}, const How& how = {}) {
  Args words{"cp"};
  words.insert(words.end(), flags.begin(), flags.end());
  words.insert(words.end(), {from, to});
  return runner(words, how);
}

std::string tar_of(const Args& words) {
  Args argv{"tar", "-c"};
  argv.insert(argv.end(), words.begin(), words.end());
  Ran ran = run(argv);
  REQUIRE(ran.code == 0);
  return ran.out;
}

}  // namespace

TEST_SUITE("cp") {
  TEST_CASE("a tree goes in and comes out again the same: modes, times, links, empty directories, odd names") {
    SKIP_UNLESS(is_root(), "root");
    Running s;
    Folder host;
    std::string deep = "tree";
    for (int i = 0; i < 200; ++i) deep += "/d" + std::to_string(i);
    host.write(deep + "/end", "bottom");
    host.write("tree/two\nlines", "newline");
    host.write("tree/ space \xff*", "odd");
    host.write("tree/script", "#!/bin/sh\n", 0751);
    host.write("tree/" + std::string(255, 'n'), "long");
    fs::create_directory(host / "tree/empty");
    fs::create_directory(host / "tree/closed");
    host.write("tree/closed/file", "in");
    ::chmod((host / "tree/closed").c_str(), 0500);
    fs::create_symlink("/etc/passwd", host / "tree/link");
    fs::create_symlink("nowhere", host / "tree/dangling");
    fs::resize_file((host.write("tree/sparse", "x"), host / "tree/sparse"), 50 << 20);
    timespec times[2] = {{1, 0}, {1234567890, 987654321}};
    ::utimensat(AT_FDCWD, (host / "tree/script").c_str(), times, 0);
    ::utimensat(AT_FDCWD, (host / "tree/empty").c_str(), times, 0);

    Ran in = cp(host / "tree", s.at("/workspace/copy"));
    CHECK(in.err == "");
    REQUIRE(in.code == 0);
    CHECK(s.sh("stat -c %u:%g:%a /workspace/copy/script").out == s.sh("echo $(id -u):$(id -g):751").out);
    CHECK(s.sh("readlink /workspace/copy/link").out == "/etc/passwd\n");
    CHECK(s.sh("stat -c %y /workspace/copy/empty").out.find("987654321") != std::string::npos);
    Ran out = cp(s.at("/workspace/copy"), host / "back");
    CHECK(out.err == "");
    REQUIRE(out.code == 0);
    Ran same = run({"sh", "-c",
                    "cd '" + host.path() +
                        "'; diff -r --no-dereference tree back && cd tree && find . -printf '%p %m %T@ %l\\n' | sort "
                        ">../1; cd ../back && "
                        "find . -printf '%p %m %T@ %l\\n' | sort >../2; cmp ../1 ../2; stat -c %b sparse"});
    CHECK(same.err == "");
    CHECK(std::stol(same.out) < 1000);  // blocks: holes stay holes
    ::chmod((host / "tree/closed").c_str(), 0700);
  }

  TEST_CASE("docker's rules for what goes where") {
    SKIP_UNLESS(is_root(), "root");
    Running s("mkdir /workspace/d /workspace/d2; echo inside >/workspace/f; chmod 777 /workspace");
    Folder host;
    host.write("f", "new");
    host.write("dir/x", "x");
    auto shows = [&](const std::string& path) { return s.sh("cat " + path).out; };
    CHECK(cp(host / "f", s.at("/workspace/made")).code == 0);
    CHECK(shows("/workspace/made") == "new");
    CHECK(cp(host / "f", s.at("/workspace/f")).code == 0);
    CHECK(shows("/workspace/f") == "new");
    CHECK(cp(host / "f", s.at("/workspace/d")).code == 0);
    CHECK(cp(host / "f", s.at("workspace/d2/")).code == 0);  // a relative path begins at the root
    CHECK(shows("/workspace/d/f /workspace/d2/f") == "newnew");
    CHECK(cp(host / "f", s.at("/workspace/no/")).code == 1);
    CHECK(cp(host / "f", s.at("/workspace/no/such")).code == 1);
    CHECK(cp(host / "dir", s.at("/workspace/no/such")).code == 1);
    CHECK(s.sh("ls /workspace").out.find("no") == std::string::npos);
    CHECK(cp(host / "dir", s.at("/workspace/new")).code == 0);
    CHECK(shows("/workspace/new/x") == "x");
    CHECK(cp(host / "dir", s.at("/workspace/d")).code == 0);
    CHECK(shows("/workspace/d/dir/x") == "x");
    CHECK(cp(host / "dir/.", s.at("/workspace/d")).code == 0);
    CHECK(shows("/workspace/d/x") == "x");
    CHECK(cp(host / "dir", s.at("/workspace/f")).err.find("onto the file") != std::string::npos);
    CHECK(cp(host / "f/", s.at("/workspace/q")).code == 1);
    CHECK(cp(host / "none", s.at("/workspace/q")).code == 1);
    CHECK(s.sh("test -e /workspace/q").code == 1);
    s.sh("mkdir -p /workspace/t/x; ln -s /workspace/d /workspace/to-d; ln -s f /workspace/to-f");
    CHECK(cp(host / "dir/.", s.at("/workspace/t")).err.find("a directory stands in its place") != std::string::npos);
    CHECK(cp(host / "f", s.at("/workspace/to-d/by-link")).code == 0);
    CHECK(shows("/workspace/d/by-link") == "new");
    // outwards
    CHECK(cp(s.at("/workspace/to-f"), host / "link").code == 0);
    CHECK(fs::read_symlink(host / "link") == "f");
    CHECK(cp(s.at("/workspace/d/x"), host / "dir").code == 0);
    CHECK(cp(s.at("/workspace/d/."), host / "all").code == 0);
    CHECK(read(host / "all/dir/x") == "x");
    CHECK(cp(s.at("/workspace/d"), host / "f").code == 1);
    CHECK(cp(s.at("/workspace/nothing"), host / "nothing").code == 1);
    CHECK(!exists(host / "nothing"));
    CHECK(cp(s.at("/workspace/f"), host / "no/such/place").code == 1);
    // relative to where the caller is
    CHECK(cp(s.at("/workspace/f"), ".", {}, {.cwd = host / "all"}).code == 0);
    CHECK(read(host / "all/f") == "new");
  }

  TEST_CASE("- is a tar stream, in and out") {
    SKIP_UNLESS(is_root(), "root");
    Running s("mkdir -p /workspace/d/e; echo one >/workspace/d/e/f");
    Folder host;
    Ran out = cp(s.at("/workspace/d"), "-");
    REQUIRE(out.code == 0);
    CHECK(run({"tar", "-t"}, {.input = out.out}).out == "d/\nd/e/\nd/e/f\n");
    CHECK(run({"tar", "-t"}, {.input = cp(s.at("/workspace/d/."), "-").out}).out == "./\n./e/\n./e/f\n");
    host.write("a", "A");
    fs::create_hard_link(host / "a", host / "b");
    std::string long_name(180, 'l');
    host.write(long_name + "/" + long_name, "L");
    for (const char* format : {"--format=gnu", "--format=ustar", "--format=pax"}) {
      if (format == std::string("--format=ustar")) fs::remove_all(host / long_name);
      CHECK(cp("-", s.at("/workspace/d"), {}, {.input = tar_of({format, "-C", host.path(), "."})}).code == 0);
      CHECK(s.sh("cat /workspace/d/a /workspace/d/b").out == "AA");
    }
    CHECK(s.sh("cat /workspace/d/" + long_name + "/" + long_name).out == "L");
    CHECK(cp("-", s.at("/workspace/missing"), {}, {.input = tar_of({"-C", host.path(), "a"})}).code == 1);
    CHECK(cp("-", s.at("/workspace/d/a"), {}, {.input = tar_of({"-C", host.path(), "a"})}).code == 1);
    CHECK(cp("-", s.at("/workspace/d"), {}, {.input = "this is no tar"}).code == 1);
    CHECK(cp("-", s.at("/workspace/d"), {}, {.input = ""}).code == 1);
  }

  TEST_CASE("files belong to the session's user; with -a ids stay as they are, inside and outside") {
    SKIP_UNLESS(is_root(), "root");
    Running s;
    Folder host;
    host.write("t/f", "x", 04755);
    REQUIRE(::chown((host / "t/f").c_str(), 7, 8) == 0);
    ::chmod((host / "t/f").c_str(), 04755);
    std::string user = s.sh("echo $(id -u):$(id -g)").out;
    CHECK(cp(host / "t", s.at("/tmp/t")).code == 0);
    CHECK(s.sh("stat -c %u:%g /tmp/t/f").out == user);
    CHECK(s.sh("stat -c %u:%g /tmp/t").out == user);
    CHECK(cp(host / "t", s.at("/tmp/a"), {"-a"}).code == 0);
    CHECK(s.sh("stat -c %u:%g:%a /tmp/a/f").out == "7:8:755\n");
    CHECK(cp(s.at("/tmp/a/f"), host / "default").code == 0);
    CHECK(cp(s.at("/tmp/a/f"), host / "archive", {"-a"}).code == 0);
    struct stat info;
    REQUIRE(::stat((host / "default").c_str(), &info) == 0);
    CHECK(info.st_uid == ::geteuid());
    REQUIRE(::stat((host / "archive").c_str(), &info) == 0);
    CHECK(info.st_uid == 7);
    CHECK(info.st_gid == 8);
  }

  TEST_CASE("also a container, created, running or paused") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"/bin/busybox", "sleep", "60"});
    bundle.config["root"]["readonly"] = false;
    bundle.save();
    Box box;
    REQUIRE(create(bundle, box).code == 0);
    Folder host;
    host.write("f", "content");
    CHECK(cp(host / "f", box.id + ":/tmp/f").code == 0);
    REQUIRE(start(box).code == 0);
    CHECK(cp(host / "f", box.id + ":/tmp/f").err == "");
    CHECK(cp(box.id + ":/tmp/f", host / "g").code == 0);
    CHECK(read(host / "g") == "content");
    REQUIRE(runner({"pause", box.id}).code == 0);
    CHECK(cp(box.id + ":/tmp/f", host / "h", {}, {.timeout_ms = 10'000}).code == 0);
    CHECK(read(host / "h") == "content");
  }

  TEST_CASE("bad input is said, and nothing is done") {
    SKIP_UNLESS(is_root(), "root");
    Running s;
    Folder host;
    host.write("f", "x");
    auto says = [&](const std::string& from, const std::string& to, const std::string& text) {
      Ran ran = cp(from, to);
      CAPTURE(from);
      CAPTURE(ran.err);
      CHECK(ran.code == 1);
      CHECK(ran.err.find(text) != std::string::npos);
    };
    says(s.at("/tmp"), s.at("/var"), "both sides");
    says(host / "f", host / "g", "neither side");
    says("-", "-", "neither side");
    says(host / "f", "no-such:/tmp", "does not exist");
    says(host / "f", "../x:/tmp", "neither side");
    says(host / "f", s.at(""), "names no path");
    says(host / "f", s.at("/tmp/../etc"), "may not contain '..'");
    says(s.at("/dev/null"), host / "null", "cannot be copied");
    CHECK(!exists(host / "g"));
    CHECK(!exists(host / "null"));
    CHECK(runner({"cp", host / "f"}).code == 1);
    REQUIRE(runner({"kill", s.box.id, "KILL"}).code == 0);
    REQUIRE(eventually([&] { return s.box.status() == "stopped"; }));
    says(host / "f", s.at("/tmp"), "not running");
    says(s.at("/tmp"), host / "g", "not running");
  }

  TEST_CASE("links of the session lead nowhere on the host (CVE-2018-15664)") {
    SKIP_UNLESS(is_root(), "root");
    Folder host;
    host.write("secret", "secret of the host");
    host.write("f", "from the host");
    Running s("ln -s " + (host / "secret") + " /workspace/file; ln -s " + host.path() +
              " /workspace/dir; ln -s / /workspace/root");
    std::string before = read("/etc/passwd");
    CHECK(cp(s.at("/workspace/dir/secret"), host / "out").code == 1);
    CHECK(cp(s.at("/workspace/file"), host / "as-link").code == 0);
    CHECK(fs::is_symlink(host / "as-link"));
    CHECK(cp(host / "f", s.at("/workspace/dir/new")).code == 1);
    CHECK(!exists(host / "new"));
    CHECK(cp(host / "f", s.at("/workspace/root/tmp/cp-test-new")).code == 0);  // its own root
    CHECK(!exists("/tmp/cp-test-new"));
    CHECK(s.sh("cat /tmp/cp-test-new").out == "from the host");
    // A host path through the session's own directory: the session chose where its links lead.
    CHECK(cp(s.work / "file", s.at("/tmp/x")).code == 0);
    CHECK(s.sh("readlink /tmp/x").code == 0);
    Ran through = cp(s.work / "dir/secret", s.at("/tmp/y"));
    CHECK(through.code == 1);
    CHECK(through.err.find("symbolic link") != std::string::npos);
    CHECK(cp(s.at("/tmp/cp-test-new"), s.work / "dir/planted").code == 1);
    CHECK(cp(s.at("/tmp/cp-test-new"), s.work / "dir").code == 1);
    CHECK(cp(s.at("/tmp/cp-test-new"), s.work / "file").code == 1);
    CHECK(read(host / "secret") == "secret of the host");
    CHECK(!exists(host / "planted"));
    CHECK(read("/etc/passwd") == before);
  }

  TEST_CASE("directories that are exchanged for links all the while lead nobody out, in either direction") {
    SKIP_UNLESS(is_root(), "root");
    Folder canary;
    canary.write("victim/f", "untouched");
    // The session's program swaps a directory of the workspace and a link to the canary on the host as fast as it can.
    Running s("mkdir -p /workspace/a/sub; echo mine >/workspace/a/sub/f; ln -s " + canary.path() +
              "/victim /workspace/link; cd /workspace/a; "
              "(while :; do mv sub real; ln -s ../link sub; rm sub; mv real sub; done) 2>/dev/null &");
    Folder host;
    for (int i = 0; i < 40; ++i) host.write("in/sub/f" + std::to_string(i), "written");
    int through = 0;
    for (int i = 0; i < 40; ++i) {
      cp(s.at("/workspace/a"), host / ("out" + std::to_string(i)));
      std::string got =
          read(host / ("out" + std::to_string(i) + "/a/sub/f")) + read(host / ("out" + std::to_string(i) + "/sub/f"));
      CHECK(got.find("untouched") == std::string::npos);
      through += cp(host / "in/.", s.at("/workspace/a")).code == 0;
      cp(host / "in/.", s.work / "a");                 // wrong: no sandbox
      cp(s.at("/workspace/a/sub"), s.work / "a/sub");  // a host directory that the session exchanges
    }
    CAPTURE(through);
    CHECK(read(canary / "victim/f") == "untouched");
    CHECK(std::distance(fs::directory_iterator(canary / "victim"), fs::directory_iterator()) == 1);
  }

  TEST_CASE("a stream with a name or link that leads out is refused, and says which") {
    SKIP_UNLESS(is_root(), "root");
    Running s("mkdir /workspace/d");
    Folder host;
    host.write("x", "evil");
    auto refused = [&](const std::string& tar, const std::string& text) {
      Ran ran = cp("-", s.at("/workspace/d"), {}, {.input = tar});
      CAPTURE(ran.err);
      CHECK(ran.code == 1);
      CHECK(ran.err.find(text) != std::string::npos);
    };
    refused(tar_of({"-P", "-C", host.path(), "--transform=s,^x,../x,", "x"}), "'..' in it");
    refused(tar_of({"-P", "-C", host.path(), "--transform=s,^x,/tmp/x,", "x"}), "absolute name");
    fs::create_symlink("/tmp", host / "l");
    fs::create_directories(host / "second/l");
    host.write("second/l/x", "evil");
    std::string first = tar_of({"-C", host.path(), "l"}), second = tar_of({"-C", host / "second", "l/x"});
    refused(first.substr(0, 512) + second, "leads through a symbolic link");
    refused(first.substr(0, 512) + tar_of({"-C", host / "second", "l"}),
            "a symbolic link stands where a directory goes");
    CHECK(s.sh("ls /tmp/x /workspace/x").code != 0);
    // A hard link that leads out, by name and through a link.
    host.write("h/1", "one");
    fs::create_hard_link(host / "h/1", host / "h/2");
    std::string tar = tar_of({"-P", "-C", host / "h", "--transform=s,^1,../../etc/passwd,RSh", "1", "2"});
    refused(tar.substr(0, 512).find("etc") == std::string::npos ? tar.substr(1024) : tar, "refused");
    // Devices and pipes are left out, and the rest is there.
    REQUIRE(::mknod((host / "null").c_str(), S_IFCHR | 0666, 0x103) == 0);
    REQUIRE(::mkfifo((host / "pipe").c_str(), 0666) == 0);
    Ran ran = cp("-", s.at("/workspace/d"), {}, {.input = tar_of({"-C", host.path(), "null", "pipe", "x"})});
    CHECK(ran.code == 1);
    CHECK(ran.err.find("null: a device") != std::string::npos);
    CHECK(ran.err.find("pipe: a device or named pipe") != std::string::npos);
    CHECK(s.sh("cd /workspace/d; ls null pipe 2>&1 | grep -c 'No such'; cat x").out == "2\nevil");
  }

  TEST_CASE("pipes, sockets and devices in a session do not hold up a copy, and are named") {
    SKIP_UNLESS(is_root(), "root");
    Running s(
        "mkdir /workspace/d; mkfifo /workspace/d/pipe; echo x >/workspace/d/file; printf 'e' >\"/workspace/d/$(printf "
        "'\\033[31mred')\"; "
        "mkfifo \"/workspace/d/$(printf 'bad\\033[2J')\"");
    Folder host;
    Ran ran = cp(s.at("/workspace/d"), host / "d", {}, {.timeout_ms = 10'000});
    CHECK(ran.code == 1);
    CHECK(ran.err.find("pipe: a named pipe") != std::string::npos);
    CHECK(ran.err.find('\033') == std::string::npos);
    CHECK(read(host / "d/file") == "x\n");
  }

  TEST_CASE("a session that ends during a copy is not held up by it") {
    SKIP_UNLESS(is_root(), "root");
    Running s("truncate -s 8G /tmp/large");
    pid_t init = s.box.state()["pid"];
    Live copy(runner_argv({"cp", s.at("/tmp/large"), "-"}));  // nobody reads its stdout
    CHECK(eventually([&] { return processes_with(s.at("/tmp/large")).size() == 2; }));
    ::usleep(200'000);
    REQUIRE(runner({"kill", s.box.id, "KILL"}).code == 0);
    CHECK(eventually([&] { return !alive(init); }, 3000));
    CHECK(eventually([&] { return processes_with(s.at("/tmp/large")).size() <= 1; },
                     3000));  // the helper, with its hold on the mounts
    copy.signal(SIGTERM);
    CHECK(copy.wait() == 143);
    CHECK(eventually([&] { return processes_with(s.at("/tmp/large")).empty(); }, 3000));
  }
}
