// top: what sessions use, over and over. CPU is time on a processor: a program that waits for a model uses none.
#include <fmt/format.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include <map>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "runner/cli/sessions.h"
#include "runner/cli/table.h"
#include "runner/cli/usage.h"
#include "runner/config/units.h"
#include "runner/session/time.h"

namespace runner::cli {

namespace {

using json = nlohmann::ordered_json;

struct Sample {
  session::State state;
  std::string status;
  isolate::CgroupStats stats;
  std::int64_t at_us = 0;
  std::optional<double> cpu_percent;  // of one CPU, since the sample before; empty for the first
};
using Samples = std::map<std::string, Sample>;

std::int64_t now_us() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000 + now.tv_nsec / 1000;
}

// Empty `ids`: all that run.
Samples take(Context& context, const std::vector<std::string>& ids, bool first, const Samples& before) {
  Samples now;
  for (Found& found : all_sessions(context)) {
    std::string id = found.state.id, status = status_of(context, found.state);
    if (!ids.empty() && std::find(ids.begin(), ids.end(), id) == ids.end()) continue;
    if (status != "running" && status != "paused") continue;
    Sample sample{std::move(found.state), status, {}, now_us(), {}};
    sample.stats = isolate::read_stats(sample.state.cgroup, context.cgroups());
    auto old = before.find(id);
    if (sample.stats.known && old != before.end() && old->second.state.created == sample.state.created &&
        sample.at_us > old->second.at_us)
      sample.cpu_percent =
          100.0 * static_cast<double>(sample.stats.cpu_us - std::min(sample.stats.cpu_us, old->second.stats.cpu_us)) /
          static_cast<double>(sample.at_us - old->second.at_us);
    now.emplace(id, std::move(sample));
  }
  for (const std::string& id : ids) {
    if (!first || now.count(id)) continue;
    Found found = find_session(context, id);
    throw std::runtime_error(fmt::format("session {} is {}", id, status_of(context, found.state)));
  }
  return now;
}

std::string bytes_or_dash(const std::optional<std::uint64_t>& bytes) { return bytes ? human_bytes(*bytes) : "-"; }

void print_table(const Samples& samples, bool again) {
  std::vector<Row> rows{
      {"ID", "STATUS", "CPU%", "CPU", "AGE", "MEM", "PEAK", "LIMIT", "PIDS", "READ", "WRITTEN", "COMMAND"}};
  for (const auto& [id, s] : samples) {
    auto created = session::parse_rfc3339(s.state.created);
    auto io = io_sum(s.stats);
    rows.push_back({id, s.status, s.cpu_percent ? fmt::format("{:.1f}", *s.cpu_percent) : "-",
                    s.stats.known ? fmt::format("{:.2f}s", static_cast<double>(s.stats.cpu_us) / 1e6) : "-",
                    created ? human_time(::time(nullptr) - *created) : "-", bytes_or_dash(s.stats.memory_now),
                    bytes_or_dash(s.stats.memory_peak), bytes_or_dash(s.stats.memory_limit),
                    s.stats.known ? std::to_string(s.stats.pids_now) : "-", io ? human_bytes(io->read_bytes) : "-",
                    io ? human_bytes(io->write_bytes) : "-", human_command(s.state.command, 40)});
  }
  std::string why;
  for (const auto& [id, s] : samples)
    if (!s.stats.io && s.stats.known) why = fmt::format("READ and WRITTEN: {}\n", s.stats.io_missing);
  fmt::print("{}{}{}", again ? "\033[H\033[2J" : "", table(rows), why);
}

void print_json(const Samples& samples) {
  std::string time = session::rfc3339_now();
  for (const auto& [id, s] : samples) {
    json line{{"time", time},
              {"id", id},
              {"status", s.status},
              {"cpu_percent", s.cpu_percent ? json(*s.cpu_percent) : json()}};
    line.update(usage_json(s.stats));
    line["memory_limit"] = or_null(s.stats.memory_limit);
    line["pids_limit"] = or_null(s.stats.pids_limit);
    fmt::print("{}\n", line.dump(-1, ' ', true, json::error_handler_t::replace));
  }
}

// False when nobody reads our stdout any more.
bool pause_for(std::uint64_t milliseconds) {
  for (std::int64_t end = now_us() + static_cast<std::int64_t>(milliseconds) * 1000, left;
       (left = end - now_us()) > 0;) {
    pollfd reader{STDOUT_FILENO, 0, 0};
    if (::poll(&reader, 1, static_cast<int>((left + 999) / 1000)) > 0 && (reader.revents & POLLERR)) return false;
  }
  return true;
}

}  // namespace

int top_main(Context& context) {
  bool once = false;
  std::string format, interval = "1s";
  Options options("top", "Show what running sessions use: all of them, or those that are named.");
  options.flag("--once", once, "one look, over one interval");
  options.value("--interval", interval, "time between two looks; 1s by default");
  options.value("-f,--format", format, "table or json (one object a line and session)");
  std::vector<std::string> ids = context.parse(options);
  for (const std::string& id : ids) check_id(id);
  bool as_table = wants_table(format);
  auto every = parse_duration(interval);
  if (!every || *every < 10 || *every > 86'400'000)
    throw UsageError(fmt::format("--interval: must be a time such as 1s, from 10ms to 24h, not '{}'", shown(interval)));
  bool terminal = ::isatty(STDOUT_FILENO) == 1;

  Samples samples = take(context, ids, true, {});
  for (;;) {
    if (!pause_for(*every)) return 0;
    samples = take(context, ids, false, samples);
    if (samples.empty() && !ids.empty()) return 0;  // all of them have ended
    if (as_table)
      print_table(samples, terminal && !once);
    else
      print_json(samples);
    if (std::fflush(stdout) == EOF || once) return 0;
  }
}

}  // namespace runner::cli
