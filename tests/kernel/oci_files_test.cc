// What config.json says about the file systems of a container, and its user namespace.
#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/kernel/live.h"

using namespace tests;
using nlohmann::json;

namespace {

struct Tried {
  Ran ran;
  Facts facts;
};

Tried try_with(const Args& argv, const std::function<void(Bundle&)>& change = {}) {
  Bundle bundle(argv);
  if (change) change(bundle);
  bundle.save();
  Tried tried{bundle.run(), {}};
  INFO(tried.ran.err);
  CHECK(tried.ran.err == "");
  tried.facts = facts_of(tried.ran.out);
  return tried;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

json bind(const std::string& from, const std::string& to, json options) {
  return {{"destination", to}, {"type", "bind"}, {"source", from}, {"options", std::move(options)}};
}

}  // namespace

TEST_SUITE("container files") {
  TEST_CASE("masked paths are empty and read-only ones cannot be written") {
    SKIP_UNLESS(is_root(), "root");
    Tried t = try_with({"sh", "-c", "cat /proc/timer_list /proc/keys | head -c 1; ls /proc/acpi /sys/firmware; probe open w /proc/sysrq-trigger "
                                    "/proc/sys/kernel/core_pattern /proc/irq/default_smp_affinity; probe open r /proc/sys/kernel/core_pattern"},
                       [](Bundle& b) { b.config["process"]["capabilities"] = json::object(); });
    if (exists("/proc/sysrq-trigger")) CHECK(t.facts["/proc/sysrq-trigger"] == "EROFS");
    CHECK(t.facts["/proc/irq/default_smp_affinity"] == "EROFS");
    CHECK(t.facts["/proc/sys/kernel/core_pattern"] == "0");  // to read
    CHECK(has(t.ran.out, "/proc/sys/kernel/core_pattern=EROFS"));
    Bundle own({"sh", "-c", "cat /etc/secret; ls -A /etc/dir | head -c 1; probe write /etc/fixed x"});
    own.write("rootfs/etc/secret", "hidden");
    own.write("rootfs/etc/dir/file", "hidden");
    own.write("rootfs/etc/fixed", "old");
    own.config["root"]["readonly"] = false;
    own.config["linux"]["maskedPaths"] = {"/etc/secret", "/etc/dir", "/not/there"};
    own.config["linux"]["readonlyPaths"] = {"/etc/fixed", "/not/there/too"};
    own.save();
    Ran ran = own.run();
    CHECK(ran.out == "/etc/fixed=EROFS\n");
    CHECK(read(own / "rootfs/etc/fixed") == "old");
  }

  TEST_CASE("a read-only root is read-only, a writable one is not") {
    SKIP_UNLESS(is_root(), "root");
    CHECK(try_with({"probe", "write", "/new", "x"}).facts["/new"] == "EROFS");
    Bundle bundle({"probe", "write", "/new", "x"});
    bundle.config["root"]["readonly"] = false;
    bundle.save();
    CHECK(bundle.run().code == 0);
    CHECK(read(bundle / "rootfs/new") == "x");
  }

  TEST_CASE("/dev holds the specification's devices and no others, and what was asked for besides") {
    SKIP_UNLESS(is_root(), "root");
    Tried t = try_with({"sh", "-c", "ls /dev | tr '\\n' ' '; echo; probe stat /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty /dev/extra /dev/ptmx /dev/fd"},
                       [](Bundle& b) {
                         b.config["linux"]["devices"] = {{{"path", "/dev/extra"}, {"type", "c"}, {"major", 1}, {"minor", 3}, {"fileMode", 384}, {"uid", 5}, {"gid", 6}}};
                       });
    CHECK(t.ran.out.substr(0, t.ran.out.find('\n')) == "extra fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ");
    CHECK(has(t.facts["/dev/null"], "char mode=0666 uid=0 gid=0"));
    CHECK(has(t.facts["/dev/null"], "rdev=1:3"));
    CHECK(has(t.facts["/dev/tty"], "rdev=5:0"));
    CHECK(has(t.facts["/dev/extra"], "char mode=0600 uid=5 gid=6"));
    CHECK(has(t.facts["/dev/extra"], "rdev=1:3"));
    CHECK(has(t.facts["/dev/ptmx"], "link"));
    CHECK(has(t.facts["/dev/fd"], "link"));
  }

  TEST_CASE("a sysctl of the container's own namespaces is set, and one of the host is refused") {
    SKIP_UNLESS(is_root(), "root");
    Tried t = try_with({"cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/shmmni"}, [](Bundle& b) {
      b.config["linux"]["sysctl"] = {{"net.ipv4.ip_forward", "1"}, {"kernel.shmmni", "123"}};
    });
    CHECK(t.ran.out == "1\n123\n");
    Bundle bundle({"true"});
    bundle.config["linux"]["sysctl"] = {{"kernel.core_pattern", "|/evil"}};
    bundle.save();
    std::string before = read("/proc/sys/kernel/core_pattern");
    CHECK(bundle.run().code == 1);
    CHECK(read("/proc/sys/kernel/core_pattern") == before);
  }

  TEST_CASE("bind mounts are writable or not as they say, and a tmpfs has its options") {
    SKIP_UNLESS(is_root(), "root");
    Folder outside;
    outside.write("rw/file", "a");
    outside.write("ro/file", "b");
    outside.write("single", "c");
    Tried t = try_with({"sh", "-c", "probe write /rw/new x; probe write /ro/new x; probe write /mnt/single x; probe mounts"}, [&](Bundle& b) {
      b.config["mounts"].push_back(bind(outside / "rw", "/rw", {"bind"}));
      b.config["mounts"].push_back(bind(outside / "ro", "/ro", {"rbind", "ro", "nosuid", "nodev", "noexec"}));
      b.config["mounts"].push_back(bind(outside / "single", "/mnt/single", {"bind", "ro"}));
      b.config["mounts"].push_back({{"destination", "/scratch"}, {"type", "tmpfs"}, {"source", "tmpfs"}, {"options", {"size=128k", "mode=700", "noexec"}}});
    });
    CHECK(t.facts["/rw/new"] == "0");
    CHECK(read(outside / "rw/new") == "x");
    CHECK(t.facts["/ro/new"] == "EROFS");
    CHECK(has(t.facts["/mnt/single"], "options=ro"));
    CHECK(has(t.ran.out, "/mnt/single=EROFS"));
    CHECK(has(t.facts["/ro"], "options=ro,nosuid,nodev,noexec"));
    CHECK(has(t.facts["/scratch"], "tmpfs root=/ options=rw,noexec"));
    CHECK(has(t.facts["/scratch"], "size=128k,mode=700"));
  }

  TEST_CASE("a mount whose source is missing is an error that names it") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"true"});
    bundle.config["mounts"].push_back(bind("/no/such/thing", "/x", {"bind"}));
    bundle.save();
    Ran ran = bundle.run();
    CHECK(ran.code == 1);
    CHECK(has(ran.err, "/no/such/thing"));
  }

  TEST_CASE("in a user namespace of its own root is an ordinary user of the host, and what it makes belongs to that user") {
    SKIP_UNLESS(is_root(), "root");
    Bundle bundle({"sh", "-c", "probe status; probe stat /bin; touch /tmp/new; probe stat /tmp/new"});
    json map = json::array({{{"containerID", 0}, {"hostID", 100000}, {"size", 65536}}});
    bundle.config["linux"]["namespaces"].push_back({{"type", "user"}});
    bundle.config["linux"]["uidMappings"] = map;
    bundle.config["linux"]["gidMappings"] = map;
    bundle.config["root"]["readonly"] = false;
    bundle.save();
    REQUIRE(::chown((bundle / "rootfs/tmp").c_str(), 100000, 100000) == 0);
    Ran ran = bundle.run();
    CHECK(ran.code == 0);
    CHECK(ran.err == "");
    Facts facts = facts_of(ran.out);
    CHECK(facts["Uid"] == "0 0 0 0");
    CHECK(has(facts["/bin"], "uid=65534"));
    CHECK(has(facts["/tmp/new"], "uid=0 gid=0"));
    struct stat info;
    REQUIRE(::stat((bundle / "rootfs/tmp/new").c_str(), &info) == 0);
    CHECK(info.st_uid == 100000);
  }

  TEST_CASE("an id-mapped bind mount shows the host's owner as the container's") {
    SKIP_UNLESS(is_root(), "root");
    Folder outside;
    outside.write("data/file", "x");
    REQUIRE(::chown((outside / "data/file").c_str(), 1234, 1235) == 0);
    REQUIRE(::chown((outside / "data").c_str(), 1234, 1235) == 0);
    Tried t = try_with({"sh", "-c", "probe stat /data/file; probe write /data/new x"}, [&](Bundle& b) {
      b.config["process"]["user"] = {{"uid", 500}, {"gid", 501}};
      json mount = bind(outside / "data", "/data", {"bind"});
      mount["uidMappings"] = json::array({{{"containerID", 1234}, {"hostID", 500}, {"size", 1}}});
      mount["gidMappings"] = json::array({{{"containerID", 1235}, {"hostID", 501}, {"size", 1}}});
      b.config["mounts"].push_back(mount);
    });
    CHECK(has(t.facts["/data/file"], "uid=500 gid=501"));
    CHECK(t.facts["/data/new"] == "0");
    struct stat info;
    REQUIRE(::stat((outside / "data/new").c_str(), &info) == 0);
    CHECK(info.st_uid == 1234);
    CHECK(info.st_gid == 1235);
  }

  TEST_CASE("namespaces that the configuration does not name are the host's, and one with a path is joined") {
    SKIP_UNLESS(is_root(), "root");
    char ours[64] = {};
    REQUIRE(::readlink("/proc/self/ns/net", ours, sizeof ours - 1) > 0);
    Tried shared = try_with({"probe", "namespaces"}, [](Bundle& b) {
      json kept = json::array();
      for (const json& n : b.config["linux"]["namespaces"])
        if (n["type"] != "network") kept.push_back(n);
      b.config["linux"]["namespaces"] = kept;
    });
    CHECK(shared.facts["net"] == ours);
    Bundle first({"sleep", "60"});
    Box box;
    REQUIRE(runner_apart({"run", "-d", "-b", first.path(), box.id}, first).code == 0);
    std::string path = "/proc/" + std::to_string(box.state()["pid"].get<int>()) + "/ns/";
    for (const char* kind : {"net", "ipc", "uts", "pid"}) {
      CAPTURE(kind);
      char theirs[64] = {};
      REQUIRE(::readlink((path + kind).c_str(), theirs, sizeof theirs - 1) > 0);
      CHECK(theirs != std::string(ours));
      Tried joined = try_with({"probe", "namespaces"}, [&](Bundle& b) {
        b.config.erase("hostname");
        for (json& n : b.config["linux"]["namespaces"])
          if (n["type"] == (std::string(kind) == "net" ? "network" : kind)) n["path"] = path + kind;
      });
      CHECK(joined.facts[kind] == theirs);
    }
  }

  TEST_CASE("nothing of a container's mounts is seen on the host") {
    SKIP_UNLESS(is_root(), "root");
    std::string before = read("/proc/self/mountinfo");
    Bundle bundle({"sleep", "60"});
    Box box;
    REQUIRE(runner_apart({"run", "-d", "-b", bundle.path(), box.id}, bundle).code == 0);
    CHECK(read("/proc/self/mountinfo").find(bundle.path()) == std::string::npos);
    CHECK(read("/proc/self/mountinfo").size() == before.size());
  }
}
