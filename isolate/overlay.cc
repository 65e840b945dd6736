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

// One that the map does not have belongs to the first that it has.
std::uint32_t owner_outside(const std::vector<IdRange>& ranges, std::uint32_t inside) {
  return ranges.empty() ? inside : outside_id(ranges, inside).value_or(ranges.front().outside);
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
    check(::fchownat(layer, name, owner_outside(plan.ids.uids, file.uid), owner_outside(plan.ids.gids, file.gid), AT_SYMLINK_NOFOLLOW),
          "give {} its owner", file.path);
  // After the change of owner, which clears set-id bits.
  if (path.empty() || (file.mode & 06000)) check(::fchmodat(layer, name, file.mode, 0), "set the mode of {}", file.path);
}

void write_files(int layer, int upper, const Plan& plan) {
  mode_t before = ::umask(0);  // modes as the plan has them: a call less for each
  try {
    for (const GeneratedFile& file : plan.files) make_file(layer, file, plan);
    // What is in both is shown with the owner and the mode of the upper one.
    make_file(upper, {"/", "", "", 0755}, plan);
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

// What is written to: two directories, by path or by descriptor.
struct Writable {
  Fd upper, work;
  bool by_descriptor;  // they lie in a detached mount
};

Writable open_writable(const Overlay& overlay, const Disk& disk) {
  if (disk.mount() < 0) return {open_dir(overlay.upper), open_dir(overlay.work), false};
  auto open = [&](const char* name) { return Fd(check(::openat(disk.mount(), name, O_PATH | O_DIRECTORY | O_CLOEXEC), "open {}", name)); };
  return {open("upper"), open("work"), true};
}

FsOptions options_of(const Overlay& overlay, bool privileged) {
  FsOptions options;
  // At its end an overlay syncs its upper layer: 0.3 ms when there is nothing, and long when there is much.
  if (!overlay.lasting) options.push_back({"volatile", ""});
  // In a user namespace overlayfs may not write trusted.* attributes.
  if (!privileged) options.push_back({"userxattr", ""});
  return options;
}

Fd make(FsOptions options, const FsDescriptors& descriptors) {
  return new_mount("overlay", "overlay", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, descriptors);
}

Fd make_by_path(const Overlay& overlay, bool privileged) {
  FsOptions options = options_of(overlay, privileged);
  options.insert(options.end(), {{"upperdir", overlay.upper}, {"workdir", overlay.work}, {"lowerdir", lower_layers(overlay)}});
  return make(std::move(options), {});
}

Fd id_mapped(const std::string& layer, int id_map) {
  Fd copy = copy_mount(AT_FDCWD, layer, false);
  set_mount(copy.get(), 0, 0, false, 0, id_map);
  return copy;
}

// Linux 6.15 and later take detached mounts as layers. The generated one is then a file system of its own: it goes with the sandbox, and
// nobody has to remove its files.
std::optional<LayeredRoot> layer_by_descriptor(const Plan& plan, const Writable& writable, int id_map) {
  const Overlay& overlay = *plan.root.overlay;
  FsOptions options = options_of(overlay, plan.privileged_start);
  FsDescriptors descriptors;
  if (writable.by_descriptor) descriptors = {{"upperdir", writable.upper.get()}, {"workdir", writable.work.get()}};
  else options.insert(options.end(), {{"upperdir", overlay.upper}, {"workdir", overlay.work}});
  std::vector<Fd> layers;
  layers.push_back(new_mount("tmpfs", "tmpfs", {{"mode", "755"}}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV));
  write_files(layers.front().get(), writable.upper.get(), plan);
  for (const std::string& layer : overlay.lower) layers.push_back(id_map < 0 ? open_dir(layer) : id_mapped(layer, id_map));
  for (const Fd& layer : layers) descriptors.push_back({"lowerdir+", layer.get()});
  LayeredRoot made;
  try {
    made.root = make(std::move(options), descriptors);
  } catch (const SystemError& error) {
    // No detached layers; none by descriptor; no such parameter.
    if (error.code() != EXDEV && error.code() != EINVAL && error.code() != EOPNOTSUPP) throw;
    return std::nullopt;
  }
  made.generated = std::move(layers.front());
  return made;
}

// Before, layers are given to overlayfs by path, and a detached mount has a path only where it is attached: here over the layer
// itself, in a mount namespace that ends with this short-lived process. The overlay keeps its own clones of the layers.
[[noreturn]] void make_in_passing(const Overlay& overlay, int id_map, int disk, Link link) noexcept {
  try {
    check(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make a private set of mounts");
    auto cover = [](const std::string& path, int mount) { attach_mount(mount, open_dir(path).get(), path); };
    if (id_map >= 0)
      for (const std::string& layer : overlay.lower) cover(layer, id_mapped(layer, id_map).get());
    // Both names are in the image as well.
    if (disk >= 0) cover(overlay.upper.substr(0, overlay.upper.rfind('/')), disk);
    link.send(Signal::Ready, {}, {make_by_path(overlay, true).get()});
  } catch (const std::exception& error) {
    link.report(Stage::Prepare, error);
  }
  ::_exit(0);
}

}  // namespace

LayeredRoot layer_root(const Plan& plan, const Disk& disk) {
  const Overlay& overlay = *plan.root.overlay;
  Writable writable = open_writable(overlay, disk);
  Fd id_map;
  if (!overlay.lower_ids.empty()) id_map = make_id_map(overlay.lower_ids);
  if (auto made = layer_by_descriptor(plan, writable, id_map.get())) return std::move(*made);

  make_dirs(overlay.generated, 0755);
  write_files(open_dir(overlay.generated).get(), writable.upper.get(), plan);
  if (!id_map && disk.mount() < 0) return {make_by_path(overlay, plan.privileged_start), {}};
  auto [ours, theirs] = Link::make();
  Child helper = clone_process(CLONE_NEWNS);
  if (helper.pid() == 0) make_in_passing(overlay, id_map.get(), disk.mount(), std::move(theirs));
  theirs.close();
  return {std::move(ours.expect(Signal::Ready).fds.at(0)), {}};
}

}  // namespace isolate
