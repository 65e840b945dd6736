#include "runner/oci/json.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#ifdef __SSE2__
#define RAPIDJSON_SSE2  // 16 bytes at a time
#endif
#include <rapidjson/error/en.h>
#include <rapidjson/reader.h>

#include "isolate/sys/error.h"
#include "isolate/sys/fd.h"

namespace runner::oci::json {

namespace {

constexpr const char* kKindNames[] = {"null",     "a bool", "a number", "a number",
                                      "a number", "text",   "a list",   "an object"};

bool is_word(std::string_view text) {
  constexpr std::size_t kLongest = 64;
  return !text.empty() && text.size() <= kLongest &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-'; });
}

}  // namespace

/// What RapidJSON's reader calls: a DOM of its own is never made. Returning false ends the parse at once.
class Builder {
 public:
  explicit Builder(Document& document) : document_(document) {}

  bool Null() { return add(Kind::Null); }
  bool Bool(bool value) { return add(Kind::Bool, value); }
  bool Int(int value) { return Int64(value); }
  bool Uint(unsigned value) { return Uint64(value); }
  bool Int64(std::int64_t value) { return add(Kind::Integer, static_cast<std::uint64_t>(value)); }
  bool Uint64(std::uint64_t value) { return add(Kind::Unsigned, value); }
  bool Double(double) { return add(Kind::Real); }
  bool RawNumber(const char*, unsigned, bool) { return false; }  // not asked for
  bool String(const char* text, unsigned size, bool) {
    add(Kind::Text);
    nodes().back().text = {text, size};
    return true;
  }
  bool StartObject() { return open(Kind::Object); }
  bool StartArray() { return open(Kind::Array); }
  bool EndObject(unsigned) { return !repeats_a_key() && close(); }
  bool EndArray(unsigned) { return close(); }
  bool Key(const char* text, unsigned size, bool) {
    key_ = {text, size};
    return true;
  }

 private:
  std::vector<Node>& nodes() { return document_.nodes_; }

  bool add(Kind kind, std::uint64_t bits = 0) {
    Node node;
    node.kind = kind;
    node.bits = bits;
    node.key = std::exchange(key_, {});
    node.end = static_cast<std::uint32_t>(nodes().size()) + 1;
    if (!open_.empty()) {
      node.parent = open_.back();
      node.index = nodes()[node.parent].count++;
    }
    nodes().push_back(node);
    return true;
  }

  bool open(Kind kind) {
    if (open_.size() == kDeepest) {
      document_.wrong_.add({document_.name_}, "is nested deeper than {} levels", kDeepest);
      return false;
    }
    add(kind);
    open_.push_back(static_cast<std::uint32_t>(nodes().size()) - 1);
    return true;
  }

  bool close() {
    nodes()[open_.back()].end = static_cast<std::uint32_t>(nodes().size());
    open_.pop_back();
    return true;
  }

  // Two readers may disagree about which one counts: what a policy checked would not be what runs.
  bool repeats_a_key() {
    std::uint32_t object = open_.back();
    std::uint32_t count = nodes()[object].count, end = static_cast<std::uint32_t>(nodes().size());
    keys_.clear();
    for (std::uint32_t at = object + 1; at < end; at = nodes()[at].end) {
      if (count <= kFew && std::find(keys_.begin(), keys_.end(), nodes()[at].key) != keys_.end())
        return repeated(object, nodes()[at].key);
      keys_.push_back(nodes()[at].key);
    }
    if (count <= kFew) return false;
    std::sort(keys_.begin(), keys_.end());
    auto twice = std::adjacent_find(keys_.begin(), keys_.end());
    return twice != keys_.end() && repeated(object, *twice);
  }

  bool repeated(std::uint32_t object, std::string_view key) {
    std::string name = document_.name_of(object);
    document_.wrong_.add({document_.name_}, "{}{}the key {} is there twice", name, name.empty() ? "" : ": ",
                         in_quotes(key));
    return true;
  }

  static constexpr std::uint32_t kFew = 16;
  Document& document_;
  std::string_view key_;
  std::vector<std::uint32_t> open_;
  std::vector<std::string_view> keys_;
};

Document::Document(std::string_view text, std::string name, Diagnostics& wrong)
    : name_(std::move(name)), wrong_(wrong) {
  if (text.size() > kLargestText) {
    wrong_.add({name_}, "is larger than {} bytes", kLargestText);
    return;
  }
  // RapidJSON reads whole vectors, and checks a character of UTF-8 to its end (and in place also writes it) before it says
  // that the text stops within it.
  constexpr std::size_t kBeyond = 15;
  texts_ = std::make_unique_for_overwrite<char[]>(text.size() + 1 + kBeyond);
  nodes_.reserve(text.size() / 16);
  // The reader takes a zero for the end: what follows one would go unseen.
  if (std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    complain_at(text, zero, "holds a zero byte");
    return;
  }
  Builder builder(*this);
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // a byte order mark
  std::memcpy(texts_.get(), text.data(), text.size());
  std::memset(texts_.get() + text.size(), 0, 1 + kBeyond);
  rapidjson::InsituStringStream stream(texts_.get());  // strings are unescaped where they stand
  rapidjson::Reader reader;
  // It recurses, but no deeper than the builder lets it.
  // Plain ASCII, as nearly all is, needs no check for each character: half the time.
  bool ascii = std::all_of(text.begin(), text.end(), [](char c) { return static_cast<signed char>(c) >= 0; });
  constexpr unsigned kInPlace = rapidjson::kParseInsituFlag, kChecked = kInPlace | rapidjson::kParseValidateEncodingFlag;
  rapidjson::ParseResult result = ascii ? reader.Parse<kInPlace>(stream, builder) : reader.Parse<kChecked>(stream, builder);
  good_ = !result.IsError();
  if (!good_ && result.Code() != rapidjson::kParseErrorTermination)  // the builder has said why
    complain_at(text, result.Offset(), rapidjson::GetParseError_En(result.Code()));
}

void Document::complain_at(std::string_view text, std::size_t at, const char* reason) {
  std::string_view before = text.substr(0, at);
  std::size_t line_start = before.rfind('\n') + 1;  // npos + 1 is 0
  int line = 1 + static_cast<int>(std::count(before.begin(), before.end(), '\n'));
  wrong_.add({name_, line, static_cast<int>(before.size() - line_start) + 1}, "{}", reason);
}

std::string Document::name_of(std::uint32_t node) const {
  std::vector<std::uint32_t> way;
  for (; node != 0; node = nodes_[node].parent) way.push_back(node);
  std::string name;
  for (auto step = way.rbegin(); step != way.rend(); ++step) {
    const Node& each = nodes_[*step];
    if (nodes_[each.parent].kind == Kind::Array)
      name += fmt::format("[{}]", each.index);
    else if (is_word(each.key))
      name += (name.empty() ? "" : ".") + std::string(each.key);
    else
      name += "[" + in_quotes(each.key) + "]";
  }
  return name;
}

const Node& Value::node() const { return document_->nodes_[node_]; }
bool Value::is(Kind kind) const { return *this && node().kind == kind; }
std::string_view Value::key() const { return *this ? node().key : key_; }
std::size_t Value::size() const { return *this ? node().count : 0; }

bool Value::blank() const {
  if (!*this) return true;
  if (is(Kind::Text)) return node().text.empty();
  return (is(Kind::Array) || is(Kind::Object)) && size() == 0;
}

std::string Value::name() const {
  if (*this) return document_->name_of(node_);
  std::string name = document_->name_of(parent_);
  return name + (name.empty() ? "" : ".") + std::string(key_);
}

Value Value::operator[](std::string_view key) const {
  if (is(Kind::Object))
    for (Value each : values())
      if (each.key() == key && !each.is(Kind::Null)) return each;
  return Value(document_, kMissing, *this ? node_ : parent_, key);
}

Value Value::object() const {
  if (!*this || is(Kind::Object)) return *this;
  wrong_kind("an object");
  return Value(document_, kMissing, node().parent, node().key);
}

Value Value::array() const {
  if (!*this || is(Kind::Array)) return *this;
  wrong_kind("a list");
  return Value(document_, kMissing, node().parent, node().key);
}

Children Value::values() const {
  if (!*this) return {document_, 0, 0};
  return {document_, node_ + 1, node().end};
}

Value Children::Iterator::operator*() const { return Value(document_, at_, 0, {}); }

Children::Iterator& Children::Iterator::operator++() {
  at_ = document_->nodes_[at_].end;
  return *this;
}

bool Value::read(std::string& to) const {
  if (!*this) return false;
  if (node().kind != Kind::Text) return wrong_kind("text"), false;
  // The kernel would stop reading there: what was checked would not be what is used.
  if (node().text.find('\0') != std::string_view::npos) return wrong("must not contain a NUL character"), false;
  to = node().text;
  return true;
}

bool Value::read(bool& to) const {
  if (!*this) return false;
  if (node().kind != Kind::Bool) return wrong_kind("true or false"), false;
  to = node().bits;
  return true;
}

bool Value::read(std::vector<std::string>& to) const {
  if (!array()) return false;
  std::vector<std::string> list(size());
  bool good = true;
  std::size_t i = 0;
  for (Value each : values()) good &= each.require(list[i++]);
  if (good) to = std::move(list);
  return good;
}

bool Value::read(std::map<std::string, std::string>& to) const {
  if (!object()) return false;
  std::map<std::string, std::string> map;
  bool good = true;
  for (Value each : values()) {
    std::string value;
    if (each.key().find('\0') != std::string_view::npos)
      each.wrong("must not have a NUL character in its name"), good = false;
    else if (each.require(value))
      map.emplace(each.key(), std::move(value));
    else
      good = false;
  }
  if (good) to = std::move(map);
  return good;
}

bool Value::read_unsigned(std::uint64_t& bits, std::uint64_t least, std::uint64_t most) const {
  if (!*this) return false;
  if (node().kind == Kind::Unsigned && node().bits >= least && node().bits <= most) return bits = node().bits, true;
  if (node().kind == Kind::Unsigned)
    wrong("must be a number from {} to {}, not {}", least, most, node().bits);
  else if (node().kind == Kind::Integer)
    wrong("must be a number from {} to {}, not {}", least, most, static_cast<std::int64_t>(node().bits));
  else
    wrong_kind("a whole number");
  return false;
}

bool Value::read_integer(std::uint64_t& bits, std::int64_t least, std::int64_t most) const {
  if (!*this) return false;
  auto value = static_cast<std::int64_t>(node().bits);
  bool fits = node().kind == Kind::Integer || (node().kind == Kind::Unsigned && value >= 0);
  if (fits && value >= least && value <= most) return bits = node().bits, true;
  if (fits)
    wrong("must be a number from {} to {}, not {}", least, most, value);
  else if (node().kind == Kind::Unsigned)
    wrong("must be a number from {} to {}, not {}", least, most, node().bits);
  else
    wrong_kind("a whole number");
  return false;
}

void Value::wrong_kind(const char* wanted) const {
  if (node().kind == Kind::Real)
    wrong("must be {}, and within 64 bits", wanted);
  else
    wrong("must be {}, not {}", wanted, kKindNames[static_cast<int>(node().kind)]);
}

void Value::complain(const std::string& text) const {
  // A file of a million mistakes must not become a message of a hundred megabytes.
  if (++document_->mistakes_ > kMostMistakes) return;
  std::string where = name();
  document_->wrong_.add({document_->name_}, "{}{}{}", where, where.empty() ? "" : ": ", text);
  if (document_->mistakes_ == kMostMistakes)
    document_->wrong_.add({document_->name_}, "has more mistakes; the rest is not listed");
}

std::optional<std::string> read_text(const std::string& path, Diagnostics& wrong) {
  isolate::sys::Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat info;
  if (!file || ::fstat(file.get(), &info) == -1)
    return wrong.add({path}, "{}", isolate::sys::error_text(errno)), std::nullopt;
  if (S_ISDIR(info.st_mode)) return wrong.add({path}, "is a directory"), std::nullopt;
  std::string text;
  text.resize(S_ISREG(info.st_mode) && info.st_size >= 0 && info.st_size < static_cast<off_t>(kLargestText)
                  ? static_cast<std::size_t>(info.st_size) + 1
                  : kLargestText + 1);
  std::size_t size = 0;
  while (size < text.size()) {
    ssize_t got = ::read(file.get(), text.data() + size, text.size() - size);
    if (got == -1 && errno == EINTR) continue;
    if (got == -1) return wrong.add({path}, "{}", isolate::sys::error_text(errno)), std::nullopt;
    if (got == 0) break;
    size += static_cast<std::size_t>(got);
    if (size == text.size() && size <= kLargestText) text.resize(kLargestText + 1);  // it grew
  }
  if (size > kLargestText) return wrong.add({path}, "is larger than {} bytes", kLargestText), std::nullopt;
  text.resize(size);
  return text;
}

std::string in_quotes(std::string_view text) {
  std::size_t most = std::min<std::size_t>(text.size(), 200);
  while (most > 0 && most < text.size() && (text[most] & 0xc0) == 0x80) --most;  // not within a character of UTF-8
  std::string safe = "'";
  std::size_t escape_until = 0;
  for (std::size_t i = 0; i < most; ++i) {
    auto c = static_cast<unsigned char>(text[i]), next = static_cast<unsigned char>(i + 1 < most ? text[i + 1] : 0);
    if (c < 0x20 || c == 0x7f) escape_until = i + 1;
    if (c == 0xc2 && next < 0xa0) escape_until = i + 2;  // U+0080 to U+009F: controls as well
    if (c == 0xe2 && (next == 0x80 || next == 0x81))
      escape_until = i + 3;  // U+2000 to U+207F: with the marks that turn text around
    if (i < escape_until)
      safe += fmt::format("\\x{:02x}", c);
    else
      safe += static_cast<char>(c);
  }
  return safe + (most < text.size() ? "...'" : "'");
}

}  // namespace runner::oci::json
