// Tar streams, as much as `cp` needs: written as ustar with pax records for what does not fit; read also as GNU tar and old tars
// write them. A stream is bytes from somebody else: whatever is not understood ends the reading with an error.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace runner::files {

/// Fills at most `size` bytes; 0 at the end.
using Source = std::function<std::size_t(char* to, std::size_t size)>;
using Sink = std::function<void(std::string_view bytes)>;

struct TarError : std::runtime_error {
  using std::runtime_error::runtime_error;
};
/// The stream ended before its end mark: whoever writes it has failed.
struct TarCutShort : TarError {
  TarCutShort() : TarError("the tar stream ends before its end mark") {}
};

struct TarEntry {
  enum class Kind { File, Directory, Symlink, HardLink, Special };
  Kind kind = Kind::File;
  std::string name;           // as it stands in the stream
  std::string link;           // of both kinds of links
  std::uint32_t mode = 0644;  // 07777
  std::uint32_t uid = 0, gid = 0;
  std::uint64_t size = 0;  // of a file
  std::int64_t mtime = 0;  // seconds since 1970
  std::uint32_t mtime_ns = 0;
  bool operator==(const TarEntry&) const = default;
};

class TarWriter {
 public:
  explicit TarWriter(Sink sink) : sink_(std::move(sink)) {}
  void begin(const TarEntry& entry);  ///< of a file, exactly `size` bytes follow by data()
  void data(std::string_view bytes);
  void end();     ///< of the entry
  void finish();  ///< the end mark

 private:
  void put(std::string_view bytes);
  void header(const TarEntry& entry, char type, std::string_view name, std::string_view link, std::uint64_t size);
  Sink sink_;
  std::string waiting_;
  std::uint64_t left_ = 0;  // of the file's bytes
  unsigned padding_ = 0;
};

class TarReader {
 public:
  static constexpr std::size_t kLongestName = 4095;  // what the kernel takes as a path

  explicit TarReader(Source source) : source_(std::move(source)) {}
  /// Passes over what is left of the entry before. Empty at the end mark.
  std::optional<TarEntry> next();
  std::size_t data(char* to, std::size_t size);  ///< of the entry's bytes; 0 when it has no more
  void drain();                                  ///< what writers put behind the end mark

 private:
  bool read_exactly(char* to, std::size_t size);  // false at the end of the stream, before the first byte
  std::string read_text(std::uint64_t size);
  Source source_;
  std::string buffer_;
  std::size_t at_ = 0;
  std::uint64_t left_ = 0;
  unsigned padding_ = 0;
};

}  // namespace runner::files
