// One stream of events: what a command prints, or a session's log, or both. One JSON object a line, in ASCII.
//
//   Writer writer = Writer::create("/var/lib/runner/sessions/s-7f3a/events.ndjson", "runner/session/s-7f3a", traceparent);
//   writer.add(std::make_unique<FdSink>(STDOUT_FILENO));
//   writer.write(SandboxReady{.pid = 4711, .ms = 12});
//
//   StdioSplitter out(writer, Stream::Stdout);
//   out.bytes(chunk);                            // as they come from the pipe; 64 KiB is a good size
//   out.finish();                                // at the end of the stream
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runner/events/types.h"

namespace runner::events {

/// What differs from run to run. Tests give their own, and get the same bytes each time.
struct Sources {
  std::function<std::int64_t()> now;                   ///< microseconds since 1970, UTC
  std::function<std::string(std::size_t)> random;      ///< so many bytes
};
Sources real_sources();

/// A finished line, as every sink gets it.
struct Line {
  std::string_view text;       // with its newline
  std::uint64_t sequence = 0;
  std::string_view mac;        // HMAC of the text without the newline: the `prev` of the next line
};

struct Sink {
  virtual ~Sink() = default;
  /// Returns when the line is out of our hands. A sink that throws gets no further lines.
  virtual void line(const Line& line) = 0;
};

/// Writes to a descriptor that somebody else owns, and waits as long as its reader does not read. SIGPIPE must be ignored.
class FdSink : public Sink {
 public:
  explicit FdSink(int fd) : fd_(fd) {}
  void line(const Line& line) override;

 private:
  int fd_;
};

/// How much of a log is kept (log.h): so many files of that size; then the oldest goes.
struct LogLimits {
  std::uint64_t file_bytes = 0;  ///< 0: one file without limit. A line that is larger has a file of its own
  std::uint64_t files = 1;       ///< with the one that is being written
};

class Writer {
 public:
  /// A stream that nobody can verify: its key is random and known to this object only. `source` is a URI reference.
  /// `parent` is the TRACEPARENT of the caller; when it is empty or invalid a trace begins here.
  explicit Writer(const std::string& source, const std::string& parent = {}, Sources sources = real_sources());
  /// A stream with a new log, which is its first sink. Throws when any of the three files is there already.
  static Writer create(const std::string& log, const std::string& source, const std::string& parent = {},
                       Sources sources = real_sources(), LogLimits limits = {});
  /// Goes on where the log ends, and in its trace unless there is a `parent`. Throws std::runtime_error when the log does
  /// not verify.
  static Writer resume(const std::string& log, const std::string& source, const std::string& parent = {},
                       Sources sources = real_sources(), LogLimits limits = {});

  /// Sinks get each line in the order in which they were added.
  void add(std::unique_ptr<Sink> sink) { sinks_.push_back(std::move(sink)); }

  /// When a sink fails, the others get the line all the same, and then its error is thrown: the stream itself is intact.
  void write(const Event& event);
  void write(const Stdio& chunk);

  /// Of all events of this stream; what children get as TRACEPARENT.
  const std::string& traceparent() const { return traceparent_; }
  std::uint64_t sequence() const { return sequence_; }  ///< of the last line; 0 before the first

 private:
  Writer(std::string key, const std::string& source, const std::string& parent, Sources sources);
  void begin(const char* type);  // the envelope, up to the value of `data`
  void end();

  Sources sources_;
  std::string key_, source_, traceparent_;
  std::string id_;                // of the last line: ids only grow
  std::uint64_t sequence_ = 0;
  std::string mac_;               // of the last line
  std::string line_;              // under construction; kept for its memory
  std::vector<std::unique_ptr<Sink>> sinks_;
};

/// Cuts one stream of the workload into stdio events. Nothing that it prints can leave the string that holds it.
/// A character that is cut by the end of a chunk waits for the next one.
class StdioSplitter {
 public:
  /// `call` names the call in letters and digits; empty for the session's own program.
  StdioSplitter(Writer& writer, Stream stream, std::string call = {}) : writer_(&writer), stream_(stream), call_(std::move(call)) {}

  void begin_at(std::uint64_t offset) { offset_ = offset; }  ///< of a stream whose beginning another has told
  void bytes(std::string_view chunk);
  void drop(std::uint64_t bytes);  ///< thrown away by a limit: counted here, told with the next event
  void finish();                   ///< what waits or was not told yet

 private:
  void write(std::string_view bytes);

  Writer* writer_;
  Stream stream_;
  std::string call_;
  std::string waiting_;        // at most three bytes
  std::uint64_t offset_ = 0;   // of the first byte not yet written
  std::uint64_t dropped_ = 0;
};

}  // namespace runner::events
