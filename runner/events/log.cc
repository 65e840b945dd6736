#include "runner/events/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "runner/events/files.h"
#include "runner/events/verify.h"

namespace runner::events {

namespace {

constexpr int kMake = O_CREAT | O_EXCL;
constexpr int kWrite = O_WRONLY | O_APPEND;

[[noreturn]] void fail(const std::string& attempted) { throw std::system_error(errno, std::generic_category(), attempted); }

}  // namespace

LogSink::LogSink(const std::string& path, std::string key, LogLimits limits)
    : path_(path), key_(std::move(key)), limits_(limits), log_(open_or_fail(path, kWrite | kMake)),
      head_(open_or_fail(head_path(path), O_WRONLY | kMake)) {
  write_all(head_.get(), head_of(key_, 0, ""), head_path(path));
}

LogSink::LogSink(const std::string& path, std::string key, LogLimits limits, const VerifyResult& before)
    : path_(path), key_(std::move(key)), limits_(limits), log_(open_or_fail(path, kWrite | O_CREAT)),
      head_(open_or_fail(head_path(path), O_WRONLY)), full_(before.full.begin(), before.full.end()), mac_(before.mac) {
  first_ = full_.empty() ? before.gone + 1 : full_.back().last + 1;
  struct stat info;
  if (::fstat(log_.get(), &info) == -1) fail("look at " + path);
  bytes_ = static_cast<std::uint64_t>(info.st_size);
  for (std::uint64_t first : list_segments(path_))
    if (first <= before.gone) ::unlink(segment_path(path_, first).c_str());  // a writer was killed before it could
}

void LogSink::line(const Line& line) {
  if (limits_.file_bytes > 0 && bytes_ > 0 && bytes_ + line.text.size() > limits_.file_bytes) rotate(line.sequence);
  try {
    write_all(log_.get(), line.text, path_);
    std::string head = head_of(key_, line.sequence, line.mac);
    if (::pwrite(head_.get(), head.data(), head.size(), 0) != static_cast<ssize_t>(head.size())) fail("write " + head_path(path_));
  } catch (...) {
    // A line that is not covered by the head would look like a forged one.
    if (::ftruncate(log_.get(), static_cast<off_t>(bytes_)) == -1) {}  // the error that we have says more
    throw;
  }
  bytes_ += line.text.size();
  mac_ = line.mac;
}

void LogSink::rotate(std::uint64_t next) {
  std::string full = segment_path(path_, first_);
  if (::rename(path_.c_str(), full.c_str()) == -1) fail("rename " + path_ + " to " + full);
  log_ = Descriptor(open_or_fail(path_, kWrite | kMake));
  full_.push_back({first_, next - 1, mac_});
  first_ = next;
  bytes_ = 0;
  while (full_.size() + 1 > limits_.files) drop_oldest();
}

void LogSink::drop_oldest() {
  const Segment& oldest = full_.front();
  std::string start = start_path(path_), aside = start + ".new";
  ::unlink(aside.c_str());  // of a writer that was killed
  {
    Descriptor file(open_or_fail(aside, O_WRONLY | kMake));
    write_all(file.get(), start_of(key_, oldest.last, oldest.mac), aside);
  }
  if (::rename(aside.c_str(), start.c_str()) == -1) fail("rename " + aside + " to " + start);
  // The file goes behind its record: one that is missing without a record would have been cut off.
  if (::unlink(segment_path(path_, oldest.first).c_str()) == -1 && errno != ENOENT) fail("remove the oldest file of " + path_);
  full_.pop_front();
}

}  // namespace runner::events
