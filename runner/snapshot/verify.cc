// Whether a snapshot is what its manifest says; and its images, checked on the way to who uses them.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/snapshot/digest.h"
#include "runner/snapshot/index.h"
#include "runner/snapshot/place.h"
#include "runner/snapshot/store.h"
#include "runner/snapshot/walk.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

constexpr std::size_t kChunk = 256 << 10, kLargestRead = 64u << 20;

std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string folder_of(const std::string& path) { return path.substr(0, path.find('/')); }

char* buffer() {
  static const std::unique_ptr<char[]> bytes = std::make_unique_for_overwrite<char[]>(kChunk);
  return bytes.get();
}

}  // namespace

void Snapshot::bad(const std::string& file, const std::string& why) const { throw BadSnapshot(name(), file, why); }

// By itself, not as part of a path: a link there would lead out of what is locked.
Fd Snapshot::open_folder(const std::string& name) const {
  Fd folder(::openat(dir_.get(), name.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder && errno == ENOENT) bad(name, "it is missing");
  if (!folder && (errno == ELOOP || errno == ENOTDIR)) bad(name, "it was replaced by something else");
  check(folder.get(), "open {}/{}", path_, name);
  return folder;
}

Fd Snapshot::open(const File& file, int folder) const {
  Fd opened(::openat(folder, name_of(file.path).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!opened && errno == ENOENT) bad(file.path, "it is missing");
  if (!opened && (errno == ELOOP || errno == ENOTDIR || errno == ENXIO))
    bad(file.path, "it was replaced by something else");
  check(opened.get(), "open {}/{}", path_, file.path);
  struct stat info;
  check(::fstat(opened.get(), &info), "look at {}/{}", path_, file.path);
  if (!S_ISREG(info.st_mode)) bad(file.path, "it was replaced by something else");
  if (static_cast<std::uint64_t>(info.st_size) != file.size)
    bad(file.path, fmt::format("it was changed: it has {} bytes, not {}", info.st_size, file.size));
  return opened;
}

void Snapshot::send(const File& file, int fd, const std::function<void(std::string_view)>& take) const {
  Sha256 hash;
  for (std::uint64_t left = file.size; left > 0;) {  // more it has not, open() saw
    ssize_t got = ::read(fd, buffer(), static_cast<std::size_t>(std::min<std::uint64_t>(kChunk, left)));
    if (got == -1 && errno == EINTR) continue;
    if (check(got, "read {} of snapshot {}", file.path, name()) == 0) break;
    std::string_view bytes(buffer(), static_cast<std::size_t>(got));
    hash.add(bytes);
    if (take) take(bytes);
    left -= bytes.size();
  }
  if (std::string digest = hash.hex(); digest != file.sha256)
    bad(file.path, fmt::format("it was changed: its SHA-256 is {}, not {}", digest, file.sha256));
}

void Snapshot::send(const File& file, const std::function<void(std::string_view)>& take) const {
  send(file, open(file, open_folder(folder_of(file.path)).get()).get(), take);
}

void Snapshot::verify_layer(const File& index) const {
  std::string layer = index.path.substr(0, index.path.size() - 6), text = read(index.path);
  Fd dir(::openat(dir_.get(), layer.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!dir && errno == ENOENT) bad(layer, "it is missing");
  check(dir.get(), "open {}/{}", path_, layer);
  std::string now;
  try {
    now = index_of(std::move(dir));
  } catch (const SystemError& error) {
    throw;
  } catch (const std::runtime_error& error) {
    bad(layer, error.what());
  }
  Difference found = difference(text, now);
  if (!found.path.empty()) bad(found.path == "." ? layer : layer + "/" + found.path, found.why);
}

void Snapshot::verify_names() const {
  auto names = [&](const char* folder) {
    Fd dir(check(::openat(dir_.get(), folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), "open {}/{}", path_,
                 folder));
    return names_in(dir.get(), folder);
  };
  auto named = [&](const std::string& path) {
    return std::any_of(manifest_.files.begin(), manifest_.files.end(),
                       [&](const File& file) { return file.path == path; });
  };
  for (const std::string& name : names("."))
    if (name != kManifest && std::find(std::begin(kFolders), std::end(kFolders), name) == std::end(kFolders))
      bad(name, "it was added: the manifest does not name it");
  for (const std::string folder : kFolders)
    for (const std::string& name : names(folder.c_str())) {
      std::string path = folder + "/" + name;
      if (!named(path) && !(folder == "layers" && named(path + ".index")))
        bad(path, "it was added: the manifest does not name it");
    }
}

void Snapshot::verify(Verify depth) const {
  for (const File& file : manifest_.files) {
    Fd folder = open_folder(folder_of(file.path)), opened = open(file, folder.get());
    if (is_pages(file.path) && depth != Verify::Full) continue;
    send(file, opened.get(), nullptr);
    if (file.path.starts_with("layers/")) verify_layer(file);
  }
  verify_names();
}

void Snapshot::take_verified(int to, const std::string& pages, Verify depth) const {
  Fd folder = open_folder("criu");
  for (const File& file : manifest_.files) {
    if (!file.path.starts_with("criu/")) continue;
    Fd from = open(file, folder.get());
    std::string name = name_of(file.path);
    if (is_pages(file.path)) {
      if (depth == Verify::Full) send(file, from.get(), nullptr);
      check(::symlinkat((pages + "/" + name).c_str(), to, name.c_str()), "link {}", name);
      continue;
    }
    Fd copy(check(::openat(to, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644),
                  "make a copy of {}", file.path));
    send(file, from.get(), [&](std::string_view bytes) {
      for (std::size_t done = 0; done < bytes.size();)
        done += static_cast<std::size_t>(
            check(::write(copy.get(), bytes.data() + done, bytes.size() - done), "write a copy of {}", file.path));
    });
  }
}

std::string Snapshot::read(const std::string& path) const {
  auto file =
      std::find_if(manifest_.files.begin(), manifest_.files.end(), [&](const File& each) { return each.path == path; });
  if (file == manifest_.files.end()) bad(path, "the manifest has no such file");
  if (file->size > std::max(kLargestRead, kLargestIndex))
    fail(EFBIG, "read {} of snapshot {} ({} bytes)", path, name(), file->size);
  std::string text;
  text.reserve(file->size + 1);
  send(*file, [&](std::string_view bytes) { text += bytes; });
  return text;
}

std::vector<std::string> Snapshot::layer_paths() const { return layer_paths_in(path_); }

std::vector<std::string> Snapshot::layer_paths_in(const std::string& own) const {
  std::vector<std::string> paths;
  for (const std::string& layer : manifest_.layers) {
    std::size_t slash = layer.find('/');
    std::string path = slash == std::string::npos
                           ? own + "/layers/" + layer
                           : store_ + "/" + layer.substr(0, slash) + "/layers/" + layer.substr(slash + 1);
    if (!find_dir(path)) bad("layers/" + layer, fmt::format("it is missing ({})", path));
    paths.push_back(std::move(path));
  }
  return paths;
}

}  // namespace runner::snapshot
