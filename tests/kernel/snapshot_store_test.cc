// The store of snapshots: complete or not there, as signed or refused, and not removed while it is used.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "isolate/sys/error.h"
#include "runner/snapshot/keys.h"
#include "tests/kernel/snapshot_support.h"

using namespace tests;
using namespace runner::snapshot;
using isolate::sys::list_dir;
using isolate::sys::open_file;

namespace {

void put(const std::string& path, const std::string& bytes) {
  isolate::sys::Fd file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  isolate::sys::write_all(file.get(), bytes);
}

/// What verification says: "FILE: WHY".
std::string fault(const TestStore& test, const std::string& name, Verify depth = Verify::Full) {
  try {
    test.store.get(name).verify(depth);
  } catch (const BadSnapshot& error) {
    return error.file() + ": " + error.why();
  }
  return {};
}

/// Nobody sees by its times that a file, or what is in a directory, was changed.
struct SameTimes {
  std::string path;
  struct stat info;
  explicit SameTimes(const std::string& of) : path(of) { ::lstat(path.c_str(), &info); }
  ~SameTimes() { set(); }
  void set() const {
    timespec times[] = {info.st_atim, info.st_mtim};
    ::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW);
  }
};

/// A file while the object lives changed, and then as it was.
struct Changed {
  SameTimes times;
  std::string before;
  Changed(const std::string& file, const std::string& bytes) : times(file), before(read(file)) {
    put(times.path, bytes);
    times.set();
  }
  ~Changed() { put(times.path, before); }
};

pid_t publisher(TestStore& test, const std::string& name, std::size_t pages) {
  pid_t pid = ::fork();
  if (pid != 0) return pid;
  std::string error = thrown([&] {
    Draft draft = test.store.draft();
    fill(draft, pages);
    (void)draft.publish(name, sample_manifest());
  });
  ::_exit(error.empty() ? 0 : has(error, "File exists") ? 17 : 1);
}

int status_of(pid_t pid) {
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

struct SmallDisk {
  std::string at;
  SmallDisk(const std::string& path, const std::string& size) : at(path) {
    isolate::sys::make_dirs(at, 0700);
    if (::mount("tmpfs", at.c_str(), "tmpfs", 0, ("size=" + size).c_str()))
      throw std::runtime_error("mount a small disk");
  }
  ~SmallDisk() { ::umount2(at.c_str(), MNT_DETACH); }
};

}  // namespace

TEST_SUITE("snapshot store") {
  TEST_CASE("what is published is found again, root only, and verifies") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    CHECK(test.store.list().empty());
    CHECK(!test.store.find("base"));
    Manifest made = publish(test.store, "base").manifest();
    Snapshot found = test.store.get("base");
    CHECK(found.manifest() == made);
    CHECK(made.name == "base");
    CHECK(made.counter == 1);
    CHECK(made.id.size() == 32);
    CHECK(made.files.size() == 6);
    CHECK(found.layer_paths() == std::vector<std::string>{test.path("base") + "/layers/0"});
    CHECK(found.read("files/shm.tar") == "not really a tar");
    CHECK(fault(test, "base") == "");
    CHECK(publish(test.store, "next").manifest().counter == 2);
    test.store.remove("next");
    CHECK(publish(test.store, "next").manifest().counter == 3);
    CHECK(test.leftovers() == "");
    struct stat info;
    for (const std::string& path :
         {test.path(), test.path("base"), test.path("base") + "/criu", test.path("base") + "/criu/core-1.img",
          test.path("base") + "/manifest.json", test.key()}) {
      CAPTURE(path);
      REQUIRE(::lstat(path.c_str(), &info) == 0);
      CHECK((info.st_mode & 077) == 0);
    }
    CHECK(has(thrown([&] { publish(test.store, "base"); }),
              "make snapshot base (`runner snapshot rm base` would free the name): File exists"));
    CHECK(has(thrown([&] { publish(test.store, "../x"); }), "a snapshot's name is like an id"));
    CHECK(test.leftovers() == "");
  }

  TEST_CASE("a flipped bit in any file is refused and the file is named") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    publish(test.store, "base");
    std::vector<std::string> files{"manifest.json"};
    for (const File& file : test.store.get("base").manifest().files) files.push_back(file.path);
    for (const char* file : {"file", "dir/with\nnewline"}) files.push_back(std::string("layers/0/") + file);
    for (const std::string& file : files) {
      std::string path = test.path("base") + "/" + file, bytes = read(path);
      for (std::size_t sample = 0; sample < 40 && !bytes.empty(); ++sample) {
        std::string flipped = bytes;
        std::size_t at = sample * (bytes.size() - 1) / 39;
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << sample % 8));
        Changed change(path, flipped);
        std::string why = fault(test, "base");
        if (!has(why, file.find('\n') == std::string::npos ? file + ": " : "with%0Anewline: "))
          FAIL(file, " byte ", at, ": ", why);
        CHECK(has(why, "change"));
        Folder to;
        isolate::sys::Fd dir = open_file(to.path(), O_RDONLY | O_DIRECTORY);
        bool is_image = file.starts_with("criu/");
        if (is_image) CHECK(thrown([&] { test.store.get("base").take_verified(dir.get(), "../store", Verify::Full); }) != "");
        if (file == "criu/pages-1.img") CHECK(fault(test, "base", Verify::Metadata) == "");
      }
    }
  }

  TEST_CASE("files that are missing, added, longer, cut or exchanged for links are named") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    std::vector<File> files = publish(test.store, "base").manifest().files;
    std::string at = test.path("base");
    for (const File& file : files) {
      std::string path = at + "/" + file.path, aside = test.folder / "aside";
      CAPTURE(file.path);
      REQUIRE(::rename(path.c_str(), aside.c_str()) == 0);
      CHECK(fault(test, "base") == file.path + ": it is missing");
      REQUIRE(::symlink(aside.c_str(), path.c_str()) == 0);
      CHECK(fault(test, "base") == file.path + ": it was replaced by something else");
      ::unlink(path.c_str());
      REQUIRE(::rename(aside.c_str(), path.c_str()) == 0);
      Changed change(path, read(path) + "x");
      CHECK(has(fault(test, "base", Verify::Metadata), file.path + ": it was changed: it has"));
    }
    for (const char* extra :
         {"criu/x.img", "files/.hidden", "layers/1", "layers/1.index", "extra", "layers/0/extra", "layers/0/dir/x"}) {
      CAPTURE(extra);
      SameTimes layer(at + "/layers/0"), dir(at + "/layers/0/dir");
      put(at + "/" + extra, "x");
      CHECK(has(fault(test, "base", Verify::Metadata), std::string(extra) + ": it was added"));
      ::unlink((at + "/" + extra).c_str());
    }
    CHECK(fault(test, "base") == "");
    std::string manifest = test.path("base") + "/manifest.json", text = read(manifest);
    for (std::size_t length : {std::size_t{0}, std::size_t{1}, text.size() / 2, text.size() - 1}) {
      Changed change(manifest, text.substr(0, length));
      CHECK(has(fault(test, "base"), "manifest.json: it was cut or changed"));
    }
    ::unlink(manifest.c_str());
    CHECK(fault(test, "base") == "manifest.json: it is missing");
    CHECK(test.store.list().at(0).why == "manifest.json: it is missing");
    test.store.remove("base");
    CHECK(test.store.list().empty());
  }

  TEST_CASE("a layer's owner, mode, time, attribute, link target and whiteout count") {
    SKIP_UNLESS(is_root(), "root");
    auto changed = [](const std::function<int(const std::string& layer)>& change) {
      TestStore test;
      std::string layer = publish(test.store, "base").layer_paths().at(0);
      if (change(layer)) return std::string("the change failed");
      return fault(test, "base", Verify::Metadata);
    };
    CHECK(changed([](auto& l) { return ::chown((l + "/file").c_str(), 0, 1000); }) ==
          "layers/0/file: its owner was changed");
    CHECK(changed([](auto& l) { return ::chmod((l + "/file").c_str(), 04755); }) ==
          "layers/0/file: its mode was changed");
    CHECK(changed([](auto& l) { return ::chmod((l + "/pipe").c_str(), 0666); }) ==
          "layers/0/pipe: its mode was changed");
    CHECK(changed([](auto& l) { return ::setxattr((l + "/file").c_str(), "user.note", "m", 1, 0); }) ==
          "layers/0/file: its attributes were changed");
    CHECK(changed([](auto& l) { return ::removexattr((l + "/dir").c_str(), "trusted.overlay.opaque"); }) ==
          "layers/0/dir: its attributes were changed");
    timespec times[] = {{0, 0}, {0, 0}};
    CHECK(changed([&](auto& l) { return ::utimensat(AT_FDCWD, (l + "/file").c_str(), times, 0); }) ==
          "layers/0/file: its time was changed");
    CHECK(changed([](auto& l) { return ::rename((l + "/gone").c_str(), (l + "/gono").c_str()); }) ==
          "layers/0/gono: it was added");
  }

  TEST_CASE("another key, a key of others and a lost key refuse all") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    publish(test.store, "base");
    std::string key = read(test.key());
    CHECK(key.size() == 32);
    put(test.key(), std::string(32, 'x'));
    CHECK(has(fault(test, "base"), "signed with another key"));
    put(test.key(), "short");
    CHECK(has(thrown([&] { (void)test.store.get("base"); }), "is no file of 32 bytes"));
    put(test.key(), key);
    ::chmod(test.key().c_str(), 0640);
    CHECK(has(thrown([&] { (void)test.store.get("base"); }), "open to others"));
    ::chmod(test.key().c_str(), 0600);
    CHECK(fault(test, "base") == "");
    ::unlink(test.key().c_str());
    CHECK(has(fault(test, "base"), "the store has no key any more"));
    // One snapshot in the place of another: its signature is good.
    put(test.key(), key);
    REQUIRE(::rename(test.path("base").c_str(), test.path("other").c_str()) == 0);
    CHECK(fault(test, "other") == "manifest.json: it is that of snapshot base");
  }

  TEST_CASE("a rotation keeps every snapshot good at every moment, and then the old key is none any more") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    publish(test.store, "a");
    publish(test.store, "damaged");
    std::string old_manifest = read(test.path("a") + "/manifest.json"), old_key = read(test.key());
    put(test.path("damaged") + "/manifest.json", "x");
    Keys(test.key()).begin_rotation();  // and killed here
    CHECK(fault(test, "a") == "");
    publish(test.store, "b");
    CHECK(fault(test, "b") == "");
    Store::Rotated rotated = test.store.rotate_key();
    CHECK(rotated.signed_again == std::vector<std::string>{"a", "b"});
    CHECK(rotated.left.size() == 1);
    CHECK(fault(test, "a") + fault(test, "b") == "");
    CHECK(read(test.key()) != old_key);
    CHECK(!exists(test.key() + ".old"));
    put(test.path("a") + "/manifest.json", old_manifest);
    CHECK(has(fault(test, "a"), "signed with another key"));
    // Killed at any moment.
    publish(test.store, "c");
    std::srand(7);
    for (int i = 0; i < 40; ++i) {
      pid_t pid = ::fork();
      if (pid == 0) {
        (void)test.store.rotate_key();
        ::_exit(0);
      }
      ::usleep(static_cast<useconds_t>(std::rand() % 25'000));
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
      REQUIRE(fault(test, "b") + fault(test, "c") == "");
    }
    CHECK(test.store.rotate_key().signed_again == std::vector<std::string>{"b", "c"});
    CHECK(!exists(test.key() + ".old"));
    CHECK(fault(test, "b") == "");
  }

  TEST_CASE("kill -9 at any moment of a publish leaves all or nothing, and the next maker cleans up") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    auto begin = std::chrono::steady_clock::now();
    REQUIRE(status_of(publisher(test, "first", 1 << 20)) == 0);
    auto whole =
        std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - begin).count();
    std::srand(1);
    int complete = 0, nothing = 0;
    for (int i = 0; i < 80; ++i) {
      std::string name = "s" + std::to_string(i);
      pid_t pid = publisher(test, name, 1 << 20);
      ::usleep(static_cast<useconds_t>(std::rand() % (whole + whole / 4)));
      ::kill(pid, SIGKILL);
      ::waitpid(pid, nullptr, 0);
      if (test.store.find(name))
        ++complete;
      else
        ++nothing;
      REQUIRE((exists(test.path(name)) ? fault(test, name) : "") == "");
    }
    MESSAGE(complete, " were complete, ", nothing, " not there");
    CHECK(nothing > 0);
    publish(test.store, "last");
    CHECK(fault(test, "last") == "");
    CHECK(test.leftovers() == "");
    CHECK(test.store.list().size() == static_cast<std::size_t>(complete + 2));
  }

  TEST_CASE("of two that publish one name at once one does it, and the draft of the other goes") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    for (int i = 0; i < 10; ++i) {
      std::string name = "s" + std::to_string(i);
      pid_t one = publisher(test, name, 100), other = publisher(test, name, 100);
      int first = status_of(one), second = status_of(other);
      CHECK(std::min(first, second) == 0);
      CHECK(std::max(first, second) == 17);
      CHECK(fault(test, name) == "");
      CHECK(test.leftovers() == "");
    }
  }

  TEST_CASE("a full disk is a clear error, and nothing is left") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    SmallDisk disk(test.directories.data, "512k");
    publish(test.store, "base");
    std::string big = test.folder / "upper";
    ::mkdir(big.c_str(), 0755);
    put(big + "/big", std::string(2 << 20, 'x'));
    std::string error = thrown([&] {
      Draft draft = test.store.draft();
      copy_layer(big, draft.make_layer("0"), 0);
    });
    CHECK(has(error, "big: No space left on device"));
    CHECK(test.leftovers() == "");
    int full = 0, made = 0;
    std::string ballast = test.directories.data + "/ballast";
    for (std::size_t kept = 0; kept < 400'000; kept += 8192) {
      put(ballast, std::string(kept, 'b'));
      std::string name = "s" + std::to_string(kept);
      std::string why = thrown([&] {
        Draft draft = test.store.draft();
        fill(draft, 60'000);
        (void)draft.publish(name, sample_manifest());
      });
      ::unlink(ballast.c_str());
      if (why.empty()) {
        ++made;
        test.store.remove(name);
      } else {
        ++full;
        CHECK_MESSAGE(has(why, "No space left on device"), why);
      }
      CHECK(test.leftovers() == "");
      CHECK(!exists(test.path(name)));
    }
    CHECK(made > 0);
    CHECK(full > 0);
    CHECK(fault(test, "base") == "");
  }

  TEST_CASE("what a session or another snapshot uses is not removed, and who they are is said") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    publish(test.store, "base");
    Manifest child = sample_manifest();
    child.layers = {"0", "base/0"};
    CHECK(publish(test.store, "child", child).layer_paths().at(1) == test.path("base") + "/layers/0");
    isolate::sys::make_dirs(test.directories.session_data("s7"), 0700);
    put(test.directories.session_data("s7") + "/from", "child\nbase\n");
    CHECK(has(thrown([&] { test.store.remove("base"); }),
              "snapshot base is in use by session s7, snapshot child: remove them first"));
    CHECK(has(thrown([&] { test.store.remove("child"); }), "snapshot child is in use by session s7: remove it first"));
    isolate::sys::remove_tree(test.directories.session_data("s7"));
    CHECK(has(thrown([&] { test.store.remove("base"); }), "in use by snapshot child"));
    child.layers = {"0", "gone/0"};
    CHECK(has(thrown([&] { publish(test.store, "orphan", child); }), "layers/gone/0: it is missing"));
    {
      Snapshot held = test.store.get("child");
      pid_t pid = ::fork();
      if (pid == 0)
        ::_exit(has(thrown([&] { Store(test.directories).remove("child"); }), "restores or copies it holds it") ? 0
                                                                                                                : 1);
      CHECK(status_of(pid) == 0);
    }
    test.store.remove("child");
    test.store.remove("base");
    CHECK(test.store.list().empty());
    CHECK(has(thrown([&] { test.store.remove("base"); }), "there is no snapshot base"));
  }

  TEST_CASE("a store of a newer version is left alone") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    publish(test.store, "base");
    put(test.path(".format"), "2\n");
    CHECK(has(thrown([&] { Store{test.directories}; }),
              "are of version 2, and this runner knows up to 1: use a newer runner"));
    CHECK(test.cli({"ls"}).code == 125);
    put(test.path(".format"), "what\n");
    CHECK(has(thrown([&] { Store{test.directories}; }), "was damaged"));
  }

  TEST_CASE("a restore gets checked copies of all images and links to the pages, fast") {
    SKIP_UNLESS(is_root(), "root");
    TestStore test;
    Draft draft = test.store.draft();
    fill(draft);
    for (int i = 0; i < 40; ++i)
      put(draft.criu() + "/core-" + std::to_string(i + 10) + ".img",
          std::string(static_cast<std::size_t>(200 + i * 200), 'c'));
    (void)draft.publish("base", sample_manifest());
    std::vector<long> all, taking;
    for (int i = 0; i < 25; ++i) {
      SmallDisk work(test.folder / "work", "8m");
      isolate::sys::Fd to = open_file(work.at, O_RDONLY | O_DIRECTORY);
      auto now = [] { return std::chrono::steady_clock::now().time_since_epoch().count() / 1000; };
      long begin = now();
      Snapshot base = test.store.get("base");
      long found = now();
      base.take_verified(to.get(), base.path() + "/criu");
      all.push_back(now() - begin), taking.push_back(now() - found);
      if (i) continue;
      CHECK(list_dir(work.at).size() == 44);
      CHECK(read(work.at + "/core-12.img") == std::string(600, 'c'));
      CHECK(read(work.at + "/pages-1.img") == std::string(5000, 'p'));
      struct stat info;
      REQUIRE(::lstat((work.at + "/pages-1.img").c_str(), &info) == 0);
      CHECK(S_ISLNK(info.st_mode));
    }
    std::sort(all.begin(), all.end()), std::sort(taking.begin(), taking.end());
    MESSAGE("43 images: take_verified ", taking[12], " us, with finding the snapshot ", all[12], " us");
    CHECK(taking[12] < 20'000);
  }
}
