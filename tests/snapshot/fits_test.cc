// What a snapshot must be to be restored here and today; else nothing of it runs, and nothing is left.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>

#include "isolate/sys/file.h"
#include "runner/snapshot/digest.h"
#include "runner/snapshot/keys.h"
#include "runner/snapshot/manifest.h"
#include "tests/snapshot/support.h"

using namespace tests;
using nlohmann::json;
namespace snap = runner::snapshot;

namespace {

std::string folder_of(const Shot& shot) { return data_dir() + "/snapshots/" + shot.name; }

// As somebody does who has the key.
void sign_again(const Shot& shot, const std::function<void(snap::Manifest&)>& change) {
  std::string path = folder_of(shot) + "/manifest.json", text = read(path);
  runner::Diagnostics wrong;
  auto parts = snap::split(text);
  REQUIRE(parts);
  auto manifest = snap::read_body(parts->body, path, wrong);
  REQUIRE(manifest);
  change(*manifest);
  for (snap::File& file : manifest->files) {
    std::string name = folder_of(shot) + "/" + file.path;
    isolate::sys::Fd fd = isolate::sys::open_file(name, O_RDONLY);
    struct stat info;
    REQUIRE(::fstat(fd.get(), &info) == 0);
    file.size = static_cast<std::uint64_t>(info.st_size);
    file.sha256 = snap::digest_file(fd.get(), name).sha256;
  }
  std::string body = snap::body_of(*manifest);
  isolate::sys::replace_file(path, snap::sign(body, snap::Keys(data_dir() + "/snapshots.key").current()), 0600);
}

void rewrite(const Shot& shot, const std::string& file, const std::function<void(std::string&)>& change) {
  std::string path = folder_of(shot) + "/" + file, text = read(path);
  REQUIRE(text != "");
  change(text);
  isolate::sys::replace_file(path, text, 0600);
}

// The reason that the event and the error give; and nothing is left.
std::string refusal(const Twins& twins, const Args& flags = {}) {
  Ran ran = tests::runner(Args{"restore", "--from", twins.shot.name} + flags + Args{twins.other.id}, {.timeout_ms = 30'000});
  CHECK(ran.code == 125);
  CHECK(remains_of(twins.other.id) == "");
  CHECK(tests::runner({"ls", "-a"}).out.find(twins.other.id) == std::string::npos);
  CHECK(sh(twins.one, "echo fine") == "fine");
  auto event = find(events_of(ran.out), "restore.refused");
  INFO(ran.out, ran.err);
  if (!event) return "no event: " + ran.err;
  CHECK((*event)["data"]["snapshot"] == twins.shot.name);
  return (*event)["data"]["reason"];
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_SUITE("snapshot fits") {
  TEST_CASE("another kernel, machine or CPU is refused, with the difference") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins;
    REQUIRE(twins.snapshot().code == 0);
    std::string kernel, machine, cpu;
    sign_again(twins.shot, [&](snap::Manifest& m) { kernel = std::exchange(m.kernel, "5.10.0-old"); });
    CHECK(has(refusal(twins), "it was made on Linux 5.10.0-old, and this is " + kernel));
    sign_again(twins.shot, [&](snap::Manifest& m) { m.kernel = kernel, machine = std::exchange(m.machine, "riscv64"); });
    CHECK(has(refusal(twins), "riscv64"));
    sign_again(twins.shot, [&](snap::Manifest& m) { m.machine = machine, cpu = std::exchange(m.cpu, m.cpu + " zz_future"); });
    CHECK(has(refusal(twins), "its CPU was another one (-zz_future)"));
    sign_again(twins.shot, [&](snap::Manifest& m) { m.cpu = cpu; });
    CHECK(twins.restore().code == 0);  // as it was
  }

  TEST_CASE("begun anew on its files: where the policy has it so, as degraded and with the reason; and when it is asked for, as cold") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    folder.write("cold.yaml", "version: 1\nextends: default\nrestore: {unfit: cold}\n");
    const Args counts{"sh", "-c", "echo begun >>/workspace/begun; exec sleep 300"};
    auto begun = [](const Box& box) { return sh(box, "wc -l </workspace/begun"); };
    auto restored = [](const Box& box) { return find(log_of(box), "session.restored").value_or(json::object())["data"]; };
    {
      Twins twins(counts, {"--policy", folder / "cold.yaml"});
      REQUIRE(eventually([&] { return begun(twins.one) == "1"; }));
      REQUIRE(twins.snapshot().code == 0);
      sign_again(twins.shot, [](snap::Manifest& m) { m.kernel = "5.10.0-old"; });
      Ran ran = twins.restore();
      REQUIRE_MESSAGE(ran.code == 0, ran.err);
      CHECK(eventually([&] { return begun(twins.other) == "2"; }));
      json event = restored(twins.other);
      CHECK(event["kind"] == "degraded");
      CHECK(has(event["reason"], "it was made on Linux 5.10.0-old"));
      CHECK(event["snapshot"] == twins.shot.name);
      CHECK(tests::runner({"logs", "--verify", twins.other.id}).code == 0);
      CHECK(tests::runner({"rm", "-f", twins.other.id}).code == 0);

      // Without CRIU too; but what was tampered with is no cold start's either.
      ran = tests::runner({"--criu", "/no/criu", "restore", "-d", "--from", twins.shot.name, twins.other.id});
      CHECK(ran.code == 0);
      CHECK(restored(twins.other)["kind"] == "degraded");
      CHECK(tests::runner({"rm", "-f", twins.other.id}).code == 0);
    }
    Twins twins(counts);
    REQUIRE(eventually([&] { return begun(twins.one) == "1"; }));
    REQUIRE(twins.snapshot().code == 0);
    REQUIRE(twins.restore({"--cold"}).code == 0);
    CHECK(eventually([&] { return begun(twins.other) == "2"; }));
    CHECK(restored(twins.other)["kind"] == "cold");
    CHECK(!restored(twins.other).contains("reason"));
  }

  TEST_CASE("a suspended session of a policy that allows it wakes on another kernel, with its files") {
    SKIP_UNLESS(is_root(), "root");
    Folder folder;
    folder.write("cold.yaml", "version: 1\nextends: default\nrestore: {unfit: cold}\n");
    Box box;
    REQUIRE(runner_apart({"run", "-d", "--name", box.id, "--policy", folder / "cold.yaml", "--", "sh", "-c", "echo begun >>/workspace/begun; exec sleep 300"}, Folder()).code == 0);
    REQUIRE(eventually([&] { return sh(box, "cat /workspace/begun") == "begun"; }));
    REQUIRE(tests::runner({"suspend", box.id}).code == 0);
    CHECK(runner_apart({"--criu", "/no/criu", "wake", box.id}, Folder()).code == 0);
    CHECK(eventually([&] { return sh(box, "cat /workspace/begun") == "begun\nbegun"; }));
    CHECK(tests::runner({"logs", "--verify", box.id}).code == 0);
  }

  TEST_CASE("a library or program that has changed or gone is named") {
    SKIP_UNLESS(is_root(), "root");
    Folder lib;
    run({"cp", "/usr/bin/sleep", lib / "program"});
    run({"cp", "/usr/bin/env", lib / "next"});
    run({"chmod", "-R", "a+rx", lib.path()});
    Twins twins({"/lib-of-ours/program", "300"}, {"-v", lib.path() + ":/lib-of-ours:ro"});
    REQUIRE(twins.snapshot().code == 0);
    ::rename((lib / "program").c_str(), (lib / "kept").c_str());
    CHECK(has(refusal(twins), "its processes run code from /lib-of-ours/program, which this session would not have"));
    ::rename((lib / "next").c_str(), (lib / "program").c_str());
    CHECK(has(refusal(twins), "/lib-of-ours/program, which has changed"));
    ::rename((lib / "kept").c_str(), (lib / "program").c_str());
    bool init = false, libc = false;
    sign_again(twins.shot, [&](snap::Manifest& m) {
      for (snap::Mapped& each : m.mapped) init = init || each.path == "/run/runner/init", libc = libc || has(each.path, "libc.so");
    });
    CHECK(init);
    CHECK(libc);
    sign_again(twins.shot, [&](snap::Manifest& m) {
      for (snap::Mapped& each : m.mapped)
        if (each.path == "/run/runner/init") (each.build_id.empty() ? each.sha256 : each.build_id)[0] ^= 1;
    });
    CHECK(has(refusal(twins), "/run/runner/init, which has changed"));
  }

  TEST_CASE("a flipped bit in any file and a missing layer are refused; in the pages when they are read") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins;
    CHECK(sh(twins.one, "echo layer >/workspace/f") == "");
    REQUIRE(twins.snapshot().code == 0);
    auto flip = [](std::string& text) { text[text.size() / 2] ^= 4; };
    for (const char* file : {"criu/core-2.img", "criu/mm-1.img", "criu/inventory.img"}) {
      CAPTURE(file);
      rewrite(twins.shot, file, flip);
      CHECK(has(refusal(twins), std::string(file) + ": "));
      rewrite(twins.shot, file, flip);
    }
    rewrite(twins.shot, "criu/pages-1.img", flip);
    CHECK(has(refusal(twins, {"--verify", "full"}), "criu/pages-1.img: "));
    rewrite(twins.shot, "criu/pages-1.img", flip);
    std::string layer = folder_of(twins.shot) + "/layers/0";
    ::rename(layer.c_str(), (data_dir() + "/away").c_str());
    CHECK(has(refusal(twins), "layers/0"));
    ::rename((data_dir() + "/away").c_str(), layer.c_str());
    CHECK(twins.restore({"--verify", "full"}).code == 0);
  }

  TEST_CASE("a policy that is stricter today than it was is not circumvented") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins;
    REQUIRE(twins.snapshot().code == 0);
    sign_again(twins.shot, [&](snap::Manifest& m) {
      json session = json::parse(m.session);
      session["filters"] = "0-0000000000000000";
      m.session = session.dump();
    });
    CHECK(has(refusal(twins), "the system calls that policy default allows are not those of then"));
    sign_again(twins.shot, [&](snap::Manifest& m) { m.config.insert(m.config.begin(), {"-v", "/etc/shadow:/x"}); });
    Ran ran = tests::runner({"restore", "--from", twins.shot.name, twins.other.id});
    CHECK(ran.code == 125);
    CHECK(has(ran.err, "under the policy of today"));
    CHECK(remains_of(twins.other.id) == "");
  }
}

TEST_SUITE("snapshot identity") {
  TEST_CASE("a process that would come back with more than its session has is killed before it runs") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins({"sh", "-c", "while :; do echo ran >>/workspace/ran; sleep 0.05; done"});
    REQUIRE(twins.snapshot().code == 0);
    // cap_inh 0 0, cap_prm 0 0, cap_eff 0 0, cap_bnd 0 0 of creds.proto
    const std::string none("\x48\0\x48\0\x50\0\x50\0\x58\0\x58\0\x60\0\x60\0", 16);
    for (auto [at, set] : {std::pair{5, "CapPrm"}, {13, "CapBnd"}}) {
      CAPTURE(set);
      std::string before = read(folder_of(twins.shot) + "/criu/core-2.img");
      rewrite(twins.shot, "criu/core-2.img", [&, at = at](std::string& text) {
        std::size_t creds = text.find(none);
        REQUIRE(creds != std::string::npos);
        text[creds + static_cast<std::size_t>(at)] = 1;
      });
      sign_again(twins.shot, [](snap::Manifest&) {});
      std::string why = refusal(twins);
      INFO(why);
      CHECK(has(why, std::string("(sh) came back with CAP_CHOWN in ") + set));
      rewrite(twins.shot, "criu/core-2.img", [&](std::string& text) { text = before; });
    }
    rewrite(twins.shot, "criu/core-2.img", [&](std::string& text) { text[text.find(none) + 1] = 1; });
    sign_again(twins.shot, [](snap::Manifest&) {});
    CHECK(twins.restore().code == 125);  // the kernel refuses it, by which CRIU 4.1 hangs
    CHECK(remains_of(twins.other.id) == "");
    rewrite(twins.shot, "criu/seccomp.img", [](std::string& text) { text.resize(8); });
    sign_again(twins.shot, [](snap::Manifest&) {});
    Ran ran = twins.restore();
    CHECK(ran.code == 125);
    CHECK(remains_of(twins.other.id) == "");
  }

  TEST_CASE("looking costs little") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins;
    for (int i = 0; i < 3; ++i) twins.serve("s" + std::to_string(i), {"sleep", "300"});
    twins.part();
    json phases = find(log_of(twins.other), "session.restored").value()["data"]["phases"];
    INFO(phases.dump());
    CHECK(std::stod(phases["identity"].get<std::string>()) < 3);
    CHECK(std::stod(phases["fits"].get<std::string>()) < 10);
    MESSAGE("identity ", phases["identity"], " ms, fits ", phases["fits"], " ms");
  }
}
