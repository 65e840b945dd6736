#include "runner/agent/json_text.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <stdexcept>

namespace runner::agent {

namespace {

constexpr std::size_t kDeepest = 128;
constexpr std::size_t kMostValues = 500'000;  // an empty list takes three bytes of text, and fifty of memory
constexpr std::string_view kSpace = " \t\r\n";

// Walks over valid JSON without building it.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  bool take(char wanted) {
    at_ = std::min(text_.find_first_not_of(kSpace, at_), text_.size());
    if (at_ == text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }

  std::string_view value() {
    at_ = std::min(text_.find_first_not_of(kSpace, at_), text_.size());
    std::size_t begin = at_, depth = 0;
    do {
      if (at_ >= text_.size()) break;
      char c = text_[at_];
      if (c == '"') {
        skip_string();
      } else if (c == '{' || c == '[') {
        ++depth, ++at_;
      } else if (c == '}' || c == ']') {
        --depth, ++at_;
      } else if (depth) {
        ++at_;
      } else {
        at_ = std::min(text_.find_first_of(",]} \t\r\n", at_), text_.size());
      }
    } while (depth);
    return text_.substr(begin, at_ - begin);
  }

 private:
  void skip_string() {
    for (++at_; at_ < text_.size() && text_[at_] != '"'; ++at_)
      if (text_[at_] == '\\') ++at_;
    at_ = std::min(at_ + 1, text_.size());
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

bool modest(std::string_view json) {
  std::size_t depth = 0, values = 1;
  bool inside_string = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    char c = json[i];
    if (inside_string) {
      if (c == '\\') ++i;
      inside_string = c != '"';
    } else if (c == '"') {
      inside_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kDeepest || ++values > kMostValues) return false;
    } else if (c == ',') {
      if (++values > kMostValues) return false;
    } else if ((c == '}' || c == ']') && depth) {
      --depth;
    }
  }
  return true;
}

bool is_object(std::string_view json) {
  std::size_t first = json.find_first_not_of(kSpace);
  return first != std::string_view::npos && json[first] == '{' && modest(json) && nlohmann::json::accept(json);
}

std::string json_string(std::string_view text) { return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); }

std::string array_of(const std::vector<std::string>& values) {
  std::string text = "[";
  for (const std::string& value : values) {
    if (text.size() > 1) text += ',';
    text += value;
  }
  return text + ']';
}

std::string_view member(std::string_view object, std::string_view name) {
  Scanner scanner(object);
  std::string_view found;
  if (!scanner.take('{')) return found;
  for (bool more = !scanner.take('}'); more; more = scanner.take(',')) {
    std::string_view key = scanner.value();
    scanner.take(':');
    std::string_view value = scanner.value();
    if (key.size() == name.size() + 2 && key.substr(1, name.size()) == name) found = value;
  }
  return found;
}

std::vector<std::string_view> elements(std::string_view array) {
  Scanner scanner(array);
  std::vector<std::string_view> found;
  if (!scanner.take('[') || scanner.take(']')) return found;
  do found.push_back(scanner.value());
  while (scanner.take(','));
  return found;
}

ObjectText& ObjectText::set(std::string_view name, std::string json) {
  for (auto& [key, value] : members_)
    if (key == name) {
      value = std::move(json);
      return *this;
    }
  members_.emplace_back(name, std::move(json));
  return *this;
}

void ObjectText::erase(std::string_view name) {
  std::erase_if(members_, [&](const auto& member) { return member.first == name; });
}

bool ObjectText::has(std::string_view name) const {
  return std::any_of(members_.begin(), members_.end(), [&](const auto& member) { return member.first == name; });
}

void ObjectText::merge(std::string_view options) {
  if (options.empty()) return;
  if (!is_object(options)) throw std::invalid_argument("use the options of a model: they must be a JSON object");
  nlohmann::json object = nlohmann::json::parse(options);
  for (const auto& [name, value] : object.items()) {
    if (value.is_null()) erase(name);
    else set(name, value.dump());
  }
}

std::string ObjectText::text() const {
  std::string text = "{";
  for (const auto& [name, value] : members_) {
    if (text.size() > 1) text += ',';
    text += json_string(name) + ':' + value;
  }
  return text + '}';
}

}  // namespace runner::agent
