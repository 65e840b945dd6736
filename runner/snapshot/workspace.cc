#include "runner/snapshot/workspace.h"

#include <fcntl.h>
#include <sys/mount.h>

#include <nlohmann/json.hpp>

#include "isolate/ids.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/mount.h"
#include "isolate/sys/paths.h"
#include "runner/snapshot/mounts.h"

namespace runner::snapshot {

using namespace isolate::sys;
using json = nlohmann::json;

namespace {

constexpr const char* kLayer = "workspace";  // no layer of the overlay: Manifest::layers does not name it

struct Recorded {
  std::string at, kept, from;
  isolate::IdMap ids;
};

Recorded read(const std::string& record) {
  json said = json::parse(record).value("workspace", json::object());  // older ones do not tell
  auto ranges = [&](const char* key) {
    std::vector<isolate::IdRange> all;
    for (const json& each : said.value(key, json::array())) all.push_back({each.at(0), each.at(1), each.at(2)});
    return all;
  };
  return {said.value("at", ""), said.value("kept", "share"), said.value("from", ""), {ranges("uids"), ranges("gids")}};
}

std::string copy_in(const Snapshot& snapshot) {
  std::string path = snapshot.path() + "/layers/" + kLayer;
  return find_dir(path) ? path : "";
}

isolate::Bind* workspace_of(isolate::Plan& plan, const Snapshot& snapshot) {
  int n = planned_at(plan, read(snapshot.manifest().session).at);
  return n < 0 ? nullptr : std::get_if<isolate::Bind>(&plan.mounts[static_cast<std::size_t>(n)].what);
}

}  // namespace

CopiedLayer copy_workspace(const std::string& record, Draft& draft) {
  Recorded workspace = read(record);
  if (workspace.kept != "copy" || workspace.from.empty()) return {};
  std::uint32_t first_id = json::parse(record).at("first_id");
  std::string to = draft.make_layer(kLayer);
  Shift shift{first_id, 0, true};
  if (workspace.from.starts_with("/proc/")) return copy_layer(workspace.from, to, shift);
  // Seen through the same map as from inside, and without what is mounted below.
  Fd mount = copy_mount(open_below(open_dir("/").get(), workspace.from, Links::Refuse).get(), "", false);
  Fd ids = workspace.ids.empty() ? Fd() : isolate::make_id_map(workspace.ids);
  // Another session may have the same volume, and change it under us: what it puts in the place of a file is no device then, and no door.
  set_mount(mount.get(), MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, 0, false, 0, ids.get());
  return copy_layer(fd_path(mount.get()), to, shift);
}

bool has_own_workspace(const Snapshot& snapshot) {
  Recorded workspace = read(snapshot.manifest().session);
  return workspace.kept != "share" && !workspace.from.empty();
}

std::string workspace_in(const Snapshot& snapshot) { return read(snapshot.manifest().session).at; }

void fill_workspace(const Snapshot& snapshot, const isolate::Plan& plan, const isolate::Disk& disk) {
  isolate::Plan changed = plan;
  std::string copy = copy_in(snapshot);
  isolate::Bind* bind = workspace_of(changed, snapshot);
  if (copy.empty() || !bind) return;
  std::string to = disk.mount() < 0 ? bind->from : fd_path(disk.mount());
  if (!list_dir(to).empty()) return;  // by a restore that then failed, in whose place the command is begun anew
  try {
    copy_layer(copy, to, Shift{0, plan.ids.uids.front().outside});
  } catch (...) {
    for (const std::string& name : list_dir(to)) remove_tree(to + "/" + name);  // not half of it
    throw;
  }
}

isolate::Plan before_filling(const Snapshot& snapshot, isolate::Plan plan) {
  std::string copy = copy_in(snapshot);
  isolate::Bind* bind = workspace_of(plan, snapshot);
  if (!copy.empty() && bind) bind->from = copy;
  return plan;
}

}  // namespace runner::snapshot
