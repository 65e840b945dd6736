#include "isolate/sys/mount.h"

#include <fcntl.h>

#include <sstream>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace isolate::sys {

namespace {

// "e overlay: upper fs is read-only\n" -> "overlay: upper fs is read-only"
std::string kernel_message(int context) {
  char text[512];
  ssize_t got = ::read(context, text, sizeof text);
  if (got < 3) return {};
  std::string message(text + 2, static_cast<std::size_t>(got) - 2);
  while (!message.empty() && message.back() == '\n') message.pop_back();
  return message;
}

[[noreturn]] void refuse(int context, const std::string& type, const std::string& step) {
  int code = errno;
  std::string message = kernel_message(context);
  throw_system_error(code, fmt::format("mount {}: {}{}{}", type, step, message.empty() ? "" : ": ", message), {});
}

// "\040" is how mountinfo writes a space.
std::string unescape(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\' || i + 3 >= text.size()) plain += text[i];
    else plain += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8)), i += 3;
  }
  return plain;
}

}  // namespace

Fd new_mount(const std::string& type, const std::string& source, const FsOptions& options, unsigned attributes, const FsDescriptors& descriptors) {
  Fd context(check(::fsopen(type.c_str(), FSOPEN_CLOEXEC), "open file system type {}", type));
  if (!source.empty() && ::fsconfig(context.get(), FSCONFIG_SET_STRING, "source", source.c_str(), 0) == -1)
    refuse(context.get(), type, "source");
  for (const auto& [key, value] : options) {
    int result = value.empty() ? ::fsconfig(context.get(), FSCONFIG_SET_FLAG, key.c_str(), nullptr, 0)
                               : ::fsconfig(context.get(), FSCONFIG_SET_STRING, key.c_str(), value.c_str(), 0);
    if (result == -1) refuse(context.get(), type, value.empty() ? key : key + "=" + value);
  }
  for (const auto& [key, fd] : descriptors)
    if (::fsconfig(context.get(), FSCONFIG_SET_FD, key.c_str(), nullptr, fd) == -1) refuse(context.get(), type, key);
  if (::fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) == -1) refuse(context.get(), type, "create");
  int mount = ::fsmount(context.get(), FSMOUNT_CLOEXEC, attributes);
  if (mount == -1) refuse(context.get(), type, "mount");
  return Fd(mount);
}

Fd copy_mount(int dir, const std::string& path, bool recursive) {
  unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (path.empty() ? AT_EMPTY_PATH : 0) | (recursive ? AT_RECURSIVE : 0);
  return Fd(check(::open_tree(dir, path.c_str(), flags), "copy the mount at {}", path));
}

void set_mount(int fd, std::uint64_t set, std::uint64_t clear, bool recursive, std::uint64_t propagation, int id_map) {
  mount_attr attributes{};
  attributes.attr_set = set;
  attributes.attr_clr = clear;
  attributes.propagation = propagation;
  if (id_map >= 0) {
    attributes.attr_set |= MOUNT_ATTR_IDMAP;
    attributes.userns_fd = static_cast<std::uint64_t>(id_map);
  }
  check(::mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0), &attributes, sizeof attributes),
        "{} a mount", id_map >= 0 ? "id-map" : "set the attributes of");
}

void set_propagation(int fd, std::uint64_t propagation) {
  if (propagation) set_mount(fd, 0, 0, propagation & MS_REC, propagation & ~std::uint64_t{MS_REC});
}

void attach_mount(int mount, int target, const std::string& name) {
  check(::move_mount(mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH), "attach a mount at {}", name);
}

// ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS [TAGS...] - TYPE SOURCE SUPER-OPTIONS
std::vector<MountEntry> mount_table(pid_t pid) {
  std::istringstream lines(read_file(pid ? fmt::format("/proc/{}/mountinfo", pid) : "/proc/self/mountinfo"));
  std::vector<MountEntry> table;
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string id, parent, device, root, at, word, type, source, options;
    words >> id >> parent >> device >> root >> at;
    while (words >> word && word != "-") {
    }
    words >> type >> source >> options;
    table.push_back({unescape(root), unescape(at), type, options});
  }
  return table;
}

}  // namespace isolate::sys
