#include "runner/agent/told.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/agent/state.h"
#include "runner/events/reader.h"
#include "runner/events/verify.h"

namespace runner::agent {

namespace {

using json = nlohmann::json;

// The fields that name what an event is about. A generation or a step that was begun and not finished is begun again, and that is told.
struct Kind {
  std::string_view type;
  const char* fields[2];
};
constexpr Kind kOnce[] = {{"generation.finished", {"generation", nullptr}}, {"tool.call.started", {"call", nullptr}},  {"tool.call.finished", {"call", nullptr}},
                          {"delegate.started", {"call", nullptr}},          {"delegate.finished", {"call", nullptr}}, {"run.started", {"run", nullptr}},
                          {"run.ended", {"run", nullptr}},                  {"step.started", {"run", "step"}},         {"job.ended", {"job", nullptr}}};

std::string key_of(std::string_view type, const json& data) {
  for (const Kind& kind : kOnce) {
    if (kind.type != type) continue;
    std::string key(type);
    for (const char* field : kind.fields)
      if (field) key += " " + data.at(field).dump();
    return key;
  }
  return {};
}

// The fields of an event that may name it.
struct Collect {
  json& to;
  void operator()(const char* name, const std::string& value) const { to[name] = value; }
  void operator()(const char* name, const std::optional<std::string>& value) const {
    if (value) to[name] = *value;
  }
  void operator()(const char* name, std::uint64_t value) const { to[name] = value; }
  void operator()(const char* name, const std::optional<std::uint64_t>& value) const {
    if (value) to[name] = *value;
  }
  void operator()(const char*, const auto&) const {}
};

}  // namespace

std::string last_event(const std::string& log) {
  constexpr off_t kTail = 64 << 10;  // longer than any event with which a log may end
  isolate::sys::Fd file = isolate::sys::open_file(log, O_RDONLY | O_CLOEXEC);
  off_t size = isolate::sys::check(::lseek(file.get(), 0, SEEK_END), "look at {}", log);
  std::string tail(static_cast<std::size_t>(std::min(size, kTail)), '\0');
  tail.resize(static_cast<std::size_t>(isolate::sys::check(::pread(file.get(), tail.data(), tail.size(), size - static_cast<off_t>(tail.size())), "read {}", log)));
  while (!tail.empty() && tail.back() == '\n') tail.pop_back();
  return tail.substr(tail.rfind('\n') + 1);
}

bool is_last(const std::string& log, const std::string& type) { return last_event(log).find("\"type\":\"" + type + "\"") != std::string::npos; }

bool has_ended(const std::string& log) { return is_last(log, "job.ended") && !events::cut_uncovered(log); }

std::string told_once(const events::Event& event) {
  return std::visit(
      [](const auto& each) -> std::string {
        std::string_view type = std::decay_t<decltype(each)>::type;
        bool may = false;
        for (const Kind& kind : kOnce) may |= kind.type == type;
        if (!may) return {};
        json data = json::object();
        Collect collect{data};
        each.fields(collect);
        return key_of(type, data);
      },
      event);
}

Told read_told(const std::string& log) {
  Told told;
  if (is_last(log, "job.paused")) {
    told.paused = true;
    return told;
  }
  auto of_run = [&](const std::string& run) {
    // Calls and generations have numbers of their own, which never come again.
    std::erase_if(told.behind, [&](const std::string& key) {
      return key == "run.ended \"" + run + "\"" || key.starts_with("step.started \"" + run + "\" ") || key.starts_with("job.ended ");
    });
  };
  auto hear = [&](std::string_view line) {
    json event = json::parse(line);
    const json& data = event.at("data");
    std::string type = event.at("type");
    if (type == "checkpoint.saved") {
      told.checkpoint = checkpoint_name(data.at("seq"), data.at("checkpoint"));
      of_run(data.at("run"));
    } else if (std::string key = key_of(type, data); !key.empty() && data.value("result", "") != "runner-error") {
      told.behind.insert(key);  // a job that runner has failed may go on, and ends once more
    }
  };
  events::LogReader(log).read([&](std::string_view lines) {
    for (std::size_t at = 0, end; (end = lines.find('\n', at)) != std::string_view::npos; at = end + 1) hear(lines.substr(at, end - at));
  });
  return told;
}

}  // namespace runner::agent
