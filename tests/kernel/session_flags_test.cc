// docker run's flags, with docker's meaning.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

struct Workspace : Folder {
  Workspace() {
    write("w/theirs", "given");
    write("w/roots", "root's");
    chown((*this / "w"), 1234, 1235);
    chown((*this / "w/theirs"), 1234, 1235);
  }
  static void chown(const std::string& path, uid_t uid, gid_t gid) {
    if (::chown(path.c_str(), uid, gid)) throw std::runtime_error("chown " + path);
  }
  std::string volume() const { return *this / "w:/workspace"; }
};

}  // namespace

TEST_SUITE("session flags") {
  TEST_CASE("the workspace's owner is the session's user inside, and what is made inside belongs to the owner outside") {
    SKIP_UNLESS(is_root(), "root");
    Workspace w;
    Session s = session({"-v", w.volume()}, {"sh", "-c", "/probe cwd; /probe write theirs changed; /probe write made new; mkdir dir; /probe write roots x;"
                                                         "/probe stat /workspace theirs made roots"});
    CHECK(s.result() == "success");
    CHECK(s.facts["cwd"] == "/workspace");
    CHECK(has(s.facts["/workspace"], "uid=1000 gid=1000"));
    CHECK(has(s.facts["theirs"], "uid=1000 gid=1000"));
    CHECK(has(s.facts["made"], "uid=1000 gid=1000"));
    CHECK(has(s.facts["roots"], "uid=65534 gid=65534"));
    CHECK(has(s.out, "roots=EACCES"));
    CHECK(read(w / "w/theirs") == "changed");
    CHECK(read(w / "w/roots") == "root's");
    for (const char* name : {"w/made", "w/dir"}) {
      struct stat info;
      REQUIRE(::stat((w / name).c_str(), &info) == 0);
      CHECK(info.st_uid == 1234);
      CHECK(info.st_gid == 1235);
    }
  }

  TEST_CASE("a read-only volume cannot be written, and one below the workspace can") {
    SKIP_UNLESS(is_root(), "root");
    Workspace w;
    Folder more;
    more.write("in/file", "input");
    Session s = session({"-v", w.volume(), "--mount", "type=bind,source=" + (more / "in") + ",target=/in,readonly", "-v", w / "w:/workspace/sub/deep"},
                        {"sh", "-c", "/probe read /in/file; /probe write /in/new x; /probe write /workspace/sub/deep/new y"});
    CHECK(has(s.out, "/in/file=input"));
    CHECK(s.facts["/in/new"] == "EROFS");
    CHECK(s.facts["/workspace/sub/deep/new"] == "0");
    CHECK(read(w / "w/new") == "y");
    CHECK(!exists(more / "in/new"));
  }

  TEST_CASE("without -v the workspace is the session's own and empty, and the user's") {
    SKIP_UNLESS(is_root(), "root");
    Session s = session({}, {"sh", "-c", "ls -A; /probe write new x; /probe stat ."});
    CHECK(s.facts["new"] == "0");
    CHECK(has(s.facts["."], "dir mode=0755 uid=1000 gid=1000"));
  }

  TEST_CASE("-e, --env-file, -w, -u, --hostname, --entrypoint and --tmpfs mean what they mean to docker") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    folder.write("env", "# a comment\nFROM_FILE=1 2\n\nBOTH=file\nMINE\n");
    Session s = session({"-e", "A=b=c", "--env", "BOTH=flag", "--env-file", folder / "env", "-e", "HOME=/x", "-w", "/tmp", "-u", "123:456", "--hostname", "agent-7",
                         "--tmpfs", "/scratch:size=64k", "--entrypoint", "/probe"},
                        {"env,cwd,status,hostname,mounts"}, {.env = {{"MINE", "from the caller"}, {"SECRET", "stays out"}}});
    CHECK(s.result() == "success");
    CHECK(s.facts["A"] == "b=c");
    CHECK(s.facts["FROM_FILE"] == "1 2");
    CHECK(s.facts["BOTH"] == "flag");
    CHECK(s.facts["MINE"] == "from the caller");
    CHECK(s.facts["HOME"] == "/x");
    CHECK(s.facts.count("SECRET") == 0);
    CHECK(s.facts["cwd"] == "/tmp");
    CHECK(s.facts["Uid"] == "123 123 123 123");
    CHECK(s.facts["Gid"] == "456 456 456 456");
    CHECK(s.facts["hostname"] == "agent-7");
    CHECK(has(s.facts["/scratch"], "tmpfs"));
    CHECK(has(s.facts["/scratch"], "size=64k"));
  }

  TEST_CASE("a working directory that is not there is made") {
    SKIP_UNLESS(is_root(), "root");
    CHECK(session({"-w", "/workspace/a/b"}, {"/probe", "cwd"}).facts["cwd"] == "/workspace/a/b");
  }

  TEST_CASE("-u root is root inside, without capabilities and nobody outside") {
    SKIP_UNLESS(is_root(), "root");
    Workspace w;
    Session s = session({"-u", "root", "-v", w.volume()}, {"sh", "-c", "/probe status; /probe write made x; /probe write /root/x y; /probe write /usr/x z"});
    CHECK(s.facts["Uid"] == "0 0 0 0");
    for (const char* set : {"CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"}) CHECK(s.facts[set] == "0000000000000000");
    CHECK(s.facts["/root/x"] == "0");
    CHECK(s.facts["/usr/x"] == "EROFS");
    struct stat info;
    REQUIRE(::stat((w / "w/made").c_str(), &info) == 0);
    CHECK(info.st_uid == 1234);
  }

  TEST_CASE("--read-only leaves only what is mounted writable") {
    SKIP_UNLESS(is_root(), "root");
    Workspace w;
    Session s = session({"--read-only", "--tmpfs", "/tmp", "-v", w.volume()}, {"sh", "-c", "/probe write /home/agent/x 1; /probe write /tmp/x 2; /probe write /workspace/x 3"});
    CHECK(s.facts["/home/agent/x"] == "EROFS");
    CHECK(s.facts["/tmp/x"] == "0");
    CHECK(s.facts["/workspace/x"] == "0");
  }

  TEST_CASE("-i connects stdin, byte for byte; without it the program's input is empty") {
    SKIP_UNLESS(is_root(), "root");
    std::string bytes;
    for (int i = 0; i < 300000; ++i) bytes += static_cast<char>(i * 7);
    std::string id = fresh_id();
    Ran ran = runner(session_arguments(id, {"--rm", "-i", "--output", "raw"}, {"/probe", "stdin-echo"}), {.input = bytes.substr(0, 60000)});
    CHECK(ran.out == bytes.substr(0, 60000));
    CHECK(ran.err == "input=60000\n");
    ran = runner(session_arguments(fresh_id(), {"--rm", "--output", "raw"}, {"/probe", "stdin-echo"}), {.input = "nobody reads this"});
    CHECK(ran.out == "");
    CHECK(ran.err == "input=0\n");
  }

  TEST_CASE("--name, --label and --cidfile name the session; the same name twice is refused") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    Box box;
    Live live(runner_argv(session_arguments(box.id, {"--label", "team=red", "-l", "plain", "--cidfile", folder / "cid"}, {"/probe", "sleep", "60"})));
    REQUIRE(live.await("ready="));
    CHECK(read(folder / "cid") == box.id);
    json state = box.state();
    CHECK(state["status"] == "running");
    CHECK(state["annotations"]["team"] == "red");
    CHECK(state["annotations"]["plain"] == "");
    Ran again = runner(session_arguments(box.id, {"--rm"}, {"true"}));
    CHECK(again.code == 125);
    CHECK(has(again.err, "in use"));
    CHECK(again.out == "");
    CHECK(box.status() == "running");
  }

  TEST_CASE("-t gives a terminal of the caller's size, with job control and the caller's keys") {
    SKIP_UNLESS(is_root(), "root");
    SKIP_UNLESS(run({"sh", "-c", "command -v script"}).code == 0, "script");
    std::string command = "stty rows 19 cols 73; ";
    for (const std::string& word : runner_argv(session_arguments(fresh_id(), {"--rm", "-it"}, {"sh", "-c", "/probe tty; read word; echo got $word; exec /probe sleep 30"})))
      command += "'" + word + "' ";
    Live live({"script", "-qec", command, "/dev/null"});
    REQUIRE(live.await("foreground="));
    Facts facts = facts_of(live.out);
    for (const char* key : {"isatty0", "isatty1", "isatty2", "foreground"}) CHECK(facts[key] == "1");
    CHECK(facts["winsize"] == "19x73");
    CHECK(facts["controlling"] == "0");
    CHECK(facts["name"].rfind("/dev/", 0) == 0);
    live.send("typed\n");
    REQUIRE(live.await("got typed"));
    REQUIRE(live.await("ready="));  // dash loses a SIGINT that comes while it forks
    live.send("\x03");              // the line discipline inside makes a SIGINT of it
    CHECK(live.wait() == 130);
  }

  TEST_CASE("the line from the project's seeds works as it stands") {
    SKIP_UNLESS(is_root(), "root");
    SKIP_UNLESS(run({"sh", "-c", "command -v script"}).code == 0, "script");
    Workspace w;
    std::string command = "cd " + (w / "w") + " && ";
    for (const std::string& word : runner_argv({"run", "--rm", "-it", "--security-opt", "seccomp=default.json", "--cap-drop=ALL", "-v"})) command += "'" + word + "' ";
    command += "$(pwd):/workspace -- sh -c 'pwd; cat theirs; id -u'";
    Live live({"script", "-qec", command, "/dev/null"});
    CHECK(live.wait() == 0);
    CHECK(live.out == "/workspace\r\ngiven1000\r\n");
  }
}
