#include "runner/oci/spec.h"

#include <fmt/format.h>

#include <vector>

#include "runner/oci/config.h"

namespace runner::oci {

namespace {

constexpr const char* kProcess = R"(	"process": {
		"terminal": true,
		"user": {
			"uid": 0,
			"gid": 0
		},
		"args": [
			"sh"
		],
		"env": [
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"TERM=xterm"
		],
		"cwd": "/",
		"capabilities": {
			"bounding": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"effective": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"permitted": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			]
		},
		"rlimits": [
			{
				"type": "RLIMIT_NOFILE",
				"hard": 1024,
				"soft": 1024
			}
		],
		"noNewPrivileges": true
	},
	"root": {
		"path": "rootfs",
		"readonly": true
	},
	"hostname": "runner",
)";

constexpr const char* kPaths = R"(		"maskedPaths": [
			"/proc/acpi",
			"/proc/asound",
			"/proc/kcore",
			"/proc/keys",
			"/proc/latency_stats",
			"/proc/timer_list",
			"/proc/timer_stats",
			"/proc/sched_debug",
			"/sys/firmware",
			"/proc/scsi"
		],
		"readonlyPaths": [
			"/proc/bus",
			"/proc/fs",
			"/proc/irq",
			"/proc/sys",
			"/proc/sysrq-trigger"
		]
	}
)";

// Nothing but the pseudo devices that are always there.
constexpr const char* kResources = R"(		"resources": {
			"devices": [
				{
					"allow": false,
					"access": "rwm"
				}
			]
		},
)";

std::string mount(const char* to, const char* type, const char* source, const std::vector<const char*>& options) {
  std::string text = fmt::format(
      "\t\t{{\n\t\t\t\"destination\": \"{}\",\n\t\t\t\"type\": \"{}\",\n\t\t\t\"source\": \"{}\"", to, type, source);
  for (std::size_t i = 0; i < options.size(); ++i)
    text += fmt::format("{}\t\t\t\t\"{}\"", i == 0 ? ",\n\t\t\t\"options\": [\n" : ",\n", options[i]);
  return text + (options.empty() ? "\n\t\t}" : "\n\t\t\t]\n\t\t}");
}

std::string mounts(bool rootless) {
  std::vector<const char*> terminals{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"};
  if (rootless) terminals.pop_back();  // the one group of the namespace is the user's own
  std::string text = mount("/proc", "proc", "proc", {});
  auto add = [&](const std::string& next) { text += ",\n" + next; };
  add(mount("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}));
  add(mount("/dev/pts", "devpts", "devpts", terminals));
  add(mount("/dev/shm", "tmpfs", "shm", {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}));
  add(mount("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}));
  // A new sysfs shows a network namespace, so it takes the right to one: a user shares the host's.
  if (rootless)
    add(mount("/sys", "none", "/sys", {"rbind", "nosuid", "noexec", "nodev", "ro"}));
  else
    add(mount("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}));
  add(mount("/sys/fs/cgroup", "cgroup", "cgroup", {"nosuid", "noexec", "nodev", "relatime", "ro"}));
  return text;
}

std::string id_map(const char* name, std::uint32_t outside) {
  return fmt::format(
      "\t\t\"{}\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {},\n\t\t\t\t\"size\": "
      "1\n\t\t\t}}\n\t\t],\n",
      name, outside);
}

std::string namespaces(const SpecOptions& options) {
  std::vector<const char*> kinds{"pid", "ipc", "uts", "mount"};
  if (options.cgroup_namespace) kinds.push_back("cgroup");
  if (options.rootless)
    kinds.push_back("user");
  else
    kinds.insert(kinds.begin() + 1, "network");
  std::string text = "\t\t\"namespaces\": [\n";
  for (std::size_t i = 0; i < kinds.size(); ++i)
    text += fmt::format("{}\t\t\t{{\n\t\t\t\t\"type\": \"{}\"\n\t\t\t}}", i ? ",\n" : "", kinds[i]);
  return text + "\n\t\t],\n";
}

}  // namespace

std::string example_spec(const SpecOptions& options) {
  std::string text = fmt::format("{{\n\t\"ociVersion\": \"{}\",\n", kNewestVersion);
  text += kProcess;
  text += "\t\"mounts\": [\n" + mounts(options.rootless) + "\n\t],\n\t\"linux\": {\n";
  text += options.rootless ? id_map("uidMappings", options.uid) + id_map("gidMappings", options.gid) : kResources;
  return text + namespaces(options) + kPaths + "}\n";
}

}  // namespace runner::oci
