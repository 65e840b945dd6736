// `runner install`: the few lines by which podman and containerd know us.
#include <fmt/format.h>

#include <cstdio>
#include <sstream>

#include "isolate/sealed.h"
#include "isolate/sys/file.h"
#include "runner/cli/context.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

// containers.conf(5). Only runtimes named in these lists may run without cgroups, and have what went wrong shown to the user.
std::string for_podman(const std::string& program) {
  return fmt::format(R"([engine]
runtime_supports_json = ["crun", "runc", "kata", "runsc", "youki", "krun", "runner"]
runtime_supports_nocgroups = ["crun", "krun", "runner"]
runtime_supports_nocgroup = ["crun", "krun", "runner"]  # its name before podman 5

[engine.runtimes]
runner = ["{}"]
)",
                     program);
}

// As a runtime handler of the CRI plugin: a Kubernetes RuntimeClass with `handler: runner` chooses it.
std::string for_containerd(const std::string& program, int version) {
  const char* plugin = version >= 3 ? "io.containerd.cri.v1.runtime" : "io.containerd.grpc.v1.cri";
  return fmt::format(R"(
[plugins."{0}".containerd.runtimes.runner]
  runtime_type = "io.containerd.runc.v2"
  [plugins."{0}".containerd.runtimes.runner.options]
    BinaryName = "{1}"
)",
                     plugin, program);
}

// `version = 2`, which stands before all tables; 0 without one.
int version_of(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);)
    if (int version = 0; std::sscanf(line.c_str(), " version = %d", &version) == 1) return version;
  return 0;
}

void write(const std::string& path, const std::string& text) {
  make_dirs(path.substr(0, path.rfind('/')), 0755);
  replace_file(path, text, 0644);
  fmt::print("{} is written\n", path);
}

void install_for_podman(const std::string& program, const std::string& file, bool writes) {
  std::string path = file.empty() ? "/etc/containers/containers.conf.d/50-runner.conf" : file;
  if (writes) return write(path, for_podman(program));
  fmt::print("# {}\n{}", path, for_podman(program));
}

void install_for_containerd(const std::string& program, const std::string& file, bool writes) {
  std::string path = file.empty() ? "/etc/containerd/config.toml" : file;
  std::string text = find_file(path).value_or("");
  int version = text.find_first_not_of(" \n\t") == std::string::npos ? 2 : version_of(text);
  if (version < 2)
    throw std::runtime_error(fmt::format("{}: has no `version = 2` or higher: containerd would read it as version 1, which these lines are not for; see `containerd config migrate`", path));
  std::string lines = for_containerd(program, version);
  if (!writes) {
    fmt::print("# {}{}", path, lines);
    return;
  }
  if (text.find("containerd.runtimes.runner]") != std::string::npos) throw std::runtime_error(fmt::format("{}: has a runtime named runner already: nothing is changed", path));
  if (text.empty()) text = "version = 2\n";
  write(path, text + (text.back() == '\n' ? "" : "\n") + lines);
  fmt::print("restart containerd for it to be read\n");
}

}  // namespace

int install_main(Context& context) {
  bool podman = false, containerd = false, writes = false;
  std::string file;
  Options options("install", "Print the lines of configuration by which an engine knows this program as the runtime `runner`.");
  options.flag("--podman", podman, "for podman: --runtime runner");
  options.flag("--containerd", containerd, "for containerd: the handler `runner` of Kubernetes; ctr run --runc-binary needs no configuration");
  options.flag("--write", writes, "write them: a file of its own for podman, at the end of config.toml for containerd");
  options.value("--file", file, "that file, where it is not the usual one");
  if (!context.parse(options).empty()) throw UsageError("install: takes no arguments");
  if (podman == containerd) throw UsageError("install: say --podman or --containerd");
  std::string program = isolate::program_path();
  podman ? install_for_podman(program, file, writes) : install_for_containerd(program, file, writes);
  return 0;
}

}  // namespace runner::cli
