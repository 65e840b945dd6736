// Copies of a session's writable layer: an overlay on such a copy shows what the session saw.
#include <doctest/doctest.h>
#include <linux/capability.h>
#include <sys/mman.h>
#include <unistd.h>

#include <chrono>
#include <map>
#include <sstream>

#include "isolate/overlay.h"
#include "isolate/sys/error.h"
#include "runner/snapshot/index.h"
#include "tests/kernel/snapshot_support.h"

using namespace tests;
using namespace runner::snapshot;
using isolate::sys::Fd;
using isolate::sys::open_file;

namespace {

constexpr std::uint32_t kFirst = 0x70000000, kOther = 0x70500000;

void done(int result, const char* what) {
  if (result == -1) throw std::runtime_error(std::string(what) + ": " + isolate::sys::error_text(errno));
}

/// The root of a session: `lower` as its image, and a fresh upper in `at`, for ids from `first`.
struct Root {
  std::string at, upper;
  Fd fd;
  Root(const std::string& folder, std::vector<std::string> lower, std::uint32_t first)
      : at(folder), upper(folder + "/upper") {
    for (const char* name : {"/upper", "/work", "/generated"}) isolate::sys::make_dirs(at + name, 0755);
    isolate::Plan plan;
    plan.privileged_start = true;
    plan.ids.uids = plan.ids.gids = {{0, first, 65536}};
    plan.root.overlay = isolate::Overlay{at + "/generated", std::move(lower), plan.ids, upper, at + "/work"};
    isolate::LayeredRoot made = isolate::layer_root(plan, isolate::Disk());
    fd = Fd(::openat(made.root.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    root_ = std::move(made.root), generated_ = std::move(made.generated);
  }
  int dir() const { return fd.get(); }

 private:
  Fd root_, generated_;
};

/// All that can be seen from the root, with ids as inside. Times of directories are those of the mount's own making here and there.
std::map<std::string, std::string> seen(const Root& root, std::uint32_t first) {
  std::map<std::string, std::string> all;
  std::istringstream lines(index_of(Fd(::openat(root.dir(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC))));
  std::string last;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string kind, mode, time, path, rest;
    std::uint32_t uid = 0, gid = 0;
    words >> kind;
    if (kind == "x") {
      // These two show ids of the host's.
      if (!line.starts_with("x security.capability") && !line.starts_with("x system.posix_acl"))
        all[last] += " " + line;
      continue;
    }
    if (kind == "h")
      words >> path;
    else
      words >> mode >> uid >> gid >> time >> path;
    std::getline(words, rest);
    last = path;
    if (kind == "d")
      all[path] = fmt::format("d {} {} {}", mode, uid - first, gid - first);
    else if (kind == "h")
      all[path] = "h" + rest;
    else
      all[path] = fmt::format("{} {} {} {} {}{}", kind, mode, uid - first, gid - first, time, rest);
  }
  return all;
}

std::string capability(std::uint32_t root) {
  vfs_ns_cap_data data{};
  data.magic_etc = VFS_CAP_REVISION_3 | VFS_CAP_FLAGS_EFFECTIVE;
  data.data[0].permitted = 1u << CAP_NET_RAW;
  data.rootid = root;
  return {reinterpret_cast<const char*>(&data), sizeof data};
}

/// An image as it lies on the host, ids from 0.
void make_image(const Folder& folder) {
  for (const char* name : {"image/etc/passwd", "image/gone", "image/dir/old", "image/dir/old2", "image/moved/a",
                           "image/moved/b", "image/keep", "image/two"})
    folder.write(name, std::string("image's ") + name);
  for (const char* name : {"/image/etc", "/image/dir", "/image/moved", "/image/keep"})
    done(::chmod((folder.path() + name).c_str(), 0755), "chmod");
  done(::chown((folder / "image/keep").c_str(), 5, 6), "chown");
}

/// user::rw- user:1001:r-- group::r-- mask::r-- other::---, of a session's ids.
std::string acl(std::uint32_t first) {
  struct {
    std::uint32_t version;
    struct {
      std::uint16_t tag, perm;
      std::uint32_t id;
    } entries[5];
  } list{2, {{1, 6, ~0u}, {2, 4, first + 1001}, {4, 4, ~0u}, {16, 4, ~0u}, {32, 0, ~0u}}};
  return {reinterpret_cast<const char*>(&list), sizeof list};
}

/// What a session may do, by its ids on the host.
void work(int root, std::uint32_t first) {
  auto write = [&](const char* name, const std::string& text, std::uint32_t id, mode_t mode) {
    Fd file(::openat(root, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    done(file.get(), name);
    isolate::sys::write_all(file.get(), text);
    done(::fchown(file.get(), first + id, first + id), "chown");
    done(::fchmod(file.get(), mode), "chmod");
    return file;
  };
  done(::unlinkat(root, "gone", 0), "unlink");
  // Opaque: removed and made again.
  done(::unlinkat(root, "dir/old", 0), "unlink");
  done(::unlinkat(root, "dir/old2", 0), "unlink");
  done(::unlinkat(root, "dir", AT_REMOVEDIR), "rmdir");
  done(::mkdirat(root, "dir", 0700), "mkdir");
  done(::fchownat(root, "dir", first + 1000, first + 1000, 0), "chown");
  write("dir/new", "new", 1000, 0644);
  // A directory of the image's under another name: as mv does it when rename(2) says EXDEV.
  if (::renameat(root, "moved", root, "renamed") == -1) {
    done(::mkdirat(root, "renamed", 0755), "mkdir");
    done(::fchownat(root, "renamed", first, first, 0), "chown");
    for (const char* name : {"a", "b"})
      done(::renameat(root, fmt::format("moved/{}", name).c_str(), root, fmt::format("renamed/{}", name).c_str()),
           "rename");
    done(::unlinkat(root, "moved", AT_REMOVEDIR), "rmdir");
  }
  write("keep", "changed", 5, 04755);
  write("etc/hosts", "hosts", 0, 0644);
  done(::linkat(root, "etc/hosts", root, "hard", 0), "link");
  done(::linkat(root, "two", root, "dir/two", 0), "link");
  done(::symlinkat("/etc/passwd", root, "link"), "symlink");
  done(::fchownat(root, "link", first + 7, first + 8, AT_SYMLINK_NOFOLLOW), "chown");
  done(::mknodat(root, "pipe", S_IFIFO | 0640, 0), "mkfifo");
  done(::fchownat(root, "pipe", first, first + 9, 0), "chown");
  done(::mknodat(root, "socket", S_IFSOCK | 0777, 0), "mksock");
  done(::fchownat(root, "socket", first, first, 0), "chown");
  Fd tagged = write("tagged", "x", 1000, 0755);
  done(::fsetxattr(tagged.get(), "user.mime_type", "text/x\0y", 8, 0), "xattr");
  done(::fsetxattr(tagged.get(), "security.capability", capability(first).data(), capability(first).size(), 0),
       "capability");
  Fd listed = write("listed", "acl", 1000, 0640);
  done(::fsetxattr(listed.get(), "system.posix_acl_access", acl(first).data(), acl(first).size(), 0), "acl");
  Fd sparse = write("sparse", "begin", 0, 0600);
  done(::ftruncate(sparse.get(), 64 << 20), "truncate");
  done(static_cast<int>(::pwrite(sparse.get(), "middle", 6, 32 << 20)), "write");
  write("strange \n\xff", "name", 0, 0644);
}

std::string attribute(int dir, const char* name, const char* attribute) {
  Fd file(::openat(dir, name, O_RDONLY | O_CLOEXEC));
  char value[1000];
  ssize_t size = ::fgetxattr(file.get(), attribute, value, sizeof value);
  return size < 0 ? isolate::sys::error_text(errno) : std::string(value, static_cast<std::size_t>(size));
}

}  // namespace

TEST_SUITE("snapshot store") {
  TEST_CASE("an overlay on a copied layer shows what the original showed, to another range of ids") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    make_image(test.folder);
    std::string image = test.folder / "image";
    Root original(test.folder / "original", {image}, kFirst);
    work(original.dir(), kFirst);
    auto before = seen(original, kFirst);
    CHECK(before.size() >= 20);
    CHECK(!before.contains("gone"));
    CHECK(!before.contains("dir/old"));
    CHECK(!before.contains("moved"));

    Draft draft = test.store.draft();
    CopiedLayer copied = copy_layer(original.upper, draft.make_layer("0"), kFirst);
    CHECK(copied.files > 15);
    CHECK(copied.bytes < 2 << 20);  // holes stay holes
    (void)draft.publish("base", sample_manifest());
    Snapshot base = test.store.get("base");
    base.verify(Verify::Full);

    std::vector<std::string> lower = base.layer_paths();
    lower.push_back(image);
    Root fork(test.folder / "fork", lower, kOther);
    auto after = seen(fork, kOther);
    for (const auto& [path, what] : before) CHECK_MESSAGE(after[path] == what, path);
    CHECK(after.size() == before.size());
    CHECK(attribute(fork.dir(), "tagged", "user.mime_type") == std::string("text/x\0y", 8));
    CHECK(attribute(fork.dir(), "tagged", "security.capability") == capability(kOther));
    CHECK(attribute(fork.dir(), "listed", "system.posix_acl_access") == acl(kOther));
    struct stat info;
    ::fstatat(fork.dir(), "sparse", &info, 0);
    CHECK(info.st_blocks < 1000);

    // Once more, on top of it: a snapshot of what was restored from a snapshot.
    done(::unlinkat(fork.dir(), "dir/new", 0), "unlink");
    done(::renameat(fork.dir(), "tagged", fork.dir(), "etc/tagged"), "rename");
    done(::unlinkat(fork.dir(), "hard", 0), "unlink");
    before = seen(fork, kOther);
    Draft second = test.store.draft();
    copy_layer(fork.upper, second.make_layer("0"), kOther);
    Manifest manifest = sample_manifest();
    manifest.layers = {"0", "base/0"};
    lower = second.publish("second", manifest).layer_paths();
    lower.push_back(image);
    Root again(test.folder / "again", lower, kFirst);
    after = seen(again, kFirst);
    for (const auto& [path, what] : before) CHECK_MESSAGE(after[path] == what, path);
    CHECK(after.size() == before.size());
    CHECK(!after.contains("hard"));
    CHECK(attribute(again.dir(), "etc/tagged", "security.capability") == capability(kFirst));
  }

  TEST_CASE("the layer of a real session is one that can be copied") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    Away away({}, {"sh", "-c",
                   "echo hi >/tmp/a; mkdir /tmp/d; ln /tmp/a /tmp/d/b; rm -f /etc/hosts; echo mine >/workspace/w; "
                   "touch ready; exec sleep 60"});
    std::string upper = data_dir() + "/sessions/" + away.box.id + "/fs/upper";
    REQUIRE(eventually([&] { return exists(upper + "/tmp/d/b"); }));
    REQUIRE(tests::runner({"pause", away.box.id}).code == 0);
    struct stat info;
    REQUIRE(::stat(upper.c_str(), &info) == 0);
    Draft draft = test.store.draft();
    CopiedLayer copied = copy_layer(upper, draft.make_layer("0"), info.st_uid);
    CHECK(copied.files >= 4);
    Snapshot made = draft.publish("base", sample_manifest());
    made.verify(Verify::Full);
    CHECK(read(made.layer_paths().at(0) + "/tmp/a") == "hi\n");
    CHECK(has(made.read("layers/0.index"), "h tmp/d/b tmp/a\n"));
  }

  TEST_CASE("what does not belong into a layer is refused, and the file is named") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    auto refused = [&](const std::function<void(const std::string&)>& make) {
      Folder from;
      make(from.path());
      done(::chown(from.path().c_str(), kFirst, kFirst), "chown");
      Draft draft = test.store.draft();
      return thrown([&] { copy_layer(from.path(), draft.make_layer("0"), kFirst); });
    };
    auto own = [](const std::string& path, std::uint32_t id) { done(::lchown(path.c_str(), id, kFirst), "chown"); };
    CHECK(refused([](auto&) {}) == "");
    CHECK(refused([&](auto& at) { done(::mkdir((at + "/d").c_str(), 0755), "mkdir"), own(at + "/d", 0); }) ==
          "copy d: its id 0 is not among the session's, 1879048192 to 1879113727");
    CHECK(has(refused([&](auto& at) {
                done(::symlink("x", (at + "/l").c_str()), "symlink"), own(at + "/l", kFirst + 65536);
              }),
              "copy l: its id 1879113728"));
    CHECK(has(refused([&](auto& at) {
                done(::mknod((at + "/null").c_str(), S_IFCHR | 0666, 0x103), "mknod"), own(at + "/null", kFirst);
              }),
              "copy null: it is a device (c 1:3)"));
    CHECK(has(refused([&](auto& at) {
                Fd dir(::open(at.c_str(), O_RDONLY | O_DIRECTORY));
                std::string name(200, 'n');
                for (int i = 0; i < 30; ++i) {
                  done(::mkdirat(dir.get(), name.c_str(), 0755), "mkdir");
                  dir = Fd(::openat(dir.get(), name.c_str(), O_RDONLY | O_DIRECTORY));
                  done(::fchown(dir.get(), kFirst, kFirst), "chown");
                }
              }),
              "File name too long"));
    CHECK(test.leftovers() == "");
  }

  TEST_CASE("deep and wide trees are copied, and the rate is told") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    Folder from;
    std::string deep = from.path();
    for (int i = 0; i < 1500; ++i) done(::mkdir((deep += "/d").c_str(), 0755), "mkdir");
    for (int i = 0; i < 2000; ++i) from.write("small/" + std::to_string(i), std::string(1000, 's'));
    from.write("big", std::string(100 << 20, 'b'));
    Draft draft = test.store.draft();
    CopiedLayer copied = copy_layer(from.path(), draft.make_layer("0"), 0);
    CHECK(copied.files == 3502);
    CHECK((copied.cloned || copied.bytes == (100 << 20) + 2'000'000));
    auto begin = std::chrono::steady_clock::now();
    Snapshot made = draft.publish("base", sample_manifest());
    auto published =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count();
    begin = std::chrono::steady_clock::now();
    made.verify(Verify::Full);
    auto verified =
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - begin).count();
    MESSAGE(copied.files, " names, ", copied.bytes >> 20, " MiB: copied in ", copied.ms, " ms",
            std::string(copied.cloned ? " by reflink" : ""), ", published in ", published, " ms, verified in ",
            verified, " ms");
  }
}
