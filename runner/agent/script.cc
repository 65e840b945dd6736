#include "runner/agent/script.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace runner::agent {

using json = nlohmann::json;

namespace {

void read_answer(const json& j, const std::string& at, Script& to, Diagnostics& wrong, const std::string& path) {
  Scripted answer;
  Message& message = answer.completion.message;
  message.role = Role::Assistant;
  if (!j.is_object()) return wrong.add({path}, "{} is no object", at);
  for (const auto& [name, value] : j.items()) {
    if (name == "expert" && value.is_string()) answer.expert = value;
    else if (name == "when" && value.is_string()) answer.when = value;
    else if (name == "repeat" && value.is_number_unsigned() && value > 0) answer.repeat = value;
    else if (name == "text" && value.is_string()) message.parts.insert(message.parts.begin(), Text{value});
    else if (name == "usage" && value.is_object()) {
      answer.completion.usage.input = value.value("input", std::uint64_t{0});
      answer.completion.usage.output = value.value("output", std::uint64_t{0});
    } else if (name == "fail" && value.is_object() && value.value("status", 0) > 0) {
      answer.fail_status = value.at("status");
      answer.fail_times = value.value("times", 1u);
    } else if (name == "calls" && value.is_array()) {
      for (const json& call : value) {
        if (!call.is_object() || !call.contains("name") || !call.at("name").is_string()) {
          wrong.add({path}, "{}/calls: each is an object with a name, and arguments", at);
          continue;
        }
        const json arguments = call.contains("arguments") ? call.at("arguments") : json::object();
        message.parts.emplace_back(ToolCall{"", call.at("name"), arguments.is_string() ? arguments.get<std::string>() : arguments.dump()});
      }
    } else {
      wrong.add({path}, "{}/{} is not known, or is not of its type (see runner/agent/script.h)", at, name);
    }
  }
  bool calls = std::any_of(message.parts.begin(), message.parts.end(), [](const Part& part) { return std::holds_alternative<ToolCall>(part); });
  answer.completion.stop = calls ? Stop::ToolCalls : Stop::Done;
  to.push_back(std::move(answer));
}

class ScriptProvider : public Provider {
 public:
  ScriptProvider(const Script& script, const Run& run) : script_(script), expert_(run.expert), given_(run.step) {}

  std::variant<Completion, Failure> generate(const Request& request, const Progress& progress) override {
    std::uint64_t at = 0;
    const Scripted* answer = nullptr;
    std::string newest = request.messages.empty() ? "" : encode(request.messages.back());
    for (const Scripted& each : script_) {
      if (!each.expert.empty() && each.expert != expert_) continue;
      at += each.repeat;
      if (at <= given_) continue;
      if (!each.when.empty() && newest.find(each.when) == std::string::npos) {
        given_ = at;  // passed over
        continue;
      }
      answer = &each;
      break;
    }
    if (answer && failed_ < answer->fail_times) {
      ++failed_;
      Failure failure;
      failure.trouble = answer->fail_status >= 500 || answer->fail_status == 429 ? Trouble::Transient : Trouble::Permanent;
      failure.status = answer->fail_status;
      failure.reason = "the script says so";
      return failure;
    }
    failed_ = 0;
    ++given_;
    Completion completion;
    completion.message.role = Role::Assistant;
    if (answer) completion = answer->completion;
    unsigned number = 0;
    for (Part& part : completion.message.parts) {
      if (auto* call = std::get_if<ToolCall>(&part)) call->id = "call_" + std::to_string(given_) + "_" + std::to_string(++number);
      if (auto* text = std::get_if<Text>(&part)) progress.text(text->text);
    }
    return completion;
  }

 private:
  const Script& script_;
  std::string expert_;
  std::uint64_t given_;
  unsigned failed_ = 0;
};

}  // namespace

Script read_script(const std::string& path, const std::string& text, Diagnostics& wrong) {
  Script script;
  json j;
  try {
    j = json::parse(text);
  } catch (const json::exception& error) {
    wrong.add({path}, "is no JSON: {}", error.what());
    return script;
  }
  if (!j.is_object() || j.value("version", json()) != 1 || !j.contains("answers") || !j.at("answers").is_array()) {
    wrong.add({path}, R"(a script is {{"version":1,"answers":[...]}})");
    return script;
  }
  std::size_t number = 0;
  for (const json& answer : j.at("answers")) read_answer(answer, "/answers/" + std::to_string(number++), script, wrong, path);
  return script;
}

Script default_script() {
  Diagnostics none;
  return read_script("", R"JSON({"version":1,"answers":[
    {"text":"I look at the workspace first.","calls":[{"name":"list_dir","arguments":{"path":".","recursive":true}}]},
    {"calls":[{"name":"complete","arguments":{"result":"I have seen the files of the workspace. (This answer comes from the built-in script: choose a provider for more.)"}}]}]})JSON",
                     none);
}

std::unique_ptr<Provider> script_provider(const Script& script, const Run& run) { return std::make_unique<ScriptProvider>(script, run); }

}  // namespace runner::agent
