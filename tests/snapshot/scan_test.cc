// Secrets in a snapshot: found in memory, files and flags, never shown, and refused when wished.
#include <doctest/doctest.h>

#include "isolate/sys/file.h"
#include "tests/snapshot/support.h"

using namespace tests;
using nlohmann::json;

namespace {

// Of the form, and nobody's. In one piece it must be in the session's memory alone, and not in the command that makes it.
std::string fake_token() {
  std::string digits = fresh_id() + fresh_id() + fresh_id() + fresh_id() + fresh_id() + fresh_id();
  std::erase_if(digits, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
  while (digits.size() < 36) digits += "Qx7";
  return digits.substr(0, 36);
}

std::string holding(const std::string& token) {
  return "import time\nparts = ['gh', 'p_', '" + token.substr(0, 18) + "', '" + token.substr(18) + "']\nheld = ''.join(parts)\nprint('ready', flush=True)\ntime.sleep(300)";
}

bool ready(const Box& box) {
  return eventually([&] { return written_by(box, "0").find("ready") != std::string::npos; });
}

// A finding a line; checks that the secret is in nothing that was said.
Events scanned(const std::string& snapshot, int code, const std::string& secret = "", const Args& flags = {}, const How& how = {.timeout_ms = 60'000}) {
  Ran ran = runner(Args{"snapshot", "scan", "--format", "json"} + flags + Args{snapshot}, how);
  INFO(ran.err, ran.out);
  CHECK(ran.code == code);
  if (!secret.empty()) CHECK((ran.out + ran.err).find(secret) == std::string::npos);
  return events_of(ran.out);
}

json of_kind(const Events& findings, const std::string& kind) {
  for (const json& each : findings)
    if (each["kind"] == kind) return each;
  return {};
}

}  // namespace

TEST_SUITE("snapshot scan") {
  TEST_CASE("a clean session has none") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    Twins twins({"python3", "-c", "import ssl, json, urllib.request, time\nprint('ready', flush=True)\ntime.sleep(300)"});
    REQUIRE(ready(twins.one));
    CHECK(sh(twins.one, "echo '-----BEGIN CERTIFICATE-----' >/tmp/certificate; truncate -s 200M /tmp/hole") == "");
    REQUIRE(twins.snapshot().code == 0);
    CHECK(scanned(twins.shot.name, 0).empty());
    Ran table = runner({"snapshot", "scan", "--format", "table", twins.shot.name}, {.timeout_ms = 60'000});
    CHECK(table.out == "");
    CHECK(table.err.find("no secret was found") != std::string::npos);
  }

  TEST_CASE("a token in the memory of a Python is found in the page images, and not shown") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    std::string token = fake_token();
    Twins twins({"python3", "-c", holding(token)});
    REQUIRE(ready(twins.one));
    REQUIRE(twins.snapshot().code == 0);
    json found = of_kind(scanned(twins.shot.name, 1, token.substr(0, 18)), "github-token");
    REQUIRE(found.is_object());
    CHECK(found["file"].get<std::string>().starts_with("criu/pages-"));
    CHECK(found["count"].get<int>() >= 1);
    std::string image = isolate::sys::read_file(data_dir() + "/snapshots/" + twins.shot.name + "/" + found["file"].get<std::string>(), 1u << 30);
    CHECK(image.substr(found["offset"].get<std::size_t>(), 40) == "ghp_" + token);
  }

  TEST_CASE("a key in a file of the layer, and one in a tmpfs, are named by their files") {
    SKIP_UNLESS(is_root(), "root");
    Twins twins({"sh", "-c", "exec sleep 300"}, {"--tmpfs", "/scratch:size=1M"});
    std::string key = "printf -- '-----BEGIN %s KEY-----\\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\\n' 'RSA PRIVATE'";
    CHECK(sh(twins.one, "mkdir /tmp/deep; " + key + " >/tmp/deep/id; ln /tmp/deep/id /tmp/again; " + key + " >/scratch/key") == "");
    REQUIRE(twins.snapshot().code == 0);
    std::vector<std::string> files;
    for (const json& each : scanned(twins.shot.name, 1, "MIIEvQIBADANBg")) {
      CHECK(each["kind"] == "private-key");
      files.push_back(each["file"]);
    }
    CHECK(std::count(files.begin(), files.end(), "layers/0/tmp/again") == 1);  // once, by whichever name comes first
    CHECK(std::count_if(files.begin(), files.end(), [](const std::string& file) { return file.starts_with("criu/tmpfs-"); }) == 1);
  }

  TEST_CASE("the caller's own secrets are found by value, from a variable and from a file, and are not shown") {
    SKIP_UNLESS(is_root(), "root");
    std::string secret = "pass " + fresh_id() + " phrase";
    Twins twins({"sh", "-c", "exec sleep 300"}, {"-e", "PASSWORD=" + secret});
    CHECK(sh(twins.one, "printf 'xx%sxx' \"$PASSWORD\" >/tmp/f") == "");
    REQUIRE(twins.snapshot().code == 0);
    scanned(twins.shot.name, 0);
    Events by_name = scanned(twins.shot.name, 1, secret, {"--secret-env", "TOKEN"}, {.env = {{"TOKEN", secret}}, .timeout_ms = 60'000});
    std::vector<std::string> files;
    for (const json& each : by_name) {
      CHECK(each["kind"] == "env:TOKEN");
      files.push_back(each["file"]);
      if (files.back() == "layers/0/tmp/f") CHECK(each["offset"] == 2);
    }
    CHECK(std::count(files.begin(), files.end(), "layers/0/tmp/f") == 1);
    CHECK(std::count(files.begin(), files.end(), "manifest.json") == 1);  // the flags that it was run with
    CHECK(std::any_of(files.begin(), files.end(), [](const std::string& file) { return file.starts_with("criu/pages-"); }));  // its environment

    Folder folder;
    folder.write("secrets", "not to be found " + fresh_id() + "\n\n" + secret + "\n");
    Events by_line = scanned(twins.shot.name, 1, secret, {"--secret-file", folder / "secrets"});
    CHECK(by_line.size() == by_name.size());
    for (const json& each : by_line) CHECK(each["kind"] == "file:" + (folder / "secrets") + ":3");
  }

  TEST_CASE("a secret that cannot be looked for is said, and not shown") {
    SKIP_UNLESS(is_root(), "root");
    auto said = [](const Args& flags, const How& how = {}) {
      Ran ran = runner(Args{"snapshot", "scan", "no-such-snapshot"} + flags, how);
      CHECK(ran.code == 125);
      return ran.err;
    };
    CHECK(said({}).find("no-such-snapshot") != std::string::npos);
    CHECK(said({"--secret-env", "NOBODY_HAS_IT"}).find("NOBODY_HAS_IT is not in runner's environment") != std::string::npos);
    std::string short_one = said({"--secret-env", "PIN"}, {.env = {{"PIN", "98761"}}});
    CHECK(short_one.find("env:PIN") != std::string::npos);
    CHECK(short_one.find("98761") == std::string::npos);
    CHECK(said({"--secret-file", "/no/such/file"}).find("/no/such/file") != std::string::npos);
    Ran without = runner({"snapshot", "create", "--secret-env", "PATH", "x"});
    CHECK(without.code == 125);
    CHECK(without.err.find("--scan, which is missing") != std::string::npos);
  }

  TEST_CASE("create --scan makes no snapshot with a secret in it, and the session goes on") {
    SKIP_UNLESS(is_root() && have("python3"), "root and /usr/bin/python3");
    std::string token = fake_token();
    Twins twins({"python3", "-c", holding(token)});
    REQUIRE(ready(twins.one));
    CHECK(sh(twins.one, "(n=0; while :; do n=$((n+1)); echo $n >/tmp/new; mv /tmp/new /tmp/n; sleep 0.05; done) >/dev/null 2>&1 &") == "");
    for (const Args& flags : {Args{"--scan"}, Args{"--scan", "--leave-running"}}) {
      Ran refused = twins.snapshot(flags);
      INFO(refused.err);
      CHECK(refused.code == 1);
      CHECK(refused.out == "");
      CHECK(refused.err.find("github-token in criu/pages-") != std::string::npos);
      CHECK((refused.out + refused.err).find(token.substr(0, 18)) == std::string::npos);
      CHECK(!twins.shot.there());
      for (const std::string& left : isolate::sys::list_dir(data_dir() + "/snapshots")) CHECK(!left.starts_with(".new-"));
      CHECK(inspected(twins.one)["status"] == "running");
      int then = std::atoi(sh(twins.one, "cat /tmp/n").c_str());
      CHECK(eventually([&] { return std::atoi(sh(twins.one, "cat /tmp/n").c_str()) > then; }));
    }
    CHECK(runner({"logs", "--verify", twins.one.id}).code == 0);

    // A value of the caller's refuses one too, and without any it is a snapshot like others.
    Twins clean;
    CHECK(sh(clean.one, "echo 'open sesame' >/tmp/word; cp /tmp/word \"/tmp/$(printf 'a\\033[2J')\"") == "");
    Ran refused = runner({"snapshot", "create", "--scan", "--secret-env", "WORD", "--name", clean.shot.name, clean.one.id}, {.env = {{"WORD", "open sesame"}}, .timeout_ms = 60'000});
    CHECK(refused.code == 1);
    CHECK(refused.err.find("env:WORD in layers/0/tmp/word at 0") != std::string::npos);
    CHECK(refused.err.find("env:WORD in layers/0/tmp/a?[2J at 0") != std::string::npos);  // no program talks to the caller's terminal
    CHECK(clean.snapshot({"--scan", "--leave-running"}).code == 0);
    CHECK(clean.restore().code == 0);
    CHECK(sh(clean.other, "cat /tmp/word") == "open sesame");
  }
}
