// runner-tools as it is, in a workspace of its own; and runner's end of it, among tool hosts that lie.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "isolate/sys/error.h"
#include "isolate/sys/fd.h"
#include "isolate/sys/file.h"
#include "runner/agent/tool_host.h"
#include "runner/agent/untrusted.h"

using namespace runner::agent;
using isolate::sys::check;
using isolate::sys::Fd;
using json = nlohmann::json;

namespace {

std::string program() {
  if (const char* path = ::getenv("RUNNER_TOOLS")) return path;
  const char* runner = ::getenv("RUNNER");
  if (!runner) return "";
  std::string path(runner);
  path = path.substr(0, path.rfind('/') + 1) + "runner-tools";
  return ::access(path.c_str(), X_OK) == 0 ? path : "";
}

bool skipped() {
  if (!program().empty()) return false;
  MESSAGE("skipped: RUNNER_TOOLS does not name the program, and there is none beside RUNNER");
  return true;
}

/// The program in a workspace that is removed with it.
class Program : public Channel {
 public:
  Program() {
    char name[] = "/tmp/runner-tools-test.XXXXXX";
    if (!::mkdtemp(name)) isolate::sys::fail(errno, "make a workspace");
    folder = name;
    top = folder + "/workspace";
    isolate::sys::make_dirs(top, 0755);
    put("../secret", "secret");
    int to[2], from[2], errors[2];
    for (int* pipe : {to, from, errors}) check(::pipe2(pipe, O_CLOEXEC), "make a pipe");
    to_ = Fd(to[1]), from_ = Fd(from[0]), errors_ = Fd(errors[0]);
    Fd in(to[0]), out(from[1]), log(errors[1]);
    std::string path = program();
    pid_ = check(::fork(), "fork");
    if (pid_ == 0) {
      ::dup2(in.get(), 0), ::dup2(out.get(), 1), ::dup2(log.get(), 2);
      ::execl(path.c_str(), path.c_str(), top.c_str(), nullptr);
      ::_exit(127);
    }
  }
  ~Program() override {
    if (pid_ > 0) ::kill(pid_, SIGKILL), ::waitpid(pid_, nullptr, 0);
    isolate::sys::remove_tree(folder);
  }

  void send(std::string_view bytes) override { isolate::sys::write_all(to_.get(), bytes); }
  std::optional<std::string> receive(std::uint64_t wait_ms) override {
    pollfd wait{from_.get(), POLLIN, 0};
    if (::poll(&wait, 1, static_cast<int>(wait_ms)) == 0) return std::nullopt;
    std::string bytes = read(from_);
    if (bytes.empty()) throw ServerGone("runner-tools has ended");
    return bytes;
  }

  /// Its exit status, once it has heard the end, and its last words.
  int end(std::string& words) {
    to_.close();
    int status = 0;
    for (std::string piece; !(piece = read(errors_)).empty();) words += piece;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return WEXITSTATUS(status);
  }

  std::string at(const std::string& path) const { return top + "/" + path; }
  void put(const std::string& path, const std::string& text) const { isolate::sys::replace_file(at(path), text, 0644); }
  std::string get(const std::string& path) const { return isolate::sys::find_file(at(path)).value_or("<none>"); }

  std::string folder, top;

 private:
  static std::string read(const Fd& fd) {
    std::string bytes(65536, '\0');
    ssize_t got = ::read(fd.get(), bytes.data(), bytes.size());
    bytes.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return bytes;
  }

  Fd to_, from_, errors_;
  pid_t pid_ = -1;
};

struct Tools {
  Program program;
  ToolHost host{program};
  int calls = 0;

  ToolResult result(const std::string& tool, const json& arguments) {
    return host.call("t" + std::to_string(++calls), tool, arguments.dump(), 30'000);
  }
  std::string ok(const std::string& tool, const json& arguments) {
    ToolResult done = result(tool, arguments);
    CHECK_MESSAGE(!done.is_error, std::get<Text>(done.content[0]).text);
    return std::get<Text>(done.content[0]).text;
  }
  std::string refused(const std::string& tool, const json& arguments) {
    ToolResult done = result(tool, arguments);
    CHECK_MESSAGE(done.is_error, std::get<Text>(done.content[0]).text);
    return std::get<Text>(done.content[0]).text;
  }
};

bool has(const std::string& text, std::string_view part) {
  bool found = text.find(part) != std::string::npos;
  CHECK_MESSAGE(found, text);
  return found;
}

/// A tool host of which only the words are known.
struct Liar : Channel {
  std::string words;
  std::uint64_t now = 0;
  bool again = false;  // for ever
  void send(std::string_view) override {}
  std::optional<std::string> receive(std::uint64_t wait_ms) override {
    now += again ? 10 : wait_ms;
    if (words.empty()) return std::nullopt;
    return again ? words : std::exchange(words, "");
  }
  ToolHost host() {
    return ToolHost(*this, [this] { return now; });
  }
};

std::string frame(const json& value) { return runner::tools::frame_of(value.dump()); }

std::string why_broken(const std::string& words) {
  Liar liar;
  liar.words = words;
  ToolHost host = liar.host();
  try {
    host.call("t1", "stat", "{}", 100);
  } catch (const ToolHostBroken& error) {
    CHECK_THROWS_AS(host.ack("t1"), ToolHostBroken);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_SUITE("agent tools") {
  TEST_CASE("a file is written with its folders, read, appended to and edited") {
    if (skipped()) return;
    Tools tools;
    CHECK(tools.host.hello() == 0);
    CHECK(tools.ok("write_file", {{"path", "a/b/c.txt"}, {"content", "one two two\n"}}) == "wrote 12 bytes to a/b/c.txt");
    CHECK(tools.program.get("a/b/c.txt") == "one two two\n");
    CHECK(tools.ok("read_file", {{"path", "a/b/c.txt"}}) == "one two two\n");
    CHECK(tools.ok("read_file", {{"path", tools.program.top + "/a//b/./c.txt"}}) == "one two two\n");
    CHECK(tools.ok("read_file", {{"path", "a/b/../b/c.txt"}}) == "one two two\n");
    CHECK(tools.ok("append_file", {{"path", "a/b/c.txt"}, {"content", "end"}}) == "appended 3 bytes to a/b/c.txt, which has 15 now");
    CHECK(tools.ok("append_file", {{"path", "new/log"}, {"content", "x"}}) == "appended 1 bytes to new/log, which has 1 now");
    has(tools.refused("edit_file", {{"path", "a/b/c.txt"}, {"old", "two"}, {"new", "2"}}), "occurs 2 times");
    has(tools.refused("edit_file", {{"path", "a/b/c.txt"}, {"old", "three"}, {"new", "3"}}), "does not occur");
    has(tools.refused("edit_file", {{"path", "a/b/c.txt"}, {"old", ""}, {"new", "3"}}), "empty");
    CHECK(tools.program.get("a/b/c.txt") == "one two two\nend");
    CHECK(tools.ok("edit_file", {{"path", "a/b/c.txt"}, {"old", "one"}, {"new", "1"}}) == "replaced 1 occurrence in a/b/c.txt");
    CHECK(tools.ok("edit_file", {{"path", "a/b/c.txt"}, {"old", "two"}, {"new", ""}, {"all", true}}) == "replaced 2 occurrences in a/b/c.txt");
    CHECK(tools.program.get("a/b/c.txt") == "1  \nend");
    CHECK(isolate::sys::list_dir(tools.program.at("a/b")) == std::vector<std::string>{"c.txt"});
  }

  TEST_CASE("a file that is replaced keeps its mode, and nothing else that has its name is replaced") {
    if (skipped()) return;
    Tools tools;
    tools.program.put("run.sh", "x");
    ::chmod(tools.program.at("run.sh").c_str(), 0750);
    tools.ok("write_file", {{"path", "run.sh"}, {"content", "y"}});
    struct stat info;
    REQUIRE(::stat(tools.program.at("run.sh").c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0750);
    REQUIRE(::symlink("run.sh", tools.program.at("link").c_str()) == 0);
    has(tools.refused("write_file", {{"path", "link"}, {"content", "z"}}), "is a symbolic link");
    tools.ok("make_dir", {{"path", "dir"}});
    has(tools.refused("write_file", {{"path", "dir"}, {"content", "z"}}), "is a directory");
    has(tools.refused("write_file", {{"path", "run.sh/x"}, {"content", "z"}}), "Not a directory");
    CHECK(tools.program.get("run.sh") == "y");
  }

  TEST_CASE("a long file is read in pieces, of whole characters, that say what is missing") {
    if (skipped()) return;
    Tools tools;
    std::string text;
    while (text.size() < 300'000) text += "aäöü€😀";
    tools.program.put("long", text);
    std::string all, piece = tools.ok("read_file", {{"path", "long"}});
    has(piece, "go on with offset 26214");
    for (std::size_t offset = 0; offset < text.size();) {
      piece = tools.ok("read_file", {{"path", "long"}, {"offset", offset}, {"limit", 10'001}});
      std::size_t note = piece.rfind("\n[bytes ");
      all += piece.substr(0, note);
      offset = all.size();
      if (piece.find("the end of the file", note) != std::string::npos) break;
    }
    CHECK(all == text);
    // From within a character: what is left of that one is not shown.
    CHECK(tools.ok("read_file", {{"path", "long"}, {"offset", 2}, {"limit", 4}}).find("öü\n[bytes 3 to 7 of") == std::string::npos);
    has(tools.ok("read_file", {{"path", "long"}, {"offset", 2}, {"limit", 5}}), "öü\n[bytes 3 to 7 of");
    has(tools.refused("read_file", {{"path", "long"}, {"offset", 9'000'000}}), "nothing at offset 9000000");
    CHECK(tools.ok("read_file", {{"path", "long"}, {"limit", 1u << 30}}).size() < kLongestText);
    tools.program.put("empty", "");
    CHECK(tools.ok("read_file", {{"path", "empty"}}) == "");
  }

  TEST_CASE("a binary file is told of and not shown") {
    if (skipped()) return;
    Tools tools;
    tools.program.put("nul", std::string("a\0b", 3));
    tools.program.put("latin", "caf\xe9 noir");
    CHECK(tools.ok("read_file", {{"path", "nul"}}) == "[nul is a binary file of 3 bytes, or not UTF-8; it is not shown]");
    has(tools.ok("read_file", {{"path", "latin"}}), "binary file of 9 bytes");
  }

  TEST_CASE("a directory is listed in order, with types and sizes, and not through links") {
    if (skipped()) return;
    Tools tools;
    tools.program.put("b.txt", "12345");
    isolate::sys::make_dirs(tools.program.at("a/deep"), 0755);
    tools.program.put("a/deep/x", "");
    REQUIRE(::symlink("/etc", tools.program.at("etc").c_str()) == 0);
    REQUIRE(::mkfifo(tools.program.at("fifo").c_str(), 0600) == 0);
    tools.program.put("new\nline", "");
    CHECK(tools.ok("list_dir", {{"path", "."}}) == "dir - a/\nfile 5 b.txt\nlink - etc -> /etc\nfifo - fifo\nfile 0 \"new\\x0aline\"");
    CHECK(tools.ok("list_dir", {{"path", "a"}, {"recursive", true}}) == "dir - deep/\nfile 0 deep/x");
    CHECK(tools.ok("list_dir", {{"path", "a/deep"}}) == "file 0 x");
    has(tools.ok("list_dir", json::object()), "b.txt");
    has(tools.refused("list_dir", {{"path", "etc"}}), "leads out of the workspace");
    has(tools.refused("list_dir", {{"path", "b.txt"}}), "Not a directory");
    for (int i = 0; i < 2500; ++i) Fd(::open(tools.program.at("a/deep/" + std::to_string(i)).c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
    std::string many = tools.ok("list_dir", {{"path", "a/deep"}});
    CHECK(std::count(many.begin(), many.end(), '\n') == 2000);
    has(many, "[and more: only 2000 entries are shown]");
  }

  TEST_CASE("a name is looked at, moved and deleted") {
    if (skipped()) return;
    Tools tools;
    tools.program.put("x", "123");
    has(tools.ok("stat", {{"path", "x"}}), "x is a regular file, 3 bytes, mode 644, changed 20");
    has(tools.ok("stat", {{"path", "."}}), ". is a directory");
    has(tools.refused("stat", {{"path", "y"}}), "stat: y: No such file or directory");
    tools.ok("move", {{"from", "x"}, {"to", "p/q/y"}});
    CHECK(tools.program.get("p/q/y") == "123");
    tools.program.put("z", "z");
    has(tools.refused("move", {{"from", "z"}, {"to", "p/q/y"}}), "exists already");
    has(tools.refused("move", {{"from", "nothing"}, {"to", "w"}}), "No such file");
    has(tools.refused("move", {{"from", "p"}, {"to", "p/q/r"}}), "below itself");
    has(tools.refused("delete", {{"path", "p"}}), "not empty; set 'recursive'");
    tools.ok("delete", {{"path", "p"}, {"recursive", true}});
    CHECK(tools.program.get("p/q/y") == "<none>");
    tools.ok("delete", {{"path", "z"}});
    has(tools.refused("delete", {{"path", "z"}}), "No such file");
    for (json path : {json("."), json(""), json("/"), json(tools.program.top), json(tools.program.top + "/"), json("a/.."), json("./"), json("..")})
      tools.refused("delete", {{"path", path}, {"recursive", true}});
    CHECK(tools.ok("make_dir", {{"path", "m/n"}}) == "made directory m/n");
    CHECK(tools.ok("make_dir", {{"path", "m/n"}}) == "directory m/n is there already");
    tools.ok("delete", {{"path", "m/n"}});
  }

  TEST_CASE("nothing outside the workspace can be named") {
    if (skipped()) return;
    Tools tools;
    Program& p = tools.program;
    isolate::sys::make_dirs(p.at("sub"), 0755);
    REQUIRE(::symlink("../secret", p.at("relative").c_str()) == 0);
    REQUIRE(::symlink((p.folder + "/secret").c_str(), p.at("absolute").c_str()) == 0);
    REQUIRE(::symlink("..", p.at("up").c_str()) == 0);
    REQUIRE(::symlink("/proc/self/root", p.at("magic").c_str()) == 0);
    REQUIRE(::symlink("loop", p.at("loop").c_str()) == 0);
    REQUIRE(::symlink("../new", p.at("dangling").c_str()) == 0);
    for (const std::string& path :
         {std::string("../secret"), p.folder + "/secret", std::string("sub/../../secret"), p.top + "/../secret", std::string("relative"),
          std::string("absolute"), std::string("up/secret"), std::string("magic/etc/passwd"), std::string("loop"), std::string("/etc/passwd"),
          p.top + "x/secret", std::string("sec\0ret", 7), std::string(5000, 'x'), std::string("/proc/self/environ")}) {
      CAPTURE(path);
      tools.refused("read_file", {{"path", path}});
      tools.refused("edit_file", {{"path", path}, {"old", "secret"}, {"new", "public"}});
      tools.refused("append_file", {{"path", path}, {"content", "!"}});
      tools.refused("list_dir", {{"path", path}});
    }
    for (const std::string& path :
         {std::string("../new"), p.folder + "/new", std::string("up/new"), std::string("sub/../../new"), std::string("up/new/deep")}) {
      CAPTURE(path);
      tools.refused("write_file", {{"path", path}, {"content", "x"}});
      tools.refused("append_file", {{"path", path}, {"content", "x"}});
      tools.refused("make_dir", {{"path", path}});
      tools.refused("move", {{"from", "sub"}, {"to", path}});
      tools.refused("move", {{"from", path}, {"to", "sub2"}});
      tools.refused("delete", {{"path", path}, {"recursive", true}});
      tools.refused("stat", {{"path", path}});
    }
    tools.refused("append_file", {{"path", "dangling"}, {"content", "x"}});
    tools.refused("make_dir", {{"path", "dangling"}});
    tools.refused("delete", {{"path", "up/secret"}});
    has(tools.refused("read_file", {{"path", "relative"}}), "leads out of the workspace");
    has(tools.refused("read_file", {{"path", "/etc/passwd"}}), "/etc/passwd is outside the workspace " + p.top);
    // A link itself may be looked at and deleted; what it names stays.
    has(tools.ok("stat", {{"path", "relative"}}), "a symbolic link to ../secret");
    tools.ok("delete", {{"path", "up"}, {"recursive", true}});
    CHECK(isolate::sys::list_dir(p.folder) == std::vector<std::string>{"secret", "workspace"});
    CHECK(p.get("../secret") == "secret");
    // Links that stay inside are followed.
    p.put("sub/inner", "inner");
    REQUIRE(::symlink("sub/inner", p.at("good").c_str()) == 0);
    CHECK(tools.ok("read_file", {{"path", "good"}}) == "inner");
  }

  TEST_CASE("a FIFO, a socket or a device neither blocks nor is read") {
    if (skipped()) return;
    Tools tools;
    REQUIRE(::mkfifo(tools.program.at("fifo").c_str(), 0600) == 0);
    has(tools.refused("read_file", {{"path", "fifo"}}), "is a FIFO, not a regular file");
    has(tools.refused("append_file", {{"path", "fifo"}, {"content", "x"}}), "FIFO");
    has(tools.refused("write_file", {{"path", "fifo"}, {"content", "x"}}), "is a FIFO, not a regular file");
    has(tools.refused("edit_file", {{"path", "fifo"}, {"old", "x"}, {"new", "y"}}), "FIFO");
    if (::mknod(tools.program.at("null").c_str(), S_IFCHR | 0600, 0x103) == 0) {
      has(tools.refused("write_file", {{"path", "null"}, {"content", "x"}}), "is a device");
      tools.refused("read_file", {{"path", "null"}});
    }
    has(tools.refused("read_file", {{"path", "."}}), "is a directory, not a regular file");
    has(tools.refused("append_file", {{"path", "."}, {"content", "x"}}), "the workspace itself");
  }

  TEST_CASE("wrong arguments are answered with what to give instead") {
    if (skipped()) return;
    Tools tools;
    CHECK(tools.refused("read_file", json::object()) == "read_file: read_file takes path, offset, limit; 'path' is a text, and is needed");
    has(tools.refused("read_file", {{"path", "x"}, {"offset", -1}}), "'offset' is a whole number from 0");
    has(tools.refused("edit_file", {{"path", "x"}, {"old", "a"}, {"new", "b"}, {"replace_all", true}}), "there is no argument 'replace_all'");
    has(tools.refused("read_file", {{"path", "x"}, {"pat", ""}}), "there is no argument 'pat'");
    has(tools.refused("delete", {{"path", "x"}, {"recursive", "yes"}}), "true or false");
    CHECK(tools.refused("format_disk", json::object()) == "there is no tool 'format_disk'");
    CHECK(tools.host.call("bad", "stat", "[1", 1000).is_error);
  }

  TEST_CASE("a call with a known id is not run twice, and not when its result is forgotten either") {
    if (skipped()) return;
    Tools tools;
    const std::string arguments = R"({"path":"log","content":"x"})";
    ToolResult first = tools.host.call("t17", "append_file", arguments, 5000);
    CHECK(tools.host.call("t17", "append_file", arguments, 5000) == first);
    CHECK(tools.program.get("log") == "x");
    CHECK(tools.host.hello() == 1);
    tools.host.ack("t17");
    tools.host.ack("never made");
    ToolResult late = tools.host.call("t17", "append_file", arguments, 5000);
    CHECK(late.is_error);
    has(std::get<Text>(late.content[0]).text, "was made before");
    CHECK(tools.program.get("log") == "x");
    tools.host.forget_all();
    tools.host.call("t17", "append_file", arguments, 5000);
    CHECK(tools.program.get("log") == "xx");
    CHECK(tools.host.hello() == 2);
  }

  TEST_CASE("a full journal refuses calls until some are acknowledged") {
    if (skipped()) return;
    Tools tools;
    tools.program.put("big", std::string(1'000'000, 'x'));
    // Frames as they are: 64 MiB of JSON need not be read as well.
    runner::tools::Frames frames;
    int full = 0;
    for (std::optional<std::string> answer; full < 100; ++full) {
      tools.program.send(frame(
          {{"kind", "call"}, {"id", "f" + std::to_string(full)}, {"tool", "read_file"}, {"arguments", {{"path", "big"}, {"limit", 1'000'000}}}}));
      while (!(answer = frames.next())) frames.add(tools.program.receive(30'000).value());
      if (answer->substr(0, 100).find(R"("ok":true)") == std::string::npos) break;
    }
    CHECK(full == 68);
    ToolResult refused = tools.host.call("more", "stat", R"({"path":"big"})", 5000);
    CHECK(refused.is_error);
    has(std::get<Text>(refused.content[0]).text, "wait to be acknowledged");
    CHECK(!tools.host.call("f3", "read_file", "{}", 5000).is_error);
    for (int i = 0; i < 5; ++i) tools.host.ack("f" + std::to_string(i));
    CHECK(!tools.host.call("more", "stat", R"({"path":"big"})", 5000).is_error);
  }

  TEST_CASE("what is not the protocol ends the program with 2 and a sentence") {
    if (skipped()) return;
    auto ends = [](const std::string& bytes) {
      Program program;
      std::string words;
      program.send(bytes);
      int status = program.end(words);
      CHECK_MESSAGE((status == 2 && words.find("runner-tools: a") == 0 && words.back() == '\n'), words);
      return words;
    };
    const std::string deep = std::string(100'000, '[') + std::string(100'000, ']');
    ends(frame("text"));
    ends(runner::tools::frame_of("no json"));
    ends(runner::tools::frame_of(""));
    ends(runner::tools::frame_of(R"({"kind":"call","id":"t1","tool":"stat","arguments":)" + deep + "}"));
    ends(std::string("\xff\xff\xff\xff", 4));
    ends(std::string("\x01\x00\x00\x01", 4));
    ends("ab");
    ends(std::string("\x10\x00\x00\x00{", 5));
    ends(frame({{"kind", "dance"}}));
    ends(frame({{"kind", "call"}, {"tool", "stat"}}));
    ends(frame({{"kind", "call"}, {"id", 7}, {"tool", "stat"}}));
    ends(frame({{"kind", "call"}, {"id", std::string(300, 'i')}, {"tool", "stat"}}));
    CHECK(ends(frame({{"kind", "call"}, {"id", "t"}})) == "runner-tools: a frame without the text 'tool'\n");
    Program program;
    std::string words;
    CHECK(program.end(words) == 0);
    CHECK(words.empty());
  }
}

TEST_SUITE("agent tool host") {
  TEST_CASE("a hostile tool host is an error with a reason, once and for all") {
    CHECK(why_broken("\xff\xff\xff\xff") == "the tool host sent a frame of more than 16777216 bytes");
    CHECK(why_broken(runner::tools::frame_of("{")) == "the tool host sent a frame with no JSON object");
    CHECK(why_broken(runner::tools::frame_of("")) == "the tool host sent an empty frame");
    CHECK(why_broken(runner::tools::frame_of(std::string(100'000, '['))) ==
          "the tool host sent a frame with lists or objects more than 64 deep within each other");
    CHECK(why_broken(frame({{"kind", "call"}})) == "the tool host sent something else than a result");
    CHECK(why_broken(frame({{"kind", "result"}, {"id", "t2"}, {"ok", true}, {"text", ""}})) ==
          "the tool host sent a result of a call that was not made: t2");
    CHECK(why_broken(frame({{"kind", "result"}, {"id", "t1"}, {"ok", 1}, {"text", ""}})) == "the tool host sent a result without 'ok' or 'text'");
    CHECK(why_broken(frame({{"kind", "result"}, {"id", "t1"}, {"ok", true}})) == "the tool host sent a result without 'ok' or 'text'");
    CHECK(why_broken(frame(json::array())) != "");
    for (const json& greeting : {json{{"kind", "hello"}, {"proto", 2}, {"last", 0}}, json{{"kind", "hello"}, {"proto", 1}},
                                 json{{"kind", "hello"}, {"proto", 1}, {"last", -1}}, json{{"kind", 7}}}) {
      Liar liar;
      liar.words = frame(greeting);
      CHECK_THROWS_AS(liar.host().hello(), ToolHostBroken);
    }
    Liar silent;
    CHECK_THROWS_AS(silent.host().hello(), ToolHostBroken);
  }

  TEST_CASE("a result that comes after the deadline is dropped, and so is one that comes twice") {
    Liar liar;
    ToolHost host = liar.host();
    ToolResult late = host.call("t1", "stat", "{}", 100);
    CHECK(late.is_error);
    CHECK(std::get<Text>(late.content[0]).text == "stat gave no result within 100 ms. It may take effect later.");
    std::string first = frame({{"kind", "result"}, {"id", "t1"}, {"ok", true}, {"text", "late"}});
    liar.words = first + first + frame({{"kind", "result"}, {"id", "t2"}, {"ok", false}, {"text", "no"}});
    ToolResult second = host.call("t2", "stat", "{}", 100);
    CHECK(second == ToolResult{"t2", true, {Text{"no"}}});
  }

  TEST_CASE("a greeting that an earlier runner asked for may come late") {
    Liar liar;
    ToolHost host = liar.host();
    std::string greeting = frame({{"kind", "hello"}, {"proto", 1}, {"last", 0}});
    liar.words = greeting + greeting;
    CHECK(host.hello() == 0);
    liar.words = frame({{"kind", "result"}, {"id", "t1"}, {"ok", true}, {"text", "yes"}});
    CHECK(host.call("t1", "stat", "{}", 100) == ToolResult{"t1", false, {Text{"yes"}}});
    liar.words = greeting;
    liar.again = true;
    CHECK(host.call("t2", "stat", "{}", 1000).is_error);
  }

  TEST_CASE("a flood of old results does not hide the deadline, and a long result is cut") {
    Liar liar;
    ToolHost host = liar.host();
    host.call("t1", "stat", "{}", 100);
    liar.words = frame({{"kind", "result"}, {"id", "t1"}, {"ok", true}, {"text", "late"}});
    liar.again = true;
    CHECK(host.call("t2", "stat", "{}", 1000).is_error);
    Liar long_winded;
    long_winded.words = frame({{"kind", "result"}, {"id", "t1"}, {"ok", true}, {"text", std::string(3u << 20, 'x')}});
    ToolResult cut = long_winded.host().call("t1", "read_file", "{}", 100);
    CHECK(std::get<Text>(cut.content[0]).text.size() < kLongestText + 200);
  }
}
