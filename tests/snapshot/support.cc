#include "tests/snapshot/support.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <filesystem>

namespace tests {

using nlohmann::json;

Shot::~Shot() {
  if (there()) runner({"snapshot", "rm", name});
}
bool Shot::there() const { return exists(data_dir() + "/snapshots/" + name); }

Args operator+(Args list, const Args& more) {
  list.insert(list.end(), more.begin(), more.end());
  return list;
}

Twins::Twins(const Args& command, const Args& flags) {
  Ran ran = runner(session_arguments(one.id, Args{"-d"} + flags, command), {.timeout_ms = 20'000});
  if (ran.code != 0) throw std::runtime_error("the session did not start: " + ran.err + ran.out);
}

Ran Twins::snapshot(const Args& flags) const {
  return runner(Args{"snapshot", "create", "--name", shot.name} + flags + Args{one.id}, {.timeout_ms = 30'000});
}

Ran Twins::restore(const Args& flags) const {
  return runner(Args{"restore", "-d", "--from", shot.name} + flags + Args{other.id}, {.timeout_ms = 30'000});
}

void Twins::part(const Args& flags) const {
  Ran taken = snapshot();
  INFO(taken.err);
  REQUIRE(taken.code == 0);
  Ran restored = restore(flags);
  INFO(restored.err, restored.out);
  REQUIRE(restored.code == 0);
}

Ran Twins::serve(const std::string& service, const Args& command, const Args& flags) const {
  Ran ran = runner(Args{"exec", "-d", "--service", service} + flags + Args{one.id, "--"} + command, {.timeout_ms = 20'000});
  INFO(ran.err);
  REQUIRE(ran.code == 0);
  return ran;
}

std::string Twins::both(const std::string& shell) const {
  std::string first = sh(one, shell), second = sh(other, shell);
  CHECK(first == second);
  return second;
}

Ran exec(const Box& box, const Args& command, const How& how) { return runner(Args{"exec", box.id, "--"} + command, how); }

std::string sh(const Box& box, const std::string& text) {
  Ran ran = exec(box, {"sh", "-c", text});
  std::string said = ran.out + ran.err;
  if (!said.empty() && said.back() == '\n') said.pop_back();
  return said;
}

Events log_of(const Box& box) {
  Ran ran = runner({"logs", box.id});
  return ran.code == 0 ? events_of(ran.out) : Events{};
}

std::string written_by(const Box& box, const std::string& call, std::uint64_t from, const std::string& stream) {
  std::string text;
  for (const json& event : log_of(box)) {
    const json& data = event["data"];
    if (event["type"] != "stdio" || data.value("stream", "") != stream || data.value("call", "0") != call) continue;
    CHECK(data.value("offset", std::uint64_t{0}) == from + text.size());
    text += data.value("text", "");
  }
  return text;
}

json inspected(const Box& box) {
  Ran ran = runner({"inspect", box.id});
  return ran.code == 0 ? json::parse(ran.out).at(0) : json();
}

bool have(const char* program) { return ::access((std::string("/usr/bin/") + program).c_str(), X_OK) == 0; }

}  // namespace tests
