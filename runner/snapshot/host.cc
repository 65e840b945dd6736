// What a process image depends on besides its own files: the CPU, and the programs and libraries that it maps.
#include <elf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "isolate/sys/error.h"
#include "isolate/sys/fd.h"
#include "runner/events/verify.h"
#include "runner/snapshot/digest.h"
#include "runner/snapshot/manifest.h"

namespace runner::snapshot {

using namespace isolate::sys;

namespace {

constexpr std::size_t kLargestNotes = 64 << 10, kMostHeaders = 256;

std::vector<std::string> words_of(std::string_view text) {
  std::istringstream in{std::string(text)};
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(std::move(word));
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  return words;
}

// All of it, or nothing: a file that is no good ELF has no build id.
bool read_at(int fd, void* to, std::size_t size, std::uint64_t at) {
  return at <= std::uint64_t{1} << 62 && ::pread(fd, to, size, static_cast<off_t>(at)) == static_cast<ssize_t>(size);
}

std::string build_id_in(std::string_view notes) {
  auto padded = [](std::uint64_t size) { return (size + 3) & ~std::uint64_t{3}; };
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    Elf64_Nhdr note;  // of both classes
    std::memcpy(&note, notes.data(), sizeof note);
    std::uint64_t value = sizeof note + padded(note.n_namesz), end = value + padded(note.n_descsz);
    if (value + note.n_descsz > notes.size()) break;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
        std::memcmp(notes.data() + sizeof note, "GNU", 4) == 0 && note.n_descsz >= 1 && note.n_descsz <= 64)
      return events::hex(notes.substr(value, note.n_descsz));
    notes.remove_prefix(std::min<std::uint64_t>(end, notes.size()));
  }
  return {};
}

template <typename Header, typename Segment>
std::string build_id_of(int fd) {
  Header header;
  if (!read_at(fd, &header, sizeof header, 0) || header.e_phentsize != sizeof(Segment) || header.e_phnum > kMostHeaders)
    return {};
  std::vector<Segment> segments(header.e_phnum);
  if (!read_at(fd, segments.data(), segments.size() * sizeof(Segment), header.e_phoff)) return {};
  for (const Segment& each : segments) {
    if (each.p_type != PT_NOTE || each.p_filesz > kLargestNotes) continue;
    std::string notes(each.p_filesz, '\0');
    if (!read_at(fd, notes.data(), notes.size(), each.p_offset)) continue;
    if (std::string id = build_id_in(notes); !id.empty()) return id;
  }
  return {};
}

std::string build_id(int fd) {
  unsigned char ident[EI_NIDENT];
  constexpr unsigned char kOwnOrder = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
  if (!read_at(fd, ident, sizeof ident, 0) || std::memcmp(ident, ELFMAG, SELFMAG) != 0 || ident[EI_DATA] != kOwnOrder)
    return {};
  if (ident[EI_CLASS] == ELFCLASS64) return build_id_of<Elf64_Ehdr, Elf64_Phdr>(fd);
  if (ident[EI_CLASS] == ELFCLASS32) return build_id_of<Elf32_Ehdr, Elf32_Phdr>(fd);
  return {};
}

}  // namespace

std::string cpu_features() {
  // The file has some 3 KB for each of perhaps hundreds of CPUs; the first one's are enough.
  Fd file(check(::open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC), "open /proc/cpuinfo"));
  std::string text;
  char bytes[4096];
  for (ssize_t got; text.size() < 4 * sizeof bytes && (got = ::read(file.get(), bytes, sizeof bytes)) > 0;) {
    text.append(bytes, static_cast<std::size_t>(got));
    for (const char* name : {"flags\t", "Features\t"}) {  // x86; ARM
      std::size_t at = text.find(name);
      std::size_t colon = at == std::string::npos ? at : text.find(':', at), end = text.find('\n', colon);
      if (colon == std::string::npos || end == std::string::npos) continue;
      return fmt::format("{}", fmt::join(words_of(std::string_view(text).substr(colon + 1, end - colon - 1)), " "));
    }
  }
  return {};
}

std::string cpu_difference(std::string_view snapshot, std::string_view here) {
  std::vector<std::string> theirs = words_of(snapshot), ours = words_of(here), missing, more;
  std::set_difference(theirs.begin(), theirs.end(), ours.begin(), ours.end(), std::back_inserter(missing));
  std::set_difference(ours.begin(), ours.end(), theirs.begin(), theirs.end(), std::back_inserter(more));
  for (std::string& word : missing) word = "-" + word;
  for (const std::string& word : more) missing.push_back("+" + word);
  return fmt::format("{}", fmt::join(missing, " "));
}

Manifest manifest_of_this_host() {
  utsname host;
  check(::uname(&host), "ask for the kernel's version");
  Manifest manifest;
  manifest.kernel = host.release;
  manifest.machine = host.machine;
  manifest.cpu = cpu_features();
  manifest.runner_version = RUNNER_VERSION;
  return manifest;
}

Mapped describe_mapped(int fd, const std::string& path) {
  struct stat info;
  check(::fstat(fd, &info), "look at {}", path);
  Mapped mapped{path, static_cast<std::uint64_t>(info.st_size), build_id(fd), {}};
  if (mapped.build_id.empty()) mapped.sha256 = digest_file(fd, path).sha256;
  return mapped;
}

}  // namespace runner::snapshot
