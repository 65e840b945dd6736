// The facts of this host that a plan depends on: looked up once, so that making a plan is a pure function.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "isolate/cgroup.h"

namespace runner::plan {

struct Host {
  bool privileged = false;            // root, with the right to map any id and to mount
  std::uint32_t uid = 0, gid = 0;     // of the caller
  std::uint32_t first_id = 0;         // of this session's range; unused without privilege
  std::string upper, work, generated; // directories of the session's overlay
  isolate::CgroupHost cgroups;
  std::map<std::string, std::string> links;   // top-level symbolic links of the host view: "/bin" -> "usr/bin"
  std::vector<std::string> directories;       // top-level directories of the host view: "/usr"
  std::vector<std::string> etc;               // files and folders of the host's /etc that programs need: "/etc/alternatives/"
  std::map<std::string, std::pair<std::uint32_t, std::uint32_t>> owners;  // of the volumes' sources
  std::vector<std::string> files;             // the volumes' sources that are no directories
  bool tty = false;
  std::string init_program;                   // the path of runner-init
  std::string workspace;                      // the session's own, where it has one beside its layer: a folder that is not there yet
};

}  // namespace runner::plan
