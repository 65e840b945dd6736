#include "runner/snapshot/transfer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <utility>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"
#include "runner/snapshot/digest.h"
#include "runner/snapshot/index.h"
#include "runner/snapshot/place.h"

namespace runner::snapshot {

using namespace isolate::sys;
using files::TarEntry;
using files::TarError;

namespace {

constexpr std::size_t kChunk = 256 << 10;

std::string index_path(const std::string& layer) { return "layers/" + layer + ".index"; }
std::string content_path(const std::string& layer, std::size_t number) {
  return fmt::format("layers/{}/{}", layer, number);
}

TarEntry plain(const std::string& name, std::uint64_t size) {
  TarEntry entry;
  entry.name = name;
  entry.mode = 0600;
  entry.size = size;
  return entry;
}

/// A file of the stream: whose it is, and what it is called there.
struct Sent {
  const Snapshot* from;
  File file;
  std::string as;
};

const File& file_of(const Snapshot& snapshot, const std::string& path) {
  const auto& files = snapshot.manifest().files;
  auto found = std::find_if(files.begin(), files.end(), [&](const File& file) { return file.path == path; });
  if (found == files.end()) throw BadSnapshot(snapshot.name(), path, "the manifest has no such file");
  return *found;
}

std::string layer_of(const std::string& index) { return index.substr(7, index.size() - 7 - 6); }

void send_contents(const Sent& sent, files::TarWriter& writer) {
  std::string layer = sent.from->path() + "/layers/" + layer_of(sent.file.path), as = layer_of(sent.as);
  std::vector<IndexEntry> index = read_index(sent.from->read(sent.file.path));
  Fd top = open_dir(layer);
  std::unique_ptr<char[]> bytes = std::make_unique_for_overwrite<char[]>(kChunk);
  for (std::size_t i = 0; i < index.size(); ++i) {
    if (index[i].kind != 'f') continue;
    auto changed = [&] {
      throw BadSnapshot(sent.from->name(), fmt::format("layers/{}/{}", layer_of(sent.file.path), index[i].path),
                        "its contents were changed");
    };
    Fd place = open_below(top.get(), index[i].path, Links::Refuse);
    Fd file = open_file(fd_path(place.get()), O_RDONLY | O_NONBLOCK);
    writer.begin(plain(content_path(as, i), index[i].size));
    ContentHash hash;
    for (std::uint64_t left = index[i].size; left > 0;) {
      ssize_t got = check(::read(file.get(), bytes.get(), std::min<std::uint64_t>(kChunk, left)), "read {}/{}", layer,
                          index[i].path);
      if (got == 0) changed();
      std::string_view part(bytes.get(), static_cast<std::size_t>(got));
      hash.add(part);
      writer.data(part);
      left -= part.size();
    }
    if (hash.hex() != index[i].text) changed();
    writer.end();
  }
}

/// The entries of the stream, each of which must be the one that is expected.
class Expected {
 public:
  explicit Expected(files::TarReader& reader) : reader_(reader) {}

  void begin(const std::string& name, std::optional<std::uint64_t> size, std::uint64_t most) {
    auto entry = reader_.next();
    if (!entry) throw TarError(fmt::format("refused: the stream ends where {} should be", name));
    if (entry->name != name || entry->kind != TarEntry::Kind::File)
      throw TarError(fmt::format(
          "refused: {} where {} should be: this is not what `runner snapshot export` writes",
          entry->kind == TarEntry::Kind::File ? shortened(entry->name) : "something that is no file", name));
    if (size && entry->size != *size)
      throw TarError(fmt::format("refused: {}: it has {} bytes, not {}", name, entry->size, *size));
    if (entry->size > most)
      throw TarError(fmt::format("refused: {}: it has {} bytes, more than {}", name, entry->size, most));
  }

  void each(const std::function<void(std::string_view)>& take) {
    for (std::size_t got; (got = reader_.data(bytes_.get(), kChunk)) > 0;) take({bytes_.get(), got});
  }

  std::string text(const std::string& name, std::optional<std::uint64_t> size, std::uint64_t most) {
    begin(name, size, most);
    std::string text;
    each([&](std::string_view bytes) { text += bytes; });
    return text;
  }

  /// Into the file, with holes for zeros; `digest` is what it must have.
  template <typename Hash>
  void into(int fd, const std::string& name, std::uint64_t size, const std::string& digest) {
    begin(name, size, size);
    Hash hash;
    each([&](std::string_view bytes) {
      hash.add(bytes);
      if (bytes.find_first_not_of('\0') == std::string_view::npos) {
        check(::lseek(fd, static_cast<off_t>(bytes.size()), SEEK_CUR), "write {}", name);
        return;
      }
      for (std::size_t done = 0; done < bytes.size();)
        done +=
            static_cast<std::size_t>(check(::write(fd, bytes.data() + done, bytes.size() - done), "write {}", name));
    });
    check(::ftruncate(fd, static_cast<off_t>(size)), "write {}", name);
    if (hash.hex() != digest) throw TarError(fmt::format("refused: {}: its SHA-256 is not that of the manifest", name));
  }

  void end() {
    if (auto more = reader_.next())
      throw TarError(
          fmt::format("refused: {} is in the stream, and the manifest does not name it", shortened(more->name)));
    reader_.drain();
  }

 private:
  static std::string shortened(const std::string& name) {
    std::string text = name.substr(0, 100);
    for (char& c : text)
      if (static_cast<signed char>(c) < ' ' || c == 127) c = '?';
    return text;
  }

  files::TarReader& reader_;
  std::unique_ptr<char[]> bytes_ = std::make_unique_for_overwrite<char[]>(kChunk);
};

Manifest take_manifest(const Store& store, const std::string& text, const ImportOptions& options) {
  auto parts = split(text);
  if (!parts) throw TarError("refused: manifest.json is not of the form that a manifest has");
  std::vector<std::string> keys = keys_of(store.directories()).accepted();
  if (options.key) keys.push_back(*options.key);
  bool known = std::any_of(keys.begin(), keys.end(), [&](const std::string& key) { return verifies(*parts, key); });
  if (!known && !options.trust)
    throw TarError(
        "refused: the snapshot is not signed with this store's key, nor with that of --key. Whoever made it decides "
        "what its processes "
        "are and may do: give the key that it was exported with, or --trust if you know where the stream comes from");
  Diagnostics wrong;
  auto manifest = read_body(parts->body, kManifest, wrong);
  if (!manifest) throw TarError("refused: " + wrong.text());
  for (const std::string& layer : manifest->layers)
    if (!is_layer_name(layer))
      throw TarError(fmt::format("refused: manifest.json names layer {}, which is not in the stream", layer));
  return std::move(*manifest);
}

}  // namespace

void export_snapshot(const Store& store, const Snapshot& snapshot, const std::optional<std::string>& key,
                     const files::Sink& sink) {
  Manifest manifest = snapshot.manifest();
  std::vector<Snapshot> parents;  // held until the end
  parents.reserve(manifest.layers.size());
  std::vector<Sent> all;
  for (const File& file : manifest.files) all.push_back({&snapshot, file, file.path});
  int number = 0;
  for (std::string& layer : manifest.layers) {
    std::size_t slash = layer.find('/');
    if (slash == std::string::npos) continue;
    std::string as;
    do as = fmt::format("p{}", number++);
    while (std::any_of(all.begin(), all.end(), [&](const Sent& sent) { return sent.as == index_path(as); }));
    parents.push_back(store.get(layer.substr(0, slash)));
    all.push_back({&parents.back(), file_of(parents.back(), index_path(layer.substr(slash + 1))), index_path(as)});
    layer = as;
  }
  std::sort(all.begin(), all.end(), [](const Sent& a, const Sent& b) { return a.as < b.as; });
  manifest.files.clear();
  for (const Sent& sent : all) manifest.files.push_back({sent.as, sent.file.size, sent.file.sha256});

  files::TarWriter writer(sink);
  std::string text = sign(body_of(manifest), key ? *key : keys_of(store.directories()).current());
  writer.begin(plain(kManifest, text.size()));
  writer.data(text);
  writer.end();
  for (const Sent& sent : all) {
    writer.begin(plain(sent.as, sent.file.size));
    sent.from->send(sent.file, [&](std::string_view bytes) { writer.data(bytes); });
    writer.end();
  }
  for (const Sent& sent : all)
    if (sent.as.starts_with("layers/")) send_contents(sent, writer);
  writer.finish();
}

Snapshot import_snapshot(Store& store, const files::Source& source, const ImportOptions& options) {
  files::TarReader reader(source);
  Expected expected(reader);
  Manifest manifest = take_manifest(store, expected.text(kManifest, std::nullopt, kLargestManifest), options);
  Draft draft = store.draft();
  std::vector<std::pair<std::string, std::string>> indexes;  // name of the layer, text
  for (const File& file : manifest.files) {
    if (file.path.starts_with("layers/")) {
      indexes.emplace_back(layer_of(file.path), expected.text(file.path, file.size, kLargestIndex));
      if (sha256(indexes.back().second) != file.sha256)
        throw TarError(fmt::format("refused: {}: its SHA-256 is not that of the manifest", file.path));
    } else {
      Fd made = open_file(draft.path() + "/" + file.path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
      expected.into<Sha256>(made.get(), file.path, file.size, file.sha256);
    }
  }
  for (const auto& [layer, text] : indexes) {
    std::vector<IndexEntry> index;
    try {
      index = read_index(text);
    } catch (const std::runtime_error& error) {
      throw TarError(fmt::format("refused: layer {}: {}", layer, error.what()));
    }
    make_layer(index, open_file(draft.make_layer(layer), O_RDONLY | O_DIRECTORY), [&](const IndexEntry& entry, int fd) {
      expected.into<ContentHash>(fd, content_path(layer, static_cast<std::size_t>(&entry - index.data())), entry.size, entry.text);
    });
  }
  expected.end();
  manifest.automatic = false;
  std::string name = options.name.empty() ? manifest.name : options.name;
  return draft.publish(name, std::move(manifest));
}

}  // namespace runner::snapshot
