// The `hooks` object: programs that are run at points of a container's life.
#include "runner/oci/config_parts.h"

namespace runner::oci {

namespace {

void read_list(json::Value list, std::vector<isolate::Hook>& to) {
  for (json::Value each : list.array().values()) {
    json::Value hook = each.object();
    if (!hook) continue;
    isolate::Hook value;
    if (hook["path"].require(value.path) && (value.path.empty() || value.path[0] != '/'))
      hook["path"].wrong("must be an absolute path, not {}", json::in_quotes(value.path));
    hook["args"].read(value.args);
    if (hook["env"]) hook["env"].read(value.env.emplace());
    constexpr int kLongest = 24 * 60 * 60;  // seconds; what waits for it counts milliseconds in an int
    hook["timeout"].read(value.timeout, 1, kLongest);
    to.push_back(std::move(value));
  }
}

}  // namespace

void read_hooks(json::Value config, isolate::Hooks& to) {
  read_list(config["prestart"], to.prestart);
  read_list(config["createRuntime"], to.create_runtime);
  read_list(config["createContainer"], to.create_container);
  read_list(config["startContainer"], to.start_container);
  read_list(config["poststart"], to.poststart);
  read_list(config["poststop"], to.poststop);
}

}  // namespace runner::oci
