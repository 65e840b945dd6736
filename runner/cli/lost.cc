#include "runner/cli/lost.h"

#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/events/reader.h"
#include "runner/events/segments.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

using json = nlohmann::json;

// run_session makes this link: the data directory may serve several roots, and only its own knows whether a session lives.
bool is_of_this_root(const session::Directories& directories, const std::string& id) {
  return find_link(directories.session_data(id) + "/run") == directories.run;
}

json first_event(const std::string& log) {
  std::string text(64 << 10, '\0');
  for (const events::LogFile& each : events::open_files(log)) {
    ssize_t size = ::pread(each.file.get(), text.data(), text.size(), 0);
    text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
    break;
  }
  return json::parse(text.substr(0, text.find('\n')), nullptr, false);
}

json last_event(const std::string& log) {
  events::LogReader reader(log);
  reader.skip_to_last(1);
  std::string text;
  reader.read([&](std::string_view lines) { text += lines; });
  return json::parse(text.substr(0, text.find('\n')), nullptr, false);
}

int exit_code_of(const json& ended) {
  if (ended.value("result", "") == "timeout") return 124;
  if (ended.contains("exit")) return ended["exit"].get<int>();
  return ended.contains("signal") ? 128 + ended["signal"].get<int>() : -1;
}

session::State state_from(const std::string& id, const std::string& data) {
  session::State state;
  state.id = id;
  state.is_session = state.ended = state.started = true;
  state.result = "runner-error";
  std::string log = data + "/events.ndjson";
  if (::access(log.c_str(), R_OK) == -1) return state;
  try {
    json first = first_event(log), last = last_event(log);
    if (first.is_object()) state.created = first.value("time", "");
    if (first.is_object() && first.value("type", "") == "session.started") {
      const json& told = first.at("data");
      state.policy = told.value("policy", ""), state.rootfs = told.value("rootfs", ""), state.user = told.value("user", "");
      state.command = told.value("argv", state.command);
    }
    if (last.is_object()) state.finished = last.value("time", "");
    if (last.is_object() && last.value("type", "") == "session.ended") {
      state.result = last.at("data").value("result", state.result);
      state.exit_code = exit_code_of(last["data"]);
    }
  } catch (const std::exception&) {
    // A log that was cut by the crash, too: what could be read of it is told.
  }
  return state;
}

}  // namespace

bool adopt_lost(Context& context, const std::string& id) {
  const session::Directories& directories = context.directories();
  std::string data = directories.session_data(id);
  if (!session::why_bad_id(id).empty() || session::Entry::find(directories, id) || !is_of_this_root(directories, id)) return false;
  std::optional<session::Entry> entry;
  try {
    entry = session::Entry::create(directories, id);
  } catch (const SystemError& error) {
    if (error.code() != EEXIST) throw;
    return true;  // somebody was faster: with a session of that name, or with this
  }
  // Looked at again behind the lock: a rename or a removal may have been under way.
  if (!is_of_this_root(directories, id)) {
    entry->remove();
    return false;
  }
  session::State state = state_from(id, data);
  state.suspended = session::find_suspended(directories, id);
  if (!state.suspended.empty()) state.result = "suspended";
  entry->write_state(state);
  entry->unlock();
  return true;
}

void adopt_all_lost(Context& context) {
  for (const std::string& id : list_dir(context.directories().data + "/sessions")) {
    try {
      adopt_lost(context, id);
    } catch (const std::exception& error) {
      report_warning(context.globals, fmt::format("session {}: {}", shown(id), error.what()));
    }
  }
}

}  // namespace runner::cli
