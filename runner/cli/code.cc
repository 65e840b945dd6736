// `runner code`: cells in an interpreter of a session that remembers (runner/code/).
#include <signal.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/cli/awake.h"
#include "runner/cli/code_audience.h"
#include "runner/cli/sessions.h"
#include "runner/cli/table.h"
#include "runner/code/cell.h"
#include "runner/code/record.h"
#include "runner/config/units.h"

namespace runner::cli {

using namespace isolate::sys;

namespace {

constexpr int kTimedOut = 124;

struct Flags {
  std::string context = "default", language, timeout, code, memory, pids;
  bool events = false, list = false, interrupt = false, reset = false, kill = false;

  void declare(Options& o) {
    o.value("--context", context, "which interpreter; its variables and imports are kept from cell to cell");
    o.value("-l,--lang", language, "python or javascript; needed for a context that is not there yet");
    o.value("-c,-e,--code", code, "the cell itself; without it, it comes from FILE or from standard input");
    o.value("--timeout", timeout,
            "how long the cell may take (30s, 5m): then it is interrupted, and killed when that does not help");
    o.value("-m,--memory", memory, "of a new context: memory that it may use (512M), within the session's");
    o.value("--pids-limit", pids, "of a new context: how many processes it may have, within the session's");
    o.flag("--events", events, "print events instead of the cell's own output");
    o.flag("--list", list, "list the contexts that are there");
    o.flag("--interrupt", interrupt, "interrupt the cell that runs in the context");
    o.flag("--reset", reset, "begin the context anew, without all that is in it");
    o.flag("--kill", kill, "end the context, and all that it has started");
  }
};

// A session that runs, and where to talk to it.
struct Place {
  session::Entry entry;
  std::string socket;
  Fd awake;  // for as long as this lives
};

Place find_place(Context& context, const std::string& id) {
  Found found = find_session(context, id);
  Fd awake = awaken(context, found.entry, found.state);
  std::string status = status_of(context, found.state);
  if (status != "running") throw std::runtime_error(fmt::format("code: session {} is {}, not running", id, status));
  std::string socket = found.entry.file("control.sock");
  return {std::move(found.entry), std::move(socket), std::move(awake)};
}

std::string read_stdin() {
  std::string text;
  char bytes[32768];
  for (ssize_t got; (got = check(::read(0, bytes, sizeof bytes), "read the cell from standard input")) > 0;) {
    text.append(bytes, static_cast<std::size_t>(got));
    if (text.size() > code::kLargestCell) break;
  }
  return text;
}

std::string read_cell(const Flags& flags, const std::vector<std::string>& arguments) {
  std::string text = arguments.size() > 1 && arguments[1] != "-" ? read_file(arguments[1], code::kLargestCell)
                     : flags.code.empty()                        ? read_stdin()
                                                                 : flags.code;
  if (text.size() > code::kLargestCell)
    throw std::runtime_error(fmt::format("code: a cell has at most {} bytes", code::kLargestCell));
  return text;
}

// Only until it is ready.
class Nobody : public code::Audience {
 public:
  void ready(const code::Ready&) override {}
  void output(std::uint8_t, std::string_view) override {}
  std::vector<supervise::Output*> outputs() override { return {}; }
};

int exit_code_of(const code::CellEnd& end) {
  switch (end.how) {
    case code::How::TimedOut:
      return kTimedOut;
    case code::How::Lost:
    case code::How::Left:
      return end.signal ? 128 + end.signal : 1;
    case code::How::Done:
      break;
  }
  if (end.done->status == code::Status::Interrupted) return 128 + (end.signal ? end.signal : SIGINT);
  return end.done->status == code::Status::Ok ? 0 : 1;
}

// For people, on stderr.
void explain(Context& context, const Flags& flags, const code::CellEnd& end) {
  if (end.how == code::How::TimedOut && end.lost)
    report_error(context.globals, fmt::format("code: the cell took longer than {} and did not heed its interruption: "
                                              "the context {} is lost, with all that was in it",
                                              flags.timeout, flags.context));
  else if (end.how == code::How::TimedOut)
    report_error(context.globals,
                 fmt::format("code: the cell took longer than {}, and was interrupted", flags.timeout));
  else if (end.lost)
    report_error(context.globals,
                 fmt::format("code: the context {} is lost, with all that was in it: {}", flags.context, end.reason));
  else if (end.how == code::How::Left)
    report_error(context.globals,
                 fmt::format("code: the cell goes on in context {}: --interrupt or --kill end it", flags.context));
  else if (end.done->dropped)
    report_warning(context.globals,
                   fmt::format("code: {} results were beyond the limit, and left out", end.done->dropped));
}

code::CellEnd run(const Fd& connection, const code::Cell& cell, code::Audience& audience) {
  try {
    return code::run_cell(connection, cell, audience);
  } catch (const code::BadAnswer& error) {
    throw std::runtime_error(fmt::format(
        "code: the interpreter's answer cannot be read ({}): a cell has meddled with it, and --reset begins anew",
        error.what()));
  }
}

const code::Language& language_named(const std::string& name) {
  if (const code::Language* language = code::find_language(name)) return *language;
  throw UsageError(fmt::format("code: --lang {}: must be {}", shown(name), code::language_names()));
}

std::uint64_t limit_of(const char* flag, const std::string& text,
                       std::optional<std::uint64_t> (*parse)(std::string_view)) {
  std::optional<std::uint64_t> value = text.empty() ? 0 : parse(text);
  if (!value || (*value == 0 && !text.empty()))
    throw UsageError(fmt::format("code: {} '{}' is no limit", flag, shown(text)));
  return *value;
}

// The context, ready; a new one when it is not there. Its record is locked.
struct Opened {
  Fd connection;
  std::string language;
  bool fresh = false;
};

Opened begin(const Place& place, code::Record& record, const Flags& flags, const std::string& language) {
  const code::Language& chosen = language_named(language);
  record.set_language("");
  code::Limits limits{limit_of("--memory", flags.memory, parse_size),
                      limit_of("--pids-limit", flags.pids, parse_whole)};
  Opened opened{code::begin_context(place.socket, flags.context, chosen, limits), language, true};
  Nobody nobody;
  if (code::CellEnd end = run(opened.connection, {}, nobody); end.lost)
    throw std::runtime_error(fmt::format("code: {} ended before it took a cell: {} (`runner logs` has what it said)",
                                         chosen.program, end.reason));
  else if (end.how == code::How::Left)
    throw std::runtime_error("code: interrupted before the context was ready");
  record.set_language(language);
  return opened;
}

Opened open(const Place& place, code::Record& record, const Flags& flags) {
  std::string language = record.language();
  std::optional<Fd> connection = code::find_context(place.socket, flags.context);
  if (connection && language.empty()) {  // who began it did not come to its end
    code::end_context(*connection);
    connection.reset();
  }
  if (!connection && flags.language.empty())
    throw UsageError(fmt::format("code: there is no context {}{}: --lang {} begins one", flags.context,
                                 language.empty() ? "" : " any more", code::language_names()));
  if (!connection) return begin(place, record, flags, flags.language);
  if (!flags.language.empty() && flags.language != language)
    throw UsageError(fmt::format("code: the context {} is {}, not {}", flags.context, language, shown(flags.language)));
  return {std::move(*connection), language};
}

int run_cell(Context& context, const Place& place, const Flags& flags, const code::Cell& cell) {
  code::Record record(place.entry.path(), flags.context);
  record.lock();
  Opened opened = open(place, record, flags);
  auto run_before = [&](auto&& audience) {
    try {
      code::CellEnd end = run(opened.connection, cell, audience);
      audience.finish(end);
      return end;
    } catch (const std::exception& error) {
      audience.give_up(error.what());
      throw;
    }
  };
  code::CellEnd end = flags.events
                          ? run_before(ToldCell(place.entry.id(), flags.context, opened.language, opened.fresh))
                          : run_before(RawCell());
  explain(context, flags, end);
  return exit_code_of(end);
}

int list(const Place& place) {
  std::vector<Row> rows{{"CONTEXT", "LANGUAGE", "STATE"}};
  std::string text;
  for (const std::string& name : code::recorded_contexts(place.entry.path())) {
    if (!code::find_context(place.socket, name)) continue;
    code::Record record(place.entry.path(), name);
    bool busy = record.busy();
    rows.push_back({name, record.language(), busy ? "busy" : "idle"});
    text += nlohmann::ordered_json{{"context", name}, {"language", record.language()}, {"busy", busy}}.dump() + "\n";
  }
  fmt::print("{}", wants_table("") ? table(rows) : text);
  return 0;
}

int control(const Place& place, const Flags& flags) {
  std::optional<Fd> connection = code::find_context(place.socket, flags.context);
  if (!connection)
    throw std::runtime_error(
        fmt::format("code: there is no context {} in session {}", flags.context, place.entry.id()));
  if (flags.interrupt) {
    code::interrupt_context(*connection);
    return 0;
  }
  code::Record record(place.entry.path(), flags.context);
  std::string language = record.language();
  code::end_context(*connection);
  if (flags.kill) return 0;
  record.lock();  // who waited for its turn may have begun it anew meanwhile
  if (!code::find_context(place.socket, flags.context)) begin(place, record, flags, language);
  return 0;
}

}  // namespace

int code_main(Context& context) {
  Flags flags;
  Options options("code", "Run a cell in an interpreter that remembers: runner code [flags] ID [FILE|-]");
  flags.declare(options);
  std::vector<std::string> arguments = context.parse(options);
  if (arguments.empty() || arguments.size() > 2)
    throw UsageError("code: takes the ID of a session, and perhaps a FILE (- is standard input)");
  if (arguments.size() == 2 && !flags.code.empty()) throw UsageError("code: takes FILE or -c, not both");
  if (flags.list + flags.interrupt + flags.reset + flags.kill > 1)
    throw UsageError("code: --list, --interrupt, --reset and --kill exclude each other");
  if (std::string why = session::why_bad_id(flags.context); !why.empty())
    throw UsageError(fmt::format("code: --context {}: {}", shown(flags.context), why));
  if (!flags.language.empty()) language_named(flags.language);
  std::uint64_t timeout = limit_of("--timeout", flags.timeout, parse_duration);

  Place place = find_place(context, arguments[0]);
  if (flags.list) return list(place);
  if (flags.interrupt || flags.reset || flags.kill) return control(place, flags);
  try {
    return run_cell(context, place, flags, {read_cell(flags, arguments), timeout});
  } catch (const isolate::SetupError& error) {
    int code = exit_code_for(error.failure());
    report_error(
        context.globals,
        fmt::format("code: {}{}", sentence(error.failure()),
                    code == 127 ? "; cells run in the sandbox's own interpreter, and this sandbox has none" : ""));
    return code;
  }
}

}  // namespace runner::cli
