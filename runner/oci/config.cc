#include "runner/oci/config.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "isolate/sys/error.h"
#include "runner/oci/config_parts.h"

namespace runner::oci {

using isolate::NamespaceKind;
using json::in_quotes;

namespace {

// Every 1.x, with or without a pre-release: 1.x is one contract, whatever of it this version knows.
bool is_version_one(const std::string& version) {
  std::size_t at = 2;
  auto number = [&] {
    std::size_t start = at;
    while (at < version.size() && version[at] >= '0' && version[at] <= '9') ++at;
    return at > start;
  };
  if (version.rfind("1.", 0) != 0 || !number()) return false;
  if (at == version.size() || version[at] != '.') return false;
  ++at;
  if (!number()) return false;
  if (at == version.size()) return true;
  if (version[at] != '-' && version[at] != '+') return false;
  return at + 1 < version.size() &&
         std::all_of(version.begin() + static_cast<std::ptrdiff_t>(at), version.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '.' || c == '-' || c == '+'; });
}

void read_version(json::Value config, Container& to) {
  json::Value field = config["ociVersion"];
  if (field.require(to.oci_version) && !is_version_one(to.oci_version))
    field.wrong("must be a version 1.x.y of the specification, not {}", in_quotes(to.oci_version));
}

void read_annotations(json::Value config, Container& to) {
  json::Value annotations = config["annotations"].object();
  annotations.read(to.annotations);
  const std::string prefix = kAnnotationPrefix;
  // crun's, which podman writes for --group-add keep-groups.
  to.plan.process.keep_groups = to.annotations.contains("run.oci.keep_original_groups") && to.annotations["run.oci.keep_original_groups"] != "0";
  for (json::Value each : annotations.values()) {
    if (each.key().rfind(prefix, 0) != 0) continue;
    std::string_view name = each.key().substr(prefix.size());
    const std::string& value = to.annotations[std::string(each.key())];
    if (name == "policy") to.asked.policy = value;
    else if (name == "restore") to.asked.restore = absolute_path(each, value);
    else if (name == "events") to.asked.events = absolute_path(each, value);
    else if (name != "init") each.wrong("is an annotation of runner that this version does not know");
    else if (value == "true" || value == "false") to.asked.init = value == "true";
    else each.wrong("must be \"true\" or \"false\", not {}", in_quotes(value));
  }
}

json::Value needed_object(json::Value field) {
  if (!field) field.wrong("is missing");
  return field.object();
}

// Empty when there is no such file; errno says why.
std::string real_path(const std::string& path) {
  std::unique_ptr<char, void (*)(void*)> real(::realpath(path.c_str(), nullptr), ::free);
  return real ? real.get() : "";
}

void read_root(json::Value config, Container& to, const LoadOptions& options) {
  json::Value root = needed_object(config["root"]);
  if (!root) return;
  root["readonly"].read(to.plan.root.read_only);
  to.plan.root.pivot = !options.no_pivot;
  std::string path;
  json::Value field = root["path"];
  if (!field.require(path)) return;
  if (path.empty()) return field.wrong("must not be empty");
  if (path[0] != '/') path = to.bundle + "/" + path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  if (options.look_at_files) {
    struct stat info;
    if (::lstat(path.c_str(), &info) == -1) return field.wrong("{}: {}", in_quotes(path), isolate::sys::error_text(errno));
    // Whoever can write to the bundle could point it at any directory of the host, after it was checked too.
    if (S_ISLNK(info.st_mode)) return field.wrong("{} must be a directory, not a symbolic link", in_quotes(path));
    if (!S_ISDIR(info.st_mode)) return field.wrong("{} is not a directory", in_quotes(path));
    path = real_path(path);
    if (path.empty()) return field.wrong("{}", isolate::sys::error_text(errno));
  }
  to.plan.root.path = to.rootfs = path;
}

void read_names(json::Value config, isolate::Plan& to) {
  bool own = std::any_of(to.namespaces.begin(), to.namespaces.end(),
                         [](const auto& n) { return n.kind == NamespaceKind::Uts; });
  auto read = [&](const char* key, std::string& name) {
    json::Value field = config[key];
    if (!field.read(name) || name.empty()) return;
    if (!own) field.wrong("unable to set {} without a private UTS namespace", key);
    constexpr std::size_t kLongest = 64;  // __NEW_UTS_LEN
    if (name.size() > kLongest) field.wrong("must not be longer than {} characters", kLongest);
  };
  read("hostname", to.hostname);
  read("domainname", to.domainname);
}

void check_user(json::Value process, const isolate::Plan& plan) {
  if (!process || !plan.makes(NamespaceKind::User) || plan.ids.uids.empty() || plan.ids.gids.empty()) return;
  const isolate::Process& p = plan.process;
  json::Value user = process["user"];
  if (!maps(plan.ids.uids, p.uid)) user["uid"].wrong("{} is not mapped in the user namespace", p.uid);
  if (!maps(plan.ids.gids, p.gid)) user["gid"].wrong("{} is not mapped in the user namespace", p.gid);
  for (std::uint32_t gid : p.groups)
    if (!maps(plan.ids.gids, gid)) user["additionalGids"].wrong("{} is not mapped in the user namespace", gid);
}

void read_all(json::Value config, Container& to, const LoadOptions& options) {
  isolate::Plan& plan = to.plan;
  plan.id = options.id;
  plan.privileged_start = options.privileged;
  read_version(config, to);
  read_annotations(config, to);
  read_root(config, to, options);
  json::Value process = needed_object(config["process"]), linux = needed_object(config["linux"]);
  if (process) read_process(process, plan.process, {}, to.warnings);
  if (!linux) return;
  read_namespaces(linux, to, options);  // what follows depends on which there are
  check_user(process, plan);
  read_names(config, plan);
  read_mounts(config, to);
  read_devices(linux, to);  // depends on what is mounted at /dev
  read_cgroup(linux, to, options);
  read_paths(linux, plan);
  read_sysctl(linux, plan, options);
  read_seccomp(linux, plan);
  read_time_offsets(linux, plan);
  read_personality(linux, plan.process);
  refuse_unsupported(linux);
  read_hooks(config["hooks"].object(), plan.hooks);
}

}  // namespace

std::string absolute_path(json::Value field, const std::string& path) {
  if (path.empty() || path[0] != '/') return field.wrong("must be an absolute path, not {}", in_quotes(path)), "";
  std::string clean;
  for (std::size_t at = 0; at < path.size();) {
    std::size_t end = std::min(path.find('/', at), path.size());
    std::string_view part(path.data() + at, end - at);
    if (part == "..") return field.wrong("must not contain '..', as {} does", in_quotes(path)), "";
    if (!part.empty() && part != ".") (clean += '/') += part;
    at = end + 1;
  }
  return clean.empty() ? "/" : clean;
}

bool maps(const std::vector<isolate::IdRange>& ranges, std::uint32_t id) {
  return std::any_of(ranges.begin(), ranges.end(), [&](const isolate::IdRange& range) {
    return id >= range.inside && id - range.inside < range.count;
  });
}

std::optional<Container> read_config(std::string_view text, const std::string& name, const std::string& bundle,
                                     const LoadOptions& options, Diagnostics& wrong) {
  std::size_t before = wrong.entries().size();
  json::Document document(text, name, wrong);
  if (!document) return std::nullopt;
  Container container;
  container.bundle = bundle;
  if (json::Value config = document.root().object()) read_all(config, container, options);
  if (wrong.entries().size() != before) return std::nullopt;
  return container;
}

std::optional<Container> load_bundle(const std::string& bundle, const std::string& config_path_override,
                                     const LoadOptions& options, Diagnostics& wrong) {
  std::string real = real_path(bundle.empty() ? "." : bundle);
  if (real.empty()) return wrong.add({bundle}, "{}", isolate::sys::error_text(errno)), std::nullopt;
  auto text = json::read_text(config_path_override.empty() ? real + "/config.json" : config_path_override, wrong);
  if (!text) return std::nullopt;
  auto container = read_config(*text, config_path_override.empty() ? "config.json" : config_path_override, real, options, wrong);
  if (container && !config_path_override.empty()) container->config = real_path(config_path_override);
  return container;
}

}  // namespace runner::oci
