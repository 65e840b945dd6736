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
    if (!path.empty() && ::mkdirat(layer, name, 0755) == -1 && errno != EEXIST) fail(errno, "make {} in the generated layer", file.path);
  } else {
    Fd fd(check(::openat(layer, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), "make {} in the generated layer", file.path));
    write_all(fd.get(), file.content);
  }
  if (plan.privileged_start)
    check(::fchownat(layer, name, outside_id(plan.ids.uids, file.uid), outside_id(plan.ids.gids, file.gid), AT_SYMLINK_NOFOLLOW),
          "give {} its owner", file.path);
  // After the change of owner, which clears set-id bits.
  if (file.link_to.empty()) check(::fchmodat(layer, name, file.mode, 0), "set the mode of {}", file.path);
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

Fd make(const Overlay& overlay, bool privileged) {
  FsOptions options{{"lowerdir", lower_layers(overlay)}, {"upperdir", overlay.upper}, {"workdir", overlay.work}};
  // In a user namespace overlayfs may not write trusted.* attributes.
  if (!privileged) options.push_back({"userxattr", ""});
  return new_mount("overlay", "overlay", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
}

// Layers are given to overlayfs by path, and an id-mapped copy has a path only where it is attached: here over the layer
// itself, in a mount namespace that ends with this short-lived process. The overlay keeps its own clones of the layers.
[[noreturn]] void make_id_mapped(const Overlay& overlay, int id_map, Link link) noexcept {
  try {
    check(::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), "make a private set of mounts");
    for (const std::string& layer : overlay.lower) {
      Fd place = open_dir(layer);
      Fd copy = copy_mount(place.get(), "", false);
      set_mount(copy.get(), 0, 0, false, 0, id_map);
      attach_mount(copy.get(), place.get(), layer);
    }
    link.send(Signal::Ready, {}, {make(overlay, true).get()});
  } catch (const std::exception& error) {
    link.report(Stage::Prepare, error);
  }
  ::_exit(0);
}

}  // namespace

void write_files(const Plan& plan) {
  Fd layer = open_dir(plan.root.overlay->generated);
  for (const GeneratedFile& file : plan.files) make_file(layer.get(), file, plan);
}

Fd mount_overlay(const Overlay& overlay, bool privileged) {
  if (overlay.lower_ids.empty()) return make(overlay, privileged);
  Fd id_map = make_id_map(overlay.lower_ids);
  auto [ours, theirs] = Link::make();
  Child helper = clone_process(CLONE_NEWNS);
  if (helper.pid() == 0) make_id_mapped(overlay, id_map.get(), std::move(theirs));
  theirs.close();
  return std::move(ours.expect(Signal::Ready).fds.at(0));
}

}  // namespace isolate
