#include "runner/snapshot/mounts.h"

#include <fmt/format.h>

#include <sstream>

#include "isolate/restorer.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"

namespace runner::snapshot {

namespace {

// "\040" is how mountinfo writes a space.
std::string unescape(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 3 >= text.size()) plain += text[i];
    else plain += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8)), i += 3;
  }
  return plain;
}

MountPoint::Kind kind_of(const std::string& at, const std::string& root, const std::string& type, int pid) {
  using Kind = MountPoint::Kind;
  if (at == "/" || type == "proc" || type == "devpts" || type == "mqueue" || type == "sysfs" || type == "cgroup2") return Kind::Criu;
  bool masks = at.starts_with("/proc/") || at.starts_with("/sys/");
  if (masks) return type == "tmpfs" ? Kind::NoFolder : Kind::NoFile;
  if (type != "tmpfs" || root != "/" || at == "/dev") return Kind::Ours;
  return isolate::sys::list_dir(fmt::format("/proc/{}/root{}", pid, at)).empty() ? Kind::Ours : Kind::Criu;
}

std::string source_of(const std::string& at, const isolate::Plan& plan) {
  int n = planned_at(plan, at);
  return n >= 0 ? isolate::flat_mount(static_cast<std::size_t>(n)) : isolate::kLaidOut + at;  // a device, or what lies below a volume
}

}  // namespace

int planned_at(const isolate::Plan& plan, const std::string& at) {
  for (std::size_t i = plan.mounts.size(); i-- > 0;)
    if (isolate::sys::clean_path(plan.mounts[i].to) == at) return static_cast<int>(i);
  return -1;
}

// proc(5), mountinfo: ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS [TAGS...] - TYPE SOURCE SUPER-OPTIONS
std::vector<MountPoint> mounts_of(int pid) {
  std::istringstream lines(isolate::sys::read_file(fmt::format("/proc/{}/mountinfo", pid)));
  std::vector<MountPoint> all;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id, parent, device, root, at, word, type;
    words >> id >> parent >> device >> root >> at;
    while (words >> word && word != "-") {
    }
    words >> type;
    all.push_back({unescape(at), kind_of(unescape(at), unescape(root), type, pid)});
  }
  return all;
}

std::vector<std::string> external_at_dump(const std::vector<MountPoint>& mounts) {
  std::vector<std::string> all;
  for (const MountPoint& mount : mounts)
    if (mount.kind != MountPoint::Kind::Criu) all.push_back(fmt::format("mnt[{0}]:{0}", mount.at));
  return all;
}

std::vector<std::string> external_at_restore(const std::vector<MountPoint>& mounts, const isolate::Plan& plan) {
  std::vector<std::string> all;
  for (const MountPoint& mount : mounts) {
    if (mount.kind == MountPoint::Kind::Criu) continue;
    std::string from = mount.kind == MountPoint::Kind::NoFile     ? std::string(isolate::kLaidOut) + "/dev/null"
                       : mount.kind == MountPoint::Kind::NoFolder ? std::string(isolate::kNoFiles)
                                                                  : source_of(mount.at, plan);
    all.push_back(fmt::format("mnt[{}]:{}", mount.at, from));
  }
  return all;
}

}  // namespace runner::snapshot
