// Hooks of the OCI specification: when they run, what they are told, and what a failure does.
#include <doctest/doctest.h>

#include <sstream>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

constexpr const char* kKinds[] = {"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"};

// Writes its kind, the host name that it sees and the state that it was given, one line each, to a file of the host. The
// hook of startContainer runs inside, where that file is bound.
std::string hook_script(const Folder& folder) {
  std::string path = folder / "hook";
  folder.write("hook", "#!/bin/sh\nstate=$(cat | tr -d '\\n')\necho \"$1 $(hostname) $state\" >>\"$2\"\nexit $3\n", 0755);
  return path;
}

struct Hooked {
  Bundle bundle{{"sh", "-c", "echo main >>/trace"}};
  std::string trace = bundle / "trace";

  explicit Hooked(const std::string& failing = "") {
    bundle.write("trace", "");
    std::string script = hook_script(bundle);
    bundle.write("rootfs/hook", read(script), 0755);
    bundle.write("rootfs/trace", "");
    bundle.config["mounts"].push_back({{"destination", "/trace"}, {"type", "bind"}, {"source", trace}, {"options", {"bind", "rw"}}});
    for (const char* kind : kKinds) {
      bool inside = std::string(kind) == "startContainer";
      bundle.config["hooks"][kind] = {{{"path", inside ? "/hook" : script},
                                       {"args", {"hook", kind, inside ? "/trace" : trace, failing == kind ? "3" : "0"}},
                                       {"env", {"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}}}};
    }
    bundle.save();
  }
  // First words of the lines; the hooks' states land in `states`.
  std::string order() {
    std::string words;
    std::istringstream lines(read(trace));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream fields(line);
      std::string kind, host, state;
      fields >> kind >> host;
      std::getline(fields, state);
      words += (words.empty() ? "" : " ") + kind;
      hosts[kind] = host;
      if (kind != "main") states[kind] = json::parse(state);
    }
    return words;
  }
  std::map<std::string, std::string> hosts;
  std::map<std::string, json> states;
};

}  // namespace

TEST_SUITE("hooks") {
  TEST_CASE("the six kinds run in order, in their namespaces, with the container's state on stdin") {
    SKIP_UNLESS(is_root(), "root");
    Hooked c;
    Ran ran = c.bundle.run();
    CHECK(ran.code == 0);
    CHECK(ran.err == "");
    std::string order = c.order();
    // poststart and the program itself race, as the specification allows.
    bool good = order == "prestart createRuntime createContainer startContainer main poststart poststop" ||
                order == "prestart createRuntime createContainer startContainer poststart main poststop";
    CHECK(good);
    CAPTURE(order);
    std::string ours = run({"hostname"}).out;
    ours.pop_back();
    for (const char* kind : {"prestart", "createRuntime", "poststart", "poststop"}) CHECK(c.hosts[kind] == ours);
    for (const char* kind : {"createContainer", "startContainer"}) CHECK(c.hosts[kind] == "runner");
    std::map<std::string, std::string> expected{{"prestart", "creating"}, {"createRuntime", "creating"}, {"createContainer", "creating"},
                                                {"startContainer", "created"}, {"poststart", "running"}, {"poststop", "stopped"}};
    for (const char* kind : kKinds) {
      CAPTURE(kind);
      CHECK(c.states[kind]["status"] == expected[kind]);
      CHECK(c.states[kind]["bundle"] == c.bundle.path());
      CHECK(c.states[kind].contains("ociVersion"));
      CHECK(c.states[kind]["id"].get<std::string>().rfind("t", 0) == 0);
    }
    CHECK(c.states["createRuntime"]["pid"].get<int>() > 1);
  }

  TEST_CASE("with create and start apart, the create hooks run at create, the others at start and delete") {
    SKIP_UNLESS(is_root(), "root");
    Hooked c;
    Box box;
    REQUIRE(create(c.bundle, box).code == 0);
    CHECK(c.order() == "prestart createRuntime createContainer");
    REQUIRE(start(box).code == 0);
    CHECK(eventually([&] { return box.status() == "stopped"; }));
    CHECK(c.order().rfind("prestart createRuntime createContainer startContainer ", 0) == 0);
    CHECK(c.order().find("poststop") == std::string::npos);
    CHECK(runner({"delete", box.id}).code == 0);
    CHECK(c.order().find("poststop") != std::string::npos);
  }

  TEST_CASE("a hook that fails before the program undoes the container and is named") {
    SKIP_UNLESS(is_root(), "root");
    for (const char* kind : {"prestart", "createRuntime", "createContainer", "startContainer"}) {
      CAPTURE(kind);
      Hooked c(kind);
      std::string id = fresh_id();
      Ran ran = runner({"run", "-b", c.bundle.path(), id});
      CHECK(ran.code == 1);
      CHECK(ran.err.find(kind) != std::string::npos);
      CHECK(ran.err.find("exit status 3") != std::string::npos);
      std::string order = c.order();
      CHECK(order.find("main") == std::string::npos);
      CHECK(remains_of(id) == "");
    }
  }

  TEST_CASE("a poststart hook that fails stops the container; a poststop one only warns") {
    SKIP_UNLESS(is_root(), "root");
    Hooked after("poststart");
    after.bundle.config["process"]["args"] = {"sleep", "60"};
    after.bundle.save();
    std::string id = fresh_id();
    Ran ran = runner({"run", "-b", after.bundle.path(), id});
    CHECK(ran.code == 1);
    CHECK(ran.err.find("poststart") != std::string::npos);
    CHECK(remains_of(id) == "");

    Hooked last("poststop");
    ran = last.bundle.run();
    CHECK(ran.code == 0);
    CHECK(ran.err.find("poststop") != std::string::npos);
  }

  TEST_CASE("a hook that outlives its timeout is killed and fails") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"true"});
    bundle.config["hooks"]["createRuntime"] = {{{"path", "/bin/sleep"}, {"args", {"sleep", "64.5"}}, {"timeout", 1}}};
    bundle.save();
    std::string id = fresh_id();
    Ran ran = runner({"run", "-b", bundle.path(), id});
    CHECK(ran.code == 1);
    CHECK(ran.err.find("/bin/sleep") != std::string::npos);
    CHECK(eventually([] { return processes_with("64.5").empty(); }));
    CHECK(remains_of(id) == "");
  }

  TEST_CASE("hooks have no environment but their own, and a missing one fails") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"true"});
    bundle.config["hooks"]["prestart"] = {{{"path", "/bin/sh"}, {"args", {"sh", "-c", "/usr/bin/env; exit 1"}}, {"env", {"ONLY=this"}}}};
    bundle.save();
    Ran ran = runner({"run", "-b", bundle.path(), fresh_id()}, {.env = {{"SECRET", "of ours"}}});
    CHECK(ran.code == 1);
    CHECK(ran.out.empty());
    CHECK(ran.err.find("ONLY=this") != std::string::npos);
    CHECK(ran.err.find("of ours") == std::string::npos);
    bundle.config["hooks"]["prestart"] = {{{"path", "/no/such/hook"}}};
    bundle.save();
    CHECK(bundle.run().code == 1);
  }
}
