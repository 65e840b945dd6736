// Looks at the host, reads the policy and its filters, and makes the plan of a session.
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "isolate/sys/file.h"
#include "runner/cli/run.h"
#include "runner/config/policy_settings.h"
#include "runner/oci/docker_seccomp.h"

namespace runner::cli {

// A name of the policy is looked up beside the policies only: a file of that name in the caller's folder, which may be a checked-out
// repository, must not take the place of a filter.
std::string find_profile(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  std::string file = name.ends_with(".json") ? name : name + ".json";
  for (const std::string& folder : policy_folders())
    if (std::string path = folder + "/seccomp/" + file; ::access(path.c_str(), R_OK) == 0) return path;
  return file;
}

namespace {

void look_at_host_view(plan::Host& host) {
  for (const char* path : {"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}) {
    struct stat info;
    if (::lstat(path, &info) == -1) continue;
    if (S_ISLNK(info.st_mode)) host.links[path] = *isolate::sys::find_link(path);
    else if (S_ISDIR(info.st_mode)) host.directories.push_back(path);
  }
  // The loader's cache, the links that Debian's alternatives are, certificates, the time zone: nothing that names a person or a secret.
  for (const char* path : {"/etc/alternatives", "/etc/ld.so.cache", "/etc/localtime", "/etc/ssl/certs", "/etc/ssl/openssl.cnf"})
    if (struct stat info; ::access(path, R_OK) == 0 && ::stat(path, &info) == 0)
      host.etc.push_back(path + std::string(S_ISDIR(info.st_mode) ? "/" : ""));
}

void look_at_rootfs(const std::string& rootfs, plan::Host& host, Diagnostics& wrong) {
  struct stat info;
  if (::stat(rootfs.c_str(), &info) == -1 || !S_ISDIR(info.st_mode)) return wrong.add({"--rootfs"}, "{} is not a directory", rootfs);
  for (const char* path : {"/dev", "/proc", "/sys", "/etc", "/etc/hosts"})
    if (auto link = isolate::sys::find_link(rootfs + path)) host.links[path] = *link;
}

// What a volume really is: links are followed now, once, and the policy is asked about the place they lead to.
void look_at_volumes(plan::Config& config, plan::Host& host) {
  for (plan::Volume& volume : config.volumes) {
    if (!volume.name.empty()) continue;
    char real[PATH_MAX];
    struct stat info;
    if (!::realpath(volume.from.c_str(), real) || ::stat(real, &info) == -1) continue;
    volume.from = real;
    host.owners[volume.from] = {info.st_uid, info.st_gid};
  }
}

void place_volume(plan::Volume& volume, const session::Volume& found, plan::Host& host) {
  volume.from = found.data;
  host.owners[volume.from] = {found.uid, found.gid};
}

// A session's own takes the place of what its flags and its policy say.
void leave_out_workspace(const Policy& policy, plan::Config& config) {
  std::erase_if(config.volumes, [&](const plan::Volume& volume) {
    bool there = plain_path(volume.to) == policy.workspace.path;
    if (there) config.workspace_read_only = volume.read_only;
    return there;
  });
}

// The policy's own, unless the caller has brought what is to be there.
void add_workspace(const Policy& policy, plan::Config& config) {
  const auto& workspace = policy.workspace;
  for (const plan::Volume& volume : config.volumes)
    if (plain_path(volume.to) == workspace.path) return;
  if (!workspace.volume.empty())
    config.volumes.insert(config.volumes.begin(), {"", workspace.path, false, "workspace.volume of policy " + policy.name, workspace.volume});
}

// --security-opt seccomp=FILE is the caller's own, and `default.json` is there for all.
std::string find_file_or_profile(const std::string& name) { return ::access(name.c_str(), R_OK) == 0 ? name : find_profile(name); }

}  // namespace

plan::SessionPlan decide(const SessionFlags& flags, plan::Config config, const session::Directories& directories,
                         std::uint32_t first_id, std::string& rootfs, std::vector<session::VolumeLease>* volumes) {
  Diagnostics wrong;
  auto policy = load_policy(flags.policy, policy_folders(), wrong);
  if (!policy) throw UsageError(wrong.text());

  plan::Host host;
  std::string data = directories.session_data(config.id);
  host.uid = ::geteuid();
  host.gid = ::getegid();
  host.privileged = host.uid == 0;
  host.first_id = first_id;
  host.upper = data + "/fs/upper";
  host.work = data + "/fs/work";
  host.init_program = helper_path("runner-init");
  host.workspace = data + "/workspace/files";
  host.generated = directories.generated(config.id);
  if (config.rootfs == "host") look_at_host_view(host);
  else look_at_rootfs(config.rootfs, host, wrong);
  add_workspace(*policy, config);
  if (config.own_workspace) leave_out_workspace(*policy, config);
  look_at_volumes(config, host);
  for (plan::Volume& volume : config.volumes)
    if (!volume.name.empty()) place_volume(volume, session::imagine_volume(directories, volume.name), host);
  rootfs = config.rootfs;

  std::uint64_t capabilities = plan::granted_capabilities(config, *policy, wrong);
  plan::SeccompProfiles profiles;
  oci::SeccompTarget target = oci::seccomp_target(capabilities);
  std::vector<std::string> files;
  for (const std::string& name : policy->seccomp) files.push_back(find_profile(name));
  for (const std::string& name : config.seccomp_profiles) files.push_back(find_file_or_profile(name));
  for (const std::string& file : files)
    if (auto rules = oci::load_docker_seccomp(file, target, wrong)) profiles.push_back(std::move(*rules));
  if (!wrong.empty()) throw UsageError(wrong.text());

  auto plan = plan::make_plan(config, *policy, profiles, host, wrong);
  if (!plan) throw UsageError(wrong.text());
  if (!volumes || plan->volumes.empty()) return std::move(*plan);

  // Only now: a wish that is refused leaves no volume behind.
  for (plan::Volume& volume : config.volumes) {
    if (volume.name.empty()) continue;
    volumes->push_back(session::VolumeLease::take(directories, volume.name));
    place_volume(volume, volumes->back().volume(), host);
  }
  return plan::make_plan(config, *policy, profiles, host, wrong).value();
}

}  // namespace runner::cli
