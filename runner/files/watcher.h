// A directory tree that is watched by inotify(7), with what inotify leaves to its user: what was made in a new directory before its watch
// was in place, renames of watched directories, and a queue that has overflown. So it keeps in mind what it has told of each name.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "isolate/sys/fd.h"

namespace runner::files {

struct Change {
  enum class Kind : char { Ready = 'y', Create = 'c', Modify = 'm', Delete = 'd', Rename = 'r', Overflow = 'o' };
  Kind kind = Kind::Ready;
  std::string path, to;  // below the watched directory; `to` of a rename
  bool directory = false;
};

struct WatchOptions {
  bool recursive = false;
  // Without a slash a pattern means the last name, else all of the path below the directory. What is excluded is not looked into either.
  std::vector<std::string> include, exclude;
};

class Watcher {
 public:
  /// `emit` may be slow: the kernel queues meanwhile, and an overflow is told and made good.
  Watcher(isolate::sys::Fd directory, WatchOptions options, std::function<void(const Change&)> emit);

  int fd() const { return inotify_.get(); }  ///< readable when there is something to do
  void start();                              ///< ends with Ready: nothing is missed from then on
  /// All that waits. False when the directory itself is gone.
  bool read();
  /// A rename's first half waits for its second, which follows at once if there is one: to be called when fd() is silent.
  bool half() const { return half_.cookie != 0; }
  void flush();

 private:
  struct Node;
  struct Known {
    ino_t inode = 0;
    mode_t mode = 0;
    off_t size = 0;
    timespec mtime{};
    std::unique_ptr<Node> node;  // of a directory that is watched
  };
  struct Node {
    Node* parent = nullptr;
    std::string name;
    int watch = -1;
    std::map<std::string, Known> known;
  };
  struct Half {
    std::uint32_t cookie = 0;
    std::string path;
    bool directory = false;
    Known known;
  };

  std::string path_of(const Node& node, const std::string& name) const;
  bool excluded(const std::string& path) const;
  void tell(Change::Kind kind, const std::string& path, bool directory, const std::string& to = {});
  void watch(Node& node);
  void watch_parent();
  bool removed() const;
  void compare(Node& node, bool told);  // with the disk
  void appear(Node& node, const std::string& name, const struct stat& info, bool told);
  void forget(Known& known);
  void vanish(Node& node, const std::string& name);
  bool look(const Node& node, const std::string& name, struct stat& info) const;
  bool event(int watch, std::uint32_t mask, std::uint32_t cookie, const std::string& name);
  void arrive(Node& node, const std::string& name, std::uint32_t cookie);
  void change(Node& node, const std::string& name, bool content);

  isolate::sys::Fd directory_, inotify_;
  WatchOptions options_;
  std::function<void(const Change&)> emit_;
  Node root_;
  std::unordered_map<int, Node*> watches_;
  Half half_;
  int parent_watch_ = -1;
  std::map<std::string, bool> modified_;  // told in this batch of events: all that they tell of happened before
};

}  // namespace runner::files
