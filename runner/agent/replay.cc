#include "runner/agent/replay.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "isolate/sys/file.h"
#include "runner/agent/store.h"
#include "runner/events/reader.h"

namespace runner::agent {

using json = nlohmann::json;
using namespace isolate::sys;

namespace {

std::string first_difference(const json& was, const json& is, const std::string& at) {
  json patch = json::diff(was, is);
  return patch.empty() ? "" : at + patch.at(0).at("path").get<std::string>();
}

class ReplayProvider : public Provider {
 public:
  ReplayProvider(const Recording& recording, const Run& run) : recording_(recording), run_(run.id), given_(run.generations) {}

  std::variant<Completion, Failure> generate(const Request& request, const Progress& progress) override {
    std::string key = fmt::format("{}/{}", run_, given_ + 1);
    auto found = recording_.generations.find(key);
    if (found == recording_.generations.end()) return failure(fmt::format("the recording has no generation {} of run {}", given_ + 1, run_));
    const Recorded& recorded = found->second;
    std::string where = first_difference(json::parse(recorded.head), json::parse(canonical_head(request)), "");
    if (where.empty()) {
      json is = json::array();
      for (std::size_t i = recorded.first_message; i < request.messages.size(); ++i) is.push_back(json::parse(encode(request.messages[i])));
      where = first_difference(json::parse(recorded.messages), is, fmt::format("/messages[{}..]", recorded.first_message));
    }
    if (!where.empty()) return failure(fmt::format("generation {} of run {} differs from the recorded one at {}", given_ + 1, run_, where));
    ++given_;
    for (const Part& part : recorded.completion.message.parts)
      if (auto* text = std::get_if<Text>(&part)) progress.text(text->text);
    return recorded.completion;
  }

 private:
  static Failure failure(std::string reason) {
    Failure f;
    f.trouble = Trouble::Permanent;
    f.reason = "replay: " + std::move(reason);
    return f;
  }
  const Recording& recording_;
  std::string run_;
  std::uint64_t given_;
};

}  // namespace

Recording load_recording(const std::string& folder) {
  Store store(folder);
  if (!store.head()) throw std::runtime_error(fmt::format("{} holds no job that could be replayed", folder));
  Recording recording;
  for (const std::string& name : list_dir(store.file("exchanges"))) {
    if (!name.ends_with(".json")) continue;
    json j = json::parse(read_file(store.file("exchanges/" + name), 256u << 20));
    const json& head = j.at("request").at("head");
    Recorded recorded{j.at("request_sha256"), head.is_string() ? head.get<std::string>() : read_file(store.file("blobs/" + head.at("ref").at("sha256").get<std::string>())),
                      j.at("request").at("first_message"), j.at("request").at("messages").dump(), decode_completion(j.at("completion").dump())};
    recording.generations[fmt::format("{}/{}", j.at("run").get<std::string>(), j.at("generation").get<std::uint64_t>())] = std::move(recorded);
  }
  Journal journal(store.file("journal"));
  for (const JournalLine& line : journal.before())
    if (line.kind == 'R') recording.results[line.key] = line.rest;
  events::LogReader(store.file("events.ndjson")).read([&](std::string_view lines) {
    for (std::size_t at = 0, end; (end = lines.find('\n', at)) != std::string_view::npos; at = end + 1) {
      std::string_view line = lines.substr(at, end - at);
      if (line.find(R"("type":"tool.call.finished")") == std::string_view::npos) continue;
      json event = json::parse(line);
      recording.told[event.at("data").at("call").get<std::string>()] = event.at("data").dump();
    }
  });
  return recording;
}

std::optional<ToolEnd> recorded_end(const Recording& recording, const std::string& call) {
  auto result = recording.results.find(call);
  auto told = recording.told.find(call);
  if (result == recording.results.end() || told == recording.told.end()) return std::nullopt;
  ToolEnd end;
  end.result = decode_result(result->second);
  json data = json::parse(told->second);
  auto read = [&](const char* name, auto& to) {
    if (data.contains(name)) to = data.at(name).get<typename std::decay_t<decltype(to)>::value_type>();
  };
  read("exit", end.exit), read("signal", end.signal), read("result", end.verdict), read("reason", end.reason);
  read("cpu_us", end.cpu_us), read("memory_peak", end.memory_peak);
  if (data.contains("evidence")) end.evidence = events::Evidence{data.at("evidence").at("source"), data.at("evidence").at("counter")};
  return end;
}

std::unique_ptr<Provider> replay_provider(const Recording& recording, const Run& run) { return std::make_unique<ReplayProvider>(recording, run); }

}  // namespace runner::agent
