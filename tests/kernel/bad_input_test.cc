// Bad input: one clear message, the right exit status, and no trace on the host.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <set>

#include "isolate/cgroup.h"
#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// Names of ours on the host: in the run root, in the data and in the cgroups.
std::set<std::string> everything() {
  std::set<std::string> names;
  auto list = [&](const std::string& path) {
    std::error_code ignored;
    for (const auto& entry : std::filesystem::directory_iterator(path, ignored))
      if (std::string name = entry.path().filename(); name != ".ids" && name != ".filters" && entry.is_directory(ignored)) names.insert(entry.path());
  };
  list(run_root());
  list(data_dir() + "/sessions");
  isolate::CgroupHost host = isolate::find_cgroup_host();
  if (!host.v2.empty()) list(host.v2 + host.v2_base + "/runner");
  for (const auto& [controller, mount] : host.v1) list(mount + "/runner");
  return names;
}

// What has come and does not go: other sessions of this machine do.
std::string left_since(const std::set<std::string>& before) {
  std::string left;
  eventually([&] {
    left.clear();
    for (const std::string& name : everything())
      if (!before.count(name)) left += name + "\n";
    return left.empty();
  }, 3000);
  return left;
}

// Runs it, and wants a message with these words, in one line unless several things are wrong, and no trace.
void refused(const Args& arguments, int code, const std::string& words, bool one_line = true) {
  std::set<std::string> before = everything();
  Ran ran = runner(arguments);
  CAPTURE(words);
  CHECK(ran.code == code);
  CHECK_MESSAGE(has(ran.err, words), ran.err.substr(0, 400));
  CHECK(ran.err.size() < 2000);
  if (one_line) CHECK(ran.err.find('\n') == ran.err.size() - 1);
  CHECK(left_since(before) == "");
}

std::string nest(std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

}  // namespace

TEST_SUITE("bad input") {
  TEST_CASE("ids that are no names are refused wherever an id is taken") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"true"});
    for (const std::string& id : {std::string("../x"), std::string("a/b"), std::string(".."), std::string("."), std::string("a\nb"), std::string("a b"),
                                  std::string("\x1b[31mred"), std::string("\xff\xfe"), std::string(5000, 'x'), std::string("")}) {
      CAPTURE(id.substr(0, 20));
      refused({"create", "-b", bundle.path(), id}, 1, "id");
      refused({"run", "-b", bundle.path(), id}, 1, "id");
      if (!id.empty()) refused({"run", "--name", id, "--", "true"}, 125, "--name");
      refused({"delete", "-f", id}, 1, "id");
      for (const char* verb : {"state", "start", "kill", "pause", "logs"}) refused({verb, id}, 1, "id");
    }
    refused({"create", "-b", bundle.path(), "-rf"}, 1, "-r");
    refused({"run", "--name=-rf", "--", "true"}, 125, "--name");
    refused({"delete", "-xf"}, 1, "-x");
  }

  TEST_CASE("a bundle that is no bundle is refused with the place of the mistake") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"true"});
    std::string id = fresh_id();
    auto with = [&](const std::string& text, const std::string& words, bool one_line = true) {
      bundle.write("config.json", text);
      refused({"run", "-b", bundle.path(), id}, 1, words, one_line);
    };
    with("", "config.json");
    with("{", "config.json:1");
    with("[]", "config.json");
    with("{\"ociVersion\":\"1.0.2\"", "config.json:1");
    with("{\"ociVersion\":\"9.9.9\"}", "ociVersion", false);
    with("{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"rootfs\"},\"process\":{\"cwd\":\"/\",\"args\":[]}}", "args", false);
    with(std::string("{\"ociVersion\":\"1.0.2\",\"x\":") + nest(100'000) + "}", "config.json");
    with(std::string(200'000, '['), "config.json");
    with(std::string(2 << 20, ' ') + "{}", "config.json");
    json config = bundle.config;
    std::string text = config.dump();
    with(text.substr(0, text.size() - 1) + ",\"hostname\":\"twice\"}", "hostname");
    refused({"run", "-b", "/no/such/bundle", id}, 1, "/no/such/bundle");
    refused({"run", "-b", "/tmp", id}, 1, "config.json");
    bundle.save();
    for (const auto& [change, words] : std::vector<std::pair<json, std::string>>{
             {R"([{"op":"replace","path":"/root/path","value":"nowhere"}])"_json, "nowhere"},
             {R"([{"op":"replace","path":"/process/cwd","value":"relative"}])"_json, "cwd"},
             {R"([{"op":"replace","path":"/process/cwd","value":"/a/../../b"}])"_json, "cwd"},
             {R"([{"op":"replace","path":"/process/args","value":"text"}])"_json, "args"},
             {R"([{"op":"replace","path":"/process/user/uid","value":-1}])"_json, "uid"},
             {R"([{"op":"replace","path":"/process/user/uid","value":4294967296}])"_json, "uid"},
             {R"([{"op":"add","path":"/mounts/-","value":{"destination":"/x","type":"nosuchfs","source":"x"}}])"_json, "nosuchfs"},
             {R"([{"op":"add","path":"/mounts/-","value":{"destination":"/x","type":"tmpfs","source":"x","options":["sizzle=3"]}}])"_json, "sizzle"},
             {R"([{"op":"add","path":"/linux/namespaces/-","value":{"type":"nonsense"}}])"_json, "nonsense"},
             {R"([{"op":"add","path":"/linux/resources/memory","value":{"limit":"lots"}}])"_json, "limit"},
             {R"([{"op":"replace","path":"/process/rlimits/0/type","value":"RLIMIT_NONSENSE"}])"_json, "RLIMIT_NONSENSE"}}) {
      bundle.config = config.patch(change);
      bundle.save();
      refused({"run", "-b", bundle.path(), id}, 1, words);
    }
  }

  TEST_CASE("a policy that is no policy is refused with file, line and column") {
    Folder folder;
    auto with = [&](const std::string& text, const std::string& words) {
      folder.write("p.yaml", text);
      Ran check = runner({"policy", "check", folder / "p.yaml"});
      CHECK(check.code == 1);
      CHECK_MESSAGE(has(check.err, words), check.err.substr(0, 300));
      refused({"run", "--rm", "--policy", folder / "p.yaml", "--", "true"}, 125, words, false);
    };
    with("version: 1\nsurprise: 3\n", "p.yaml:2:1");
    with("version: 1\nlimits: {memory: 1G, memory: 2G}\n", "p.yaml:2:");
    with("version: 2\n", "p.yaml:1:");
    with("version: 1\nlimits: {pids: 99999999999999999999}\n", "p.yaml:2:");
    with("version: 1\nlimits: {cpus: -1}\n", "p.yaml:2:");
    with("version: 1\na: &x [1]\nb: *x\n", "p.yaml:2:");
    with("version: 1\nlimits: !!python/object {}\n", "p.yaml:2:");
    with(std::string(200'000, '['), "p.yaml");
    with("version: 1\nx: " + nest(1000), "p.yaml");
    with(std::string(100'000, '#') + "\nversion: 1\n", "p.yaml");
    with("version: 1\nextends: p.yaml\n", "p.yaml");
    with("version: 1\nextends: no-such-policy\n", "no-such-policy");
    with("\xff\xfe", "p.yaml");
    with("", "p.yaml");
  }

  TEST_CASE("a root file system whose own places are links to the host is refused, and the host is untouched") {
    SKIP_UNLESS(is_root(), "root");
    for (const char* place : {"dev", "proc", "etc/hosts", "etc", "sys"}) {
      CAPTURE(place);
      Rootfs folder;
      Folder victim;
      victim.write("file", "untouched");
      std::filesystem::remove_all(folder.rootfs() + "/" + place);
      std::filesystem::create_symlink(std::string(place) == "etc/hosts" ? victim / "file" : victim.path(), folder.rootfs() + "/" + place);
      std::string id = fresh_id();
      refused({"run", "--rm", "--name", id, "--rootfs", folder.rootfs(), "--", "true"}, 125, "symbolic link");
      CHECK(remains_of(id) == "");
      CHECK(read(victim / "file") == "untouched");
      CHECK(std::distance(std::filesystem::directory_iterator(victim.path()), {}) == 1);
    }
  }

  TEST_CASE("a bundle whose /proc or /dev is a link to the host is refused, and the host is untouched") {
    SKIP_UNLESS(is_root(), "root");
    for (const char* place : {"dev", "proc", "sys"}) {
      CAPTURE(place);
      Bundle bundle({"true"});
      Folder victim;
      std::filesystem::remove_all(bundle.rootfs() + "/" + place);
      std::filesystem::create_symlink(victim.path(), bundle.rootfs() + "/" + place);
      std::string id = fresh_id();
      refused({"run", "-b", bundle.path(), id}, 1, place);
      CHECK(std::filesystem::is_empty(victim.path()));
    }
  }

  TEST_CASE("a missing program, user-made descriptors and a closed stdin are handled") {
    SKIP_UNLESS(is_root(), "root");
    CHECK(runner({"run", "--rm", "--"}).code == 125);
    CHECK(runner({"run"}).code == 1);
    Args argv{"sh", "-c", "exec <&- >/dev/null; exec \"$@\"", "sh"};
    Args whole = runner_argv({"run", "--rm", "--", "true"});
    argv.insert(argv.end(), whole.begin(), whole.end());
    CHECK(run(argv).code == 0);
    Args closed{"sh", "-c", "exec <&- >&- 2>&-; exec \"$@\"", "sh"};
    closed.insert(closed.end(), whole.begin(), whole.end());
    CHECK(run(closed).code == 0);
    Args full{"sh", "-c", "exec 2>/dev/full; exec \"$@\"", "sh"};
    Args bad = runner_argv({"run", "--rm", "-m", "lots", "--", "true"});
    full.insert(full.end(), bad.begin(), bad.end());
    CHECK(run(full).code == 125);
    CHECK(runner({"run", "--rm", "--events-fd", "77", "--", "true"}).code == 125);
  }
}
