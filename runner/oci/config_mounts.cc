// The `mounts` list. Options that are a file system's own are passed to it by fsconfig(2); all others are in the table
// of mount_options.cc.
#include <sys/mount.h>

#include <algorithm>
#include <charconv>

#include "runner/oci/config_parts.h"
#include "runner/oci/mount_options.h"

namespace runner::oci {

using isolate::Bind;
using isolate::CgroupView;
using isolate::FileSystem;
using isolate::NamespaceKind;
using json::in_quotes;

namespace {

constexpr std::uint64_t kAccessTime = MOUNT_ATTR__ATIME;

struct Reading {
  json::Value entry;  // of the list
  Container& to;
  isolate::Mount mount;
  std::string type, source;
  bool wants_id_map = false, id_map_recursive = false;
  bool chooses_times = false;  // of access: names a way, and does not only take one away
};

// One of three values, so it is always cleared before it is set; taking one of them away leads back to the default.
void set_access_time(const MountOption& option, std::uint64_t& set, std::uint64_t& clear) {
  bool chosen = clear & kAccessTime;
  if (option.clear && chosen && (set & kAccessTime) != option.flag) return;
  clear |= kAccessTime;
  set = (set & ~kAccessTime) | (option.clear ? std::uint64_t{MOUNT_ATTR_RELATIME} : option.flag);
}

void set_attribute(const MountOption& option, isolate::Mount& mount) {
  std::uint64_t& set = option.recursive ? mount.set_recursive : mount.set;
  std::uint64_t& clear = option.recursive ? mount.clear_recursive : mount.clear;
  if (option.effect == MountEffect::AccessTime) return set_access_time(option, set, clear);
  (option.clear ? clear : set) |= option.flag;
  (option.clear ? set : clear) &= ~option.flag;
}

void add_data(json::Value field, const std::string& option, Reading& reading) {
  auto* fs = std::get_if<FileSystem>(&reading.mount.what);
  if (!fs) return field.wrong("{} is not a mount option", in_quotes(option));
  std::size_t equals = option.find('=');
  if (equals == 0 || option.empty()) return field.wrong("{} is not a mount option", in_quotes(option));
  // Every devpts has been an instance of its own since Linux 4.7.
  if (fs->type == "devpts" && option == "newinstance") return;
  fs->options.emplace_back(option.substr(0, equals), equals == std::string::npos ? "" : option.substr(equals + 1));
}

void apply(json::Value field, const std::string& text, Reading& reading) {
  isolate::Mount& mount = reading.mount;
  const MountOption* option = find_mount_option(text);
  if (!option) return add_data(field, text, reading);
  switch (option->effect) {
    case MountEffect::Attribute:
    case MountEffect::AccessTime:
      if (!option->clear && !option->recursive) reading.chooses_times |= option->effect == MountEffect::AccessTime || option->flag == MOUNT_ATTR_NODIRATIME;
      return set_attribute(*option, mount);
    case MountEffect::Propagation:
      if (mount.propagation && mount.propagation != option->flag)
        return field.wrong("{} cannot be combined with the one before", text);
      mount.propagation = option->flag;
      return;
    case MountEffect::Bind: {
      auto& bind = std::get<Bind>(mount.what);
      bind.recursive |= option->recursive;
      return;
    }
    case MountEffect::Superblock:
      if (auto* fs = std::get_if<FileSystem>(&mount.what))
        fs->options.emplace_back(text, "");
      else
        warn(reading.to.warnings, "{}: ignoring {}: it belongs to a file system, and not to a bind of it", field.name(),
             text);
      return;
    case MountEffect::IdMap:
      reading.wants_id_map = true;
      reading.id_map_recursive |= option->recursive;
      return;
    case MountEffect::CopyUp: {
      auto* fs = std::get_if<FileSystem>(&mount.what);
      if (!fs || fs->type != "tmpfs") return field.wrong("{} is for a tmpfs only", text);
      fs->copy_up = true;
      return;
    }
    case MountEffect::Nothing:
      return;
    case MountEffect::Refused:
      return field.wrong("{} is not supported by this version", text);
  }
}

bool is_below(const std::string& path, const std::string& folder) { return !folder.empty() && path.starts_with(folder + "/"); }

// A source that lies below a mount before this one is there only inside; so is what such a mount has added to it, which `rbind` takes along.
void look_inside(Bind& bind, bool recursive, Reading& reading) {
  const std::string& root = reading.to.plan.root.path;
  if (!is_below(bind.from, root)) return;
  std::string path = bind.from.substr(root.size());
  auto concerns = [&](const isolate::Mount& mount) { return path == mount.to || is_below(path, mount.to) || (recursive && is_below(mount.to, path)); };
  bind.inside = std::any_of(reading.to.plan.mounts.begin(), reading.to.plan.mounts.end(), concerns);
  if (bind.inside) bind.from = path;
}

void read_destination(Reading& reading) {
  json::Value field = reading.entry["destination"];
  std::string path;
  if (!field.require(path)) return;
  if (path.empty()) return field.wrong("must not be empty");
  if (path[0] != '/') {
    warn(reading.to.warnings, "{}: {} is not absolute: it is taken from the root", field.name(), in_quotes(path));
    path.insert(0, "/");
  }
  reading.mount.to = absolute_path(field, path);
  // As some engines have it: where it is on the host.
  if (is_below(reading.mount.to, reading.to.plan.root.path)) reading.mount.to.erase(0, reading.to.plan.root.path.size());
  if (reading.mount.to == "/") field.wrong("must not be the root itself");
}

// The options come in any order, and what they mean depends on this.
void choose_what(const std::vector<std::string>& options, Reading& reading) {
  auto is_bind = [](const std::string& option) { return option == "bind" || option == "rbind"; };
  if (reading.type == "bind" || std::any_of(options.begin(), options.end(), is_bind)) {
    Bind bind;
    bind.from = reading.source;
    bind.recursive = false;
    if (bind.from.empty())
      reading.entry["source"].wrong("is missing: a bind needs it");
    else if (bind.from[0] != '/')
      bind.from = reading.to.bundle + "/" + bind.from;
    look_inside(bind, std::find(options.begin(), options.end(), "rbind") != options.end(), reading);
    reading.mount.what = std::move(bind);
  } else if (reading.type == "cgroup" || reading.type == "cgroup2") {
    reading.mount.what = CgroupView{};
  } else {
    if (reading.type.empty() || reading.type == "none")
      reading.entry["type"].wrong("is missing: only a bind can do without");
    reading.mount.what = FileSystem{reading.type, reading.source, {}};
  }
}

void read_id_map(Reading& reading) {
  json::Value uids = reading.entry["uidMappings"].array(), gids = reading.entry["gidMappings"].array();
  bool own = !uids.blank() || !gids.blank();
  if (!own && !reading.wants_id_map) return;
  auto* bind = std::get_if<Bind>(&reading.mount.what);
  if (!bind) return reading.entry.wrong("can only be id-mapped when it is a bind");
  if (!reading.to.plan.privileged_start) return reading.entry.wrong("can only be id-mapped by root");
  const auto& namespaces = reading.to.plan.namespaces;
  auto user = std::find_if(namespaces.begin(), namespaces.end(), [](const auto& n) { return n.kind == NamespaceKind::User; });
  if (bind->inside && user != namespaces.end())
    reading.entry.wrong("is made of what lies inside, and can only be id-mapped where there is no user namespace");
  bind->ids_recursive = reading.id_map_recursive;
  if (own) {
    for (json::Value each : {uids, gids})
      if (each.blank()) each.wrong("is missing: an id-mapped mount needs both maps");
    read_id_ranges(uids, bind->ids.uids);
    read_id_ranges(gids, bind->ids.gids);
  } else {
    if (user == namespaces.end())
      return reading.entry.wrong("has the option idmap: it needs uidMappings and gidMappings, or a user namespace to take them from");
    if (user->join.empty()) bind->ids = reading.to.plan.ids;
    else bind->ids_of = user->join;
  }
}

// What does not exist yet has nothing to be cleared; a call the less for each mount.
void forget_needless_clears(isolate::Mount& mount) {
  if (!std::holds_alternative<FileSystem>(mount.what)) return;
  mount.clear = mount.set & kAccessTime ? kAccessTime : 0;
  mount.clear_recursive = mount.set_recursive & kAccessTime ? kAccessTime : 0;
}

// As runc and crun do it, who remount a bind: isolate/attributes.h. Only the time of access stays as it is where no way is chosen.
void replace_attributes(isolate::Mount& mount, bool chooses_times) {
  auto* bind = std::get_if<Bind>(&mount.what);
  if (!bind || !(mount.set | mount.clear)) return;
  constexpr std::uint64_t kTimes = kAccessTime | MOUNT_ATTR_NODIRATIME;
  bind->replaces = true;
  mount.clear = chooses_times ? mount.clear | kTimes : mount.clear & ~kTimes;
  if (!chooses_times) mount.set &= ~kTimes;
}

// The group of terminals, 5, is often not mapped in a user namespace: then devpts refuses it.
void drop_unmapped_group(FileSystem& fs, const isolate::Plan& plan) {
  if (fs.type != "devpts" || !plan.makes(NamespaceKind::User)) return;
  std::erase_if(fs.options, [&](const auto& option) {
    std::uint32_t gid = 0;
    const std::string& text = option.second;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), gid);
    return option.first == "gid" && error == std::errc() && end == text.data() + text.size() &&
           !maps(plan.ids.gids, gid);
  });
}

void finish(Reading& reading) {
  isolate::Mount& mount = reading.mount;
  forget_needless_clears(mount);
  replace_attributes(mount, reading.chooses_times);
  if (auto* fs = std::get_if<FileSystem>(&mount.what)) {
    drop_unmapped_group(*fs, reading.to.plan);
    bool has_mode = std::any_of(fs->options.begin(), fs->options.end(), [](const auto& option) { return option.first == "mode"; });
    fs->like_place = fs->type == "tmpfs" && !has_mode;
    // A device may be one that can only be opened for reading.
    if (mount.set & MOUNT_ATTR_RDONLY && !fs->source.empty() && fs->source[0] == '/')
      fs->options.emplace_back("ro", "");
    // Nodes are still to be made in it.
    if (mount.to == "/dev" && mount.set & MOUNT_ATTR_RDONLY) {
      mount.set &= ~std::uint64_t{MOUNT_ATTR_RDONLY};
      reading.to.plan.read_only_dev = true;
    }
  }
}

void read_mount(json::Value entry, Container& to) {
  Reading reading{entry, to, {}, {}, {}};
  read_destination(reading);
  entry["type"].read(reading.type);
  entry["source"].read(reading.source);
  std::vector<std::string> options;
  json::Value list = entry["options"];
  list.read(options);
  choose_what(options, reading);
  if (!options.empty()) {
    std::size_t i = 0;
    for (json::Value each : list.values()) apply(each, options[i++], reading);
  }
  read_id_map(reading);
  finish(reading);
  to.plan.mounts.push_back(std::move(reading.mount));
}

}  // namespace

void read_mounts(json::Value config, Container& to) {
  for (json::Value each : config["mounts"].array().values())
    if (json::Value entry = each.object()) read_mount(entry, to);
}

}  // namespace runner::oci
