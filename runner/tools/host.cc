#include "runner/tools/host.h"

#include <fmt/format.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "runner/tools/files.h"
#include "runner/tools/listing.h"
#include "runner/tools/protocol.h"

namespace runner::tools {

using json = nlohmann::json;

namespace {

constexpr int kDeepest = 64;  // lists and objects within each other

json parse(std::string_view text) {
  auto within_limits = [](int depth, json::parse_event_t, json&) {
    if (depth > kDeepest) throw BadFrame(fmt::format("a frame with lists or objects more than {} deep within each other", kDeepest));
    return true;
  };
  json frame;
  try {
    frame = json::parse(text, within_limits);
  } catch (const json::exception&) {
    throw BadFrame(fmt::format("a frame of {} bytes that is no JSON", text.size()));
  }
  if (!frame.is_object()) throw BadFrame("a frame that is no JSON object");
  return frame;
}

std::string text_of(const json& frame, const char* name) {
  auto at = frame.find(name);
  if (at == frame.end() || !at->is_string()) throw BadFrame(fmt::format("a frame without the text '{}'", name));
  return at->get<std::string>();
}

std::string id_of(const json& frame) {
  std::string id = text_of(frame, "id");
  if (id.empty() || id.size() > kLongestId) throw BadFrame(fmt::format("an id that has not 1 to {} bytes", kLongestId));
  return id;
}

/// What a model gave a tool: every mistake is a sentence that tells it what to give instead.
class Arguments {
 public:
  Arguments(const std::string& tool, const json& given, std::string_view known) : tool_(tool), given_(given), known_(known) {
    if (!given.is_object()) throw Refused(fmt::format("the arguments of {} are an object with {}", tool, known));
    for (const auto& [name, value] : given.items())
      if (fmt::format(" {},", known).find(fmt::format(" {},", name)) == std::string::npos)
        throw Refused(fmt::format("{} takes {}; there is no argument '{}'", tool, known, name.substr(0, 100)));
  }

  std::string text(const char* name) const {
    const json* value = find(name);
    if (!value || !value->is_string()) wrong(name, "a text, and is needed");
    return value->get<std::string>();
  }
  std::string text(const char* name, const char* otherwise) const { return find(name) ? text(name) : otherwise; }
  std::uint64_t number(const char* name, std::uint64_t otherwise) const {
    const json* value = find(name);
    if (value && !value->is_number_unsigned()) wrong(name, "a whole number from 0");
    return value ? value->get<std::uint64_t>() : otherwise;
  }
  bool flag(const char* name) const {
    const json* value = find(name);
    if (value && !value->is_boolean()) wrong(name, "true or false");
    return value && value->get<bool>();
  }

 private:
  const json* find(const char* name) const {
    auto at = given_.find(name);
    return at == given_.end() || at->is_null() ? nullptr : &*at;
  }
  [[noreturn]] void wrong(const char* name, std::string_view what) const {
    throw Refused(fmt::format("{} takes {}; '{}' is {}", tool_, known_, name, what));
  }

  const std::string& tool_;
  const json& given_;
  std::string_view known_;
};

struct Tool {
  const char* arguments;
  std::function<std::string(const Workspace&, const Arguments&)> run;
};

const std::map<std::string, Tool, std::less<>> kTools{
    {"read_file",
     {"path, offset, limit",
      [](const Workspace& w, const Arguments& a) { return read_file(w, a.text("path"), a.number("offset", 0), a.number("limit", kUsualRead)); }}},
    {"write_file", {"path, content", [](const Workspace& w, const Arguments& a) { return write_file(w, a.text("path"), a.text("content")); }}},
    {"edit_file",
     {"path, old, new, all",
      [](const Workspace& w, const Arguments& a) { return edit_file(w, a.text("path"), a.text("old"), a.text("new"), a.flag("all")); }}},
    {"append_file", {"path, content", [](const Workspace& w, const Arguments& a) { return append_file(w, a.text("path"), a.text("content")); }}},
    {"list_dir", {"path, recursive", [](const Workspace& w, const Arguments& a) { return list_dir(w, a.text("path", "."), a.flag("recursive")); }}},
    {"stat", {"path", [](const Workspace& w, const Arguments& a) { return stat_path(w, a.text("path")); }}},
    {"move", {"from, to", [](const Workspace& w, const Arguments& a) { return move_path(w, a.text("from"), a.text("to")); }}},
    {"delete", {"path, recursive", [](const Workspace& w, const Arguments& a) { return delete_path(w, a.text("path"), a.flag("recursive")); }}},
    {"make_dir", {"path", [](const Workspace& w, const Arguments& a) { return make_dir(w, a.text("path")); }}},
};

std::string result(const std::string& id, bool ok, const std::string& text) {
  // File names need not be UTF-8.
  return json{{"kind", "result"}, {"id", id}, {"ok", ok}, {"text", text}}.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string run_tool(const Workspace& workspace, const std::string& id, const json& call) {
  std::string name = text_of(call, "tool");
  auto tool = kTools.find(name);
  if (tool == kTools.end()) return result(id, false, fmt::format("there is no tool '{}'", name.substr(0, 100)));
  try {
    json none = json::object();
    auto given = call.find("arguments");
    Arguments arguments(tool->first, given == call.end() ? none : *given, tool->second.arguments);
    return result(id, true, tool->second.run(workspace, arguments));
  } catch (const std::bad_alloc&) {
    return result(id, false, fmt::format("{}: there is not enough memory", name));
  } catch (const std::runtime_error& error) {  // Refused, SystemError
    return result(id, false, fmt::format("{}: {}", name, error.what()));
  }
}

}  // namespace

std::string Host::answer(std::string_view text) {
  json frame = parse(text);
  std::string kind = text_of(frame, "kind");
  if (kind == "hello") return json{{"kind", "hello"}, {"proto", kProtocol}, {"last", journal_.run()}}.dump();
  if (kind == "ack") {
    journal_.forget(id_of(frame));
  } else if (kind == "forget-all") {
    journal_.forget_all();
  } else if (kind == "call") {
    std::string id = id_of(frame);
    if (const std::string* known = journal_.find(id)) return *known;
    if (journal_.is_done(id)) return result(id, false, "the call was made before, and its result is forgotten");
    if (journal_.full())
      return result(id, false, fmt::format("the call was not made: results of more than {} bytes wait to be acknowledged", kLargestJournal));
    std::string answer = run_tool(workspace_, id, frame);
    journal_.add(id, answer);
    return answer;
  } else {
    throw BadFrame(fmt::format("a frame of an unknown kind ({} bytes)", kind.size()));
  }
  return {};
}

}  // namespace runner::tools
