#include "runner/agent/toolbox.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

#include "runner/agent/assignment.h"
#include "runner/agent/builtin.h"
#include "runner/agent/mcp.h"
#include "runner/agent/tool_host.h"
#include "runner/agent/wire.h"
#include "runner/snapshot/digest.h"

namespace runner::agent {

namespace {

constexpr std::uint64_t kServerEnd = 5000;       // milliseconds for a server that is killed to be gone
constexpr std::uint64_t kFileDeadline = 60'000;  // of one file tool

}  // namespace

ToolEnd error_end(const std::string& sentence) {
  ToolEnd end;
  end.result.is_error = true;
  end.result.content.emplace_back(Text{sentence});
  return end;
}

std::string intent_of(const Call& call) {
  if (call.input_responses.empty()) return call.key;
  return call.key + "+" + snapshot::sha256(call.request_state + "\n" + call.input_responses).substr(0, 12);
}

struct Toolbox::Server {
  std::string skill, name;  // of the skill, and of its call in the session
  std::unique_ptr<Wire> wire;
  std::unique_ptr<McpClient> client;
  Service saved;
  bool taken_up = false;    // it was there before this process
};

struct Toolbox::Files {
  std::unique_ptr<Wire> wire;
  std::unique_ptr<ToolHost> host;
  bool remembers = false;   // it served an earlier process of this job
};

Toolbox::Toolbox(Context& context, const Run& run, const Expert& expert, std::string session)
    : context_(context), run_(run), expert_(expert), session_(std::move(session)) {
  definitions_ = builtin_tools(expert.tools);
  for (const ToolDefinition& tool : definitions_)
    kinds_[tool.name] = tool.name == "exec" ? ToolKind::Exec : tool.name == "todo" ? ToolKind::Todo : tool.name == "complete" ? ToolKind::Complete : ToolKind::File;
  for (const std::string& name : expert.delegates) {
    definitions_.push_back({name, context.file.experts.at(name).description,
                            R"({"type":"object","properties":{"query":{"type":"string","description":"All that it needs to know: it sees nothing else."}},"required":["query"],"additionalProperties":false})"});
    kinds_[name] = ToolKind::Delegate;
  }
  for (const auto& [skill, each] : expert.skills)
    if (auto* asks = std::get_if<InteractiveSkill>(&each.is))
      for (const auto& [name, tool] : asks->tools) {
        definitions_.push_back({name, tool.description, tool.schema});
        kinds_[name] = ToolKind::Interactive;
        skill_of_[name] = skill;
      }
}

Toolbox::~Toolbox() = default;

const std::vector<ToolDefinition>& Toolbox::definitions() {
  // What an earlier process was told still holds: the model has seen it. A server is reached at its first call.
  std::map<std::string, std::vector<ToolDefinition>> offered;
  bool all_locked = true;
  for (const auto& [skill, each] : expert_.skills)
    if (std::holds_alternative<McpStdioSkill>(each.is)) all_locked = all_locked && locked(skill);
  if (auto known = context_.store.find_tools(run_.id)) {
    offered = std::move(*known);
  } else if (all_locked && !context_.starts_all) {
    for (const auto& [skill, each] : expert_.skills)
      if (const LockedSkill* lock = locked(skill))
        for (const LockedTool& tool : lock->tools) offered[skill].push_back(tool.definition);
    context_.store.write_tools(run_.id, offered);
  } else {
    // All are started before the first is spoken to: they take their time side by side.
    for (const auto& [skill, each] : expert_.skills)
      if (std::holds_alternative<McpStdioSkill>(each.is)) reach_server(skill);
    for (auto& [skill, server] : servers_) {
      greet(*server);
      offered[skill] = server->client->list_tools().tools;
      check_lock(skill, era_named(server->saved.era), offered[skill]);
    }
    context_.store.write_tools(run_.id, offered);
  }
  for (const auto& [skill, tools] : offered) add_tools(skill, std::get<McpStdioSkill>(expert_.skills.at(skill).is), tools);
  std::sort(definitions_.begin(), definitions_.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return definitions_;
}

void Toolbox::add_tools(const std::string& skill, const McpStdioSkill& is, const std::vector<ToolDefinition>& tools) {
  auto named = [](const std::vector<std::string>& list, const std::string& name) { return std::find(list.begin(), list.end(), name) != list.end(); };
  for (const ToolDefinition& tool : tools) {
    if (named(is.omit, tool.name) || (!is.pick.empty() && !named(is.pick, tool.name))) continue;
    if (kinds_.count(tool.name)) throw McpError(fmt::format("two tools of expert {} are called {}: `omit` one of them (skill {})", expert_.name, tool.name, skill));
    definitions_.push_back(tool);
    kinds_[tool.name] = ToolKind::Mcp;
    skill_of_[tool.name] = skill;
  }
}

const LockedSkill* Toolbox::locked(const std::string& skill) const {
  if (!context_.lock) return nullptr;
  auto of = context_.lock->experts.find(expert_.name);
  if (of == context_.lock->experts.end()) return nullptr;
  auto found = of->second.find(skill);
  return found == of->second.end() ? nullptr : &found->second;
}

void Toolbox::check_lock(const std::string& skill, Era era, const std::vector<ToolDefinition>& tools) const {
  const LockedSkill* lock = locked(skill);
  if (!lock) return;
  if (std::vector<std::string> differs = drift(*lock, skill, era, tools); !differs.empty())
    throw McpError(fmt::format("skill {} of expert {} is not what experts.lock says: {}: look at what it has become, then `runner job lock {}`", skill, expert_.name,
                               fmt::join(differs, "; "), expert_.name));
}

ToolKind Toolbox::kind(const std::string& tool) const {
  auto found = kinds_.find(tool);
  return found == kinds_.end() ? ToolKind::Unknown : found->second;
}

const ToolDefinition* Toolbox::find(const std::string& tool) const {
  auto found = std::find_if(definitions_.begin(), definitions_.end(), [&](const ToolDefinition& each) { return each.name == tool; });
  return found == definitions_.end() ? nullptr : &*found;
}

const InteractiveTool* Toolbox::interactive(const std::string& tool) const {
  auto skill = skill_of_.find(tool);
  if (skill == skill_of_.end()) return nullptr;
  auto* asks = std::get_if<InteractiveSkill>(&expert_.skills.at(skill->second).is);
  return asks ? &asks->tools.at(tool) : nullptr;
}

// One that runs already, or a new one, to which nothing was said yet.
Toolbox::Server& Toolbox::reach_server(const std::string& skill) {
  const auto& is = std::get<McpStdioSkill>(expert_.skills.at(skill).is);
  auto server = std::make_unique<Server>();
  server->skill = skill;
  server->name = fmt::format("mcp-{}-{}", run_.id, skill);
  Service known;
  {
    std::lock_guard lock(context_.mutex);
    known = context_.job.services[run_.id + "/" + skill];
  }
  if (auto call = SessionCall::attach(context_.hands.connect(session_), server->name)) {
    if (known.era.empty()) {
      call->end(kServerEnd);  // begun by one who was killed before he had written it down, and so was asked for nothing yet
    } else {
      server->wire = std::make_unique<Wire>(context_, std::move(*call));
      // What it has said to a connection that is gone is in the session's log, but for what it said before the session was restored from a snapshot.
      auto logged = find_in_log(context_.hands.open_log(session_), server->name);
      bool missed = logged && logged->out.from <= known.output && logged->out.end() >= known.output;
      server->wire->catch_up(missed ? logged->out.bytes.substr(known.output - logged->out.from) : "", known.output);
      server->client = std::make_unique<McpClient>(*server->wire);
      constexpr std::uint64_t kMargin = 1000;  // requests that the journal does not know of
      server->client->resume(era_named(known.era), known.version, known.next_id + kMargin);
      server->saved = known;
      server->taken_up = true;
    }
  }
  if (!server->client) {
    supervise::CallWish wish;
    wish.argv = {is.command};
    wish.argv.insert(wish.argv.end(), is.args.begin(), is.args.end());
    for (const std::string& name : is.required_env) wish.env.push_back(name + "=" + context_.environment.at(name));
    wish.interactive = wish.detached = true;
    wish.memory = is.memory;
    wish.pids = is.pids;
    wish.service = server->name;
    try {
      server->wire = std::make_unique<Wire>(context_, SessionCall::start(context_.hands.connect(session_), wish));
    } catch (const EndsJob&) {
      throw;
    } catch (const std::exception& error) {
      throw McpError(fmt::format("start skill {} of expert {} ({}): {}", skill, expert_.name, is.command, error.what()));
    }
    server->client = std::make_unique<McpClient>(*server->wire);
  }
  auto& slot = servers_[skill];
  slot = std::move(server);
  return *slot;
}

// The first words to a new one.
void Toolbox::greet(Server& server) {
  if (server.taken_up) return;
  try {
    Began began = server.client->begin();
    server.saved = {server.name, word(began.era), began.version, 0, 1};
    std::string key = run_.id + "/" + server.skill;
    context_.journal.add('S', key, fmt::format("{} {} {}", word(began.era), server.name, began.version));
    std::lock_guard lock(context_.mutex);
    context_.job.services[key] = server.saved;
  } catch (const EndsJob&) {
    throw;
  } catch (const std::exception& error) {
    const auto& is = std::get<McpStdioSkill>(expert_.skills.at(server.skill).is);
    throw McpError(fmt::format("start skill {} of expert {} ({}): {}", server.skill, expert_.name, is.command, error.what()));
  }
}

Toolbox::Server& Toolbox::start_server(const std::string& skill) {
  Server& server = reach_server(skill);
  try {
    greet(server);
    // What the model was told of it is the lock's.
    if (!server.taken_up && locked(skill)) check_lock(skill, era_named(server.saved.era), server.client->list_tools().tools);
  } catch (const McpError&) {
    server.wire->call().end(kServerEnd);
    servers_.erase(skill);
    throw;
  }
  return server;
}

ToolEnd Toolbox::use(const Call& call, bool begun) {
  try {
    switch (kind(call.wish.name)) {
      case ToolKind::File: return use_file(call, begun);
      case ToolKind::Exec: return use_exec(call, begun);
      default: break;
    }
    const std::string& skill = skill_of_.at(call.wish.name);
    auto server = servers_.find(skill);
    return use_server(server == servers_.end() ? start_server(skill) : *server->second, call, begun);
  } catch (const EndsJob&) {
    throw;
  } catch (const std::exception& error) {
    return error_end(error.what());
  }
}

// Takes up the one that serves this run, which remembers the calls that it has made, or starts another.
void Toolbox::reach_files() {
  std::string name = "tools-" + run_.id;
  auto files = std::make_unique<Files>();
  auto greet = [&](SessionCall call, std::uint64_t deadline) {
    files->wire = std::make_unique<Wire>(context_, std::move(call));
    files->wire->lines = false;
    files->host = std::make_unique<ToolHost>(*files->wire);
    files->host->hello(deadline);
  };
  if (auto running = SessionCall::attach(context_.hands.connect(session_), name)) {
    constexpr std::uint64_t kShort = 2000;
    try {
      greet(std::move(*running), kShort);
      files->remembers = true;
    } catch (const ToolHostBroken&) {
      // Whoever was killed in the middle of a frame has left it half read.
      files->wire->call().kill();
      while (files->wire->call().next(kSlice) || SessionCall::attach(context_.hands.connect(session_), name)) context_.check();
    }
  }
  if (!files->remembers) {
    supervise::CallWish wish;
    wish.argv = {kToolsInside, "--channel", "/workspace"};
    wish.interactive = wish.detached = wish.channel = true;
    wish.service = name;
    greet(SessionCall::start(context_.hands.connect(session_), wish), kFileDeadline);
  }
  files_ = std::move(files);
}

ToolEnd Toolbox::use_file(const Call& call, bool begun) {
  if (!files_) reach_files();
  // One that remembers does no call twice; one that is new cannot know.
  if (begun && !files_->remembers && !read_only(call.wish.name))
    return error_end(fmt::format("{}: the sandbox ended while the call ran; what it did is not known", call.wish.name));
  if (!begun) context_.journal.add('I', intent_of(call), "file");
  ToolEnd end;
  try {
    end.result = files_->host->call(call.key, call.wish.name, call.wish.arguments, kFileDeadline);
  } catch (const std::exception& error) {
    bool broken = dynamic_cast<const ServerGone*>(&error) || dynamic_cast<const ToolHostBroken*>(&error);
    if (!broken) throw;
    if (files_->wire) files_->wire->call().kill();
    files_.reset();  // the next call starts another
    return error_end(fmt::format("{}: the tool host inside the sandbox is gone, and what it did is not known: {}", call.wish.name, error.what()));
  }
  return end;
}

void Toolbox::settled(const Call& call) {
  if (!files_ || kind(call.wish.name) != ToolKind::File) return;
  try {
    files_->host->ack(call.key);
  } catch (const EndsJob&) {
    throw;
  } catch (const std::exception&) {
    files_.reset();  // it is gone, which the next call is told
  }
}

ToolEnd Toolbox::use_server(Server& server, const Call& call, bool begun) {
  McpClient& client = *server.client;
  std::uint64_t id = client.next_id();
  bool sent = false;
  if (begun && server.taken_up) {
    // "ID INPUT BYTES": what it was about to be told, and how much it had been told before.
    std::uint64_t before = 0, bytes = 0;
    const std::string& rest = context_.results.at("I " + intent_of(call));
    if (std::sscanf(rest.c_str(), "%lu %lu %lu", &id, &before, &bytes) == 3) {
      sent = server.wire->call().input() >= before + bytes;
      // Half a line can only be ended; it is none that the server understands.
      if (!sent && server.wire->call().input() > before) server.wire->send("");
      if (!sent) id = client.next_id();
    }
  } else if (begun) {
    return error_end(fmt::format("{}: its server ended while the call ran; what it did is not known", call.wish.name));
  }
  CallOutcome outcome;
  try {
    if (sent) {
      client.adopt_call(id);
    } else {
      server.wire->before_send = [&](std::uint64_t input, std::size_t bytes) {
        context_.journal.add('I', intent_of(call), fmt::format("{} {} {}", id, input, bytes));
        server.wire->before_send = nullptr;
      };
      McpCall wish{id, call.wish.name, call.wish.arguments, {}, {}, {}};
      wish.request_state = call.request_state;
      wish.input_responses = call.input_responses;
      client.send_call(wish);
      server.wire->before_send = nullptr;  // one whose arguments make no line is not sent
    }
    outcome = client.await(id);
  } catch (const ServerGone& gone) {
    std::string why = gone.what();
    server.wire->call().end(kServerEnd);
    {
      std::lock_guard lock(context_.mutex);
      context_.job.services.erase(run_.id + "/" + server.skill);
    }
    servers_.erase(server.skill);  // the next call starts it anew
    return error_end(fmt::format("{}: its server is gone: {}", call.wish.name, why));
  }
  server.saved.output = server.wire->output();
  server.saved.next_id = client.next_id();
  {
    std::lock_guard lock(context_.mutex);
    context_.job.services[run_.id + "/" + server.skill] = server.saved;
  }
  ToolEnd end;
  end.result = std::move(outcome.result);
  end.input = std::move(outcome.input);
  if (outcome.timed_out) end.verdict = "timeout";
  return end;
}

void Toolbox::make_ready() {
  definitions();
  if (!files_) reach_files();
}

void Toolbox::let_go() {
  for (auto& [skill, server] : servers_) {
    server->saved.output = server->wire->output();
    server->saved.next_id = server->client->next_id();
    std::lock_guard lock(context_.mutex);
    context_.job.services[run_.id + "/" + skill] = server->saved;
  }
  servers_.clear();
  files_.reset();
}

}  // namespace runner::agent
