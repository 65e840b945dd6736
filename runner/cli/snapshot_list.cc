// snapshot ls, snapshot show: what there is.
#include <fmt/format.h>
#include <time.h>

#include <nlohmann/json.hpp>

#include "runner/cli/sessions.h"
#include "runner/cli/snapshot.h"
#include "runner/cli/table.h"
#include "runner/session/size.h"
#include "runner/session/time.h"
#include "runner/snapshot/store.h"

namespace runner::cli {

namespace {

using json = nlohmann::ordered_json;
using snapshot::Listed;
using snapshot::Manifest;

std::string printed(const json& j, int indent) {
  return j.dump(indent, ' ', true, json::error_handler_t::replace) + "\n";
}

std::uint64_t bytes_of(const snapshot::Store& store, const std::string& name) {
  return session::bytes_on_disk(store.path() + "/" + name);
}

std::vector<std::string> users_of(const snapshot::Store::Users& users, const std::string& name) {
  auto found = users.find(name);
  return found == users.end() ? std::vector<std::string>() : found->second;
}

json describe(const snapshot::Store& store, const snapshot::Store::Users& users, const Listed& each) {
  json j{{"name", each.name},
         {"status", each.manifest ? "good" : "damaged"},
         {"error", nullptr},
         {"bytes", bytes_of(store, each.name)},
         {"used_by", users_of(users, each.name)}};
  if (!each.manifest) {
    j["error"] = each.why;
    return j;
  }
  const Manifest& m = *each.manifest;
  j.update({{"id", m.id},
            {"created", m.created},
            {"counter", m.counter},
            {"session", m.session_id},
            {"policy", m.policy_name},
            {"layers", m.layers},
            {"automatic", m.automatic}});
  return j;
}

Row row_of(const snapshot::Store& store, const snapshot::Store::Users& all_users, const Listed& each) {
  std::string bytes = human_bytes(bytes_of(store, each.name)),
              users = fmt::format("{}", fmt::join(users_of(all_users, each.name), ", "));
  if (users.empty()) users = "-";
  if (!each.manifest) return {each.name, "damaged", "-", bytes, "-", "-", users};
  auto created = session::parse_rfc3339(each.manifest->created);
  auto or_dash = [](const std::string& text) { return text.empty() ? "-" : text; };
  return {each.name,
          "good",
          created ? human_time(::time(nullptr) - *created) : "-",
          bytes,
          or_dash(each.manifest->session_id),
          or_dash(each.manifest->policy_name),
          users};
}

}  // namespace

int snapshot_ls(Context& context) {
  bool quiet = false;
  std::string format;
  Options options("snapshot ls",
                  "List the snapshots: a table on a terminal, else JSON lines. Only their manifests are verified.");
  options.flag("-q,--quiet", quiet, "names only");
  options.value("-f,--format", format, "table or json (one object a line)");
  if (auto rest = context.parse(options); !rest.empty())
    throw UsageError(fmt::format("snapshot ls: takes no arguments, not '{}'", shown(rest[0])));
  bool as_table = wants_table(format);
  snapshot::Store store(context.directories());
  std::vector<Row> rows{{"NAME", "STATUS", "AGE", "SIZE", "SESSION", "POLICY", "USED BY"}};
  std::string text;
  snapshot::Store::Users users = store.users();
  for (const Listed& each : store.list()) {
    if (quiet)
      text += each.name + "\n";
    else if (as_table)
      rows.push_back(row_of(store, users, each));
    else
      text += printed(describe(store, users, each), -1);
  }
  fmt::print("{}", as_table && !quiet ? table(rows) : text);
  return 0;
}

int snapshot_show(Context& context) {
  Options options("snapshot show", "Print all that is known of a snapshot, as JSON.");
  std::string name = one_argument(context.parse(options), "snapshot show", "NAME");
  snapshot::Store store(context.directories());
  snapshot::Snapshot found = store.get(name);
  json j{{"name", name},
         {"path", found.path()},
         {"bytes", bytes_of(store, name)},
         {"used_by", users_of(store.users(), name)},
         {"manifest", json::parse(snapshot::body_of(found.manifest()))}};
  fmt::print("{}", printed(j, 2));
  return 0;
}

}  // namespace runner::cli
