#include "runner/agent/expert.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "runner/agent/builtin.h"
#include "runner/agent/expert_parts.h"
#include "runner/agent/text.h"
#include "runner/config/yaml.h"

namespace fs = std::filesystem;

namespace runner::agent {

namespace {

constexpr std::uint64_t kMost = INT64_MAX;  // of TOML
constexpr std::uint64_t kMostSteps = 1'000'000;
constexpr std::uint64_t kMostRetries = 100;
constexpr std::uint64_t kMostTokens = 10'000'000;  // of one answer
constexpr std::uint64_t kMostParallel = 64;
constexpr std::uint64_t kLongestTimeout = 24ull * 3'600'000;
constexpr std::uint64_t kLongestWall = 30ull * 24 * 3'600'000;  // as a policy's
constexpr std::size_t kMostExperts = 256;                       // whoever follows delegates may recurse
constexpr std::size_t kLongestModel = 256;

using Kind = toml::Value::Kind;

bool is_plain(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](unsigned char c) { return c > ' ' && c != 0x7f; });
}

void read_model(Fields& fields, std::string& to, toml::Place at, Mistakes& wrong) {
  std::string model;
  if (!fields.text("model", model)) return;
  if (!is_plain(model) || model.size() > kLongestModel)
    return wrong.add(at, "model must be the name of a model, not {}", quote(model));
  to = std::move(model);
}

toml::Place place_of(const toml::Value& table, std::string_view key) {
  const toml::Value* value = table.find(key);
  return value ? value->at : table.key_at;
}

// ---- the tables beside the experts -------------------------------------------------------------------------------

// A key in it would come to lie in events and checkpoints.
bool is_url(std::string_view text) {
  std::size_t begin = text.starts_with("https://") ? 8 : text.starts_with("http://") ? 7 : 0;
  if (begin == 0 || !is_plain(text)) return false;
  std::string_view host = text.substr(begin, text.find('/', begin) - begin);
  return !host.empty() && host.find('@') == std::string_view::npos &&
         text.find_first_of("?#") == std::string_view::npos;
}

void read_provider(const toml::Value& table, const std::string& path, ProviderChoice& to, Mistakes& wrong) {
  constexpr std::array<std::string_view, 4> kNames = {"anthropic", "openai", "replay", "script"};
  Fields fields(table, "provider", wrong);
  std::size_t index = 0;
  bool known = fields.choice("name", kNames, index) || !table.find("name");
  to.name = kNames[index];
  bool remote = to.name == "anthropic" || to.name == "openai";
  to.key_env = to.name == "anthropic" ? "ANTHROPIC_API_KEY" : to.name == "openai" ? "OPENAI_API_KEY" : "";

  if (fields.text("base_url", to.base_url) && !is_url(to.base_url))
    wrong.add(place_of(table, "base_url"),
              "base_url must be such as https://api.example.com, without a name or a key in it, not {}",
              quote(to.base_url));
  if (fields.text("key_env", to.key_env) && !is_variable(to.key_env))
    wrong.add(place_of(table, "key_env"), "key_env must be the name of a variable, not {}", quote(to.key_env));
  if (fields.text("file", to.file)) {
    if (to.file.empty()) wrong.add(place_of(table, "file"), "file must be the path of a file, not ''");
    to.file = (fs::path(path).parent_path() / to.file).string();
  }
  if (known) {
    auto foreign = [&](const char* key, const char* why) {
      if (const toml::Value* value = table.find(key))
        wrong.add(value->key_at, "provider {} has no {}: {}", to.name, key, why);
    };
    if (!remote) foreign("base_url", "it asks nobody"), foreign("key_env", "it asks nobody");
    if (remote) foreign("file", "that is for script and replay");
  }
  fields.end();
}

void read_limits(const toml::Value& table, JobLimits& to, Mistakes& wrong) {
  Fields fields(table, "limits", wrong);
  fields.whole("steps", to.steps, 1, kMostSteps);
  fields.whole("tokens", to.tokens, 1, kMost);
  fields.whole("money", to.money, 1, kMost);
  fields.duration("wall", to.wall, kLongestWall);
  fields.end();
}

void read_price(const toml::Value& table, std::map<std::string, Price>& to, Mistakes& wrong) {
  if (!table.is(Kind::Table)) return wrong.add(table.at, "the price of a model must be a table, not {}", table.shown());
  Fields fields(table, fmt::format("the price of {}", quote(table.key)), wrong);
  Price price;
  fields.whole("input", price.input, 0, kMost);
  fields.whole("output", price.output, 0, kMost);
  price.cache_read = price.cache_write = price.input;
  fields.whole("cache_read", price.cache_read, 0, kMost);
  fields.whole("cache_write", price.cache_write, 0, kMost);
  for (const char* key : {"input", "output"})  // a budget would count what is missing as nothing
    if (!table.find(key)) wrong.add(table.key_at, "the price of {} has no {}", quote(table.key), key);
  fields.end();
  to[table.key] = price;
}

void read_options(const toml::Value& table, std::map<std::string, std::string>& to, Mistakes& wrong) {
  if (!table.is(Kind::Table))
    return wrong.add(table.at, "the options of a model must be a table, not {}", table.shown());
  for (const char* key : {"messages", "model", "stream", "system", "tools"})
    if (const toml::Value* value = table.find(key))
      wrong.add(value->key_at, "{} may not be an option of {}: the agent loop writes it", key, quote(table.key));
  to[table.key] = json_of(table, wrong);
}

// ---- experts -----------------------------------------------------------------------------------------------------

void read_instruction(Fields& fields, const toml::Value& table, Expert& to, Mistakes& wrong) {
  if (!fields.text("instruction", to.instruction)) {
    if (!table.find("instruction")) wrong.add(table.key_at, "expert {} has no instruction", quote(to.name));
    return;
  }
  toml::Place at = place_of(table, "instruction");
  if (to.instruction.find_first_not_of(" \t\r\n") == std::string::npos)
    wrong.add(at, "the instruction of {} is empty", quote(to.name));
  if (to.instruction.size() > kLongestInstruction)
    wrong.add(at, "the instruction of {} has {} bytes; the most is {}", quote(to.name), to.instruction.size(),
              kLongestInstruction);
}

void read_tools(Fields& fields, const toml::Value& table, Expert& to, Mistakes& wrong) {
  if (!table.find("tools")) return;
  std::vector<Listed> tools;
  fields.list("tools", tools);
  for (const Listed& tool : tools)
    if (!is_builtin(tool.text))
      wrong.add(tool.at, "{} is no built-in tool; there are {}", quote(tool.text), fmt::join(builtin_names(), ", "));
  to.tools = texts(tools);
}

ReadExpert read_expert(const toml::Value& table, const std::string& key_env, Mistakes& wrong) {
  constexpr std::array<std::string_view, 2> kIsolations = {"shared", "fork"};
  ReadExpert read;
  read.at = table.key_at;
  Expert& to = read.expert;
  to.name = table.key;
  Fields fields(table, fmt::format("expert {}", quote(to.name)), wrong);

  fields.text("version", to.version);
  fields.text("description", to.description);
  read_instruction(fields, table, to, wrong);
  read_model(fields, to.model, place_of(table, "model"), wrong);
  fields.whole("max_tokens", to.max_tokens, 1, kMostTokens);
  fields.whole("max_parallel", to.max_parallel, 1, kMostParallel);
  fields.list("delegates", read.delegates);
  to.delegates = texts(read.delegates);
  fields.list("approve", read.approve);
  to.approve = texts(read.approve);
  read_tools(fields, table, to, wrong);
  read.policy_at = place_of(table, "policy");
  if (fields.text("policy", to.policy) && !is_plain(to.policy))
    wrong.add(read.policy_at, "policy must be the name or the path of a policy, not {}", quote(to.policy));
  std::size_t isolation = 0;
  fields.choice("isolation", kIsolations, isolation);
  to.isolation = isolation == 0 ? Expert::Isolation::Shared : Expert::Isolation::Fork;
  if (const toml::Value* skills = fields.find_table("skills")) read_skills(*skills, key_env, read, wrong);
  fields.end();
  return read;
}

void read_all(const toml::Value& root, const toml::Value* table, ExpertFile& file, Mistakes& wrong) {
  if (!table) {
    if (!root.find("experts")) wrong.add(root.at, "there is no expert; add [experts.\"NAME\"] with an instruction");
    return;
  }
  if (table->items.size() > kMostExperts) wrong.add(table->key_at, "more than {} experts", kMostExperts);
  std::map<std::string, ReadExpert> experts;
  for (const toml::Value& item : table->items) {
    if (experts.size() == kMostExperts) break;
    check_name(item.key, item.key_at, "an expert", wrong);
    if (item.is(Kind::Table))
      experts.emplace(item.key, read_expert(item, file.provider.key_env, wrong));
    else
      wrong.add(item.at, "expert {} must be a table, not {}", quote(item.key), item.shown());
  }
  if (table->items.size() <= kMostExperts) check_experts(experts, wrong);
  for (auto& [name, read] : experts) file.experts[name] = std::move(read.expert);
}

// A limit that nobody can count towards would be no limit.
void check_prices(const toml::Value& root, const ExpertFile& file, Mistakes& wrong) {
  if (file.limits.money == 0) return;
  auto check = [&](const std::string& model, toml::Place at) {
    if (!model.empty() && !file.prices.contains(model))
      wrong.add(at, "limits has money, and the model {} has no price: add [prices.\"{}\"]", quote(model), model);
  };
  check(file.model, place_of(root, "model"));
  for (const auto& [name, expert] : file.experts) {
    const toml::Value* table = root.find("experts")->find(name);
    if (expert.model != file.model) check(expert.model, place_of(*table, "model"));
  }
}

}  // namespace

std::optional<ExpertFile> read_experts(const std::string& path, const std::string& text, Diagnostics& wrong) {
  auto root = toml::parse(path, text, wrong);
  if (!root) return std::nullopt;

  Mistakes mistakes(path);
  ExpertFile file;
  file.path = path;
  Fields fields(*root, "", mistakes);
  std::uint64_t schema = 0;
  fields.whole("schema", schema, 1, 1);
  if (!root->find("schema")) mistakes.add({1, 1}, "schema is missing; an expert file begins with 'schema = 1'");
  read_model(fields, file.model, place_of(*root, "model"), mistakes);
  fields.whole("max_steps", file.max_steps, 1, kMostSteps, "maxSteps");
  fields.whole("max_retries", file.max_retries, 0, kMostRetries, "maxRetries");
  fields.whole("max_tokens", file.max_tokens, 1, kMostTokens);
  fields.duration("timeout", file.timeout, kLongestTimeout);
  // Before the experts: none of their skills may ask for the variable with the key.
  if (const toml::Value* provider = fields.find_table("provider"))
    read_provider(*provider, path, file.provider, mistakes);
  if (const toml::Value* limits = fields.find_table("limits")) read_limits(*limits, file.limits, mistakes);
  if (const toml::Value* prices = fields.find_table("prices"))
    for (const toml::Value& price : prices->items) read_price(price, file.prices, mistakes);
  if (const toml::Value* options = fields.find_table("options"))
    for (const toml::Value& option : options->items) read_options(option, file.options, mistakes);
  read_all(*root, fields.find_table("experts"), file, mistakes);
  check_prices(*root, file, mistakes);
  fields.end();

  bool good = mistakes.empty();
  mistakes.tell(wrong);
  if (!good) return std::nullopt;
  return file;
}

std::optional<std::string> find_expert_file(const std::string& directory) {
  std::error_code error;
  fs::path folder = fs::absolute(directory.empty() ? "." : directory, error).lexically_normal();
  if (error) return std::nullopt;
  if (!folder.has_filename()) folder = folder.parent_path();  // "/a/b/" ends with an empty name
  for (;; folder = folder.parent_path()) {
    for (const char* name : {"experts.toml", "perstack.toml"}) {
      fs::file_status status = fs::status(folder / name, error);
      // One that cannot be looked at is reported when it is opened: another in its place would be a surprise.
      if (status.type() != fs::file_type::not_found && status.type() != fs::file_type::directory)
        return (folder / name).string();
    }
    if (folder == folder.parent_path()) return std::nullopt;
  }
}

}  // namespace runner::agent
