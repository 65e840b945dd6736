#include "isolate/link.h"

#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "isolate/sys/error.h"

namespace isolate {

using namespace sys;

namespace {

constexpr const char* kStageNames[] = {"prepare", "clone",   "start",    "namespaces", "root",    "hooks",
                                       "devices", "network", "terminal", "privileges", "seccomp", "exec"};
constexpr char kSeparator = '\0';

std::string hint_for(Stage stage, int code) {
  if (stage == Stage::Clone && code == EPERM)
    return "user namespaces may be switched off for this user: see kernel.unprivileged_userns_clone and `runner check`";
  if (stage == Stage::Clone && code == ENOSPC) return "the limit of namespaces is reached: see /proc/sys/user/";
  if (stage == Stage::Clone && code == EAGAIN) return "the limit of processes is reached: see RLIMIT_NPROC and pids.max";
  if (stage == Stage::Exec && code == ENOENT) return "the program, or the interpreter that it names, is not in the sandbox";
  if (stage == Stage::Exec && code == ENOEXEC) return "the file is no program of this architecture, or a script without #!";
  return {};
}

}  // namespace

const char* stage_name(Stage stage) { return kStageNames[static_cast<int>(stage)]; }

SetupFailure describe(Stage stage, const std::exception& error) {
  SetupFailure failure;
  failure.stage = stage;
  failure.cause = error.what();
  if (auto* system = dynamic_cast<const SystemError*>(&error)) {
    failure.code = system->code();
    failure.path = system->path();
  }
  failure.hint = hint_for(stage, failure.code);
  return failure;
}

std::pair<Link, Link> Link::make() {
  auto [a, b] = socket_pair();
  return {Link(std::move(a)), Link(std::move(b))};
}

void Link::send(Signal signal, const std::string& text, const std::vector<int>& fds) {
  send_message(fd_.get(), std::string(1, static_cast<char>(signal)) + text, fds);
}

Message Link::receive() {
  auto message = receive_message(fd_.get());
  if (!message) throw SetupError({Stage::Start, 0, {}, "the process died during its set-up", {}});
  if (message->bytes[0] != static_cast<char>(Signal::Error)) return std::move(*message);

  std::vector<std::string> fields(1);
  for (char c : message->bytes.substr(1))
    if (c == kSeparator) fields.emplace_back();
    else fields.back() += c;
  fields.resize(4);
  // Once it has given up its privileges, the other side may be under the sandbox's control: nothing it says is taken on trust.
  auto number = [](const std::string& text, int most) { return std::clamp(std::atoi(text.c_str()), 0, most); };
  auto stage = static_cast<Stage>(number(fields[0], static_cast<int>(Stage::Exec)));
  int code = number(fields[1], 4095);
  if (fields[3].empty()) fields[3] = fmt::format("exec {}: {}", fields[2], std::strerror(code));  // runner-exec knows no texts
  throw SetupError({stage, code, fields[2], fields[3], hint_for(stage, code)});
}

Message Link::expect(Signal signal) {
  Message message = receive();
  if (message.bytes[0] != static_cast<char>(signal)) fail(EPROTO, "start the sandbox (unexpected message)");
  message.bytes.erase(0, 1);
  return message;
}

void Link::expect_end() {
  char byte;
  ssize_t got;
  do got = ::recv(fd_.get(), &byte, 1, MSG_PEEK);
  while (got == -1 && errno == EINTR);
  if (got > 0) receive();  // throws: after Ready the other side has only errors to tell
}

void Link::report(Stage stage, const std::exception& error) noexcept {
  try {
    SetupFailure failure = describe(stage, error);
    std::string text = fmt::format("{}{}{}{}{}{}{}", static_cast<int>(stage), kSeparator, failure.code, kSeparator,
                                   failure.path, kSeparator, failure.cause);
    send(Signal::Error, text);
  } catch (...) {
  }
}

}  // namespace isolate
