#include "runner/oci/hierarchies.h"

#include <algorithm>
#include <map>
#include <sstream>

namespace runner::oci {

using isolate::Mount;

namespace {

// A hierarchy of several controllers is found by the name of each as well: "cpu,cpuacct", "cpu" and "cpuacct".
std::map<std::string, std::string> named(const isolate::CgroupHost& host) {
  std::map<std::string, std::string> folders;
  for (const auto& [controller, mount] : host.v1) {
    std::string name = mount.substr(mount.rfind('/') + 1);
    folders[name] = mount;
    std::istringstream parts(name);
    for (std::string part; std::getline(parts, part, ',');) folders[part] = mount;
  }
  if (!host.v2.empty()) folders["unified"] = host.v2;
  return folders;
}

}  // namespace

void show_hierarchies(isolate::Plan& plan, const std::string& group, const isolate::CgroupHost& host) {
  auto is_view = [](const Mount& mount) { return std::holds_alternative<isolate::CgroupView>(mount.what); };
  auto view = std::find_if(plan.mounts.begin(), plan.mounts.end(), is_view);
  if (host.v1.empty() || group.empty() || !plan.cgroup.everywhere || view == plan.mounts.end()) return;

  Mount top = *view;
  top.what = isolate::FileSystem{"tmpfs", "cgroup", {{"mode", "755"}}};
  std::vector<Mount> all{top};
  for (const auto& [name, mount] : named(host)) {
    Mount& folder = all.emplace_back(*view);
    folder.to += "/" + name;
    folder.what = isolate::Bind{.from = mount + group, .recursive = false};
  }
  plan.mounts.insert(plan.mounts.erase(view), all.begin(), all.end());
}

}  // namespace runner::oci
