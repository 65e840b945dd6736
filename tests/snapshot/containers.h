// What the tests of checkpoint and restore share: a container that counts the lines it is given.
#pragma once

#include <functional>
#include <string>

#include "tests/kernel/live.h"

namespace tests {

inline Args counting() { return {"sh", "-c", "n=0; echo ready=1; while read word; do n=$((n+1)); echo $word $n; done"}; }

/// In the foreground, with pipes. It stays as an entry when it has ended.
struct Counter {
  Bundle bundle;
  Box box;
  Live live;
  std::string images;

  explicit Counter(const Args& command = counting(), const std::function<Args(Bundle&)>& prepare = nullptr)
      : bundle(command), live(started(prepare)), images(bundle / "images") {
    if (!live.await("ready=1")) throw std::runtime_error("the container does not start: " + live.err);
  }
  bool says(const std::string& word, const std::string& answer) {
    live.send(word + "\n");
    return live.await(answer);
  }
  Ran checkpoint(const Args& flags = {}, const How& how = {}) const {
    Args arguments{"checkpoint", "--image-path", images};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    arguments.push_back(box.id);
    return runner(arguments, how);
  }
  /// Afterwards the id is free.
  bool put_away(const Args& flags = {}) {
    Ran ran = checkpoint(flags);
    if (ran.code != 0) std::printf("checkpoint: %s\n", ran.err.c_str());
    return ran.code == 0 && live.wait() == 137 && box.status() == "stopped" && runner({"delete", box.id}).code == 0;
  }
  Args restoring(const std::string& id, const Args& flags = {}) const {
    Args arguments{"restore", "--image-path", images, "--bundle", bundle.path()};
    arguments.insert(arguments.end(), flags.begin(), flags.end());
    arguments.push_back(id);
    return runner_argv(arguments);
  }
  /// One that must fail.
  Ran restore(const Args& flags = {}, const How& how = {}) const {
    Args arguments = restoring(box.id, flags);
    return run(arguments, how);
  }

 private:
  Args started(const std::function<Args(Bundle&)>& prepare) {
    Args flags = prepare ? prepare(bundle) : Args();
    bundle.save();
    Args arguments{"run", "--keep", "-b", bundle.path(), box.id};
    arguments.insert(arguments.begin() + 1, flags.begin(), flags.end());
    return runner_argv(arguments);
  }
};

}  // namespace tests
