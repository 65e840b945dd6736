// docker run's flags, as a Config. Everything that is wrong with them is said at once.
#include <stdlib.h>
#include <unistd.h>

#include <climits>
#include <sstream>

#include "isolate/sys/file.h"
#include "runner/cli/run.h"
#include "runner/config/units.h"

namespace runner::cli {

namespace {

std::string absolute(const std::string& path) {
  if (!path.empty() && path[0] == '/') return path;
  char here[PATH_MAX];
  return std::string(::getcwd(here, sizeof here) ? here : "") + "/" + path;
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, at);) parts.push_back(part);
  return parts;
}

void check_inside(const std::string& path, const std::string& flag, Diagnostics& wrong) {
  if (path.empty() || path[0] != '/') wrong.add({flag}, "the place inside must be an absolute path, not '{}'", path);
  for (const std::string& part : split(path, '/'))
    if (part == "..") wrong.add({flag}, "'{}' may not contain '..'", path);
}

// What has no slash is a volume's name, as docker has it; "." and ".." are folders.
plan::Volume volume_from(const std::string& from, const std::string& to, bool read_only, const std::string& flag, Diagnostics& wrong) {
  if (from.find('/') != std::string::npos || from == "." || from == "..") return {absolute(from), to, read_only, flag, {}};
  if (std::string why = session::why_bad_id(from); !why.empty())
    wrong.add({flag}, "'{}' is no name of a volume, which is made as an id ({}); a path has a '/'", shown(from), why);
  return {"", to, read_only, flag, from};
}

// HOST:INSIDE[:ro|rw[,...]] or NAME:INSIDE[:...]
void read_volume(const std::string& text, plan::Config& config, Diagnostics& wrong) {
  std::string flag = "-v " + text;
  std::vector<std::string> parts = split(text, ':');
  if (parts.size() < 2 || parts.size() > 3) return wrong.add({flag}, "a volume is HOST:INSIDE[:ro] or NAME:INSIDE[:ro]");
  if (parts[0].empty()) return wrong.add({flag}, "the path on the host is missing");
  plan::Volume volume = volume_from(parts[0], parts[1], false, flag, wrong);
  if (parts.size() == 3)
    for (const std::string& option : split(parts[2], ',')) {
      if (option == "ro") volume.read_only = true;
      else if (option != "rw" && option != "z" && option != "Z" && option != "rprivate")
        wrong.add({flag}, "unknown volume option '{}'; ro and rw exist", option);
    }
  check_inside(volume.to, flag, wrong);
  config.volumes.push_back(volume);
}

void read_tmpfs_size(const std::string& text, const std::string& flag, plan::TmpfsWish& tmpfs, Diagnostics& wrong) {
  if (auto bytes = parse_size(text)) tmpfs.bytes = *bytes;
  else wrong.add({flag}, "size must be such as 64M, not '{}'", text);
}

// INSIDE[:size=64M,...]
void read_tmpfs(const std::string& text, plan::Config& config, Diagnostics& wrong) {
  std::string flag = "--tmpfs " + text;
  std::size_t colon = text.find(':');
  plan::TmpfsWish tmpfs{text.substr(0, colon), std::nullopt};
  if (colon != std::string::npos)
    for (const std::string& option : split(text.substr(colon + 1), ',')) {
      if (option.rfind("size=", 0) == 0) read_tmpfs_size(option.substr(5), flag, tmpfs, wrong);
      else if (option != "rw" && option != "nosuid" && option != "nodev" && option != "noexec" && option != "exec")
        wrong.add({flag}, "unknown tmpfs option '{}'; size=N exists", option);
    }
  check_inside(tmpfs.to, flag, wrong);
  config.tmpfs.push_back(tmpfs);
}

// type=bind,source=HOST,target=INSIDE[,readonly]  or  type=volume,source=NAME,target=INSIDE[,readonly]  or  type=tmpfs,target=INSIDE[,tmpfs-size=N]
void read_mount(const std::string& text, plan::Config& config, Diagnostics& wrong) {
  std::string flag = "--mount " + text, type = "bind", from, to;
  bool read_only = false;
  plan::TmpfsWish tmpfs;
  for (const std::string& field : split(text, ',')) {
    std::size_t equals = field.find('=');
    std::string key = field.substr(0, equals), value = equals == std::string::npos ? "" : field.substr(equals + 1);
    if (key == "type") type = value;
    else if (key == "source" || key == "src") from = value;
    else if (key == "target" || key == "dst" || key == "destination") to = value;
    else if (key == "readonly" || key == "ro") read_only = value.empty() || value == "true" || value == "1";
    else if (key == "tmpfs-size") read_tmpfs_size(value, flag, tmpfs, wrong);
    else wrong.add({flag}, "unknown field '{}'", key);
  }
  check_inside(to, flag, wrong);
  tmpfs.to = to;
  if (type == "tmpfs") return config.tmpfs.push_back(tmpfs);
  if (type != "bind" && type != "volume") return wrong.add({flag}, "type '{}' is none of bind, volume, tmpfs", type);
  if (from.empty()) return wrong.add({flag}, "source is missing");
  if (type == "bind") return config.volumes.push_back({absolute(from), to, read_only, flag, {}});
  plan::Volume volume = volume_from(from, to, read_only, flag, wrong);
  if (volume.name.empty()) return wrong.add({flag}, "the source of a volume is its name, without '/'; a folder of the host is type=bind");
  config.volumes.push_back(volume);
}

// NAME=value, or NAME for the caller's own value.
void read_variable(const std::string& text, const std::string& flag, plan::Config& config, Diagnostics& wrong) {
  std::size_t equals = text.find('=');
  if (equals == 0 || text.empty()) return wrong.add({flag}, "a variable is NAME=value or NAME, not '{}'", text);
  if (equals != std::string::npos) return config.env.push_back(text);
  if (const char* value = std::getenv(text.c_str())) config.env.push_back(text + "=" + value);
}

void read_env_file(const std::string& path, plan::Config& config, Diagnostics& wrong) {
  auto text = isolate::sys::find_file(path);
  if (!text) return wrong.add({"--env-file"}, "there is no file {}", path);
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);)
    if (!line.empty() && line[0] != '#') read_variable(line, "--env-file " + path, config, wrong);
}

void read_security(const std::string& text, plan::Config& config, Diagnostics& wrong) {
  std::string flag = "--security-opt " + text;
  if (text.rfind("seccomp=", 0) == 0) {
    std::string file = text.substr(8);
    if (file == "unconfined") return wrong.add({flag}, "a session always runs under its policy's filter; choose another policy");
    config.seccomp_profiles.push_back(file);
  } else if (text != "no-new-privileges" && text != "no-new-privileges:true" && text != "no-new-privileges=true") {
    wrong.add({flag}, "only seccomp=FILE and no-new-privileges (which is always in force) are known");
  }
}

void read_storage(const std::string& text, plan::Config& config, Diagnostics& wrong) {
  if (text.rfind("size=", 0) != 0) return wrong.add({"--storage-opt " + text}, "only size=N is known");
  config.disk = parse_size(text.substr(5));
  if (!config.disk || *config.disk < Policy::kLeastDisk || *config.disk > Policy::kMostDisk)
    wrong.add({"--storage-opt"}, "size must be from {} to {}, such as 512M, not '{}'", format_size(Policy::kLeastDisk), format_size(Policy::kMostDisk), text.substr(5));
}

// docker's words for its log drivers.
void read_log_option(const std::string& text, plan::Config& config, Diagnostics& wrong) {
  std::string flag = "--log-opt " + text;
  if (text.rfind("max-size=", 0) == 0) {
    constexpr std::uint64_t kSmallest = 16 << 10;
    std::string size = text.substr(9);
    auto bytes = size == "-1" ? std::optional<std::uint64_t>(0) : parse_size(size);
    if (!bytes || (size != "-1" && *bytes < kSmallest)) return wrong.add({flag}, "max-size must be a size of at least 16K such as 10M, or -1 for no limit");
    config.log.file_bytes = *bytes;
  } else if (text.rfind("max-file=", 0) == 0) {
    auto files = parse_whole(text.substr(9));
    if (!files || *files < 1 || *files > 100) return wrong.add({flag}, "max-file must be a number from 1 to 100");
    config.log.files = *files;
  } else {
    wrong.add({flag}, "only max-size=SIZE and max-file=N are known");
  }
}

}  // namespace

void SessionFlags::declare(Options& o) {
  o.value("--policy", policy, "the most that this session may have: a name, or a file");
  o.value("--rootfs", rootfs, "`host` for the curated view of this host, or a directory");
  o.values("-v,--volume", volumes, "HOST:INSIDE[:ro], or NAME:INSIDE[:ro] for a volume of that name, which is made when there is none");
  o.values("--mount", mounts, "type=bind,source=,target=[,readonly], type=volume with a name as source, or type=tmpfs,target=");
  o.values("--tmpfs", tmpfs, "INSIDE[:size=N]");
  o.values("-e,--env", env, "NAME=value, or NAME");
  o.values("--env-file", env_files, "a file of NAME=value lines");
  o.value("-w,--workdir", workdir, "working directory inside");
  o.value("-u,--user", user, "agent, root, or UID[:GID]");
  o.value("-m,--memory", memory, "limit, such as 512M");
  o.value("--cpus", cpus, "limit, such as 1.5");
  o.value("--pids-limit", pids, "limit of processes and threads");
  o.values("--storage-opt", storage, "size=1G: limit of what its files may take on the disk");
  o.values("--cap-drop", cap_drop, "a capability, or ALL");
  o.values("--cap-add", cap_add, "a capability that the policy allows");
  o.values("--security-opt", security, "seccomp=FILE, no-new-privileges");
  o.value("--network", network, "none (egress comes later)");
  o.flag("--rm", rm, "remove the session when it has ended");
  o.flag("-i,--interactive", interactive, "connect stdin");
  o.flag("-t,--tty", terminal, "with a terminal");
  o.flag("-d,--detach", detach, "leave the session running");
  o.value("--name", name, "its id");
  o.value("--timeout", timeout, "limit of wall time, such as 90s");
  o.value("--sleep-after", sleep_after, "let it sleep when nothing has happened for so long, such as 5m, until something is asked of it");
  o.value("--sleep-to", sleep_to, "disk: it is suspended, if it runs in the background; memory: it is only frozen");
  o.values("--log-opt", log_options, "of its own log: max-size=SIZE of one file, 20M by default, -1 for no limit; max-file=N files, 5 by default");
  o.value("--scrollback", scrollback, "with -t: how much of its output is kept for who attaches later, 64K to 64M; 1M by default");
  o.value("--entrypoint", entrypoint, "the program; the command becomes its arguments");
  o.value("--hostname", hostname, "host name inside");
  o.values("-l,--label", labels, "NAME=value");
  o.flag("--read-only", read_only, "the root cannot be written to");
  o.flag("--init", init, "accepted as docker has it: a session always has an init");
  o.value("--output", output, "events (JSON lines, the default) or raw (the program's own bytes)");
  o.value("--cidfile", cidfile, "where to write the id");
  o.number("--events-fd", events_fd, "write the events to this descriptor too");
}

plan::Config SessionFlags::to_config(std::vector<std::string> command, Diagnostics& wrong) const {
  plan::Config config;
  if (!entrypoint.empty()) command.insert(command.begin(), entrypoint);
  if (command.empty()) wrong.add({}, "run: the command behind -- is missing");
  config.argv = std::move(command);
  config.rootfs = rootfs == "host" ? rootfs : absolute(rootfs);
  config.workdir = workdir;
  config.user = user;
  config.hostname = hostname;
  config.read_only = read_only;
  config.terminal = terminal;
  config.cap_drop = cap_drop;
  config.cap_add = cap_add;
  if (!workdir.empty()) check_inside(workdir, "--workdir", wrong);
  if (!memory.empty() && !(config.memory = parse_size(memory))) wrong.add({"--memory"}, "must be a size such as 512M, not '{}'", memory);
  for (const std::string& option : storage) read_storage(option, config, wrong);
  if (!cpus.empty() && !(config.cpus = parse_cpus(cpus))) wrong.add({"--cpus"}, "must be a number such as 1.5, not '{}'", cpus);
  if (!timeout.empty() && !(config.wall_ms = parse_duration(timeout)))
    wrong.add({"--timeout"}, "must be a time such as 90s or 5m, not '{}'", timeout);
  if (sleep_to != "disk" && sleep_to != "memory") wrong.add({"--sleep-to"}, "is disk or memory, not '{}'", sleep_to);
  if (!sleep_after.empty() && (!(config.sleep_ms = parse_duration(sleep_after)) || *config.sleep_ms < 1000))
    wrong.add({"--sleep-after"}, "must be a time of at least 1s, such as 5m, not '{}'", sleep_after);
  try {
    if (!scrollback.empty()) config.scrollback = read_scrollback(scrollback, terminal);
  } catch (const UsageError& error) {
    wrong.add({"--scrollback"}, "{}", error.what());
  }
  for (const std::string& text : log_options) read_log_option(text, config, wrong);
  if (!pids.empty()) {
    config.pids = parse_whole(pids);
    if (!config.pids || *config.pids < 1 || *config.pids > 4194304)
      wrong.add({"--pids-limit"}, "must be a number from 1 to 4194304, not '{}'", pids);
  }
  if (network == "egress") wrong.add({"--network"}, "egress is not built yet: a session has no network but its own loopback");
  else if (!network.empty() && network != "none")
    wrong.add({"--network"}, "'{}' is not possible: a session has no network but its own loopback", network);
  if (!output.empty() && output != "raw" && output != "events") wrong.add({"--output"}, "'{}' is neither events nor raw", output);
  for (const std::string& text : volumes) read_volume(text, config, wrong);
  for (const std::string& text : mounts) read_mount(text, config, wrong);
  for (const std::string& text : tmpfs) read_tmpfs(text, config, wrong);
  for (const std::string& file : env_files) read_env_file(file, config, wrong);
  for (const std::string& text : env) read_variable(text, "--env", config, wrong);
  for (const std::string& text : security) read_security(text, config, wrong);
  config.remove = rm;
  for (const std::string& text : labels) {
    std::size_t equals = text.find('=');
    config.labels[text.substr(0, equals)] = equals == std::string::npos ? "" : text.substr(equals + 1);
  }
  return config;
}

std::uint64_t read_scrollback(const std::string& text, bool terminal) {
  constexpr std::uint64_t kLeast = 64 << 10, kMost = 64 << 20;
  if (text.empty()) return 0;
  auto bytes = parse_size(text);
  if (!bytes || *bytes < kLeast || *bytes > kMost) throw UsageError(fmt::format("must be a size from 64K to 64M, not '{}'", shown(text)));
  if (!terminal) throw UsageError("is of a terminal: give -t");
  return *bytes;
}

std::optional<std::vector<std::string>> take_command(std::vector<std::string>& arguments) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i] != "--") continue;
    std::vector<std::string> command(arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1, arguments.end());
    arguments.resize(i);
    return command;
  }
  return std::nullopt;
}

}  // namespace runner::cli
