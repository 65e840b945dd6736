// Indexes of others: read, and made into a layer.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <charconv>
#include <stdexcept>
#include <unordered_map>

#include "isolate/sys/error.h"
#include "isolate/sys/paths.h"
#include "runner/events/verify.h"
#include "runner/snapshot/digest.h"
#include "runner/snapshot/index.h"
#include "runner/snapshot/walk.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

constexpr std::uint32_t kIds = 65536;
constexpr std::size_t kMostAttributes = 1000;

std::string shortened(std::string_view line) { return std::string(line.substr(0, 120)); }

[[noreturn]] void refuse(std::string_view line, const char* why) {
  throw std::runtime_error(fmt::format("its index has a line that {}: {}", why, shortened(line)));
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

/// The fields of one line, from left to right.
class Fields {
 public:
  explicit Fields(std::string_view line) : line_(line), rest_(line) {}

  std::string_view next() {
    if (done_) refuse(line_, "ends too early");
    std::size_t blank = rest_.find(' ');
    std::string_view field = rest_.substr(0, blank);
    done_ = blank == std::string_view::npos;
    rest_.remove_prefix(done_ ? rest_.size() : blank + 1);
    return field;
  }
  void end() const {
    if (!done_) refuse(line_, "goes on too long");
  }

  template <typename Number>
  Number number(Number least, Number most, int base = 10) {
    return number_in(next(), least, most, base);
  }

  void time(IndexEntry& entry) {
    std::string_view text = next();
    std::size_t dot = text.find('.');
    if (dot == std::string_view::npos || text.size() != dot + 10) refuse(line_, "has a bad time");
    entry.mtime = number_in<std::int64_t>(text.substr(0, dot), INT64_MIN, INT64_MAX, 10);
    entry.mtime_ns = number_in<std::uint32_t>(text.substr(dot + 1), 0, 999'999'999, 10);
  }

  std::string bytes() {
    std::string_view text = next();
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] <= ' ' || text[i] >= 127) refuse(line_, "has a byte that must be escaped");
      if (text[i] != '%') {
        out += text[i];
        continue;
      }
      int high = i + 2 < text.size() ? hex_digit(text[i + 1]) : -1, low = high < 0 ? -1 : hex_digit(text[i + 2]);
      if (low < 0 || (high == 0 && low == 0)) refuse(line_, "has a bad escape");
      out += static_cast<char>(high * 16 + low);
      i += 2;
    }
    if (out.empty()) refuse(line_, "has an empty name");
    return out;
  }

  std::string hex() {
    std::string_view text = next();
    if (text.size() % 2 || !is_hex(text, text.size())) refuse(line_, "has a bad value");
    return events::unhex(text);
  }

 private:
  template <typename Number>
  Number number_in(std::string_view text, Number least, Number most, int base) {
    Number value{};
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (text.empty() || error != std::errc() || end != text.data() + text.size() || value < least || value > most)
      refuse(line_, "has a bad number");
    return value;
  }

  std::string_view line_, rest_;
  bool done_ = false;
};

std::string folder_of(const std::string& path) {
  std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

/// What has been read so far, by name: each line may only speak of what lies in it.
class Reader {
 public:
  std::vector<IndexEntry> entries;

  void add(std::string_view line) {
    Fields fields(line);
    std::string_view kind = fields.next();
    if (kind == "x") return attribute(line, fields);
    IndexEntry entry;
    entry.kind = kind.size() == 1 ? kind[0] : '?';
    if (std::string_view("dflpshw").find(entry.kind) == std::string_view::npos) refuse(line, "is of no known kind");
    if (entry.kind != 'h' && entry.kind != 'w') {
      entry.mode = fields.number<std::uint32_t>(0, 07777, 8);
      entry.uid = fields.number<std::uint32_t>(0, kIds - 1);
      entry.gid = fields.number<std::uint32_t>(0, kIds - 1);
      fields.time(entry);
    }
    entry.path = fields.bytes();
    check_path(line, entry);
    if (entry.kind == 'f') {
      entry.size = fields.number<std::uint64_t>(0, std::uint64_t{1} << 62);
      entry.text = fields.next();
      if (!is_hex(entry.text, 64)) refuse(line, "has a bad digest");
    } else if (entry.kind == 'l' || entry.kind == 'h') {
      entry.text = fields.bytes();
      if (entry.kind == 'l' && entry.text.size() >= 4096) refuse(line, "leads too far");
      auto first = kinds_.find(entry.text);
      if (entry.kind == 'h' &&
          (first == kinds_.end() || first->second == 'd' || first->second == 'w' || first->second == 'h'))
        refuse(line, "is a hard link to nothing before it");
    }
    fields.end();
    kinds_.emplace(entry.path, entry.kind);
    entries.push_back(std::move(entry));
  }

 private:
  void attribute(std::string_view line, Fields& fields) {
    if (entries.empty() || (entries.back().kind != 'd' && entries.back().kind != 'f'))
      refuse(line, "is an attribute of nothing");
    Attributes& list = entries.back().attributes;
    std::string name = fields.bytes(), value = fields.hex();
    fields.end();
    if (!is_kept(name) || name.size() > 255 || value.size() > 65536 || list.size() == kMostAttributes ||
        (!list.empty() && list.back().first >= name))
      refuse(line, "is no attribute that a layer has");
    list.emplace_back(std::move(name), std::move(value));
  }

  void check_path(std::string_view line, const IndexEntry& entry) {
    const std::string& path = entry.path;
    if (entries.empty() != (path == ".") || (path == "." && entry.kind != 'd')) refuse(line, "is not where the top is");
    if (path == ".") return;
    if (path.size() > kLongestPath) refuse(line, "has too long a path");
    for (std::size_t at = 0; at <= path.size();) {
      std::size_t end = std::min(path.find('/', at), path.size());
      std::string_view part = std::string_view(path).substr(at, end - at);
      if (part.empty() || part == "." || part == ".." || part.size() > 255)
        refuse(line, "has a path that leads out of the layer");
      at = end + 1;
    }
    auto folder = kinds_.find(folder_of(path));
    if (folder == kinds_.end() || folder->second != 'd') refuse(line, "is in no directory that came before it");
    if (kinds_.contains(path)) refuse(line, "is there twice");
  }

  std::unordered_map<std::string, char> kinds_;
};

class Maker {
 public:
  explicit Maker(Fd top)
      : top_(std::move(top)),
        here_(check(::openat(top_.get(), ".", O_PATH | O_DIRECTORY | O_CLOEXEC), "open the new layer")) {}

  void make(const IndexEntry& entry, const std::function<void(const IndexEntry&, int)>& content) {
    if (entry.path == ".") return;
    std::string folder = folder_of(entry.path), name = entry.path.substr(entry.path.rfind('/') + 1);
    if (folder != path_) {
      here_ = open_below(top_.get(), folder, Links::Refuse);
      path_ = folder;
    }
    auto made = [&](int result) { check(result, "make {}", entry.path); };
    int dir = here_.get();
    switch (entry.kind) {
      case 'd':
        return made(::mkdirat(dir, name.c_str(), 0700));
      case 'w':
        return made(::mknodat(dir, name.c_str(), S_IFCHR, makedev(0, 0)));
      case 'h':
        return made(::linkat(top_.get(), entry.text.c_str(), dir, name.c_str(), 0));
      case 'l':
        made(::symlinkat(entry.text.c_str(), dir, name.c_str()));
        break;
      case 'p':
        made(::mknodat(dir, name.c_str(), S_IFIFO | 0600, 0));
        break;
      case 's':
        made(::mknodat(dir, name.c_str(), S_IFSOCK | 0600, 0));
        break;
      default: {
        Fd file(check(::openat(dir, name.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600), "make {}",
                      entry.path));
        content(entry, file.get());
        return finish(file.get(), entry);
      }
    }
    check(::fchownat(dir, name.c_str(), entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW), "set the owner of {}", entry.path);
    if (entry.kind != 'l') check(::fchmodat(dir, name.c_str(), entry.mode, 0), "set the mode of {}", entry.path);
    timespec times[] = {{0, UTIME_OMIT}, {entry.mtime, entry.mtime_ns}};
    check(::utimensat(dir, name.c_str(), times, AT_SYMLINK_NOFOLLOW), "set the time of {}", entry.path);
  }

  void finish_directory(const IndexEntry& entry) {
    Fd place = open_below(top_.get(), entry.path, Links::Refuse);
    finish(Fd(check(::openat(place.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "open {}", entry.path)).get(),
           entry);
  }

 private:
  static void finish(int fd, const IndexEntry& entry) {
    check(::fchown(fd, entry.uid, entry.gid), "set the owner of {}", entry.path);
    check(::fchmod(fd, entry.mode), "set the mode of {}", entry.path);
    write_attributes(fd, entry.attributes, entry.path);
    timespec times[] = {{0, UTIME_OMIT}, {entry.mtime, entry.mtime_ns}};
    check(::futimens(fd, times), "set the time of {}", entry.path);
  }

  Fd top_, here_;
  std::string path_ = ".";
};

}  // namespace

std::vector<IndexEntry> read_index(std::string_view text) {
  Reader reader;
  while (!text.empty()) {
    std::size_t end = text.find('\n');
    if (end == std::string_view::npos) refuse(text, "has no end");
    reader.add(text.substr(0, end));
    text.remove_prefix(end + 1);
  }
  if (reader.entries.empty()) throw std::runtime_error("its index is empty");
  return std::move(reader.entries);
}

void make_layer(const std::vector<IndexEntry>& index, Fd to,
                const std::function<void(const IndexEntry&, int)>& content) {
  Maker maker(std::move(to));
  for (const IndexEntry& entry : index) maker.make(entry, content);
  for (auto entry = index.rbegin(); entry != index.rend(); ++entry)
    if (entry->kind == 'd') maker.finish_directory(*entry);
}

}  // namespace runner::snapshot
