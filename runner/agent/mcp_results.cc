#include "runner/agent/mcp_results.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "runner/agent/untrusted.h"

namespace runner::agent {

using json = nlohmann::json;

namespace {

constexpr std::size_t kMostParts = 1000, kMostImages = 20;
constexpr std::size_t kLargestImage = 5u << 20;         // base64; providers refuse the whole conversation for a larger one
constexpr std::size_t kLongestRequestState = 1u << 20;  // it goes into checkpoints

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

std::string text_at(const json& object, const char* name) {
  auto at = object.is_object() ? object.find(name) : object.end();
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

// What every provider takes. Anything else would fail every later request of the conversation.
bool is_shown(const std::string& mime) { return mime == "image/png" || mime == "image/jpeg" || mime == "image/gif" || mime == "image/webp"; }

bool is_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return false;
  std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  text.remove_suffix(padding);
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/'; });
}

class Reader {
 public:
  explicit Reader(ToolResult& result) : result_(result) {}

  void read(const json& content) {
    std::size_t parts = 0;
    for (const json& part : content) {
      if (++parts > kMostParts) return text(fmt::format("[{} more parts are left out]", content.size() - kMostParts));
      if (left_ == 0 && cut_) return;
      read_part(part);
    }
  }

  void text(std::string_view part) {
    if (cut_) return;
    Text shown;
    cut_ = part.size() > left_;
    add_cut(shown.text, part, left_);
    result_.content.emplace_back(std::move(shown));
  }

 private:
  void read_part(const json& part) {
    std::string type = text_at(part, "type"), mime = cleaned(text_at(part, "mimeType"), 100);
    if (type == "text") return text(text_at(part, "text"));
    if (type == "image") return image(mime, text_at(part, "data"));
    if (type == "audio") return text(fmt::format("[audio of type '{}', {} bytes of base64, is not shown]", mime, text_at(part, "data").size()));
    if (type == "resource_link")
      return text(fmt::format("[resource '{}' at {}]", cleaned(text_at(part, "name")), cleaned(text_at(part, "uri"), 2000)));
    if (type == "resource" && part.contains("resource")) return resource(part["resource"]);
    text(fmt::format("[a part of type '{}' is not shown]", cleaned(type, 100)));
  }

  void image(const std::string& mime, std::string data) {
    if (!is_shown(mime) || !is_base64(data) || data.size() > kLargestImage || ++images_ > kMostImages)
      return text(fmt::format("[an image of type '{}', {} bytes of base64, is not shown]", mime, data.size()));
    result_.content.emplace_back(Image{mime, std::move(data)});
  }

  void resource(const json& resource) {
    std::string uri = cleaned(text_at(resource, "uri"), 2000);
    if (resource.is_object() && resource.contains("text")) return text(fmt::format("[resource {}]\n{}", uri, text_at(resource, "text")));
    text(fmt::format("[resource {} of type '{}', {} bytes of base64, is not shown]", uri, cleaned(text_at(resource, "mimeType"), 100),
                     text_at(resource, "blob").size()));
  }

  ToolResult& result_;
  std::size_t left_ = kLongestText, images_ = 0;
  bool cut_ = false;
};

CallOutcome read_input_required(const json& result) {
  InputRequired input;
  if (auto state = result.find("requestState"); state != result.end()) input.request_state = dump(*state);
  if (auto asked = result.find("inputRequests"); asked != result.end() && !asked->is_null()) {
    if (!asked->is_object()) return failed_call("The server asked for input, but not in a form that there is.");
    input.input_requests = dump(*asked);
  }
  if (input.request_state.size() > kLongestRequestState || input.input_requests.size() > kLongestText)
    return failed_call("The server asked for input with more text than is kept.");
  if (input.request_state.empty() && input.input_requests.empty()) return failed_call("The server asked for input, but did not say for which.");
  return {{}, input, false};
}

CallOutcome read_error(const json& error) {
  std::string text = "The server refused the call: ";
  std::size_t left = 10'000;
  add_cut(text, text_at(error, "message"), left);
  auto code = error.is_object() ? error.find("code") : error.end();
  if (code != error.end() && code->is_number_integer()) text += fmt::format(" (code {})", dump(*code));
  return failed_call(text);
}

}  // namespace

CallOutcome failed_call(std::string sentence) {
  CallOutcome outcome;
  outcome.result.is_error = true;
  outcome.result.content.emplace_back(Text{std::move(sentence)});
  return outcome;
}

CallOutcome read_call(std::string_view line, Era era) {
  json message = json::parse(line);
  if (auto error = message.find("error"); error != message.end() && !error->is_null()) return read_error(*error);
  const json& result = message["result"];
  if (!result.is_object()) return failed_call("The server answered the call with something that is no result.");
  if (era == Era::Modern && text_at(result, "resultType") == "input_required") return read_input_required(result);
  CallOutcome outcome;
  auto is_error = result.find("isError");
  outcome.result.is_error = is_error != result.end() && *is_error == true;
  Reader reader(outcome.result);
  auto content = result.find("content");
  if (content != result.end() && !content->is_array()) return failed_call("The server answered the call with content that is no list.");
  if (content != result.end() && !content->empty())
    reader.read(*content);
  else if (auto structured = result.find("structuredContent"); structured != result.end())
    reader.text(dump(*structured));
  return outcome;
}

}  // namespace runner::agent
