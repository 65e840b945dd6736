#include "runner/snapshot/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "runner/events/verify.h"
#include "runner/oci/json.h"
#include "runner/session/directories.h"
#include "runner/snapshot/digest.h"

namespace runner::snapshot {

using json = nlohmann::ordered_json;
using oci::json::Document;
using oci::json::Value;

namespace {

constexpr std::string_view kHead = "{\"hmac\":\"", kMiddle = "\",\"manifest\":", kTail = "}\n";
constexpr std::size_t kHmacDigits = 64, kIdDigits = 32;
constexpr std::uint64_t kLargestFile = std::uint64_t{1} << 62;

bool all_of(std::string_view text, bool (*good)(char)) { return std::all_of(text.begin(), text.end(), good); }
bool is_alnum(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 200 && name[0] != '.' &&
         all_of(name, [](char c) { return is_alnum(c) || c == '-' || c == '_' || c == '.' || c == '+' || c == '@'; });
}

bool is_snapshot_name(std::string_view name) { return session::why_bad_id(std::string(name)).empty(); }

// Arguments and paths are bytes, JSON is UTF-8: what is not stands as {"hex": "..."}.
json bytes_to_json(const std::string& bytes) {
  json text = bytes;
  try {
    (void)text.dump();
    return text;
  } catch (const json::type_error&) {
    return {{"hex", events::hex(bytes)}};
  }
}

bool read_bytes(Value value, std::string& to) {
  if (!value.is(oci::json::Kind::Object)) return value.require(to);
  std::string digits;
  if (value.size() != 1) return value.wrong("must have the key hex and no other"), false;
  if (!value["hex"].require(digits)) return false;
  if (digits.size() % 2 || !is_hex(digits, digits.size())) return value.wrong("must be pairs of hex digits"), false;
  to = events::unhex(digits);
  if (to.find('\0') != std::string::npos) return value.wrong("must not contain a NUL character"), false;
  return true;
}

// The text of the value of a key of the outermost object. `text` has been read as JSON without a mistake.
std::string_view member(std::string_view text, std::string_view key) {
  std::size_t depth = 0, string_start = 0, value_start = 0;
  bool in_string = false, found = false;
  std::string_view last_string;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false, last_string = text.substr(string_start, i - string_start);
    } else if (c == '"') {
      in_string = true, string_start = i + 1;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (depth == 1 && (c == ',' || c == '}')) {
      if (found) return text.substr(value_start, i - value_start);
      depth -= c == '}';
    } else if (c == '}' || c == ']') {
      --depth;
    } else if (depth == 1 && c == ':' && last_string == key) {
      found = true, value_start = i + 1;
    }
  }
  return {};
}

std::string_view trimmed(std::string_view text) {
  constexpr const char* kBlank = " \t\r\n";
  std::size_t first = text.find_first_not_of(kBlank);
  return first == std::string_view::npos ? "" : text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

/// Reads the keys of one object; those that nobody asked for are mistakes.
class Object {
 public:
  explicit Object(Value value) : value_(value.object()) {}
  ~Object() {
    for (Value each : value_.values())
      if (std::find(known_.begin(), known_.end(), each.key()) == known_.end())
        each.wrong("is not known in this version");
  }
  Value operator[](std::string_view key) {
    known_.push_back(key);
    return value_[key];
  }

 private:
  Value value_;
  std::vector<std::string_view> known_;
};

void require_hex(Value value, std::string& to, std::size_t digits) {
  if (value.require(to) && !is_hex(to, digits)) value.wrong("must be {} hex digits", digits);
}

// A list that is there, each of whose values `read` reads.
template <typename T, typename Read>
void require_list(Value list, std::vector<T>& to, Read read) {
  if (!list) return list.wrong("is missing");
  for (Value each : list.array().values()) read(each, to.emplace_back());
}

void read_file(Value value, File& file) {
  Object object(value);
  Value path = object["path"];
  if (path.require(file.path) && !is_file_path(file.path)) path.wrong("is no place of a file in a snapshot");
  object["size"].require(file.size, std::uint64_t{0}, kLargestFile);
  require_hex(object["sha256"], file.sha256, 64);
}

void read_mapped(Value value, Mapped& mapped) {
  Object object(value);
  if (Value path = object["path"])
    read_bytes(path, mapped.path);
  else
    path.wrong("is missing");
  object["size"].require(mapped.size, std::uint64_t{0}, kLargestFile);
  Value build_id = object["build_id"], digest = object["sha256"];
  if (bool(build_id) == bool(digest)) value.wrong("must have either a build_id or a sha256");
  if (build_id.read(mapped.build_id) &&
      (mapped.build_id.empty() || mapped.build_id.size() > 128 || !is_hex(mapped.build_id, mapped.build_id.size())))
    build_id.wrong("must be 1 to 128 hex digits");
  if (digest) require_hex(digest, mapped.sha256, 64);
}

void read_layer(Value value, std::string& layer) {
  if (!value.require(layer)) return;
  std::size_t slash = layer.find('/');
  bool good = slash == std::string::npos
                  ? is_layer_name(layer)
                  : is_snapshot_name(layer.substr(0, slash)) && is_layer_name(layer.substr(slash + 1));
  if (!good) value.wrong("is neither a layer nor SNAPSHOT/LAYER");
}

bool has_file(const Manifest& m, const std::string& path) {
  return std::binary_search(m.files.begin(), m.files.end(), File{path, 0, {}},
                            [](const File& a, const File& b) { return a.path < b.path; });
}

// What no single value can be wrong about.
void check_whole(Value root, const Manifest& m) {
  for (std::size_t i = 1; i < m.files.size(); ++i)
    if (m.files[i - 1].path >= m.files[i].path)
      return root["files"].wrong("must be sorted by path, each once: {} is not behind {}",
                                 oci::json::in_quotes(m.files[i].path), oci::json::in_quotes(m.files[i - 1].path));
  for (const std::string& layer : m.layers)
    if (is_layer_name(layer) && !has_file(m, "layers/" + layer + ".index"))
      root["layers"].wrong("names {}, whose index is not among the files", oci::json::in_quotes(layer));
}

}  // namespace

bool is_layer_name(std::string_view name) {
  return !name.empty() && name.size() <= 32 && name[0] != '-' &&
         all_of(name, [](char c) { return is_alnum(c) || c == '-'; });
}

bool is_file_path(std::string_view path) {
  std::size_t slash = path.find('/');
  if (slash == std::string_view::npos) return false;
  std::string_view folder = path.substr(0, slash), name = path.substr(slash + 1);
  if (folder == "layers") return name.ends_with(".index") && is_layer_name(name.substr(0, name.size() - 6));
  return (folder == "criu" || folder == "files") && is_plain_name(name);
}

bool is_pages(std::string_view path) { return path.starts_with("criu/pages-") && path.ends_with(".img"); }

std::string body_of(const Manifest& m) {
  json files = json::array(), mapped = json::array(), config = json::array();
  for (const File& f : m.files) files.push_back({{"path", f.path}, {"size", f.size}, {"sha256", f.sha256}});
  for (const Mapped& f : m.mapped) {
    mapped.push_back({{"path", bytes_to_json(f.path)}, {"size", f.size}});
    mapped.back()[f.build_id.empty() ? "sha256" : "build_id"] = f.build_id.empty() ? f.sha256 : f.build_id;
  }
  for (const std::string& argument : m.config) config.push_back(bytes_to_json(argument));
  json j{{"version", kFormat},
         {"id", m.id},
         {"name", m.name},
         {"created", m.created},
         {"counter", m.counter},
         {"session_id", m.session_id},
         {"lineage", m.lineage},
         {"left_running", m.left_running},
         {"automatic", m.automatic},
         {"host", {{"kernel", m.kernel}, {"machine", m.machine}, {"cpu", m.cpu}}},
         {"criu", m.criu_version},
         {"runner", m.runner_version},
         {"policy", {{"name", m.policy_name}, {"hash", m.policy_hash}}},
         {"config", config},
         {"ids", {{"first", m.first_id}, {"count", m.id_count}}},
         {"mapped", mapped},
         {"layers", m.layers},
         {"files", files}};
  std::string body;
  try {
    body = j.dump();
  } catch (const json::type_error& error) {
    throw std::runtime_error(
        fmt::format("write the manifest of snapshot {}: a name in it is no UTF-8: {}", m.name, error.what()));
  }
  body.pop_back();
  body += fmt::format(",\"session\":{}}}", m.session);
  // What cannot be read again must not become a snapshot.
  Diagnostics wrong;
  auto again = read_body(body, "manifest of snapshot " + m.name, wrong);
  if (!again) throw std::runtime_error(wrong.text());
  if (*again != m)
    throw std::runtime_error(fmt::format("write the manifest of snapshot {}: it would be read as another one", m.name));
  return body;
}

std::optional<Manifest> read_body(std::string_view body, const std::string& name, Diagnostics& wrong) {
  std::size_t before = wrong.entries().size();
  Document document(body, name, wrong);
  if (!document) return std::nullopt;
  Value root = document.root();
  if (!root.is(oci::json::Kind::Object)) return root.wrong("must be an object"), std::nullopt;
  int version = 0;
  if (!root["version"].require(version, 1, 1'000'000)) return std::nullopt;
  // Before anything else: what a newer version has would be a list of mistakes.
  if (version > kFormat)
    return root["version"].wrong("is {}, and this runner knows up to {}: use a newer runner", version, kFormat),
           std::nullopt;

  Manifest m;
  {
    Object top(root), host(top["host"]), policy(top["policy"]), ids(top["ids"]);
    (void)top["version"];
    require_hex(top["id"], m.id, kIdDigits);
    Value called = top["name"];
    if (called.require(m.name) && !is_snapshot_name(m.name)) called.wrong("is no name of a snapshot");
    top["created"].require(m.created);
    top["counter"].require(m.counter);
    top["session_id"].require(m.session_id);
    require_list(top["lineage"], m.lineage, [](Value each, std::string& id) { require_hex(each, id, kIdDigits); });
    top["left_running"].require(m.left_running);
    top["automatic"].require(m.automatic);
    host["kernel"].require(m.kernel);
    host["machine"].require(m.machine);
    host["cpu"].require(m.cpu);
    top["criu"].require(m.criu_version);
    top["runner"].require(m.runner_version);
    policy["name"].require(m.policy_name);
    policy["hash"].require(m.policy_hash);
    require_list(top["config"], m.config, read_bytes);
    ids["first"].require(m.first_id);
    ids["count"].require(m.id_count);
    require_list(top["mapped"], m.mapped, read_mapped);
    require_list(top["layers"], m.layers, read_layer);
    require_list(top["files"], m.files, read_file);
    Value session = top["session"];
    if (!session) session.wrong("is missing");
    session.object();
  }
  check_whole(root, m);
  m.session = trimmed(member(body, "session"));
  if (m.session.empty() && wrong.entries().size() == before) root["session"].wrong("must be called so without escapes");
  if (wrong.entries().size() != before) return std::nullopt;
  return m;
}

std::string sign(std::string_view body, std::string_view key) {
  return fmt::format("{}{}{}{}{}", kHead, events::hmac(key, body), kMiddle, body, kTail);
}

std::optional<Signed> split(std::string_view text) {
  std::size_t before = kHead.size() + kHmacDigits + kMiddle.size();
  if (text.size() <= before + kTail.size() || !text.starts_with(kHead) || !text.ends_with(kTail)) return std::nullopt;
  std::string_view hmac = text.substr(kHead.size(), kHmacDigits);
  if (!is_hex(hmac, kHmacDigits) || text.substr(kHead.size() + kHmacDigits, kMiddle.size()) != kMiddle)
    return std::nullopt;
  return Signed{hmac, text.substr(before, text.size() - before - kTail.size())};
}

bool verifies(const Signed& parts, std::string_view key) { return events::hmac(key, parts.body) == parts.hmac; }

}  // namespace runner::snapshot
