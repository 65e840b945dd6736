// `runner restore --from SNAPSHOT ID`, `runner fork`: sessions go on from a snapshot. A container: restore_container.cc.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <deque>
#include <nlohmann/json.hpp>

#include "isolate/sys/child.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"
#include "runner/cli/checkpoint.h"
#include "runner/cli/revive.h"
#include "runner/cli/run.h"
#include "runner/cli/sessions.h"
#include "runner/snapshot/mounts.h"
#include "runner/snapshot/take.h"
#include "runner/snapshot/workspace.h"

namespace runner::cli {

namespace {

struct VolumeWords {
  std::string inside;
  bool read_only = false;
};

// HOST:INSIDE[:ro], which session_flags.cc will read; here only what makes two of them the same.
VolumeWords split_volume(const std::string& text) {
  std::size_t first = text.find(':'), second = first == std::string::npos ? first : text.find(':', first + 1);
  if (first == std::string::npos) throw UsageError(fmt::format("restore: -v is HOST:INSIDE[:ro] or NAME:INSIDE[:ro], not '{}'", shown(text)));
  std::string options = second == std::string::npos ? "" : "," + text.substr(second + 1) + ",";
  return {isolate::sys::clean_path(text.substr(first + 1, second - first - 1)), options.find(",ro,") != std::string::npos};
}

// CRIU puts a mount where one was, with the flags that it had: so it is another folder, and no other place.
std::vector<std::string> with_volumes(std::vector<std::string> arguments, const std::vector<std::string>& volumes, const snapshot::Manifest& manifest) {
  auto mounts = nlohmann::json::parse(manifest.session).at("mounts").get<std::vector<snapshot::MountPoint>>();
  for (const std::string& volume : volumes) {
    VolumeWords wish = split_volume(volume);
    auto is_there = [&](const snapshot::MountPoint& mount) { return mount.at == wish.inside && mount.kind == snapshot::MountPoint::Kind::Ours; };
    if (std::ranges::none_of(mounts, is_there))
      throw UsageError(fmt::format("restore: -v {}: its session had nothing mounted at {}, and a snapshot's mounts stay where they are: leave it out, or make one of a session that was run with -v HOST:{}",
                                   shown(volume), shown(wish.inside), shown(wish.inside)));
    bool was_read_only = false;
    for (std::size_t i = 0; i < arguments.size() && arguments[i] != "--"; ++i) {
      bool apart = arguments[i] == "-v" || arguments[i] == "--volume", joined = arguments[i].starts_with("--volume=");
      if ((!apart && !joined) || (apart && i + 1 == arguments.size())) continue;
      VolumeWords was = split_volume(apart ? arguments[i + 1] : arguments[i].substr(9));
      if (was.inside != wish.inside) continue;
      was_read_only = was.read_only;
      arguments.erase(arguments.begin() + static_cast<std::ptrdiff_t>(i), arguments.begin() + static_cast<std::ptrdiff_t>(i + (apart ? 2 : 1)));
      --i;
    }
    if (was_read_only != wish.read_only)
      throw UsageError(fmt::format("restore: -v {}: it was {} there when the snapshot was taken, which stays", shown(volume), was_read_only ? "read-only" : "writable"));
    arguments.insert(arguments.begin(), {"-v", volume});
  }
  return arguments;
}

}  // namespace

snapshot::Verify read_verify(const std::string& word) {
  if (word != "metadata" && word != "full") throw UsageError(fmt::format("--verify is metadata or full, not '{}'", word));
  return word == "full" ? snapshot::Verify::Full : snapshot::Verify::Metadata;
}

int revive(Context& context, const Revival& how) {
  snapshot::Store store(context.directories());
  snapshot::Snapshot snapshot = store.get(how.snapshot);
  const snapshot::Manifest& manifest = snapshot.manifest();
  bool has_files = !manifest.layers.empty() && manifest.layers.front().find('/') == std::string::npos;
  if (!how.wakes && !has_files)
    throw std::runtime_error(fmt::format("snapshot {} is the memory of the suspended session {}, whose files are its own: `runner wake {}`, then take one with `snapshot create`",
                                         how.snapshot, manifest.session_id, manifest.session_id));
  // The same wishes as then, and today's policy.
  Context then;
  std::vector<std::string> arguments = with_volumes(manifest.config, how.volumes, manifest);
  then.arguments = arguments;
  auto command = take_command(then.arguments);
  SessionFlags flags;
  Options run("run", "");
  flags.declare(run);
  then.parse(run);
  flags.name = how.id;
  flags.rm = how.rm;
  flags.detach = how.detach;
  flags.interactive = how.interactive;
  flags.output = how.output;
  flags.events_fd = how.events_fd;
  flags.cidfile.clear();
  std::string workspace = snapshot::workspace_in(snapshot);
  bool replaced = std::ranges::any_of(how.volumes, [&](const std::string& volume) { return split_volume(volume).inside == workspace; });
  Origin origin{std::move(snapshot), criu_program(context.globals), how.verify, how.cold, how.standby, how.wakes, replaced};
  try {
    return live(context, flags, command.value_or(std::vector<std::string>{}), arguments, &origin);
  } catch (const UsageError& error) {
    throw std::runtime_error(fmt::format("snapshot {} cannot go on under the policy of today: {}", how.snapshot, error.what()));
  }
}

namespace {

// --image-path is an OCI container's, and so is a ./checkpoint, which is where runc looks for one that nobody names.
bool of_container(const Context& context) {
  bool named = false, from = false;
  for (const std::string& word : context.arguments) {
    named = named || word == "--image-path" || word.starts_with("--image-path=");
    from = from || word == "--from" || word.starts_with("--from=");
  }
  return named || (!from && ::access("checkpoint", F_OK) == 0);
}

int restore_session(Context& context) try {
  std::string verify = "metadata";
  Revival how;
  Options options("restore", "Bring a session to life from a snapshot: runner restore --from SNAPSHOT ID\n"
                             "(or a container from a checkpoint: runner restore --image-path DIR ID)");
  options.value("--from", how.snapshot, "name of the snapshot");
  options.flag("-d,--detach", how.detach, "leave it in the background");
  options.flag("-i,--interactive", how.interactive, "our stdin goes to its program");
  options.flag("--rm", how.rm, "remove it when it has ended");
  options.flag("--standby", how.standby, "with -d: all is made ready, and it goes on at the first request");
  options.flag("--cold", how.cold, "its files only: the command is begun anew");
  options.value("--output", how.output, "events or raw");
  options.number("--events-fd", how.events_fd, "write the events to this descriptor too");
  options.values("-v,--volume", how.volumes, "HOST:INSIDE[:ro]: another folder where its session had one");
  options.value("--verify", verify, "metadata, or full: the memory pages too");
  how.id = one_argument(context.parse(options), "restore");
  if (how.snapshot.empty()) throw UsageError("restore: --from SNAPSHOT, or --image-path DIR of a container, is missing");
  if (how.standby && how.cold) throw UsageError("restore: --standby and --cold exclude each other");
  if (how.standby && !how.detach) throw UsageError("restore: --standby waits in the background: add -d");
  how.verify = read_verify(verify);
  return revive(context, how);
} catch (const HelpAsked&) {
  throw;
} catch (const std::exception& error) {
  report_error(context.globals, error.what());
  return kSessionVerbFailed;
}

}  // namespace

int restore_main(Context& context) { return of_container(context) ? restore_container(context) : restore_session(context); }

namespace {

// Many sessions from one snapshot, or from a session that runs; `how` is what each `restore` is given besides.
int start_many(Context& context, const char* verb, const char* about, const std::vector<std::string>& how) {
  std::string from, prefix, count_text = "1", verify = "metadata";
  bool rm = false;
  Options options(verb, about);
  options.value("-n,--count", count_text, "how many");
  options.value("--name", prefix, "they are called NAME-1, NAME-2, ... (default: at random)");
  options.flag("--rm", rm, "remove each when it has ended");
  options.value("--verify", verify, "metadata, or full: the memory pages too");
  from = one_argument(context.parse(options), verb, "NAME");
  unsigned count = 0;
  auto [end, bad] = std::from_chars(count_text.data(), count_text.data() + count_text.size(), count);
  if (bad != std::errc() || *end || count < 1 || count > 1000) throw UsageError(fmt::format("{}: -n is a number from 1 to 1000, not '{}'", verb, count_text));
  read_verify(verify);

  snapshot::Store store(context.directories());
  if (!store.find(from)) {
    session::Entry entry = context.entry(from);  // a session, then
    from = snapshot::take(context.directories(), context.cgroups(), entry, take_options(context, entry, "")).name;
  }
  isolate::sys::Fd nothing = isolate::sys::open_file("/dev/null", O_RDWR);
  const std::size_t at_once = static_cast<std::size_t>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  std::deque<std::pair<std::string, isolate::sys::Child>> under_way;
  int code = 0;
  auto finish_first = [&] {
    if (under_way.front().second.wait() == isolate::sys::Exit{}) fmt::print("{}\n", under_way.front().first);
    else code = kSessionVerbFailed;
    under_way.pop_front();
  };
  for (unsigned i = 1; i <= count; ++i) {
    std::string name = prefix.empty() ? random_id(from.substr(0, 100)) : fmt::format("{}-{}", prefix, i);
    std::vector<std::string> words{"restore", "-d", "--output", "raw", "--verify", verify, "--from", from, name};
    words.insert(words.end(), how.begin(), how.end());
    if (rm) words.push_back("--rm");
    if (under_way.size() >= at_once) finish_first();
    under_way.emplace_back(name, start_self(context, words, nothing.get(), -1));
  }
  while (!under_way.empty()) finish_first();
  return code;
}

}  // namespace

int fork_main(Context& context) {
  return start_many(context, "fork", "Start sessions that go on from one snapshot, or from a session that runs: runner fork NAME -n 4", {});
}

int standby_main(Context& context) {
  return start_many(context, "standby", "Make sessions ready that go on from one snapshot at the first request to each: runner standby NAME -n 4", {"--standby"});
}

}  // namespace runner::cli
