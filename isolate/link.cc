#include "isolate/link.h"

#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <cstring>

#include "isolate/sys/error.h"

namespace isolate {

using namespace sys;

namespace {

constexpr const char* kStageNames[] = {"prepare", "clone",   "start",    "namespaces", "root",    "hooks",
                                       "devices", "network", "terminal", "privileges", "seccomp", "exec"};
constexpr char kSeparator = '\0';

// Empty at the end of the stream, and when nothing came in the time that the socket allows.
std::optional<Message> receive_or_end(int fd) {
  try {
    return receive_message(fd);
  } catch (const SystemError& error) {
    if (error.code() != EAGAIN) throw;
    return std::nullopt;
  }
}

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
  // As runc says it, whose words clients and their tests look for: "exec /run.sh: no such file or directory".
  if (auto* system = dynamic_cast<const SystemError*>(&error)) {
    if (stage == Stage::Exec) failure.cause = system->attempted() + ": " + in_lower_case(error_text(system->code()));
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
  if (message->bytes[0] == static_cast<char>(Signal::Error)) refuse(message->bytes, true);
  return std::move(*message);
}

void Link::refuse(const std::string& error, bool trusted) {
  std::vector<std::string> fields(1);
  for (char c : error.substr(1))
    if (c == kSeparator) fields.emplace_back();
    else fields.back() += trusted || std::isprint(static_cast<unsigned char>(c)) ? c : '?';
  fields.resize(4);
  auto number = [](const std::string& text, int most) { return std::clamp(std::atoi(text.c_str()), 0, most); };
  auto stage = trusted ? static_cast<Stage>(number(fields[0], static_cast<int>(Stage::Exec))) : Stage::Exec;
  int code = number(fields[1], 4095);
  // runner-exec knows no texts; and where it may be another that speaks, we take none.
  std::string cause = trusted ? fields[3] : fmt::format("exec {}: {}", fields[2], in_lower_case(error_text(code)));
  throw SetupError({stage, code, fields[2], cause, hint_for(stage, code)});
}

Message Link::expect(Signal signal) {
  Message message = receive();
  if (message.bytes[0] != static_cast<char>(signal)) fail(EPROTO, "start the sandbox (unexpected message)");
  message.bytes.erase(0, 1);
  return message;
}

void Link::expect_end() {
  bool trusted = true;
  timeval patience{2, 0};
  for (std::optional<Message> message; (message = receive_or_end(fd_.get())); ) {
    if (message->bytes[0] == static_cast<char>(Signal::Error)) refuse(message->bytes, trusted);
    if (message->bytes[0] != static_cast<char>(Signal::Step) || !trusted) return;
    trusted = false;
    check(::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), "limit the wait for execve");
  }
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
