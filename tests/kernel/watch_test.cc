// runner watch: every change is told, in order, and what the kernel lost is made good.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

struct Watched {
  Box box;
  std::unique_ptr<Live> live;
  explicit Watched(const Args& flags, const std::string& before = "true") {
    Args session{"-d", "--tmpfs", "/w"};
    Ran ran =
        runner(session_arguments(box.id, session, {"sh", "-c", before + "; touch /tmp/started; exec /probe sleep 120"}),
               {.timeout_ms = 20'000});
    if (ran.code != 0) throw std::runtime_error("the session did not start: " + ran.err);
    eventually([&] { return sh("test -e /tmp/started").code == 0; });
    Args words{"watch"};
    words.insert(words.end(), flags.begin(), flags.end());
    words.insert(words.end(), {box.id, "/w"});
    live = std::make_unique<Live>(runner_argv(words));
    if (!live->await("\"ready\"")) throw std::runtime_error("watch did not start: " + live->err);
  }
  Ran sh(const std::string& script) const {
    return runner({"exec", box.id, "sh", "-c", "cd /w 2>/dev/null; " + script});
  }

  // What was told up to the making of a last file, one a line: "create /w/a".
  std::string told(const std::string& script) {
    std::string last = "end-" + fresh_id();
    Ran ran = sh(script + "; : >" + last);
    if (ran.code != 0) throw std::runtime_error(ran.err);
    live->await(last);
    return text(last);
  }
  std::string text(const std::string& last) const {
    std::string lines;
    for (const json& event : events_of(live->out.substr(0, live->out.rfind('\n') + 1))) {
      const json& data = event.at("data");
      if (event.at("type") != "file.changed") return "wrong type";
      std::string path = data.value("path", "");
      if (data["change"] == "ready" || path.find("/end-") != std::string::npos) continue;
      lines += data["change"].get<std::string>() + " " + path +
               (data.contains("to") ? " " + data["to"].get<std::string>() : "") +
               (data.value("directory", false) ? "/" : "") + "\n";
    }
    return lines;
  }
};

long count(const std::string& text, const std::string& what) {
  long n = 0;
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += what.size()) ++n;
  return n;
}

}  // namespace

TEST_SUITE("watch") {
  TEST_CASE("create, modify, delete and rename, in order, with directories") {
    SKIP_UNLESS(is_root(), "root");
    Watched w({"--recursive"}, "mkdir /w/old; echo 1 >/w/old/f");
    CHECK(w.told(": >a; sleep 0.1; echo x >>a; sleep 0.1; mv a b; mkdir d; mv b d/c; rm d/c; rmdir d; echo 2 >>old/f; "
                 "sleep 0.1; chmod 600 old/f") ==
          "create /w/a\nmodify /w/a\nrename /w/a /w/b\ncreate /w/d/\nrename /w/b /w/d/c\ndelete /w/d/c\ndelete "
          "/w/d/\nmodify /w/old/f\nmodify /w/old/f\n");
  }

  TEST_CASE(
      "a renamed directory is watched on under its new name; one that leaves is deleted, one that comes is looked "
      "into") {
    SKIP_UNLESS(is_root(), "root");
    Watched w({"-r"}, "mkdir -p /w/a/b /tmp/in/deep; : >/tmp/in/deep/f");
    CHECK(w.told("mv a z; : >z/b/f; mv z/b z/c; : >z/c/g") ==
          "rename /w/a /w/z/\ncreate /w/z/b/f\nrename /w/z/b /w/z/c/\ncreate /w/z/c/g\n");
    w.live->out.clear();
    std::string told = w.told("mv z /tmp/gone; : >/tmp/gone/c/unseen; mv /tmp/in .; sleep 0.2; : >in/deep/g");
    // From one file system to another `mv` copies and removes, so the order of what it deletes is its own.
    CHECK(told.find("unseen") == std::string::npos);
    CHECK(told.find("delete /w/z/\n") != std::string::npos);
    for (const char* line :
         {"create /w/in/\n", "create /w/in/deep/\n", "create /w/in/deep/f\n", "create /w/in/deep/g\n"})
      CHECK(count(told, line) == 1);
  }

  TEST_CASE("what is made in new directories at once is not lost, and not told twice") {
    SKIP_UNLESS(is_root(), "root");
    Watched w({"-r"});
    std::string told = w.told(
        "for i in 1 2 3 4 5 6 7 8 9; do mkdir -p n$i/a/b/c && : >n$i/a/b/c/f; done; mkdir -p gone/x && rm -r gone");
    for (int i = 1; i < 10; ++i) {
      std::string top = "create /w/n" + std::to_string(i);
      for (const char* below : {"/\n", "/a/\n", "/a/b/\n", "/a/b/c/\n", "/a/b/c/f\n"}) {
        CAPTURE(top + below);
        CHECK(count(told, top + below) == 1);
      }
    }
    CHECK(count(told, "create /w/gone/\n") == 1);
    CHECK(count(told, "delete /w/gone/\n") == 1);
  }

  TEST_CASE("without --recursive only the directory itself") {
    SKIP_UNLESS(is_root(), "root");
    Watched w({});
    CHECK(w.told("mkdir d; : >d/f; : >f") == "create /w/d/\ncreate /w/f\n");
  }

  TEST_CASE("patterns choose what is told and what is looked into") {
    SKIP_UNLESS(is_root(), "root");
    Watched w({"-r", "--include", "*.ts", "--exclude", "node_modules", "--exclude", "build/*"});
    CHECK(w.told("mkdir -p src node_modules build; : >src/a.ts; : >src/a.js; : >node_modules/b.ts; : >build/c.ts; : "
                 ">tmp; mv tmp d.ts; mv d.ts node_modules/") ==
          "create /w/src/a.ts\nrename /w/tmp /w/d.ts\ndelete /w/d.ts\n");
  }

  TEST_CASE("names that are no text stay within their line") {
    SKIP_UNLESS(is_root(), "root");
    Watched w({"-r"});
    std::string told = w.told(": >\"$(printf 'a\\n{\"type\":\"session.ended\"}')\"; : >\"$(printf '\\377\\033')\"");
    CHECK(told.find("create /w/a\n{\"type\":\"session.ended\"}\n") == 0);
    CHECK(w.live->out.find('\033') == std::string::npos);
    CHECK(count(w.live->out, "\n") == static_cast<long>(events_of(w.live->out).size()));
  }

  TEST_CASE("an overflow is said, and what was lost is made good") {
    SKIP_UNLESS(is_root(), "root");
    Watched w({"-r"}, "mkdir /w/d /w/gone; : >/w/gone/f; : >/w/d/changed");
    std::vector<pid_t> ours = processes_with("watch");
    std::vector<pid_t> both;
    for (pid_t pid : ours)
      if (read("/proc/" + std::to_string(pid) + "/cmdline").find(w.box.id) != std::string::npos) both.push_back(pid);
    REQUIRE(both.size() == 2);
    for (pid_t pid : both) ::kill(pid, SIGSTOP);
    Ran ran = w.sh(
        "rm -r gone; i=0; while [ $i -lt 20000 ]; do : >d/f$i; i=$((i+1)); done; echo more >>d/changed; mkdir late; : "
        ">late/x");
    for (pid_t pid : both) ::kill(pid, SIGCONT);
    REQUIRE(ran.code == 0);
    std::string told = w.told("sleep 0.5; : >late/y");
    CHECK(count(told, "overflow") >= 1);
    CHECK(count(told, "create /w/d/f") == 20000);
    CHECK(count(told, "delete /w/gone/\n") == 1);
    CHECK(count(told, "modify /w/d/changed\n") == 1);
    CHECK(count(told, "create /w/late/x\n") == 1);
    CHECK(count(told, "create /w/late/y\n") == 1);  // watched as well
    CHECK(count(w.live->out, "\"ready\"") >= 2);
  }

  TEST_CASE("a user's inotify limit that is reached is named") {
    SKIP_UNLESS(is_root(), "root");
    Watched w({}, "mkdir /w/d; i=0; while [ $i -lt 40 ]; do mkdir /w/d/$i; i=$((i+1)); done");
    // The limit of the sandbox's own user namespace, where the helper is: set from outside, by a process that joins it.
    std::string init = std::to_string(w.box.state()["pid"].get<int>());
    Ran set = run(
        {"nsenter", "-t", init, "-U", "-S", "0", "-G", "0", "sh", "-c", "echo 20 >/proc/sys/user/max_inotify_watches"});
    SKIP_UNLESS(set.code == 0, "a limit of one user namespace");
    Ran ran = runner({"watch", "-r", w.box.id, "/w"}, {.timeout_ms = 10'000});
    CHECK(ran.code == 1);
    CHECK(ran.err.find("fs.inotify.max_user_watches") != std::string::npos);
    CHECK(ran.out.find("ready") == std::string::npos);
    CHECK(runner({"watch", "--timeout", "200ms", w.box.id, "/w"}).code == 124);
  }

  TEST_CASE("it ends with the session, by a signal, by its time, and when the directory goes") {
    SKIP_UNLESS(is_root(), "root");
    {
      Watched w({"-r"});
      w.live->signal(SIGTERM);
      CHECK(w.live->wait() == 0);
      CHECK(w.live->out.back() == '\n');
      CHECK(runner({"watch", w.box.id, "/w", "--timeout", "200ms"}).code == 124);
      CHECK(runner({"watch", w.box.id, "/w", "--timeout", "soon"}).code == 1);
      Live ends(runner_argv({"watch", w.box.id, "/w"}));
      REQUIRE(ends.await("ready"));
      w.sh(": >last");
      REQUIRE(runner({"kill", w.box.id, "KILL"}).code == 0);
      CHECK(ends.wait() == 0);
      CHECK(ends.out.find("/w/last") != std::string::npos);
      CHECK(runner({"watch", w.box.id, "/w"}).err.find("not running") != std::string::npos);
      CHECK(eventually([&] { return processes_with(w.box.id).empty(); }, 2000));
    }
    Watched w({}, "mkdir /w/d");
    Live gone(runner_argv({"watch", w.box.id, "/w/d"}));
    REQUIRE(gone.await("ready"));
    w.sh("rmdir /w/d");
    CHECK(gone.wait() == 1);
    CHECK(gone.err.find("was removed") != std::string::npos);
    CHECK(runner({"watch", w.box.id, "/none"}).err.find("does not exist") != std::string::npos);
    CHECK(runner({"watch", w.box.id, "/etc/passwd"}).err.find("not a directory") != std::string::npos);
    CHECK(runner({"watch", w.box.id}).code == 1);
    CHECK(runner({"watch", "no-such", "/w"}).err.find("does not exist") != std::string::npos);
  }
}
