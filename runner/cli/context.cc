#include "runner/cli/context.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "isolate/sealed.h"
#include "isolate/sys/error.h"
#include "runner/session/rename.h"
#include "runner/session/time.h"

namespace runner::cli {

void Globals::declare(Options& options) {
  options.value("--root", root, "directory for the state of containers and sessions");
  options.value("--log", log, "append messages to this file");
  options.value("--log-format", log_format, "text or json");
  options.value("--rootless", rootless, "true, false or auto; accepted as runc has it, found out by itself");
  options.value("--criu", criu, "path of criu");
  options.value("--cgroup-manager", cgroup_manager, "cgroupfs or disabled");
  options.flag("--systemd-cgroup", systemd_cgroup, "systemd makes the cgroup of a container: cgroupsPath is slice:prefix:name");
  options.flag("--debug", debug, "say what is done: in the file of --log, else on stderr");
}

bool takes_value(const std::string& flag) {
  constexpr const char* kFlags[] = {"--root", "--log", "--log-format", "--rootless", "--criu", "--cgroup-manager"};
  return std::find(std::begin(kFlags), std::end(kFlags), flag) != std::end(kFlags);
}

std::vector<std::string> Context::parse(Options& options, bool stop_at_first) {
  globals.declare(options);
  std::vector<std::string> rest = options.parse(arguments, stop_at_first);
  if (globals.log_format != "text" && globals.log_format != "json")
    throw UsageError(fmt::format("--log-format: '{}' is neither text nor json", globals.log_format));
  if (!globals.cgroup_manager.empty() && globals.cgroup_manager != "cgroupfs" && globals.cgroup_manager != "disabled")
    throw UsageError(fmt::format("--cgroup-manager: '{}' is neither cgroupfs nor disabled", globals.cgroup_manager));
  return rest;
}

const session::Directories& Context::directories() {
  if (have_directories_) return directories_;
  directories_ = session::find_directories(globals.root);
  session::finish_rename(directories_);  // a renamer that was stopped concerns no other session than its own
  have_directories_ = true;
  return directories_;
}

const isolate::CgroupHost& Context::cgroups() {
  if (!have_cgroups_) cgroups_ = isolate::find_cgroup_host();
  have_cgroups_ = true;
  return cgroups_;
}

session::Entry Context::entry(const std::string& id) {
  check_id(id);
  auto found = session::Entry::find(directories(), id);
  if (!found) throw std::runtime_error("container does not exist");
  return std::move(*found);
}

std::string shown(const std::string& id) {
  std::string text = id.substr(0, 60);
  for (char& c : text)
    if (static_cast<unsigned char>(c) < ' ' || c == 127) c = '?';
  return text;
}

void check_id(const std::string& id) {
  if (std::string why = session::why_bad_id(id); !why.empty()) throw UsageError(fmt::format("id '{}': {}", shown(id), why));
}

namespace {

std::string log_line(const Globals& globals, const char* level, const std::string& message) {
  std::string time = session::rfc3339_now();
  if (globals.log_format != "json") return fmt::format("time=\"{}\" level={} msg={:?}", time, level, message);
  nlohmann::ordered_json line{{"level", level}, {"msg", message}, {"time", time}};
  return line.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

// Engines decode the file as a stream of objects and show the last message of level "error": oci-clients.md, rule 2.
void log_to_file(const Globals& globals, const char* level, const std::string& message) {
  if (globals.log.empty()) return;
  try {
    spdlog::logger logger("runner", std::make_shared<spdlog::sinks::basic_file_sink_st>(globals.log));
    logger.set_pattern("%v");
    logger.info("{}", log_line(globals, level, message));
  } catch (const std::exception& error) {
    fmt::print(stderr, "runner: --log {}: {}\n", globals.log, error.what());
  }
}

std::string folder_of_program() {
  std::string path = isolate::program_path();
  return path.substr(0, path.rfind('/'));
}

}  // namespace

void report_error(const Globals& globals, const std::string& message) {
  log_to_file(globals, "error", message);
  std::fputs(fmt::format("runner: {}\n", message).c_str(), stderr);  // fmt::print throws when nobody reads: we are in a catch block
}

void report_warning(const Globals& globals, const std::string& message) {
  log_to_file(globals, "warning", message);
  std::fputs(fmt::format("runner: warning: {}\n", message).c_str(), stderr);
}

void report_debug(const Globals& globals, const std::string& message) {
  if (!globals.debug) return;
  if (globals.log.empty()) std::fputs((log_line(globals, "debug", message) + '\n').c_str(), stderr);
  else log_to_file(globals, "debug", message);
}

std::string sentence(const isolate::SetupFailure& failure) {
  return fmt::format("{}{}{}", failure.cause, failure.hint.empty() ? "" : "; ", failure.hint);
}

int exit_code_for(const isolate::SetupFailure& failure) {
  bool of_the_program = failure.stage == isolate::Stage::Exec || failure.cause.rfind("exec: ", 0) == 0;
  if (!of_the_program) return 125;
  return failure.code == ENOENT ? 127 : 126;
}

std::string helper_path(const std::string& name) {
  std::string folder = folder_of_program();
  for (const std::string& path : {folder + "/" + name, folder + "/../libexec/runner/" + name, std::string(RUNNER_LIBEXEC "/") + name})
    if (::access(path.c_str(), X_OK) == 0) return path;
  isolate::sys::fail(ENOENT, "find {} beside {} or in {}", name, folder, RUNNER_LIBEXEC);
}

std::string criu_program(const Globals& globals) {
  if (!globals.criu.empty()) return globals.criu;
  if (const char* chosen = std::getenv("RUNNER_CRIU")) return chosen;
  std::string beside = helper_path("runner-init");
  std::string ours = beside.substr(0, beside.rfind('/')) + "/criu/bin/criu";
  return ::access(ours.c_str(), X_OK) == 0 ? ours : "criu";
}

std::vector<std::string> policy_folders() {
  std::vector<std::string> folders;
  if (const char* chosen = std::getenv("RUNNER_POLICIES")) folders.push_back(chosen);
  if (const char* home = std::getenv("HOME"); home && ::geteuid() != 0) folders.push_back(std::string(home) + "/.config/runner/policies");
  std::string folder = folder_of_program();
  for (const std::string& path : {std::string("/etc/runner/policies"), folder + "/../policies", folder + "/../share/runner/policies",
                                  std::string(RUNNER_DATADIR "/policies")})
    folders.push_back(path);
  return folders;
}

std::int64_t now_ms() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000 + now.tv_nsec / 1'000'000;
}

}  // namespace runner::cli
