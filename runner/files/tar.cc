#include "runner/files/tar.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>

namespace runner::files {

namespace {

constexpr std::size_t kBlock = 512, kBuffer = 64 << 10, kLongestRecord = 64 << 10;
constexpr std::uint64_t kLargestFile = std::uint64_t{1} << 62;

// POSIX.1-1988: all numbers are octal text.
struct Header {
  char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type, link[100], magic[6], version[2], user[32],
      group[32], major[8], minor[8], prefix[155], rest[12];
};
static_assert(sizeof(Header) == kBlock);

unsigned padding_of(std::uint64_t size) { return static_cast<unsigned>((kBlock - size % kBlock) % kBlock); }

template <std::size_t N>
bool put_octal(char (&field)[N], std::uint64_t value) {
  std::string digits = fmt::format("{:0{}o}", value, N - 1);
  if (digits.size() >= N) return false;
  std::memcpy(field, digits.c_str(), N);
  return true;
}

template <std::size_t N>
std::string_view text_of(const char (&field)[N]) {
  return {field, ::strnlen(field, N)};
}

unsigned checksum(const Header& header) {
  auto* bytes = reinterpret_cast<const unsigned char*>(&header);
  unsigned sum = 0;
  for (std::size_t i = 0; i < kBlock; ++i) sum += i >= 148 && i < 156 ? ' ' : bytes[i];
  return sum;
}

// Octal, or GNU's base 256 marked by the highest bit.
template <std::size_t N>
std::int64_t number_of(const char (&field)[N], const char* what) {
  auto first = static_cast<unsigned char>(field[0]);
  if (first & 0x80) {
    bool negative = first & 0x40;
    std::uint64_t value = negative ? ~std::uint64_t{0} : 0;
    for (std::size_t i = 0; i < N; ++i) {
      auto byte = static_cast<unsigned char>(field[i]);
      if (i == 0) byte = negative ? byte : byte & 0x7f;
      bool fits = negative ? value >> 55 == 0x1ff : value >> 55 == 0;
      if (!fits) throw TarError(fmt::format("the tar stream has a {} that is too large", what));
      value = value << 8 | byte;
    }
    return static_cast<std::int64_t>(value);
  }
  std::string_view text = text_of(field);
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  std::int64_t value = 0;
  if (text.empty()) return 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 8);
  if (error != std::errc() || end != text.data() + text.size() || value < 0)
    throw TarError(fmt::format("the tar stream has a {} that is no number", what));
  return value;
}

template <typename Number>
Number decimal(std::string_view text, const char* what) {
  Number value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size())
    throw TarError(fmt::format("the tar stream has a {} that is no number", what));
  return value;
}

std::uint32_t id_of(std::int64_t number, const char* what) {
  if (number < 0 || number >= 0xffffffff) throw TarError(fmt::format("the tar stream has a {} out of range", what));
  return static_cast<std::uint32_t>(number);
}

std::uint64_t size_of(std::int64_t number) {
  if (number < 0 || static_cast<std::uint64_t>(number) > kLargestFile)
    throw TarError("the tar stream has a size out of range");
  return static_cast<std::uint64_t>(number);
}

// "LENGTH KEY=VALUE\n", where LENGTH counts all of it.
std::map<std::string, std::string> records_of(std::string_view text) {
  std::map<std::string, std::string> records;
  while (!text.empty()) {
    std::size_t blank = text.find(' ');
    if (blank == std::string_view::npos) throw TarError("the tar stream has a damaged pax record");
    auto length = decimal<std::size_t>(text.substr(0, blank), "pax length");
    if (length <= blank + 1 || length > text.size() || text[length - 1] != '\n')
      throw TarError("the tar stream has a damaged pax record");
    std::string_view record = text.substr(blank + 1, length - blank - 2);
    std::size_t equals = record.find('=');
    if (equals == std::string_view::npos) throw TarError("the tar stream has a damaged pax record");
    records[std::string(record.substr(0, equals))] = record.substr(equals + 1);
    text.remove_prefix(length);
  }
  return records;
}

std::string record(std::string_view key, std::string_view value) {
  std::size_t rest = key.size() + value.size() + 3, length = rest + 1;
  while (std::to_string(length).size() + rest != length) length = std::to_string(length).size() + rest;
  return fmt::format("{} {}={}\n", length, key, value);
}

void take_time(TarEntry& entry, const std::string& text) {
  std::size_t dot = std::min(text.find('.'), text.size());
  std::string digits = dot < text.size() ? text.substr(dot + 1, 9) : "";
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; }))
    throw TarError("the tar stream has a time that is no number");
  digits.resize(9, '0');
  std::string_view whole = std::string_view(text).substr(0, dot);
  bool negative = !whole.empty() && whole[0] == '-';
  entry.mtime = whole.empty() || whole == "-" ? 0 : decimal<std::int64_t>(whole, "time");
  entry.mtime_ns = static_cast<std::uint32_t>(std::stoul(digits));
  if (negative && entry.mtime_ns) --entry.mtime, entry.mtime_ns = 1'000'000'000 - entry.mtime_ns;
}

std::string time_text(const TarEntry& entry) {
  bool back = entry.mtime < 0 && entry.mtime_ns;
  std::int64_t seconds = back ? entry.mtime + 1 : entry.mtime;
  return fmt::format("{}{}.{:09}", back && seconds == 0 ? "-" : "", seconds,
                     back ? 1'000'000'000 - entry.mtime_ns : entry.mtime_ns);
}

}  // namespace

void TarWriter::put(std::string_view bytes) {
  waiting_ += bytes;
  if (waiting_.size() < kBuffer) return;
  sink_(waiting_);
  waiting_.clear();
}

void TarWriter::header(const TarEntry& entry, char type, std::string_view name, std::string_view link,
                       std::uint64_t size) {
  Header h{};
  std::memcpy(h.name, name.data(), std::min(name.size(), sizeof h.name));
  std::memcpy(h.link, link.data(), std::min(link.size(), sizeof h.link));
  put_octal(h.mode, entry.mode & 07777);
  // What does not fit stands in the pax records before this header.
  if (!put_octal(h.uid, entry.uid)) put_octal(h.uid, 0);
  if (!put_octal(h.gid, entry.gid)) put_octal(h.gid, 0);
  if (!put_octal(h.size, size)) put_octal(h.size, 0);
  if (entry.mtime < 0 || !put_octal(h.mtime, static_cast<std::uint64_t>(entry.mtime))) put_octal(h.mtime, 0);
  h.type = type;
  std::memcpy(h.magic, "ustar", 6);
  std::memcpy(h.version, "00", 2);
  put_octal(h.major, 0);
  put_octal(h.minor, 0);
  std::memcpy(h.sum, fmt::format("{:06o}", checksum(h)).c_str(), 7);
  h.sum[7] = ' ';
  put({reinterpret_cast<const char*>(&h), sizeof h});
}

void TarWriter::begin(const TarEntry& entry) {
  constexpr std::uint32_t kLargestId = 07777777;
  bool file = entry.kind == TarEntry::Kind::File;
  std::string name = entry.name, records;
  if (entry.kind == TarEntry::Kind::Directory && !name.ends_with('/')) name += '/';
  if (name.size() > 100) records += record("path", name);
  if (entry.link.size() > 100) records += record("linkpath", entry.link);
  if (file && entry.size > 077777777777) records += record("size", std::to_string(entry.size));
  if (entry.uid > kLargestId) records += record("uid", std::to_string(entry.uid));
  if (entry.gid > kLargestId) records += record("gid", std::to_string(entry.gid));
  if (entry.mtime_ns || entry.mtime < 0 || entry.mtime > 077777777777) records += record("mtime", time_text(entry));
  if (!records.empty()) {
    header(TarEntry{}, 'x', "PaxHeaders/entry", "", records.size());
    put(records);
    put(std::string(padding_of(records.size()), '\0'));
  }
  char type = '0';
  if (entry.kind == TarEntry::Kind::HardLink) type = '1';
  if (entry.kind == TarEntry::Kind::Symlink) type = '2';
  if (entry.kind == TarEntry::Kind::Directory) type = '5';
  left_ = file ? entry.size : 0;
  padding_ = padding_of(left_);
  header(entry, type, name, entry.link, left_);
}

void TarWriter::data(std::string_view bytes) {
  if (bytes.size() > left_) throw std::logic_error("more bytes than the tar entry announced");
  left_ -= bytes.size();
  put(bytes);
}

void TarWriter::end() {
  if (left_) throw std::logic_error("fewer bytes than the tar entry announced");
  put(std::string(padding_, '\0'));
  padding_ = 0;
}

void TarWriter::finish() {
  put(std::string(2 * kBlock, '\0'));
  sink_(waiting_);
  waiting_.clear();
}

bool TarReader::read_exactly(char* to, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    if (at_ == buffer_.size()) {
      buffer_.resize(kBuffer);
      buffer_.resize(source_(buffer_.data(), kBuffer));
      at_ = 0;
      if (buffer_.empty() && done == 0) return false;
      if (buffer_.empty()) throw TarCutShort();
    }
    std::size_t count = std::min(size - done, buffer_.size() - at_);
    std::memcpy(to + done, buffer_.data() + at_, count);
    at_ += count;
    done += count;
  }
  return true;
}

std::size_t TarReader::data(char* to, std::size_t size) {
  size = static_cast<std::size_t>(std::min<std::uint64_t>(size, left_));
  if (size && !read_exactly(to, size)) throw TarCutShort();
  left_ -= size;
  return size;
}

void TarReader::drain() {
  char bytes[kBlock];
  for (std::size_t got = 1; got;) {
    at_ = buffer_.size();
    got = source_(bytes, sizeof bytes);
  }
}

std::string TarReader::read_text(std::uint64_t size) {
  if (size > kLongestRecord)
    throw TarError(fmt::format("the tar stream has a name or record of {} bytes, more than {}", size, kLongestRecord));
  std::string text(static_cast<std::size_t>(size + padding_of(size)), '\0');
  if (!text.empty() && !read_exactly(text.data(), text.size())) throw TarCutShort();
  text.resize(static_cast<std::size_t>(size));
  return text;
}

std::optional<TarEntry> TarReader::next() {
  char scrap[4096];
  while (data(scrap, sizeof scrap) > 0) {
  }
  if (padding_ && !read_exactly(scrap, padding_)) throw TarCutShort();
  padding_ = 0;

  std::map<std::string, std::string> records;
  std::string long_name, long_link;
  for (;;) {
    Header h;
    if (!read_exactly(reinterpret_cast<char*>(&h), sizeof h)) throw TarCutShort();
    auto* bytes = reinterpret_cast<const char*>(&h);
    if (std::all_of(bytes, bytes + kBlock, [](char c) { return c == 0; })) return std::nullopt;
    if (number_of(h.sum, "checksum") != checksum(h))
      throw TarError("this is no tar stream, or it is damaged (a checksum is wrong)");
    std::uint64_t size = size_of(number_of(h.size, "size"));
    // Of the headers that come before the one they speak of, the last of each kind counts.
    if (h.type == 'x') {
      records = records_of(read_text(size));
    } else if (h.type == 'g') {
      read_text(size);  // defaults for the whole stream: comments of `git archive`, in practice
    } else if (h.type == 'L' || h.type == 'K') {
      std::string text = read_text(size);
      (h.type == 'L' ? long_name : long_link) = text.c_str();
    } else {
      TarEntry entry;
      bool ustar = std::memcmp(h.magic, "ustar\0", 6) == 0;
      entry.name = text_of(h.name);
      if (ustar && h.prefix[0]) entry.name = fmt::format("{}/{}", text_of(h.prefix), entry.name);
      entry.link = text_of(h.link);
      if (!long_name.empty()) entry.name = long_name;
      if (!long_link.empty()) entry.link = long_link;
      entry.mode = static_cast<std::uint32_t>(number_of(h.mode, "mode")) & 07777;
      auto has = [&](const char* key) { return records.find(key) != records.end(); };
      for (const auto& [key, value] : records)
        if (key.rfind("GNU.sparse", 0) == 0)
          throw TarError("the tar stream has a sparse file, which is not supported (write it without --sparse)");
      if (has("path")) entry.name = records["path"];
      if (has("linkpath")) entry.link = records["linkpath"];
      entry.uid = has("uid") ? id_of(decimal<std::int64_t>(records["uid"], "uid"), "uid")
                             : id_of(number_of(h.uid, "uid"), "uid");
      entry.gid = has("gid") ? id_of(decimal<std::int64_t>(records["gid"], "gid"), "gid")
                             : id_of(number_of(h.gid, "gid"), "gid");
      if (has("size")) size = size_of(decimal<std::int64_t>(records["size"], "size"));
      entry.mtime = number_of(h.mtime, "time");
      if (has("mtime")) take_time(entry, records["mtime"]);
      if (entry.name.find('\0') != std::string::npos || entry.link.find('\0') != std::string::npos)
        throw TarError("the tar stream has a name with a NUL in it");
      for (const std::string* name : {&entry.name, &entry.link})
        if (name->size() > kLongestName)
          throw TarError(fmt::format("the tar stream has a name of {} bytes, more than {}: {}...", name->size(),
                                     kLongestName, name->substr(0, 60)));
      switch (h.type) {
        case '0':
        case '\0':
        case '7':
          // Before POSIX a directory was a file whose name ends in a slash.
          entry.kind = h.type == '\0' && entry.name.ends_with('/') ? TarEntry::Kind::Directory : TarEntry::Kind::File;
          break;
        case '1':
          entry.kind = TarEntry::Kind::HardLink;
          break;
        case '2':
          entry.kind = TarEntry::Kind::Symlink;
          break;
        case '5':
          entry.kind = TarEntry::Kind::Directory;
          break;
        case '3':
        case '4':
        case '6':
          entry.kind = TarEntry::Kind::Special;
          break;
        default:
          throw TarError(
              fmt::format("the tar stream has an entry of unknown type {:#x}", static_cast<unsigned char>(h.type)));
      }
      if (entry.kind == TarEntry::Kind::File) {
        entry.size = left_ = size;
        padding_ = padding_of(size);
      }
      return entry;
    }
  }
}

}  // namespace runner::files
