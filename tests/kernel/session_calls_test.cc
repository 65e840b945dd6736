// Calls: what `exec` runs in a session through its supervisor, and what `attach` sees of it.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "isolate/sys/socket.h"
#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

std::string log_of(const Box& box) { return data_dir() + "/sessions/" + box.id + "/events.ndjson"; }

// A session that sleeps, and calls in it.
struct Home : Away {
  explicit Home(const Args& flags = {}, const Args& command = {"/probe", "sleep", "300"}) : Away(flags, command) {}
  Ran exec(const Args& command, const Args& flags = {}) const { return runner(arguments(command, flags)); }
  Args arguments(const Args& command, const Args& flags = {}) const {
    Args all{"exec"};
    all.insert(all.end(), flags.begin(), flags.end());
    all.insert(all.end(), {box.id, "--"});
    all.insert(all.end(), command.begin(), command.end());
    return all;
  }
  // The data of the last process.exited in the log.
  json last() const {
    json found;
    for (const json& event : events_of(read(log_of(box))))
      if (event["type"] == "process.exited") found = event["data"];
    return found;
  }
  bool lives() const { return exec({"/probe", "cwd"}).out == "cwd=/workspace\n"; }
};

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

}  // namespace

TEST_SUITE("session calls") {
  TEST_CASE("the exit status, both streams and the input of a call are its own") {
    SKIP_UNLESS(is_root(), "root");
    Home home;
    CHECK(home.exec({"sh", "-c", "exit 7"}).code == 7);
    CHECK(home.exec({"sh", "-c", "kill -9 $$"}).code == 128 + SIGKILL);
    CHECK(home.exec({"no-such"}).code == 127);
    CHECK(home.exec({"/etc"}).code == 126);
    Ran both = home.exec({"sh", "-c", "echo one; echo two >&2"});
    CHECK(both.out == "one\n");
    CHECK(both.err == "two\n");
    Ran input = runner(home.arguments({"cat"}), {.input = "through and back"});
    CHECK(input.out == "through and back");
    CHECK(home.last()["result"] == "success");
  }

  TEST_CASE("twenty calls at once do not mix") {
    SKIP_UNLESS(is_root(), "root");
    Home home;
    std::vector<std::unique_ptr<Live>> calls;
    for (int i = 0; i < 20; ++i)
      calls.push_back(std::make_unique<Live>(runner_argv(home.arguments({"sh", "-c", fmt::format("for n in 1 2 3 4 5; do echo {}; done; exit {}", i, i)}))));
    for (int i = 0; i < 20; ++i) {
      CHECK(calls[static_cast<std::size_t>(i)]->wait() == i);
      std::string line = std::to_string(i) + "\n", five;
      for (int n = 0; n < 5; ++n) five += line;
      CHECK(calls[static_cast<std::size_t>(i)]->out == five);
    }
  }

  TEST_CASE("a call that takes too long ends with 124, with all that it started, and the session lives") {
    SKIP_UNLESS(is_root(), "root");
    Home home;
    Ran ran = home.exec({"sh", "-c", "setsid sh -c 'sleep 61.25 & sleep 61.25' & sleep 61.25"}, {"--timeout", "300ms"});
    CHECK(ran.code == 124);
    CHECK(home.last()["result"] == "timeout");
    CHECK(read(log_of(home.box)).find("\"limit\":\"wall\"") != std::string::npos);
    CHECK(eventually([] { return run({"pgrep", "-f", "sleep 61.25"}).out.empty(); }));
    CHECK(home.lives());
  }

  TEST_CASE("a call whose caller goes away is cancelled, also what has forked twice") {
    SKIP_UNLESS(is_root(), "root");
    Home home;
    Live call(runner_argv(home.arguments({"sh", "-c", "(setsid sh -c 'sleep 62.25 &' &); echo on; sleep 62.25"})));
    REQUIRE(call.await("on"));
    ::kill(call.pid(), SIGKILL);
    CHECK(eventually([] { return run({"pgrep", "-f", "sleep 62.25"}).out.empty(); }));
    CHECK(eventually([&] { return home.last()["result"] == "cancelled"; }));
    CHECK(home.lives());
  }

  TEST_CASE("a detached call goes on without its caller; what a call leaves behind is counted") {
    SKIP_UNLESS(is_root(), "root");
    Home home;
    CHECK(home.exec({"sleep", "63.25"}, {"-d"}).code == 0);
    CHECK(run({"pgrep", "-f", "^sleep 63.25"}).out != "");
    CHECK(home.exec({"sh", "-c", "sleep 63.5 & true"}).code == 0);
    CHECK(home.last()["left"] == 1);
  }

  TEST_CASE("a service is found by its name, and begins again as its policy says") {
    SKIP_UNLESS(is_root(), "root");
    Home home;
    CHECK(home.exec({"sh", "-c", "echo up; sleep 64.25"}, {"-d", "--service", "web", "--restart", "on-failure"}).code == 0);
    CHECK(has(home.exec({"true"}, {"-d", "--service", "web"}).err, "it runs already"));
    Live viewer(runner_argv({"attach", "--no-stdin", home.box.id, "web"}));
    CHECK(viewer.await("up\n"));
    std::string first = run({"pgrep", "-f", "^sleep 64.25"}).out;
    CHECK(home.exec({"pkill", "-f", "sleep 64.25"}).code == 0);
    CHECK(eventually([&] { return !run({"pgrep", "-f", "^sleep 64.25"}).out.empty() && run({"pgrep", "-f", "^sleep 64.25"}).out != first; }));
    CHECK(home.exec({"sh", "-c", "exit 0"}, {"-d", "--service", "once", "--restart", "on-failure"}).code == 0);
    CHECK(eventually([&] { return home.exec({"true"}, {"-d", "--service", "once"}).code == 0; }));  // it ended well: the name is free
    CHECK(has(home.exec({"true"}, {"--service", "web"}).err, "give -d"));
    CHECK(has(home.exec({"true"}, {"-d", "--service", "a\"b"}).err, "--service"));
  }

  TEST_CASE("--events prints the call as events, in a stream of its own") {
    SKIP_UNLESS(is_root(), "root");
    Home home;
    Ran ran = home.exec({"sh", "-c", "echo text; exit 3"}, {"--events"});
    CHECK(ran.code == 3);
    Events events = events_of(ran.out);
    CHECK(stdio_text(events) == "text\n");
    CHECK(events.front()["type"] == "process.started");
    CHECK(events.back()["type"] == "process.exited");
    CHECK(events.back()["data"]["result"] == "exit-code");
  }

  TEST_CASE("a million short lines arrive, each once and in order") {
    SKIP_UNLESS(is_root(), "root");
    Home home;
    std::string out = home.exec({"seq", "1000000"}).out;
    CHECK(out.size() == 6888896);
    CHECK(out.ends_with("\n999999\n1000000\n"));
    CHECK(count(out, "\n") == 1000000);
  }

  TEST_CASE("a call whose reader stands still waits, and others go on") {
    SKIP_UNLESS(is_root(), "root");
    Home home;
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    Live flood(runner_argv(home.arguments({"sh", "-c", "seq 3000000; echo end >&2"})), {});
    ::kill(flood.pid(), SIGSTOP);
    for (int i = 0; i < 10; ++i) CHECK(home.exec({"echo", "here"}).out == "here\n");
    ::kill(flood.pid(), SIGCONT);
    CHECK(flood.wait(60'000) == 0);
    CHECK(flood.out.ends_with("\n3000000\n"));
    ::close(ends[0]), ::close(ends[1]);
  }

  TEST_CASE("attach shows what was printed before it came, from an offset if asked, and then goes on") {
    SKIP_UNLESS(is_root(), "root");
    Home home({"-i"}, {"sh", "-c", "echo first; echo second; read line; echo got $line; sleep 0.2; exit 5"});
    Live viewer(runner_argv({"attach", home.box.id}));
    CHECK(viewer.await("first\nsecond\n"));
    Live later(runner_argv({"attach", "--from", "6", "--no-stdin", home.box.id}));
    CHECK(later.await("second\n"));
    viewer.send("word\n");
    CHECK(viewer.await("got word\n"));
    CHECK(viewer.wait() == 5);
    CHECK(later.wait() == 5);
    CHECK(viewer.out == "first\nsecond\ngot word\n");
    CHECK(later.out == "second\ngot word\n");
  }

  TEST_CASE("who only looks on can be ended by a signal, and the program is not") {
    SKIP_UNLESS(is_root(), "root");
    Home home({}, {"sh", "-c", "echo up; exec sleep 300"});
    Live viewer(runner_argv({"attach", "--no-stdin", home.box.id}));
    CHECK(viewer.await("up\n"));
    viewer.signal(SIGTERM);
    CHECK(viewer.wait() == 128 + SIGTERM);
    CHECK(home.lives());
  }

  TEST_CASE("a call is a child span: of its caller's, of the session's, or of the stream of events that it is shown in") {
    SKIP_UNLESS(is_root(), "root");
    Home home;
    auto trace = [&](const Args& flags, const std::string& caller) {
      Args words{"exec"};
      words.insert(words.end(), flags.begin(), flags.end());
      words.insert(words.end(), {home.box.id, "--", "printenv", "TRACEPARENT"});
      return runner(words, {.env = {{"TRACEPARENT", caller}}}).out;
    };
    std::string session = trace({}, ""), again = trace({}, ""), caller = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01";
    CHECK(session.substr(0, 36) == again.substr(0, 36));
    CHECK(session != again);
    CHECK(trace({}, caller).substr(0, 36) == caller.substr(0, 36));
    CHECK(trace({}, caller).find("-0123456789abcdef-") == std::string::npos);
    CHECK(trace({}, "nonsense").substr(0, 36) == session.substr(0, 36));
    CHECK(trace({"-e", "TRACEPARENT=own"}, caller) == "own\n");
    Events events = events_of(trace({"--events"}, caller));
    CHECK(events.at(0)["traceparent"].get<std::string>().substr(0, 36) == caller.substr(0, 36));
    CHECK(stdio_text(events).substr(0, 36) == caller.substr(0, 36));
  }

  TEST_CASE("whoever takes a call over has it alone; it lives on without the one who began it") {
    SKIP_UNLESS(is_root(), "root");
    Home home;
    Live first(runner_argv({"exec", home.box.id, "--", "sh", "-c", "echo begun; while read word; do echo got $word; done; exit 7"}));
    REQUIRE(first.await("begun"));
    Live viewer(runner_argv({"attach", "--no-stdin", home.box.id, "c1"}));
    REQUIRE(viewer.await("begun"));
    Live taker(runner_argv({"attach", "--take-over", home.box.id, "c1"}));
    REQUIRE(taker.await("begun"));
    CHECK(first.wait() == 0);
    CHECK(first.err.find("another client took over; it runs on") != std::string::npos);
    CHECK(viewer.wait() == 0);
    taker.send("one\n");
    CHECK(taker.await("got one"));
    taker.end_input();
    CHECK(taker.wait() == 7);
    CHECK(first.out.find("got") == std::string::npos);
  }

  TEST_CASE("under load, viewers that come at any moment see a stream without a hole and without a byte twice") {
    SKIP_UNLESS(is_root(), "root");
    const char* rounds = std::getenv("ATTACHES");
    Home home({}, {"sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; done"});
    for (int i = 0; i < (rounds ? std::atoi(rounds) : 25); ++i) {
      Live viewer(runner_argv({"attach", "--no-stdin", home.box.id}));
      REQUIRE(viewer.await("line "));
      viewer.await("\x01", 30);  // for a while
      ::kill(viewer.pid(), SIGKILL);
      viewer.wait();
      std::size_t at = viewer.out.find("line ");  // the ring may begin in the middle of a line
      REQUIRE(at != std::string::npos);
      long expected = 0;
      bool whole = true;
      for (std::size_t end; (end = viewer.out.find('\n', at)) != std::string::npos; at = end + 1) {
        long number = std::atol(viewer.out.c_str() + at + 5);
        whole = whole && viewer.out.compare(at, 5, "line ") == 0 && (expected == 0 || number == expected);
        expected = number + 1;
      }
      CHECK(whole);
    }
  }

  TEST_CASE("a control socket that is spoken to in another language answers nothing and goes on") {
    SKIP_UNLESS(is_root(), "root");
    Home home;
    std::string socket = run_root() + "/" + home.box.id + "/control.sock";
    for (const std::string& text : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string(3, 'x'), std::string(40000, '\xff')}) {
      isolate::sys::Fd connection = isolate::sys::connect_to(socket, SOCK_SEQPACKET);
      isolate::sys::send_message(connection.get(), text);
      isolate::sys::receive_message(connection.get());
      CHECK(home.lives());
    }
  }

  TEST_CASE("a program that is ended from outside was cancelled, and its own signal was not") {
    SKIP_UNLESS(is_root(), "root");
    auto result = [](const Box& box) { return ended(events_of(read(log_of(box))))["result"]; };
    Home stopped({}, {"sleep", "300"}), own({}, {"sh", "-c", "kill -TERM $$"});
    CHECK(runner({"stop", stopped.box.id}).code == 0);
    CHECK(result(stopped.box) == "cancelled");
    CHECK(eventually([&] { return own.box.status() == "stopped"; }));
    CHECK(result(own.box) == "signal");
  }

  TEST_CASE("tool_call of the policy holds for every call, which may ask for less and not for more; the session lives on") {
    SKIP_UNLESS(is_root() && has_controller("memory"), "the memory controller");
    Folder folder;
    folder.write("p.yaml", "version: 1\nextends: default\ntool_call: {memory: 48M, pids: 20, wall: 2s}\n");
    Away away({"--policy", folder / "p.yaml"});
    auto exec = [&](const Args& flags, const Args& command) {
      Args words{"exec"};
      words.insert(words.end(), flags.begin(), flags.end());
      words.insert(words.end(), {away.box.id, "--"});
      words.insert(words.end(), command.begin(), command.end());
      return runner(words);
    };
    CHECK(exec({}, {"/probe", "eat-memory", "16"}).code == 0);
    CHECK(exec({}, {"/probe", "eat-memory", "200"}).code == 137);
    CHECK(exec({"-m", "8M"}, {"/probe", "eat-memory", "16"}).code == 137);
    CHECK(exec({}, {"/probe", "fork-bomb", "30"}).code == 1);
    CHECK(exec({}, {"sleep", "60"}).code == 124);
    Ran more = exec({"-m", "64M"}, {"true"});
    CHECK(more.code == 125);
    CHECK_MESSAGE(has(more.err, "more than the session's policy allows a call"), more.err);
    CHECK(exec({"--timeout", "1h"}, {"true"}).code == 125);
    CHECK(exec({"-d", "--service", "long"}, {"sleep", "3"}).code == 0);
    ::usleep(2'400'000);
    CHECK(exec({}, {"pgrep", "-x", "sleep"}).out.size() > 2);  // longer than a call's wall time
    CHECK(away.box.status() == "running");
  }

  TEST_CASE("a variable is what the caller says, once; a terminal is an xterm; and the policy has the last word") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    folder.write("p.yaml", "version: 1\nextends: default\nenvironment: {FIXED: policy}\n");
    Away away({"--policy", folder / "p.yaml", "-e", "OWN=session"});
    auto lines = [&](const Args& flags) {
      Args words{"exec"};
      words.insert(words.end(), flags.begin(), flags.end());
      words.insert(words.end(), {away.box.id, "--", "/usr/bin/env"});
      std::string out = runner(words).out, found;
      for (const char* name : {"OWN=", "FIXED=", "TERM=", "LANG="})
        for (std::size_t at = 0; (at = out.find(name, at)) != std::string::npos; ++at)
          found += out.substr(at, out.find_first_of("\r\n", at) - at) + ";";
      return found;
    };
    CHECK(lines({}) == "OWN=session;FIXED=policy;LANG=C.UTF-8;");
    CHECK(lines({"-e", "OWN=call", "-e", "LANG=C", "-e", "FIXED=mine"}) == "OWN=call;FIXED=policy;LANG=C;");
    CHECK(lines({"-t"}) == "OWN=session;FIXED=policy;TERM=xterm;LANG=C.UTF-8;");
    CHECK(lines({"-t", "-e", "TERM=dumb"}) == "OWN=session;FIXED=policy;TERM=dumb;LANG=C.UTF-8;");
  }

  TEST_CASE("exec and attach say what is wrong with the session or the call") {
    SKIP_UNLESS(is_root(), "root");
    Box nobody;
    CHECK(runner({"attach", nobody.id}).code == 1);
    Home home;
    CHECK(has(runner({"attach", home.box.id, "c99"}).err, "no call c99 is running"));
    CHECK(has(home.exec({"true"}, {"--timeout", "soon"}).err, "--timeout 'soon' is not a limit"));
    runner({"kill", home.box.id, "KILL"});
    CHECK(eventually([&] { return home.box.status() == "stopped"; }));
    CHECK(has(home.exec({"true"}).err, "stopped"));
    CHECK(has(runner({"attach", home.box.id}).err, "not running"));
  }
}

// Also in the VM, on cgroup v2.
TEST_SUITE("limits") {
  TEST_CASE("a call that meets its own memory limit dies of it, and the session does not") {
    SKIP_UNLESS(is_root() && has_controller("memory"), "root and the memory controller");
    Home home({"-m", "512m"});
    Ran ran = home.exec({"/probe", "eat-memory", "128"}, {"-m", "48m"});
    CHECK(ran.code == 128 + SIGKILL);
    json end = home.last();
    CHECK(end["result"] == "oom-kill");
    CHECK(end["evidence"]["counter"].get<int>() >= 1);
    CHECK(home.lives());
    CHECK(home.exec({"/probe", "eat-memory", "128"}).code == 0);  // without a limit of its own it has the session's
  }
}
