// Terminals of containers: the master goes to whoever listens at --console-socket.
#include <doctest/doctest.h>
#include <unistd.h>

#include "tests/kernel/live.h"
#include "tests/support/console.h"

using namespace tests;
using nlohmann::json;

namespace {

void want_terminal(Bundle& bundle) {
  bundle.config["process"]["terminal"] = true;
  bundle.config["process"]["consoleSize"] = {{"height", 31}, {"width", 97}};
  bundle.save();
}

}  // namespace

TEST_SUITE("container terminal") {
  TEST_CASE("create sends the master to --console-socket; the program has it as its controlling terminal, at the size asked for") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sh", "-c", "probe tty; read word; echo got $word"});
    want_terminal(bundle);
    Console console(bundle);
    Box box;
    Ran ran = create(bundle, box, {"--console-socket", console.path});
    CHECK(ran.code == 0);
    CHECK(ran.err == "");
    REQUIRE(console.receive());
    CHECK(console.name.rfind("/dev/pts/", 0) == 0);
    REQUIRE(start(box).code == 0);
    Facts facts = facts_of(console.until("foreground=1"));
    for (const char* key : {"isatty0", "isatty1", "isatty2", "foreground"}) CHECK(facts[key] == "1");
    CHECK(facts["controlling"] == "0");
    CHECK(facts["winsize"] == "31x97");
    CHECK(facts["name"].rfind("/dev/", 0) == 0);
    console.type("hello\n");
    CHECK(console.until("got hello").find("got hello") != std::string::npos);
    CHECK(eventually([&] { return box.status() == "stopped"; }));
  }

  TEST_CASE("exec --process with a terminal sends its own, without --tty being said") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sleep", "60"});
    Box box;
    REQUIRE(runner_apart({"run", "-d", "-b", bundle.path(), box.id}, bundle).code == 0);
    json process = bundle.config["process"];
    process["args"] = {"probe", "tty"};
    process["terminal"] = true;
    process["consoleSize"] = {{"height", 7}, {"width", 70}};
    bundle.write("process.json", process.dump());
    Console console(bundle);
    Ran ran = runner_apart({"exec", "-d", "--console-socket", console.path, "--process", bundle / "process.json", box.id}, bundle);
    CHECK(ran.code == 0);
    REQUIRE(console.receive());
    Facts facts = facts_of(console.until("foreground="));
    CHECK(facts["winsize"] == "7x70");
    CHECK(facts["controlling"] == "0");
  }

  TEST_CASE("a terminal that nobody would hold is an error, and so is a socket without one") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"true"});
    want_terminal(bundle);
    Box box;
    Ran ran = create(bundle, box);
    CHECK(ran.code == 1);
    CHECK(ran.err.find("--console-socket") != std::string::npos);
    CHECK(remains_of(box.id) == "");
    bundle.config["process"]["terminal"] = false;
    bundle.save();
    CHECK(create(bundle, box, {"--console-socket", "/tmp/nothing.sock"}).code == 1);
    want_terminal(bundle);
    CHECK(create(bundle, box, {"--console-socket", "/tmp/nothing.sock"}).code == 1);
    CHECK(remains_of(box.id) == "");
  }

  TEST_CASE("run in the foreground connects the caller's terminal, with its size and its keys") {
    SKIP_UNLESS(is_root(), "root");
    SKIP_UNLESS(run({"sh", "-c", "command -v script"}).code == 0, "script");
    Bundle bundle({"sh", "-c", "probe tty; read word; echo got $word; exit 6"});
    bundle.config["process"]["terminal"] = true;
    bundle.save();
    std::string command = "stty rows 17 cols 71; ";
    for (const std::string& word : runner_argv({"run", "-b", bundle.path(), fresh_id()})) command += "'" + word + "' ";
    Live live({"script", "-qec", command, "/dev/null"});
    REQUIRE(live.await("foreground="));
    live.send("typed\n");
    CHECK(live.await("got typed"));
    CHECK(live.wait() == 6);
    Facts facts = facts_of(live.out);
    CHECK(facts["winsize"] == "17x71");
    CHECK(facts["isatty2"] == "1");
    CHECK(facts["controlling"] == "0");
  }

  TEST_CASE("exec -t has a terminal of its own, with the caller's size from the start") {
    SKIP_UNLESS(is_root(), "root");
    SKIP_UNLESS(run({"sh", "-c", "command -v script"}).code == 0, "script");
    Bundle bundle({"sleep", "60"});
    Box box;
    REQUIRE(runner_apart({"run", "-d", "-b", bundle.path(), box.id}, bundle).code == 0);
    std::string command = "stty rows 18 cols 72; ";
    for (const std::string& word : runner_argv({"exec", "-t", box.id, "sh", "-c", "probe tty; read word; exit 8"})) command += "'" + word + "' ";
    Live live({"script", "-qec", command, "/dev/null"});
    REQUIRE(live.await("foreground="));
    live.send("\n");
    CHECK(live.wait() == 8);
    Facts facts = facts_of(live.out);
    CHECK(facts["winsize"] == "18x72");
    CHECK(facts["controlling"] == "0");
    CHECK(facts["foreground"] == "1");
  }
}
