#include "runner/snapshot/scan.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <set>

#include "isolate/execute.h"
#include "isolate/sys/child.h"
#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/socket.h"
#include "runner/snapshot/walk.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

constexpr std::size_t kChunk = 256 << 10;  // stays in the CPU's cache

// gzip, as CRIU itself uses for a tmpfs.
struct Unpacking {
  Child child;
  Fd out;
  explicit Unpacking(int packed) {
    auto [read, write] = make_pipe();
    child = clone_process(0);
    if (child.pid() == 0) {
      if (::dup2(packed, 0) == 0 && ::dup2(write.get(), 1) == 1) {
        isolate::reset_signals();
        isolate::close_from(3, {});
        ::execl("/bin/gzip", "gzip", "-dcq", nullptr);
      }
      ::_exit(127);
    }
    out = std::move(read);
  }
  void finish(const std::string& name) {
    Exit exit = child.wait();
    if (exit != Exit{}) throw std::runtime_error(fmt::format("unpack {} to look into it: /bin/gzip failed (status {}, signal {})", name, exit.code, exit.signal));
  }
};

class Scanner : public Visitor {
 public:
  Scanner(const Secrets& secrets, Scanned& to) : secrets_(secrets), to_(to), chunk_(std::make_unique_for_overwrite<char[]>(kChunk)) {}

  void in(const std::string& folder, const std::string& name) {
    prefix_ = name.empty() ? "" : name + "/";
    walk(open_file(folder + (name.empty() ? "" : "/" + name), O_RDONLY | O_DIRECTORY | O_NOFOLLOW), *this);
  }

  void file(int dir, const std::string& name, const std::string& path) {
    Fd file(check(::openat(dir, name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), "open {}", path));
    ::posix_fadvise(file.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
    Search search(secrets_);
    if (prefix_ == "criu/" && name.ends_with(".gz.img")) {
      Unpacking unpacking(file.get());
      read_stream(unpacking.out.get(), path, search);
      unpacking.finish(path);
    } else {
      read_file(file.get(), path, search);
    }
    ++to_.files;
    for (Found& found : search.finish()) to_.findings.push_back({path, std::move(found)});
  }

 private:
  void entry(int dir, const std::string& name, const std::string& path, const struct stat& info) override {
    if (!S_ISREG(info.st_mode)) return;
    if (info.st_nlink > 1 && !linked_.emplace(info.st_dev, info.st_ino).second) return;
    file(dir, name, prefix_ + path);
  }
  void enter(int, const std::string&, const std::string&, const struct stat&) override {}
  void leave(int, const std::string&, const struct stat&) override {}

  void read_file(int fd, const std::string& path, Search& search) {
    std::uint64_t at = 0;
    each_data(fd, path, std::numeric_limits<off_t>::max(), [&](std::uint64_t from, std::uint64_t to) {
      if (from > at) search.skip(from - at);
      for (at = from; at < to;) {
        ssize_t got = check(::pread(fd, chunk_.get(), std::min<std::uint64_t>(kChunk, to - at), static_cast<off_t>(at)), "read {}", path);
        if (got == 0) throw std::runtime_error(fmt::format("read {}: it became shorter meanwhile", path));
        take(got, search);
        at += static_cast<std::uint64_t>(got);
      }
    });
  }

  void read_stream(int fd, const std::string& path, Search& search) {
    while (ssize_t got = check(::read(fd, chunk_.get(), kChunk), "read what is packed in {}", path)) take(got, search);
  }

  void take(ssize_t got, Search& search) {
    search.add({chunk_.get(), static_cast<std::size_t>(got)});
    to_.bytes += static_cast<std::uint64_t>(got);
  }

  const Secrets& secrets_;
  Scanned& to_;
  std::unique_ptr<char[]> chunk_;
  std::string prefix_;
  std::set<std::pair<dev_t, ino_t>> linked_;
};

std::string list(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& each : findings) text += (text.empty() ? "" : ", ") + describe(each);
  return text;
}

}  // namespace

Scanned scan(const std::string& snapshot, const Secrets& secrets) {
  Scanned scanned;
  Scanner scanner(secrets, scanned);
  Fd top = open_file(snapshot, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (::faccessat(top.get(), "manifest.json", F_OK, AT_SYMLINK_NOFOLLOW) == 0) scanner.file(top.get(), "manifest.json", "manifest.json");
  for (const char* folder : {"criu", "files"}) scanner.in(snapshot, folder);
  // Each for itself: a path may be as long in a layer as it may be at all.
  Fd layers = open_file(snapshot + "/layers", O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  for (const std::string& name : names_in(layers.get(), snapshot + "/layers"))
    if (!name.ends_with(".index")) scanner.in(snapshot, "layers/" + name);
  return scanned;
}

void scan_text(const std::string& file, std::string_view text, const Secrets& secrets, Scanned& to) {
  Search search(secrets);
  search.add(text);
  for (Found& found : search.finish()) to.findings.push_back({file, std::move(found)});
}

std::string describe(const Finding& finding) {
  std::string file = finding.file;  // the program has chosen it, and a terminal would obey
  for (char& c : file)
    if (static_cast<unsigned char>(c) < ' ' || c == 127) c = '?';
  return fmt::format("{} in {} at {}{}", finding.found.kind, file, finding.found.offset, finding.found.count > 1 ? fmt::format(" ({} times)", finding.found.count) : "");
}

SecretsFound::SecretsFound(const std::string& snapshot, const std::vector<Finding>& findings)
    : std::runtime_error(fmt::format("snapshot {} was not made, for there are secrets in it: {}; let the program forget them, or leave --scan away", snapshot, list(findings))) {}

}  // namespace runner::snapshot
