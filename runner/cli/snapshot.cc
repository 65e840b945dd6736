// snapshot: what is in the store, and what becomes of it.
#include "runner/cli/snapshot.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "runner/cli/sessions.h"
#include "runner/cli/table.h"
#include "runner/session/size.h"
#include "runner/snapshot/store.h"

namespace runner::cli {

namespace {

struct Verb {
  const char* name;
  int (*main)(Context&);
  const char* help;
};

constexpr Verb kVerbs[] = {
    {"create", snapshot_create, "capture a running session: its processes, terminals and files"},
    {"check", snapshot_check, "tell what a snapshot of a session would keep, close or fail at; nothing is stopped"},
    {"ls", snapshot_ls, "list them: a table on a terminal, else JSON lines"},
    {"show", snapshot_show, "print all that is known of one, as JSON"},
    {"verify", snapshot_verify, "check every file; with --full the memory pages too"},
    {"scan", snapshot_scan, "look for secrets in one: private keys, tokens, and those that you name"},
    {"rm", snapshot_rm, "remove those that nothing uses"},
    {"prune", snapshot_prune,
     "remove those without a name of their own that nothing uses; with -a all that nothing uses"},
    {"export", snapshot_export, "write one as a tar stream"},
    {"import", snapshot_import, "take one from a tar stream"},
    {"rotate-key", snapshot_rotate_key, "sign all of them with a new key"},
};

std::string help() {
  std::string text = "usage: runner snapshot VERB [flags] ...\n\n";
  for (const Verb& verb : kVerbs) text += fmt::format("  {:10}  {}\n", verb.name, verb.help);
  return text + "\nrunner snapshot VERB --help tells more.\n";
}

// The first word that is no flag, nor the value of a global one.
std::size_t find_word(const std::vector<std::string>& arguments) {
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i][0] != '-') return i;
    if (takes_value(arguments[i])) ++i;
  }
  return arguments.size();
}

}  // namespace

int snapshot_main(Context& context) {
  std::size_t at = find_word(context.arguments);
  if (at == context.arguments.size()) {
    for (const std::string& argument : context.arguments)
      if (argument == "--help" || argument == "-h") throw HelpAsked(help());
    throw UsageError("snapshot: the verb is missing (see `runner snapshot --help`)");
  }
  std::string name = context.arguments[at];
  context.arguments.erase(context.arguments.begin() + static_cast<std::ptrdiff_t>(at));
  for (const Verb& verb : kVerbs)
    if (name == verb.name) return verb.main(context);
  throw UsageError(fmt::format("snapshot: there is no verb '{}' (see `runner snapshot --help`)", shown(name)));
}

int snapshot_verify(Context& context) {
  bool full = false;
  Options options("snapshot verify",
                  "Check that every file of snapshots is as their makers signed it, and that there are no others.");
  options.flag("--full", full, "also the contents of the memory pages");
  std::vector<std::string> names = context.parse(options);
  if (names.empty()) throw UsageError("snapshot verify: NAME is missing");
  snapshot::Store store(context.directories());
  return for_each_id(context, names, [&](const std::string& name) {
    snapshot::Snapshot found = store.get(name);
    found.verify(full ? snapshot::Verify::Full : snapshot::Verify::Metadata);
    std::set<std::string> parents;  // whose layers it has
    for (const std::string& layer : found.manifest().layers)
      if (std::size_t slash = layer.find('/'); slash != std::string::npos) parents.insert(layer.substr(0, slash));
    for (const std::string& parent : parents) store.get(parent).verify(snapshot::Verify::Metadata);
    fmt::print("{}: {}\n", name, full ? "good" : "good (memory pages by their size only: --full reads them)");
    std::fflush(stdout);
  });
}

int snapshot_rm(Context& context) {
  Options options("snapshot rm",
                  "Remove snapshots. One that a session was restored from, or that another one has layers of, stays.");
  std::vector<std::string> names = context.parse(options);
  if (names.empty()) throw UsageError("snapshot rm: NAME is missing");
  snapshot::Store store(context.directories());
  return for_each_id(context, names, [&](const std::string& name) {
    store.remove(name);
    fmt::print("{}\n", name);
    std::fflush(stdout);
  });
}

int snapshot_prune(Context& context) {
  bool all = false, dry = false;
  std::string format;
  Options options("snapshot prune",
                  "Remove the snapshots that nobody named and nothing uses, and what killed makers have left.");
  options.flag("-a,--all", all, "also those with a name of their own");
  options.flag("--dry-run", dry, "only tell what would be removed");
  options.value("-f,--format", format, "table or json (one object a line)");
  if (auto rest = context.parse(options); !rest.empty())
    throw UsageError(fmt::format("snapshot prune: takes no arguments, not '{}'", shown(rest[0])));
  bool as_table = wants_table(format);
  snapshot::Store store(context.directories());
  if (!dry) store.sweep();

  std::vector<Row> rows{{"NAME", "BYTES"}};
  std::uint64_t count = 0, sum = 0;
  int code = 0;
  // Newest first: what a snapshot has of an older one it gives free.
  std::vector<snapshot::Listed> list = store.list();
  auto counter = [](const snapshot::Listed& each) { return each.manifest ? each.manifest->counter : 0; };
  std::sort(list.begin(), list.end(), [&](const auto& a, const auto& b) { return counter(a) > counter(b); });
  snapshot::Store::Users users = store.users();
  for (const snapshot::Listed& each : list) {
    // A damaged one may be what somebody wants to look into: only `rm` takes it.
    if (!each.manifest || (!all && !each.manifest->automatic) || !users[each.name].empty()) continue;
    code = std::max(code, for_each_id(context, {each.name}, [&](const std::string& name) {
                      std::uint64_t bytes = session::bytes_on_disk(store.path() + "/" + name);
                      if (!dry) store.remove(name);  // which looks again whether something uses it
                      for (auto& [of, by] : users) std::erase(by, "snapshot " + name);
                      ++count, sum += bytes;
                      if (as_table)
                        rows.push_back({name, human_bytes(bytes)});
                      else
                        fmt::print("{}\n", nlohmann::ordered_json{{"name", name}, {"bytes", bytes}}.dump());
                    }));
  }
  if (as_table) fmt::print("{}", table(rows));
  std::fflush(stdout);
  fmt::print(stderr, "runner: {} snapshot{} {}, {}\n", count, count == 1 ? "" : "s",
             dry ? "would be removed" : "removed", human_bytes(sum));
  return code;
}

int snapshot_rotate_key(Context& context) {
  Options options("snapshot rotate-key",
                  "Make a new key and sign every good snapshot with it. Killed in the middle, both keys are good; do "
                  "it again then.");
  if (auto rest = context.parse(options); !rest.empty())
    throw UsageError(fmt::format("snapshot rotate-key: takes no arguments, not '{}'", shown(rest[0])));
  snapshot::Store::Rotated rotated = snapshot::Store(context.directories()).rotate_key();
  for (const std::string& name : rotated.signed_again) fmt::print("{}\n", name);
  std::fflush(stdout);
  for (const std::string& left : rotated.left)
    report_warning(context.globals, fmt::format("not signed again: {}", left));
  return 0;
}

}  // namespace runner::cli
