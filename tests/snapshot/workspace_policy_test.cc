// The workspace in a snapshot, as the policy says: shared, copied or left out.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/sys/file.h"
#include "tests/snapshot/support.h"

using namespace tests;

namespace {

// A shell that stands in the workspace and has a file there open to write at its end.
constexpr const char* kAppends = "exec 3>>log; mkdir -p sub; echo begun >&3; n=0; while :; do n=$((n+1)); [ -e /tmp/go ] && echo $n >&3; sleep 0.05; done";

// A policy that says so, and a folder of the host that the session's user owns.
struct Set {
  Folder folder;
  std::string policy, host;
  explicit Set(const std::string& kept, const std::string& more = "") : policy(folder / "p.yaml"), host(folder / "work") {
    folder.write("p.yaml", "version: 1\nextends: default\nworkspace: {snapshot: " + kept + more + "}\n");
    folder.write("work/given", "as it was\n");
    run({"chown", "-R", "4242:4343", host});
  }
  Args flags(const Args& more = {}) const { return Args{"--policy", policy} + more; }
  Args bound() const { return flags({"-v", host + ":/workspace"}); }
};

void begin(const Twins& twins) {
  CHECK(eventually([&] { return sh(twins.one, "cat /workspace/log") == "begun"; }));
}

std::string host_of(const Box& box) { return data_dir() + "/sessions/" + box.id + "/workspace/files"; }

bool goes_on(const Box& box) {
  CHECK(sh(box, "touch /tmp/go") == "");
  return eventually([&] { return sh(box, "sed -n 3p /workspace/log") != ""; });
}

}  // namespace

TEST_SUITE("snapshot workspace") {
  TEST_CASE("share: all see one folder, which is the rule") {
    SKIP_UNLESS(is_root(), "root");
    Set set("share");
    Twins twins({"sleep", "300"}, set.bound());
    twins.part();
    CHECK(sh(twins.other, "echo new >/workspace/made; cat /workspace/given") == "as it was");
    CHECK(sh(twins.one, "cat /workspace/made") == "new");
    CHECK(read(set.host + "/made") == "new\n");
    CHECK(!exists(host_of(twins.other)));
    CHECK(!exists(data_dir() + "/snapshots/" + twins.shot.name + "/layers/workspace"));
  }

  TEST_CASE("copy: so has a command that is begun anew on the files") {
    SKIP_UNLESS(is_root(), "root");
    Set set("copy");
    Twins twins({"sh", "-c", kAppends}, set.bound());
    begin(twins);
    REQUIRE(twins.snapshot().code == 0);
    REQUIRE(twins.restore({"--cold"}).code == 0);
    CHECK(eventually([&] { return sh(twins.other, "cat /workspace/log") == "begun\nbegun"; }));
    CHECK(sh(twins.other, "cat /workspace/given") == "as it was");
    CHECK(sh(twins.one, "cat /workspace/log") == "begun");
    CHECK(exists(host_of(twins.other) + "/log"));
  }

  TEST_CASE("copy: a fork has its own folder as it was then, and goes on appending in it") {
    SKIP_UNLESS(is_root(), "root");
    Set set("copy");
    Twins twins({"sh", "-c", kAppends}, set.bound());
    begin(twins);
    CHECK(sh(twins.one, "echo a >/workspace/sub/a; ln /workspace/sub/a /workspace/b; ln -s b /workspace/link; chmod 640 /workspace/b") == "");
    set.folder.write("work/roots", "of root\n");
    REQUIRE(twins.snapshot().code == 0);
    Ran scanned = runner({"snapshot", "scan", "--secret-env", "WORD", twins.shot.name}, {.env = {{"WORD", "as it was"}}});
    CHECK(scanned.code == 1);
    CHECK(scanned.out.find("layers/workspace/given") != std::string::npos);
    CHECK(runner({"snapshot", "verify", "--full", twins.shot.name}).code == 0);
    CHECK(sh(twins.one, "echo later >/workspace/given; rm /workspace/b") == "");
    Ran restored = twins.restore();
    REQUIRE_MESSAGE(restored.code == 0, restored.err);

    CHECK(sh(twins.other, "cat given link; stat -c '%u:%g %a %h' b . given roots") == "as it was\na\n1000:1000 640 2\n1000:1000 755 3\n1000:1000 644 1\n65534:65534 644 1");
    CHECK(sh(twins.other, "echo x >roots") != "");
    CHECK(goes_on(twins.other));
    CHECK(sh(twins.one, "cat log") == "begun");
    CHECK(read(set.host + "/log") == "begun\n");
    CHECK(sh(twins.other, "echo mine >given; echo mine >only") == "");
    CHECK(read(set.host + "/given") == "later\n");
    CHECK(!exists(set.host + "/only"));

    // A second one does not see the first one's, and a fork of the fork has what that one had.
    Box third, fourth;
    REQUIRE(runner_apart({"restore", "-d", "--from", twins.shot.name, third.id}, Folder()).code == 0);
    CHECK(sh(third, "cat given; ls only 2>&1") == "as it was\nls: cannot access 'only': No such file or directory");
    Shot again;
    REQUIRE(runner({"snapshot", "create", "--leave-running", "--name", again.name, twins.other.id}).code == 0);
    REQUIRE(runner_apart({"restore", "-d", "--from", again.name, fourth.id}, Folder()).code == 0);
    CHECK(sh(fourth, "cat given only") == "mine\nmine");
    CHECK(runner({"rm", "-f", fourth.id}).code == 0);
    CHECK(!exists(host_of(fourth)));
  }

  TEST_CASE("copy: a fork that is suspended wakes in its own folder, and its source in the shared one") {
    SKIP_UNLESS(is_root(), "root");
    Set set("copy");
    Twins twins({"sh", "-c", kAppends}, set.bound());
    begin(twins);
    twins.part();
    CHECK(sh(twins.other, "echo mine >/workspace/given") == "");
    for (const Box* box : {&twins.one, &twins.other}) {
      REQUIRE(runner({"suspend", box->id}).code == 0);
      CHECK(!exists(data_dir() + "/snapshots/" + box->id + ".suspended/layers/workspace"));
      Ran woken = runner_apart({"wake", box->id}, Folder());
      REQUIRE_MESSAGE(woken.code == 0, woken.err);
    }
    CHECK(sh(twins.other, "cat /workspace/given") == "mine");
    CHECK(goes_on(twins.other));
    CHECK(sh(twins.one, "cat /workspace/given; echo shared >/workspace/given") == "as it was");
    CHECK(read(set.host + "/given") == "shared\n");

    // Of one that was suspended by `snapshot create`, the copy is for others, and it wakes in its own.
    Shot shot;
    Box other;
    REQUIRE(runner({"snapshot", "create", "--name", shot.name, twins.one.id}).code == 0);
    isolate::sys::replace_file(set.host + "/since", "x\n", 0644);
    REQUIRE(runner_apart({"restore", "-d", "--from", shot.name, other.id}, Folder()).code == 0);
    REQUIRE(runner_apart({"wake", twins.one.id}, Folder()).code == 0);
    CHECK(sh(twins.one, "cat since") == "x");
    CHECK(sh(other, "cat given; ls since 2>&1").starts_with("shared\nls: cannot access"));
  }

  TEST_CASE("copy: of a volume, with code that runs from it, and through export and import") {
    SKIP_UNLESS(is_root(), "root");
    Set set("copy");
    std::string volume = "v" + fresh_id();
    Shot moved;
    Twins twins({"sh", "-c", "cp /usr/bin/sleep mine; echo one >f; exec ./mine 300"}, set.flags({"-v", volume + ":/workspace"}));
    CHECK(eventually([&] { return sh(twins.one, "cat /proc/2/comm") == "mine"; }));
    REQUIRE(twins.snapshot().code == 0);
    CHECK(sh(twins.one, "echo two >/workspace/f") == "");
    Folder folder;
    REQUIRE(runner({"snapshot", "export", "-o", folder / "tar", twins.shot.name}).code == 0);
    REQUIRE(runner({"snapshot", "import", "-i", folder / "tar", "--name", moved.name}).code == 0);
    Ran restored = runner_apart({"restore", "-d", "--from", moved.name, twins.other.id}, Folder());
    REQUIRE_MESSAGE(restored.code == 0, restored.err);
    CHECK(sh(twins.other, "cat /workspace/f; cat /proc/2/comm; echo three >/workspace/f") == "one\nmine");
    CHECK(sh(twins.one, "cat /workspace/f") == "two");
    CHECK(runner({"rm", "-f", twins.one.id}).code == 0);
    CHECK(runner({"volume", "rm", volume}).code == 0);  // the fork does not use it
    CHECK(sh(twins.other, "cat /workspace/f") == "three");
  }

  TEST_CASE("copy: a workspace with a quota of its own keeps its files and its quota") {
    SKIP_UNLESS(is_root() && ::access("/dev/loop-control", R_OK | W_OK) == 0, "root and loop devices");
    Set set("copy", ", quota: 16M, inputs: read-only");
    Twins twins({"sh", "-c", kAppends}, set.flags());
    begin(twins);
    twins.part();
    CHECK(goes_on(twins.other));
    CHECK(sh(twins.one, "cat log") == "begun");
    CHECK(sh(twins.other, "dd if=/dev/zero of=big bs=1M count=40 2>/dev/null || echo full; touch inputs/x 2>/dev/null || echo no") == "full\nno");
  }

  TEST_CASE("exclude: a restored session has an empty folder of its own, whatever was there") {
    SKIP_UNLESS(is_root(), "root");
    Set set("exclude");
    for (const Args& flags : {set.flags(), set.bound()}) {
      Twins twins({"sleep", "300"}, flags);
      CHECK(sh(twins.one, "stat -c %u:%g:%a /workspace; echo one >/workspace/one") == "1000:1000:755");
      twins.part();
      CHECK(sh(twins.other, "ls -A /workspace; stat -c %u:%g:%a /workspace; echo two >/workspace/two") == "1000:1000:755");
      CHECK(sh(twins.other, "pwd") == "/workspace");
      CHECK(sh(twins.one, "cat /workspace/one; ls /workspace/two 2>&1").starts_with("one\nls: cannot access"));
      CHECK(read(host_of(twins.other) + "/two") == "two\n");
      REQUIRE(runner({"suspend", twins.other.id}).code == 0);
      REQUIRE(runner_apart({"wake", twins.other.id}, Folder()).code == 0);
      CHECK(sh(twins.other, "cat /workspace/two") == "two");
    }
  }

  TEST_CASE("exclude: a process that has a file open there cannot go on, and the refusal names it") {
    SKIP_UNLESS(is_root(), "root");
    Set set("exclude");
    Twins twins({"sh", "-c", kAppends}, set.bound());
    begin(twins);
    REQUIRE(twins.snapshot().code == 0);
    Ran refused = twins.restore({"--output", "raw"});
    CHECK(refused.code == 125);
    CHECK_MESSAGE(refused.err.find("workspace/log") != std::string::npos, refused.err);
    CHECK(goes_on(twins.one));
  }

  TEST_CASE("copy: what cannot be copied is said, and the session goes on") {
    SKIP_UNLESS(is_root(), "root");
    Set set("copy");
    REQUIRE(::mknod((set.host + "/device").c_str(), S_IFCHR | 0600, (1 << 8) | 3) == 0);
    Twins twins({"sh", "-c", kAppends}, set.bound());
    begin(twins);
    for (const Args& flags : {Args{"--leave-running"}, Args{}}) {
      Ran refused = twins.snapshot(flags);
      CHECK(refused.code == 125);
      CHECK_MESSAGE(refused.err.find("copy device: it is a device") != std::string::npos, refused.err);
      CHECK(!twins.shot.there());
    }
    CHECK(goes_on(twins.one));
  }

  TEST_CASE("restore -v: another folder where its session had one, and at no other place") {
    SKIP_UNLESS(is_root(), "root");
    for (const char* kept : {"share", "copy", "exclude"}) {
      CAPTURE(kept);
      Set set(kept), another("share");
      std::string wish = another.host + ":/workspace";
      Twins twins({"sleep", "300"}, set.bound());
      twins.part({"-v", wish});
      CHECK(sh(twins.one, "echo first >given; cat given") == "first");
      CHECK(sh(twins.other, "cat given; pwd; echo more >made; stat -c %u:%g made") == "as it was\n/workspace\n1000:1000");
      CHECK(read(another.host + "/made") == "more\n");
      CHECK(!exists(set.host + "/made"));
      REQUIRE(runner({"suspend", twins.other.id}).code == 0);
      CHECK(sh(twins.other, "cat /workspace/made") == "more");  // a request wakes it, with the same folder
    }
    Set set("share");
    Twins twins({"sleep", "300"}, set.bound());
    REQUIRE(twins.snapshot().code == 0);
    Ran refused = twins.restore({"-v", set.host + ":/elsewhere"});
    CHECK_MESSAGE((refused.code == 125 && refused.err.find("nothing mounted at /elsewhere") != std::string::npos), refused.err);
    refused = twins.restore({"-v", set.host + ":/workspace:ro"});
    CHECK_MESSAGE((refused.code == 125 && refused.err.find("it was writable there") != std::string::npos), refused.err);
    refused = twins.restore({"-v", set.host + "/none:/workspace"});
    CHECK_MESSAGE((refused.code == 125 && refused.err.find("there is no") != std::string::npos), refused.err);
    CHECK(runner({"state", twins.other.id}).code != 0);
  }
}
