#include "isolate/overlay.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>

#include "isolate/ids.h"
#include "isolate/link.h"
#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/mount.h"
#include "isolate/sys/paths.h"

namespace isolate {

using namespace sys;

namespace {

std::uint32_t outside_id(const std::vector<IdRange>& ranges, std::uint32_t inside) {
  for (const IdRange& r : ranges)
    if (inside >= r.inside && inside - r.inside < r.count) return r.outside + (inside - r.inside);
  return ranges.empty() ? inside : ranges.front().outside;
}

void make_file(int layer, const GeneratedFile& file, const Plan& plan) {
  bool directory = file.path.back() == '/';
  std::string path = file.path.substr(file.path.front() == '/' ? 1 : 0);
  if (directory && !path.empty()) path.pop_back();
  const char* name = path.empty() ? "." : path.c_str();
  if (!file.link_to.empty()) {
    check(::symlinkat(file.link_to.c_str(), layer, name), "link {} in the generated layer", file.path);
  } else if (directory) {
    if (!path.empty() && ::mkdirat(layer, name, file.mode) == -1 && errno != EEXIST) fail(errno, "make {} in the generated layer", file.path);
  } else {
    Fd fd(check(::openat(layer, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, file.mode), "make {} in the generated layer", file.path));
    write_all(fd.get(), file.content);
  }
  if (plan.privileged_start)
    check(::fchownat(layer, name, outside_id(plan.ids.uids, file.uid), outside_id(plan.ids.gids, file.gid), AT_SYMLINK_NOFOLLOW),
          "give {} its owner", file.path);
  // After the change of owner, which clears set-id bits.
  if (path.empty() || (file.mode & 06000)) check(::fchmodat(layer, name, file.mode, 0), "set the mode of {}", file.path);
}

void write_files(int layer, const Plan& plan) {
  mode_t before = ::umask(0);  // modes as the plan has them: a call less for each
  try {
    for (const GeneratedFile& file : plan.files) make_file(layer, file, plan);
    // What is in both is shown with the owner and the mode of the upper one.
    make_file(open_dir(plan.root.overlay->upper).get(), {"/", "", "", 0755}, plan);
  } catch (...) {
    ::umask(before);
    throw;
  }
  ::umask(before);
}

std::string lower_layers(const Overlay& overlay) {
  std::vector<std::string> layers{overlay.generated};
  layers.insert(layers.end(), overlay.lower.begin(), overlay.lower.end());
  std::string text;
  for (const std::string& layer : layers) {
    if (!text.empty()) text += ':';
    // overlayfs takes ':' and ',' literally only behind a backslash.
    for (char c : layer) (c == ':' || c == '\\' ? text += '\\' : text) += c;
  }
  return text;
}

Fd make(const Overlay& overlay, bool privileged, const std::vector<Fd>& layers = {}) {
  FsOptions options{{"upperdir", overlay.upper}, {"workdir", overlay.work}};
  FsDescriptors descriptors;
  for (const Fd& layer : layers) descriptors.push_back({"lowerdir+", layer.get()});
  if (layers.empty()) options.push_back({"lowerdir", lower_layers(overlay)});
  // At its end an overlay syncs its upper layer: 0.3 ms when there is nothing, and long when there is much.
  if (!overlay.lasting) options.push_back({"volatile", ""});
  // In a user namespace overlayfs may not write trusted.* attributes.
  if (!privileged) options.push_back({"userxattr", ""});
  return new_mount("overlay", "overlay", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, descriptors);
}

Fd id_mapped(const std::string& layer, int id_map) {
  Fd copy = copy_mount(AT_FDCWD, layer, false);
  set_mount(copy.get(), 0, 0, false, 0, id_map);
  return copy;
}

// Linux 6.15 and later take detached mounts as layers. The generated one is then a file system of its own: it goes with the sandbox, and
// nobody has to remove its files.
std::optional<LayeredRoot> layer_by_descriptor(const Plan& plan, int id_map) {
  const Overlay& overlay = *plan.root.overlay;
  LayeredRoot made;
  std::vector<Fd> layers;
  layers.push_back(new_mount("tmpfs", "tmpfs", {{"mode", "755"}}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  write_files(layers.front().get(), plan);
  for (const std::string& layer : overlay.lower) layers.push_back(id_map < 0 ? open_dir(layer) : id_mapped(layer, id_map));
  try {
    made.root = make(overlay, plan.privileged_start, layers);
  } catch (const SystemError& error) {
    // No detached layers; none by descriptor; no such parameter.
    if (error.code() != EXDEV && error.code() != EINVAL && error.code() != EOPNOTSUPP) throw;
    return std::nullopt;
  }
  made.generated = std::move(layers.front());
  return made;
}

// Before, layers are given to overlayfs by path, and an id-mapped copy has a path only where it is attached: here over the layer
// itself, in a mount namespace that ends with this short-lived process. The overlay keeps its own clones of the layers.
[[noreturn]] void make_id_mapped(const Overlay& overlay, int id_map, Link link) noexcept {
  try {
    check(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make a private set of mounts");
    for (const std::string& layer : overlay.lower) {
      Fd place = open_dir(layer);
      attach_mount(id_mapped(layer, id_map).get(), place.get(), layer);
    }
    link.send(Signal::Ready, {}, {make(overlay, true).get()});
  } catch (const std::exception& error) {
    link.report(Stage::Prepare, error);
  }
  ::_exit(0);
}

}  // namespace

LayeredRoot layer_root(const Plan& plan) {
  const Overlay& overlay = *plan.root.overlay;
  Fd id_map;
  if (!overlay.lower_ids.empty()) id_map = make_id_map(overlay.lower_ids);
  if (auto made = layer_by_descriptor(plan, id_map ? id_map.get() : -1)) return std::move(*made);

  make_dirs(overlay.generated, 0755);
  write_files(open_dir(overlay.generated).get(), plan);
  if (!id_map) return {make(overlay, plan.privileged_start), {}};
  auto [ours, theirs] = Link::make();
  Child helper = clone_process(CLONE_NEWNS);
  if (helper.pid() == 0) make_id_mapped(overlay, id_map.get(), std::move(theirs));
  theirs.close();
  return {std::move(ours.expect(Signal::Ready).fds.at(0)), {}};
}

}  // namespace isolate
