#include "runner/events/segments.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <system_error>

namespace runner::events {

namespace {

constexpr std::size_t kDigits = 14;

int find_file(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd == -1 && errno != ENOENT) throw std::system_error(errno, std::generic_category(), "open " + path);
  return fd;
}

// What changes with every step of a rotation, and is never the same again.
struct Listing {
  std::vector<std::uint64_t> firsts;
  std::uint64_t gone = 0;
  bool operator==(const Listing&) const = default;
};

Listing list(const std::string& log) {
  Listing listing{list_segments(log), gone_before(log)};
  std::erase_if(listing.firsts, [&](std::uint64_t first) { return first <= listing.gone; });
  return listing;
}

}  // namespace

Descriptor::~Descriptor() {
  if (fd_ != -1) ::close(fd_);
}

std::optional<std::uint64_t> parse_sequence(std::string_view digits) {
  std::uint64_t number = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || digits.size() != kDigits) return std::nullopt;
  return number;
}

std::string segment_path(const std::string& log, std::uint64_t first) { return fmt::format("{}.{:014}", log, first); }

std::vector<std::uint64_t> list_segments(const std::string& log) {
  std::size_t slash = log.rfind('/');
  std::string folder = slash == std::string::npos ? "." : log.substr(0, slash + 1);
  std::string prefix = (slash == std::string::npos ? log : log.substr(slash + 1)) + ".";
  std::unique_ptr<DIR, int (*)(DIR*)> listing(::opendir(folder.c_str()), ::closedir);
  if (!listing && errno == ENOENT) return {};
  if (!listing) throw std::system_error(errno, std::generic_category(), "list " + folder);
  std::vector<std::uint64_t> firsts;
  while (const dirent* entry = ::readdir(listing.get())) {
    std::string_view name = entry->d_name;
    if (!name.starts_with(prefix)) continue;
    if (auto first = parse_sequence(name.substr(prefix.size()))) firsts.push_back(*first);
  }
  std::sort(firsts.begin(), firsts.end());
  return firsts;
}

std::uint64_t gone_before(const std::string& log) {
  Descriptor file(find_file(start_path(log)));
  char digits[kDigits];
  bool whole = file.get() != -1 && ::read(file.get(), digits, sizeof digits) == sizeof digits;
  return whole ? parse_sequence({digits, sizeof digits}).value_or(0) : 0;
}

std::vector<LogFile> open_files(const std::string& log, const std::function<void()>& meanwhile) {
  for (;;) {
    Listing before = list(log);
    std::vector<LogFile> files;
    for (std::uint64_t first : before.firsts) files.push_back({first, Descriptor(find_file(segment_path(log, first)))});
    files.push_back({0, Descriptor(find_file(log))});
    meanwhile();
    bool made = files.back().file.get() == -1 && ::access(log.c_str(), F_OK) == 0;
    if (made || list(log) != before) continue;
    std::erase_if(files, [](const LogFile& each) { return each.file.get() == -1; });
    return files;
  }
}

}  // namespace runner::events
