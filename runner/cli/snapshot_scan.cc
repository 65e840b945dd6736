// `runner snapshot scan`: the secrets that are in one.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "runner/cli/secret_flags.h"
#include "runner/cli/snapshot.h"
#include "runner/cli/table.h"
#include "runner/snapshot/scan.h"
#include "runner/snapshot/store.h"

namespace runner::cli {

int snapshot_scan(Context& context) {
  std::string format;
  SecretFlags flags;
  Options options("snapshot scan", "Look for secrets in a snapshot: its memory, its files, its manifest. Exits with 1 when there are some. They are not shown.");
  options.value("-f,--format", format, "table or json (one object a line)");
  flags.declare(options);
  std::string name = one_argument(context.parse(options), "snapshot scan", "NAME");
  bool as_table = wants_table(format);
  snapshot::Secrets secrets = flags.read();
  snapshot::Snapshot found = snapshot::Store(context.directories()).get(name);
  snapshot::Scanned scanned = snapshot::scan(found.path(), secrets);

  std::vector<Row> rows{{"KIND", "FILE", "OFFSET", "COUNT"}};
  for (const auto& [file, what] : scanned.findings) {
    if (as_table) rows.push_back({what.kind, file, std::to_string(what.offset), std::to_string(what.count)});
    else
      fmt::print("{}\n", nlohmann::ordered_json{{"kind", what.kind}, {"file", file}, {"offset", what.offset}, {"count", what.count}}.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
  }
  if (as_table && !scanned.findings.empty()) fmt::print("{}", table(rows));
  std::fflush(stdout);
  fmt::print(stderr, "runner: snapshot {}: {} in {} files: {}\n", name, human_bytes(scanned.bytes), scanned.files, scanned.findings.empty() ? "no secret was found" : "there are secrets in it");
  return scanned.findings.empty() ? 0 : 1;
}

}  // namespace runner::cli
