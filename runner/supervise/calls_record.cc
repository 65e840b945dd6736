// The calls of a session that is put into a snapshot, and of one that comes out of it.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/events/verify.h"
#include "runner/session/entry.h"
#include "runner/supervise/calls.h"

namespace runner::supervise {

using namespace isolate::sys;
using isolate::init::Kind;
using json = nlohmann::json;

namespace {

json write_request(const CallRequest& r) {
  return {{"process", events::hex(isolate::init::encode({r.process, {}}))}, {"keeps_input", r.keeps_input}, {"logged", r.logged}, {"wall_ms", r.wall_ms},
          {"memory", r.limits.memory.value_or(0)}, {"pids", r.limits.pids.value_or(0)}, {"service", r.service}, {"restart", r.restart},
          {"keeps_awake", r.keeps_awake}, {"channel", r.channel}};
}

CallRequest read_request(const json& j) {
  CallRequest r;
  r.process = isolate::init::decode_spawn(events::unhex(j.at("process").get<std::string>())).process;
  j.at("keeps_input").get_to(r.keeps_input);
  j.at("logged").get_to(r.logged);
  j.at("wall_ms").get_to(r.wall_ms);
  if (auto memory = j.at("memory").get<std::int64_t>()) r.limits.memory = r.limits.memory_and_swap = memory;
  if (auto pids = j.at("pids").get<std::int64_t>()) r.limits.pids = pids;
  j.at("service").get_to(r.service);
  j.at("restart").get_to(r.restart);
  j.at("keeps_awake").get_to(r.keeps_awake);
  j.at("channel").get_to(r.channel);
  return r;
}

}  // namespace

void Calls::park() {
  parked_.reset();
  send(Kind::Park, 0);
}

void Calls::wake(int control) {
  setting_.control = control;
  parked_.reset();
  send(Kind::Wake, 0);
}

std::string Calls::save() const {
  json calls = json::array(), services = json::array();
  for (const auto& [number, call] : calls_) {
    json streams = json::object(), members = json::array();
    for (const auto& [stream, each] : call.streams) streams[std::to_string(stream)] = each.received;
    if (number != 0)
      for (pid_t pid : call.cgroup.processes()) members.push_back(session::pid_inside(pid));
    calls.push_back({{"number", number}, {"name", call.name}, {"request", write_request(call.request)}, {"pid", call.pid},
                     {"ms", milliseconds_since(call.began)}, {"input_sent", call.input_sent}, {"input_taken", call.input_taken},
                     {"streams", streams}, {"members", members}});
  }
  for (const auto& [name, service] : waiting_) services.push_back(write_request(service.request));
  return json{{"calls", calls}, {"waiting", services}, {"next", next_call_}, {"output", output_}}.dump();
}

void Calls::load(const std::string& saved, Listener* listener, bool logged) {
  json all = json::parse(saved);
  all.at("next").get_to(next_call_);
  all.at("output").get_to(output_);
  for (const json& one : all.at("calls")) {
    auto number = one.at("number").get<std::uint32_t>();
    Call& call = calls_[number];
    call.request = read_request(one.at("request"));
    if (number == 0) call.request.logged = logged;
    one.at("name").get_to(call.name);
    one.at("pid").get_to(call.pid);
    one.at("input_sent").get_to(call.input_sent);
    one.at("input_taken").get_to(call.input_taken);
    call.began = Clock::now() - std::chrono::milliseconds(one.at("ms").get<std::uint64_t>());
    add_streams(call);
    for (const auto& [stream, received] : one.at("streams").items()) {
      Stream& each = call.streams[static_cast<std::uint8_t>(std::stoi(stream))];
      each.received = received.get<std::uint64_t>();  // and not acknowledged: PID 1 may not have heard of it
      if (each.log) each.log->begin_at(each.received);
    }
    if (number == 0) {
      call.owner = listener;
      program_pid_ = call.pid;
    } else {
      call.cgroup = make_group(number, call.request);
    }
  }
  for (const json& one : all.at("waiting")) {
    CallRequest request = read_request(one);
    waiting_[request.service] = {request, 0, Clock::now()};
  }
}

void Calls::place_members(const std::string& saved) {
  std::map<int, pid_t> outside;
  json all = json::parse(saved);
  for (const json& one : all.at("calls")) {
    Call* call = find(one.at("number").get<std::uint32_t>());
    if (!call || one.at("members").empty()) continue;
    if (outside.empty())
      for (pid_t pid : isolate::Cgroup::open(setting_.cgroup.path, setting_.cgroups).processes()) outside[session::pid_inside(pid)] = pid;
    for (int member : one.at("members")) {
      auto at = outside.find(member);
      if (at == outside.end()) continue;  // it has ended by now
      try {
        call->cgroup.place(at->second);
      } catch (const SystemError& error) {
        if (error.code() != ESRCH) throw;
      }
    }
  }
}

}  // namespace runner::supervise
