// The mounts of config.json: kinds, options, id maps.
#include <sys/mount.h>

#include "runner/oci/hierarchies.h"
#include "runner/oci/mount_options.h"
#include "tests/unit/oci_support.h"

using namespace runner;
using namespace runner::oci;
using namespace runner::oci::test;
using isolate::Bind;
using isolate::CgroupView;
using isolate::FileSystem;

namespace {

using Options = std::vector<std::string>;

Json with_mount(const Json& mount) {
  Json config = plain_config();
  config["mounts"] = Json::array({mount});
  return config;
}

Json bind_with(const Options& options) {
  return {{"destination", "/mnt"}, {"type", "bind"}, {"source", "/data"}, {"options", options}};
}

Json tmpfs_with(const Options& options) {
  return {{"destination", "/mnt"}, {"type", "tmpfs"}, {"source", "tmpfs"}, {"options", options}};
}

isolate::Mount read_one(const Json& mount) {
  Container container = good(with_mount(mount));
  REQUIRE(container.plan.mounts.size() == 1);
  return container.plan.mounts[0];
}

constexpr std::uint64_t kAccessTime = MOUNT_ATTR__ATIME;

}  // namespace

TEST_CASE("a bind is told by its type or its option, and recursive by rbind alone") {
  CHECK(read_one(bind_with({})) == isolate::Mount{"/mnt", Bind{"/data", false}});
  CHECK(read_one(bind_with({"rbind"})) == isolate::Mount{"/mnt", Bind{"/data", true}});
  Json mount = tmpfs_with({"ro", "bind"});
  mount["source"] = "sub/dir";
  CHECK(read_one(mount) == isolate::Mount{"/mnt", Bind{.from = "/bundle/sub/dir", .recursive = false, .replaces = true}, MOUNT_ATTR_RDONLY});
  mount.erase("source");
  CHECK(mistakes(with_mount(mount)) == "config.json: mounts[0].source: is missing: a bind needs it");
}

TEST_CASE("the cgroup hierarchy is a view, whichever version is named") {
  for (const char* type : {"cgroup", "cgroup2"})
    CHECK(read_one({{"destination", "/sys/fs/cgroup"},
                    {"type", type},
                    {"source", "cgroup"},
                    {"options", {"ro", "nosuid", "rprivate"}}}) == isolate::Mount{"/sys/fs/cgroup", CgroupView{},
                                                                                  MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID,
                                                                                  0, 0, 0, MS_PRIVATE | MS_REC});
}

TEST_CASE("a file system gets its own options, and the mount the others") {
  isolate::Mount mount = read_one(tmpfs_with({"nosuid", "size=65536k", "mode=755", "nodev", "inode64"}));
  CHECK(std::get<FileSystem>(mount.what) ==
        FileSystem{"tmpfs", "tmpfs", {{"size", "65536k"}, {"mode", "755"}, {"inode64", ""}}});
  CHECK(mount.set == (MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  CHECK(mount.clear == 0);
}

TEST_CASE("flags of a superblock go to a new file system, and are passed over for a bind") {
  CHECK(std::get<FileSystem>(read_one(tmpfs_with({"sync", "dirsync", "lazytime"})).what).options ==
        std::vector<std::pair<std::string, std::string>>{{"sync", ""}, {"dirsync", ""}, {"lazytime", ""}});
  Container container = good(with_mount(bind_with({"rbind", "sync"})));
  CHECK(container.warnings ==
        Options{"mounts[0].options[1]: ignoring sync: it belongs to a file system, and not to a bind of it"});
}

TEST_CASE("read-only is an attribute of the mount; a device is told as well") {
  CHECK(std::get<FileSystem>(
            read_one({{"destination", "/sys"}, {"type", "sysfs"}, {"source", "sysfs"}, {"options", {"ro"}}}).what)
            .options.empty());
  isolate::Mount disk =
      read_one({{"destination", "/disk"}, {"type", "ext4"}, {"source", "/dev/vdb"}, {"options", {"ro"}}});
  CHECK(disk.set == MOUNT_ATTR_RDONLY);
  CHECK(std::get<FileSystem>(disk.what).options == std::vector<std::pair<std::string, std::string>>{{"ro", ""}});
}

TEST_CASE("the last word on an attribute counts, and a bind also loses what its source has") {
  isolate::Mount mount = read_one(bind_with({"rbind", "ro", "nosuid", "noexec", "rw", "exec", "dev"}));
  CHECK(mount.set == MOUNT_ATTR_NOSUID);
  CHECK(mount.clear == (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC | MOUNT_ATTR_NODEV));
  mount = read_one(tmpfs_with({"rw", "exec", "noexec"}));
  CHECK(mount.set == MOUNT_ATTR_NOEXEC);
  CHECK(mount.clear == 0);  // what is new has nothing to lose
}

TEST_CASE("recursive attributes are apart") {
  isolate::Mount mount = read_one(bind_with({"rbind", "nosuid", "rro", "rnodev", "rexec"}));
  CHECK(mount.set == MOUNT_ATTR_NOSUID);
  CHECK(mount.clear == 0);
  CHECK(mount.set_recursive == (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV));
  CHECK(mount.clear_recursive == MOUNT_ATTR_NOEXEC);
}

TEST_CASE("access time is one field of several bits: it is cleared whole before it is set") {
  auto access = [](const Options& options) {
    Options all{"rbind"};
    all.insert(all.end(), options.begin(), options.end());
    isolate::Mount mount = read_one(bind_with(all));
    CHECK((mount.clear == 0 || mount.clear == (kAccessTime | MOUNT_ATTR_NODIRATIME)));
    return std::pair{mount.set, mount.clear != 0};
  };
  CHECK(access({}) == std::pair{std::uint64_t{0}, false});
  CHECK(access({"relatime"}) == std::pair{std::uint64_t{MOUNT_ATTR_RELATIME}, true});
  CHECK(access({"noatime"}) == std::pair{std::uint64_t{MOUNT_ATTR_NOATIME}, true});
  CHECK(access({"noatime", "strictatime"}) == std::pair{std::uint64_t{MOUNT_ATTR_STRICTATIME}, true});
  CHECK(access({"noatime", "atime"}) == std::pair{std::uint64_t{MOUNT_ATTR_RELATIME}, true});
  CHECK(access({"noatime", "nostrictatime"}) == std::pair{std::uint64_t{MOUNT_ATTR_NOATIME}, true});
  CHECK(access({"nodiratime"}) == std::pair{std::uint64_t{MOUNT_ATTR_NODIRATIME}, true});
  // As with mount(2): who takes one way away and names no other leaves what there is.
  CHECK(access({"atime"}) == std::pair{std::uint64_t{0}, false});
  CHECK(access({"norelatime", "diratime"}) == std::pair{std::uint64_t{0}, false});

  isolate::Mount mount = read_one(tmpfs_with({"strictatime"}));
  CHECK(mount.set == MOUNT_ATTR_STRICTATIME);
  CHECK(mount.clear == kAccessTime);  // mount_setattr(2) wants it
  mount = read_one(tmpfs_with({"relatime", "nodiratime"}));
  CHECK(mount.set == MOUNT_ATTR_NODIRATIME);
  CHECK(mount.clear == 0);
  mount = read_one(bind_with({"rbind", "rnoatime"}));
  CHECK(mount.set_recursive == MOUNT_ATTR_NOATIME);
  CHECK(mount.clear_recursive == kAccessTime);
}

TEST_CASE("a bind with any option has what it names, and no attribute of its source") {
  auto replaces = [](const Options& options) { return std::get<Bind>(read_one(bind_with(options)).what).replaces; };
  CHECK(!replaces({}));
  CHECK(!replaces({"rbind", "rprivate", "rnosuid"}));
  for (const char* option : {"ro", "rw", "dev", "nosymfollow", "relatime", "nodiratime"}) CHECK(replaces({"bind", option}));
}

TEST_CASE("a source below an earlier mount is looked for inside") {
  Json config = with_mount(bind_with({}));
  auto add = [&](const char* from) {
    config["mounts"].push_back({{"destination", "/copy"}, {"source", from}, {"options", {"rbind"}}});
    isolate::Mount last = good(config).plan.mounts.back();
    config["mounts"].erase(config["mounts"].size() - 1);
    return std::get<Bind>(last.what);
  };
  CHECK(add("rootfs/mnt/x").inside);
  CHECK(add("/bundle/rootfs/mnt").from == "/mnt");
  CHECK(!add("/bundle/rootfs/mnt2").inside);
  CHECK(add("/bundle/rootfs/mnt2").from == "/bundle/rootfs/mnt2");
  CHECK(!add("/mnt").inside);
  config["mounts"].push_back({{"destination", "/copy"}, {"source", "rootfs/mnt"}, {"options", {"rbind", "idmap"}}});
  add_user_namespace(config);
  CHECK(mistakes(config) == "config.json: mounts[1]: is made of what lies inside, and can only be id-mapped where there is no user namespace");
}

TEST_CASE("hierarchies of cgroup v1 are folders below the view") {
  Json config = with_mount({{"destination", "/sys/fs/cgroup"}, {"type", "cgroup"}, {"source", "cgroup"}, {"options", {"ro", "nosuid"}}});
  isolate::CgroupHost host;
  host.v2 = "/sys/fs/cgroup/unified";
  auto shown = [&](const char* group) {
    isolate::Plan plan = good(config).plan;
    show_hierarchies(plan, group, host);
    return plan.mounts;
  };
  CHECK(std::holds_alternative<CgroupView>(shown("/a/c1").at(0).what));  // cgroup v2 alone
  host.v1 = {{"cpu", "/sys/fs/cgroup/cpu,cpuacct"}, {"cpuacct", "/sys/fs/cgroup/cpu,cpuacct"}, {"name=systemd", "/sys/fs/cgroup/systemd"}};
  std::vector<isolate::Mount> mounts = shown("/a/c1");
  REQUIRE(mounts.size() == 6);
  CHECK(std::get<FileSystem>(mounts[0].what).type == "tmpfs");
  std::vector<std::string> folders;
  for (std::size_t i = 1; i < mounts.size(); ++i) {
    CHECK(mounts[i].set == (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID));
    folders.push_back(mounts[i].to + " " + std::get<Bind>(mounts[i].what).from);
  }
  CHECK(folders == std::vector<std::string>{"/sys/fs/cgroup/cpu /sys/fs/cgroup/cpu,cpuacct/a/c1", "/sys/fs/cgroup/cpu,cpuacct /sys/fs/cgroup/cpu,cpuacct/a/c1",
                                            "/sys/fs/cgroup/cpuacct /sys/fs/cgroup/cpu,cpuacct/a/c1", "/sys/fs/cgroup/systemd /sys/fs/cgroup/systemd/a/c1",
                                            "/sys/fs/cgroup/unified /sys/fs/cgroup/unified/a/c1"});
  CHECK(shown("").size() == 1);  // cgroups are disabled
  add_namespace(config, "cgroup");
  CHECK(shown("/a/c1").size() == 6);
}

TEST_CASE("propagation is one word") {
  CHECK(read_one(bind_with({"rbind", "rslave"})).propagation == (MS_SLAVE | MS_REC));
  CHECK(read_one(bind_with({"bind", "shared"})).propagation == MS_SHARED);
  CHECK(read_one(bind_with({"bind", "rprivate", "rprivate"})).propagation == (MS_PRIVATE | MS_REC));
  CHECK(read_one(bind_with({"bind"})).propagation == 0);
  CHECK(mistakes(with_mount(bind_with({"rslave", "shared"}))) ==
        "config.json: mounts[0].options[1]: shared cannot be combined with the one before");
}

TEST_CASE("options that are not built, or not any, are refused by name") {
  CHECK(std::get<isolate::FileSystem>(good(with_mount(tmpfs_with({"tmpcopyup"}))).plan.mounts[0].what).copy_up);
  CHECK(mistakes(with_mount(bind_with({"bind", "remount"}))) ==
        "config.json: mounts[0].options[1]: remount is not supported by this version");
  CHECK(mistakes(with_mount(bind_with({"bind", "size=5"}))) ==
        "config.json: mounts[0].options[1]: 'size=5' is not a mount option");
  CHECK(mistakes(with_mount(tmpfs_with({"", "=x"}))) ==
        "config.json: mounts[0].options[0]: '' is not a mount option\nconfig.json: mounts[0].options[1]: '=x' is not a "
        "mount option");
  CHECK(mistakes(with_mount({{"destination", "/x"}, {"source", "y"}})) ==
        "config.json: mounts[0].type: is missing: only a bind can do without");
}

TEST_CASE("options without effect in the kernel are accepted") {
  isolate::Mount mount = read_one(tmpfs_with({"defaults", "mand", "nomand", "silent", "loud"}));
  CHECK(mount == isolate::Mount{"/mnt", FileSystem{"tmpfs", "tmpfs", {}, false, true}});
}

TEST_CASE("a destination is absolute, clean, and inside") {
  Json mount = bind_with({});
  mount["destination"] = "//a/./b//";
  CHECK(read_one(mount).to == "/a/b");
  mount["destination"] = "a";
  Container container = good(with_mount(mount));
  CHECK(container.plan.mounts[0].to == "/a");
  CHECK(container.warnings == Options{"mounts[0].destination: 'a' is not absolute: it is taken from the root"});
  mount["destination"] = "/a/../../etc";
  CHECK(mistakes(with_mount(mount)) ==
        "config.json: mounts[0].destination: must not contain '..', as '/a/../../etc' does");
  mount["destination"] = "/bundle/rootfs/mnt/x";  // where it is on the host
  CHECK(read_one(mount).to == "/mnt/x");
  mount["destination"] = "/bundle/rootfs2";
  CHECK(read_one(mount).to == "/bundle/rootfs2");
  for (const char* root : {"/", "//", "/."}) {
    mount["destination"] = root;
    CHECK(mistakes(with_mount(mount)) == "config.json: mounts[0].destination: must not be the root itself");
  }
  mount["destination"] = "/a\nb\x1b";
  CHECK(read_one(mount).to == "/a\nb\x1b");  // a strange name, but a name
}

TEST_CASE("the group of terminals is dropped where the user namespace does not have it") {
  Json config = with_mount({{"destination", "/dev/pts"},
                            {"type", "devpts"},
                            {"source", "devpts"},
                            {"options", {"newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}}});
  auto options = [&] { return std::get<FileSystem>(good(config).plan.mounts[0].what).options; };
  CHECK(options() ==
        std::vector<std::pair<std::string, std::string>>{{"ptmxmode", "0666"}, {"mode", "0620"}, {"gid", "5"}});
  add_user_namespace(config);
  CHECK(options().size() == 3);
  config["linux"]["gidMappings"][0]["size"] = 5;
  CHECK(options() == std::vector<std::pair<std::string, std::string>>{{"ptmxmode", "0666"}, {"mode", "0620"}});
}

TEST_CASE("a read-only /dev is made read-only after it is filled") {
  Json config =
      with_mount({{"destination", "/dev/"}, {"type", "tmpfs"}, {"source", "tmpfs"}, {"options", {"ro", "nosuid"}}});
  isolate::Plan plan = good(config).plan;
  CHECK(plan.read_only_dev);
  CHECK(plan.mounts[0].set == MOUNT_ATTR_NOSUID);
  config["mounts"][0]["options"] = {"ro", "rbind"};
  config["mounts"][0]["source"] = "/dev";
  plan = good(config).plan;
  CHECK(!plan.read_only_dev);
  CHECK(plan.mounts[0].set == MOUNT_ATTR_RDONLY);
}

TEST_CASE("an id-mapped mount has both maps, or those of the user namespace") {
  Json mount = bind_with({"bind"});
  mount["uidMappings"] = mount["gidMappings"] = Json::parse(R"([{"containerID": 0, "hostID": 5000, "size": 10}])");
  CHECK(std::get<Bind>(read_one(mount).what).ids == isolate::IdMap{{{0, 5000, 10}}, {{0, 5000, 10}}});
  mount.erase("gidMappings");
  CHECK(mistakes(with_mount(mount)) ==
        "config.json: mounts[0].gidMappings: is missing: an id-mapped mount needs both maps");

  Json config = with_mount(bind_with({"bind", "idmap"}));
  CHECK(mistakes(config).find("or a user namespace to take them from") != std::string::npos);
  add_user_namespace(config);
  CHECK(std::get<Bind>(good(config).plan.mounts[0].what).ids ==
        isolate::IdMap{{{0, 100000, 1000}}, {{0, 100000, 1000}}});
  Json joined = with_mount(bind_with({"bind", "idmap"}));
  add_namespace(joined, "user", "/proc/1/ns/user");
  CHECK(std::get<Bind>(good(joined).plan.mounts[0].what).ids_of == "/proc/1/ns/user");
  config["mounts"][0]["options"] = {"bind", "ridmap"};
  good(config);
  config["mounts"][0]["options"] = {"rbind", "ridmap"};
  CHECK(std::get<Bind>(good(config).plan.mounts[0].what).ids_recursive);
  config["mounts"][0] = tmpfs_with({"idmap"});
  CHECK(mistakes(config) == "config.json: mounts[0]: can only be id-mapped when it is a bind");
  LoadOptions ordinary = plain_options();
  ordinary.privileged = false;
  config["mounts"][0] = bind_with({"bind", "idmap"});
  CHECK(mistakes(config, ordinary) == "config.json: mounts[0]: can only be id-mapped by root");
}

TEST_CASE("the table of options is complete") {
  // All of runc 1.1's, but acl and noacl: those are a file system's own.
  for (const char* name : {"async",
                           "atime",
                           "bind",
                           "defaults",
                           "dev",
                           "diratime",
                           "dirsync",
                           "exec",
                           "iversion",
                           "lazytime",
                           "loud",
                           "mand",
                           "noatime",
                           "nodev",
                           "nodiratime",
                           "noexec",
                           "noiversion",
                           "nolazytime",
                           "nomand",
                           "norelatime",
                           "nostrictatime",
                           "nosuid",
                           "nosymfollow",
                           "private",
                           "ratime",
                           "rbind",
                           "rdev",
                           "rdiratime",
                           "relatime",
                           "remount",
                           "rexec",
                           "rnoatime",
                           "rnodev",
                           "rnodiratime",
                           "rnoexec",
                           "rnorelatime",
                           "rnostrictatime",
                           "rnosuid",
                           "rnosymfollow",
                           "ro",
                           "rprivate",
                           "rrelatime",
                           "rro",
                           "rrw",
                           "rshared",
                           "rslave",
                           "rstrictatime",
                           "rsuid",
                           "rsymfollow",
                           "runbindable",
                           "rw",
                           "shared",
                           "silent",
                           "slave",
                           "strictatime",
                           "suid",
                           "symfollow",
                           "sync",
                           "tmpcopyup",
                           "unbindable"})
    CHECK_MESSAGE(find_mount_option(name), name);
  CHECK(!find_mount_option("size"));
  CHECK(!find_mount_option(""));
  CHECK(!find_mount_option("zzz"));
}
