#include "runner/code/answers.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace runner::code {

using json = nlohmann::ordered_json;

namespace {

json parse_json(std::string_view line) {
  // Writing and destroying a value recurse: what is deeper than this is refused while it is read.
  auto within_limits = [values = std::size_t{0}](int depth, json::parse_event_t, json&) mutable {
    if (depth > kDeepest)
      throw BadAnswer(fmt::format("lists or objects more than {} deep within each other", kDeepest));
    if (++values > 2 * kMostValues)
      throw BadAnswer(fmt::format("more than {} values", kMostValues));  // a list or object counts twice
    return true;
  };
  try {
    return json::parse(line, within_limits);
  } catch (const json::exception&) {
    throw BadAnswer(fmt::format("{} bytes that are no JSON", line.size()));
  }
}

std::string text_of(const json& object, const char* name) {
  auto at = object.find(name);
  if (at == object.end() || !at->is_string()) throw BadAnswer(fmt::format("no text '{}'", name));
  return at->get<std::string>();
}

std::uint64_t number_of(const json& object, const char* name) {
  auto at = object.find(name);
  if (at == object.end() || !at->is_number_unsigned()) throw BadAnswer(fmt::format("no number '{}'", name));
  return at->get<std::uint64_t>();
}

bool holds_json(const std::string& mime) {
  return mime == "application/json" || mime.ends_with("+json") || mime == "truncated";
}

void read_results(const json& list, Done& done) {
  if (!list.is_array() || list.size() > kMostResults)
    throw BadAnswer(fmt::format("no list of at most {} results", kMostResults));
  for (const json& bundle : list) {
    if (!bundle.is_object()) throw BadAnswer("a result that is no MIME bundle");
    for (const auto& [mime, value] : bundle.items())
      if (!value.is_string() && !holds_json(mime)) throw BadAnswer("a result whose value is no text");
    if (bundle.contains("text/plain")) done.texts.push_back(bundle["text/plain"].get<std::string>());
  }
  done.results = list.dump(-1, ' ', true);
}

Status status_of(const std::string& word) {
  if (word == "ok") return Status::Ok;
  if (word == "error") return Status::Error;
  if (word == "interrupted") return Status::Interrupted;
  throw BadAnswer("no status that there is");
}

Done read_done(const json& object) {
  Done done;
  done.id = text_of(object, "done");
  done.status = status_of(text_of(object, "status"));
  done.dropped = number_of(object, "dropped");
  read_results(object.contains("results") ? object["results"] : json(), done);
  if (auto error = object.find("error"); error != object.end())
    done.error = events::Raised{text_of(*error, "name"), text_of(*error, "message"), text_of(*error, "traceback")};
  if ((done.status == Status::Ok) == done.error.has_value())
    throw BadAnswer("a status that its error does not go with");
  return done;
}

}  // namespace

Answer parse_answer(std::string_view line) {
  json object = parse_json(line);
  if (object.is_object() && object.contains("done")) return read_done(object);
  if (object.is_object() && object.contains("ready"))
    return Ready{text_of(object, "ready"), text_of(object, "language"), text_of(object, "version"),
                 number_of(object, "cells")};
  throw BadAnswer("neither 'ready' nor 'done'");
}

void Lines::add(std::string_view bytes) {
  waiting_.erase(0, at_);
  looked_ -= at_;
  at_ = 0;
  waiting_ += bytes;
}

std::optional<std::string> Lines::next() {
  std::size_t end = waiting_.find('\n', looked_);
  looked_ = end == std::string::npos ? waiting_.size() : end + 1;
  if (end == std::string::npos) return std::nullopt;
  std::string line = waiting_.substr(at_, end - at_);
  at_ = end + 1;
  return line;
}

}  // namespace runner::code
