// Files into a running session or container and out of it, as `docker cp` has it.
//
//   host side (this process)                     helper inside (isolate/enter.h)
//   packs SRC from the host      ── tar ──▶      resolves DST in the sandbox's root, unpacks there
//   unpacks below DST            ◀── tar ──      resolves SRC in the sandbox's root, packs it
//
// Neither side trusts the stream. On the host no symbolic link is followed at all, neither in SRC nor in DST: it may lie in a directory
// that the session can write to, and then the session chooses where the link leads.
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "isolate/sys/paths.h"
#include "runner/cli/inside.h"
#include "runner/files/tree.h"

namespace runner::cli {

using namespace isolate::sys;
using files::Note;
using files::Spot;
using files::TarEntry;

namespace {

struct Side {
  bool stream = false;     // "-"
  std::string id;          // empty: of the host
  std::string path;        // absolute, without "..", "." and slashes at the end
  std::string given;       // as it was written, for messages
  bool directory = false;  // it ended in "/" or "/."
  bool contents = false;   // it ended in "/.": what is in it, and not itself

  bool inside() const { return !id.empty(); }
  std::string name() const { return path.substr(path.rfind('/') + 1); }
  std::string parent() const { return path.substr(0, path.rfind('/') + 1); }
};

// A colon makes it a place inside, unless a path stands before it; docker's rule.
Side parse_side(const std::string& text) {
  Side side;
  side.given = text;
  if (text == "-") {
    side.stream = true;
    return side;
  }
  std::size_t colon = text.find(':');
  bool inside = colon != std::string::npos && text[0] != '/' && text[0] != '.' && text.find('/') > colon;
  std::string path = inside ? text.substr(colon + 1) : text;
  if (path.empty()) throw UsageError(fmt::format("cp: '{}' names no path", shown(text)));
  if (path.find('\0') != std::string::npos || path.size() > 4095)
    throw UsageError("cp: a path is longer than 4095 bytes");
  std::string last = path.substr(path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1);
  side.contents = last == ".";
  side.directory = last.empty() || last == "." || last == "..";
  if (inside) {
    side.id = text.substr(0, colon);
    check_id(side.id);
    side.path = clean_path(path);
  } else {
    std::string whole = path[0] == '/' ? path : std::filesystem::current_path().string() + "/" + path;
    side.path = clean_path(std::filesystem::path(whole).lexically_normal().string());
  }
  if (side.path == "/") side.contents = true;
  return side;
}

/// How paths of one side are looked up: links are followed below the sandbox's root, and never on the host.
struct Lookup {
  Fd root;
  Links links;

  static Lookup host() { return {open_dir("/"), Links::Refuse}; }
  static Lookup inside() { return {open_dir("/"), Links::InRoot}; }

  Fd find(const Side& side, const std::string& path) const try {
    return find_below(root.get(), path, links);
  } catch (const SystemError& error) {
    if (error.code() != ELOOP || links != Links::Refuse) throw;
    throw std::runtime_error(
        fmt::format("{} leads through a symbolic link, which is not followed, since a session may have put it there: "
                    "give the place itself (realpath tells it)",
                    side.given));
  }
  Fd open(const Side& side, const std::string& path) const {
    Fd found = find(side, path);
    if (!found) throw std::runtime_error(fmt::format("{}: there is no {}", side.given, path));
    return found;
  }
};

bool is_directory(const Fd& fd) {
  struct stat info;
  check(::fstat(fd.get(), &info), "look at descriptor {}", fd.get());
  return S_ISDIR(info.st_mode);
}

Spot source_spot(const Lookup& lookup, const Side& side) {
  if (side.contents || side.directory) {
    Fd dir = lookup.open(side, side.path);
    if (!is_directory(dir)) throw std::runtime_error(fmt::format("{} is not a directory", side.given));
    return {std::move(dir), "."};
  }
  Spot spot{lookup.open(side, side.parent()), side.name()};
  struct stat info;
  if (::fstatat(spot.dir.get(), spot.name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == -1)
    throw std::runtime_error(fmt::format("{}: {}", side.given, error_text(errno)));
  if (!S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode) && !S_ISLNK(info.st_mode))
    throw std::runtime_error(fmt::format("{} is a socket, pipe or device, which cannot be copied", side.given));
  return spot;
}

// docker's table of what goes where.
Spot landing(const Lookup& lookup, const Side& from, const Side& to, bool directory) {
  auto existing = [&]() -> Fd {
    if (to.path == "/") return lookup.open(to, "/");
    Fd parent = lookup.open(to, to.parent());
    if (!is_directory(parent))
      throw std::runtime_error(fmt::format("{}: {} is not a directory", to.given, to.parent()));
    return lookup.find(to, to.path);
  };
  Fd there = existing();
  if (there && is_directory(there)) {
    if (from.stream || (directory && from.contents)) return {std::move(there), ""};
    return {std::move(there), from.name()};
  }
  if (from.stream)
    throw std::runtime_error(fmt::format("{} must be a directory that exists, to take a tar stream", to.given));
  if (there && directory)
    throw std::runtime_error(fmt::format("a directory cannot be copied onto the file {}", to.given));
  if (there && to.directory) throw std::runtime_error(fmt::format("{} is not a directory", to.given));
  if (!there && to.directory && !directory)
    throw std::runtime_error(fmt::format("{}: there is no such directory", to.given));
  return {lookup.open(to, to.parent()), to.name()};
}

files::Source source_of(Stream& stream) {
  return [&stream](char* to, std::size_t size) { return stream.read(to, size); };
}
files::Sink sink_of(Stream& stream) {
  return [&stream](std::string_view bytes) { stream.write(bytes); };
}

void let_not_wait(int fd) { check(::fcntl(fd, F_SETFL, O_NONBLOCK), "make descriptor {} not wait", fd); }

struct Copy {
  Side from, to;
  bool archive = false;
  std::vector<std::string> notes;
  Note note = [this](const std::string& text) {
    if (notes.size() < 100) notes.push_back(text);
  };
};

// What the helper says is why the pipe broke, so its error goes before ours.
template <typename Work>
void with_helper(isolate::Helper& helper, Copy& copy, Fd& pipe, const Work& work) {
  try {
    work();
  } catch (const files::TarCutShort&) {
    pipe.close();
    helper.finish();
    throw;
  } catch (const SystemError& error) {
    if (error.code() != EPIPE) throw;
    pipe.close();
    helper.finish();
    throw;
  }
  pipe.close();
  for (std::string& text : helper.finish()) copy.notes.push_back(std::move(text));
}

void copy_in(const Target& target, Copy& copy) {
  Lookup host = Lookup::host();
  Spot from = copy.from.stream ? Spot() : source_spot(host, copy.from);
  auto [read, write] = wide_pipe();
  isolate::Place place = target.place();
  place.mounts = true;
  isolate::Helper helper(place, {read.get()}, [&](isolate::Report& report) {
    let_not_wait(read.get());
    Stream pipe(read.get(), place.pidfd, "the tar stream");
    files::TarReader reader(source_of(pipe));
    files::UnpackOptions options;
    options.keep_ids = copy.archive;
    Lookup inside = Lookup::inside();
    auto land = [&](bool directory) { return landing(inside, copy.from, copy.to, directory); };
    if (copy.from.stream) land(true);  // said before the first byte, which may be long in coming
    files::unpack(reader, land, options, [&](const std::string& text) { report.note(text); });
  });
  read.close();
  with_helper(helper, copy, write, [&] {
    Stream pipe(write.get(), -1, "the helper inside");
    if (!copy.from.stream) {
      files::TarWriter writer(sink_of(pipe));
      files::pack(from, ".", writer, copy.note);
      return;
    }
    Stream in(0, target.process.get(), "stdin");
    std::string bytes(256 << 10, '\0');
    for (std::size_t got; (got = in.read(bytes.data(), bytes.size())) > 0;) pipe.write({bytes.data(), got});
  });
}

// Checked and written anew, so that stdout gets nothing that somebody inside could have made up.
void pass_on(files::TarReader& reader, const std::string& name, bool contents) {
  Stream out(1, -1, "stdout");
  files::TarWriter writer(sink_of(out));
  std::string bytes(256 << 10, '\0');
  while (auto entry = reader.next()) {
    std::string path = contents ? "." : name;
    for (const std::string& part : files::components_of(entry->name)) path += "/" + part;
    entry->name = path;
    writer.begin(*entry);
    for (std::size_t got; (got = reader.data(bytes.data(), bytes.size())) > 0;) writer.data({bytes.data(), got});
    writer.end();
  }
  writer.finish();
  reader.drain();
}

void copy_out(const Target& target, Copy& copy) {
  Lookup host = Lookup::host();
  if (!copy.to.stream && !host.find(copy.to, copy.to.parent()))
    throw std::runtime_error(fmt::format("{}: there is no directory {}", copy.to.given, copy.to.parent()));
  auto [read, write] = wide_pipe();
  isolate::Place place = target.place();
  place.mounts = true;
  isolate::Helper helper(place, {write.get()}, [&](isolate::Report& report) {
    let_not_wait(write.get());
    Stream pipe(write.get(), place.pidfd, "the tar stream");
    files::TarWriter writer(sink_of(pipe));
    files::pack(source_spot(Lookup::inside(), copy.from), ".", writer,
                [&](const std::string& text) { report.note(text); });
  });
  write.close();
  with_helper(helper, copy, read, [&] {
    Stream pipe(read.get(), -1, "the tar stream");
    files::TarReader reader(source_of(pipe));
    if (copy.to.stream) return pass_on(reader, copy.from.name(), copy.from.contents);
    files::UnpackOptions options;
    options.keep_ids = copy.archive;  // never a set-user-id bit: its owner here would be somebody else
    files::unpack(
        reader, [&](bool directory) { return landing(host, copy.from, copy.to, directory); }, options, copy.note);
  });
}

}  // namespace

int cp_main(Context& context) {
  Copy copy;
  Options options("cp",
                  "Copy files into a session or container, or out of it: runner cp [-a] SRC DST, where one of both is "
                  "ID:PATH and the "
                  "other a path of the host, or - for a tar stream.");
  options.flag("-a,--archive", copy.archive, "keep user and group ids as they are");
  std::vector<std::string> arguments = context.parse(options);
  if (arguments.size() != 2) throw UsageError("cp: takes SRC and DST");
  copy.from = parse_side(arguments[0]);
  copy.to = parse_side(arguments[1]);
  if (copy.from.inside() && copy.to.inside())
    throw UsageError("cp: both sides lie in a sandbox; copy by way of the host");
  if (!copy.from.inside() && !copy.to.inside()) throw UsageError("cp: neither side is ID:PATH, so no sandbox is meant");
  Target target = find_target(context, copy.from.inside() ? copy.from.id : copy.to.id, "cp");
  ::signal(SIGPIPE, SIG_IGN);
  try {
    copy.from.inside() ? copy_out(target, copy) : copy_in(target, copy);
  } catch (const std::exception& error) {
    throw std::runtime_error("cp: " + printable(error.what()));
  }
  for (const std::string& text : copy.notes) report_warning(context.globals, "cp: " + printable(text));
  return copy.notes.empty() ? 0 : 1;
}

}  // namespace runner::cli
