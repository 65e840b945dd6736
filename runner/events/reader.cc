#include "runner/events/reader.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "runner/events/verify.h"

namespace runner::events {

namespace {

constexpr std::size_t kChunk = 1 << 16;
constexpr std::size_t kEnvelope = 1024;  // where `sequence` and `type` stand in a line, whatever its data

[[noreturn]] void fail(const std::string& attempted) { throw std::system_error(errno, std::generic_category(), attempted); }

std::size_t read_at(const Descriptor& file, char* to, std::size_t size, off_t at) {
  ssize_t got;
  do got = ::pread(file.get(), to, size, at);
  while (got == -1 && errno == EINTR);
  if (got == -1) fail("read a log");
  return static_cast<std::size_t>(got);
}

struct stat look_at(const Descriptor& file) {
  struct stat info;
  if (::fstat(file.get(), &info) == -1) fail("look at a log");
  return info;
}

std::uint64_t sequence_of(std::string_view line) {
  return parse_sequence(envelope_field(line.substr(0, kEnvelope), "sequence")).value_or(0);
}

std::string_view last_line(std::string_view lines) {
  lines.remove_suffix(1);
  return lines.substr(lines.rfind('\n') + 1);
}

// Where the lines behind event `sequence` begin.
off_t find_behind(const Descriptor& file, std::uint64_t sequence) {
  std::string bytes(kChunk, '\0');
  off_t line = 0;  // where the one begins that is looked at
  bool begins = true;
  for (off_t at = 0;; ) {
    std::size_t got = read_at(file, bytes.data(), bytes.size(), at);
    if (got == 0) return line;
    std::string_view text(bytes.data(), got);
    for (std::size_t from = 0; from < text.size();) {
      if (begins && text.size() - from < kEnvelope && from > 0) {  // its envelope may be cut: again from here
        text = text.substr(0, from);
        break;
      }
      if (begins && sequence_of(text.substr(from)) > sequence) return line;
      std::size_t newline = text.find('\n', from);
      begins = newline != std::string_view::npos;
      from = begins ? newline + 1 : text.size();
      if (begins) line = at + static_cast<off_t>(from);
    }
    at += static_cast<off_t>(text.size());
  }
}

// Where the last `count` lines begin: behind the newline that comes before them, searched for from the end. `count` becomes what is
// missing when there are not so many.
off_t find_last(const Descriptor& file, std::uint64_t& count) {
  char bytes[kChunk];
  std::uint64_t newlines = 0;
  for (off_t end = look_at(file).st_size; end > 0;) {
    off_t from = std::max<off_t>(0, end - static_cast<off_t>(sizeof bytes));
    std::size_t got = read_at(file, bytes, static_cast<std::size_t>(end - from), from);
    for (std::size_t i = got; i-- > 0;)
      if (bytes[i] == '\n' && newlines++ == count) {
        count = 0;
        return from + static_cast<off_t>(i) + 1;
      }
    end = from;
  }
  count -= std::min(count, newlines);
  return 0;
}

}  // namespace

LogReader::LogReader(std::string log) : log_(std::move(log)) {
  for (LogFile& each : open_files(log_)) files_.push_back(std::move(each));
  if (!files_.empty()) return;
  errno = ENOENT;
  fail("open " + log_);
}

void LogReader::skip_to(const Place& place) {
  if (place <= Place{0, at_}) return;
  files_.erase(files_.begin(), files_.begin() + static_cast<std::ptrdiff_t>(place.file));
  at_ = place.at;
}

void LogReader::skip_to_behind(std::uint64_t sequence) {
  Place place;
  while (place.file + 1 < files_.size()) {
    const LogFile& next = files_[place.file + 1];
    char line[kEnvelope];
    std::uint64_t first = next.first ? next.first : sequence_of({line, read_at(next.file, line, sizeof line, 0)});
    if (first == 0 || first > sequence) break;  // 0: it has no line yet
    ++place.file;
  }
  place.at = find_behind(files_[place.file].file, sequence);
  skip_to(place);
}

void LogReader::skip_to_last(std::uint64_t count) {
  Place place{files_.size() - 1, 0};
  place.at = find_last(files_[place.file].file, count);
  while (count > 0 && place.file > 0) place.at = find_last(files_[--place.file].file, count);
  skip_to(place);
}

void LogReader::read(const std::function<void(std::string_view lines)>& take) {
  for (;;) {
    drain(take);
    if (files_.size() == 1) {
      if (is_written()) return;
      drain(take);  // what came before it was renamed
      std::vector<LogFile> now = open_files(log_);
      auto same = [inode = look_at(files_[0].file).st_ino](const LogFile& each) { return look_at(each.file).st_ino == inode; };
      auto ours = std::find_if(now.begin(), now.end(), same);
      auto next = ours == now.end() ? now.begin() : ours + 1;  // it may have gone already
      if (next == now.end()) return;                           // and the new one may not have come yet
      for (; next != now.end(); ++next) files_.push_back(std::move(*next));
    }
    files_.pop_front();
    at_ = 0;
    part_.clear();
  }
}

void LogReader::drain(const std::function<void(std::string_view lines)>& take) {
  const Descriptor& file = files_[0].file;
  if (look_at(file).st_size < at_) {  // a line that could not be written whole was cut off again
    at_ -= static_cast<off_t>(part_.size());
    part_.clear();
  }
  char bytes[kChunk];
  for (std::size_t got; (got = read_at(file, bytes, sizeof bytes, at_)) > 0;) {
    at_ += static_cast<off_t>(got);
    std::string_view text(bytes, got);
    std::size_t end = text.rfind('\n') + 1;  // 0 when there is none
    part_.append(text.substr(0, end));
    if (end > 0) {
      note(part_);
      take(part_);
      part_.clear();
    }
    part_.append(text.substr(end));
  }
}

// A file that was renamed gets nothing more.
bool LogReader::is_written() const {
  struct stat named, ours = look_at(files_[0].file);
  return ::stat(log_.c_str(), &named) == 0 && named.st_ino == ours.st_ino && named.st_dev == ours.st_dev;
}

void LogReader::note(std::string_view lines) {
  std::uint64_t first = sequence_of(lines);
  if (last_ != 0 && first > last_ + 1) lost_ += first - last_ - 1;
  std::string_view line = last_line(lines);
  last_ = sequence_of(line);
  // session.ended comes once, and last.
  ended_ = envelope_field(line.substr(0, kEnvelope), "type") == "session.ended";
}

bool LogReader::has_ended() {
  const Descriptor& file = files_.back().file;
  if (last_ == 0 && files_.size() == 1 && at_ == look_at(file).st_size && part_.empty()) {
    char line[kEnvelope];
    std::uint64_t count = 1;
    off_t at = find_last(file, count);
    std::string_view text(line, read_at(file, line, sizeof line, at));
    ended_ = envelope_field(text, "type") == "session.ended";
  }
  return ended_;
}

void LogReader::watch(int inotify) const {
  // A file that is there already is the same watch again.
  (void)::inotify_add_watch(inotify, log_.c_str(), IN_MODIFY);
  std::size_t slash = log_.rfind('/');
  std::string folder = slash == std::string::npos ? "." : log_.substr(0, slash + 1);
  bool watched = ::inotify_add_watch(inotify, folder.c_str(), IN_CREATE | IN_ONLYDIR) != -1;
  if (!watched && errno != ENOENT) fail("watch " + folder);  // it may have been removed with its session
}

}  // namespace runner::events
