// `runner attach`: looks on at a running program, from what its ring still has, and types into it.
#include <fmt/format.h>

#include "isolate/link.h"
#include "runner/cli/awake.h"
#include "runner/cli/detach_keys.h"
#include "runner/config/units.h"
#include "runner/supervise/client.h"

namespace runner::cli {

std::string parse_detach_keys(const std::string& text) {
  std::string keys;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = std::min(text.find(',', at), text.size());
    std::string key = text.substr(at, end - at);
    bool control = key.size() == 6 && key.rfind("ctrl-", 0) == 0;
    if (control && key[5] >= '@' && key[5] <= '_') keys += static_cast<char>(key[5] - '@');
    else if (control && key[5] >= 'a' && key[5] <= 'z') keys += static_cast<char>(key[5] - 'a' + 1);
    else if (key.size() == 1) keys += key;
    else throw UsageError(fmt::format("--detach-keys: '{}' is no key (a character, or ctrl- and one of a-z @ [ \\ ] ^ _)", key));
    at = end + 1;
  }
  return keys;
}

int attach_main(Context& context) {
  std::string from, keys = "ctrl-p,ctrl-q";
  bool no_stdin = false, take_over = false;
  Options options("attach", "Attach to the program of a session, or to a call of it: runner attach [flags] ID [CALL|SERVICE]");
  options.value("--from", from, "offset in its output to begin at; by default the oldest that is still there");
  options.flag("--no-stdin", no_stdin, "only look on: a signal ends this command, and does not go to the program");
  options.flag("--take-over", take_over, "detach everybody else from it");
  options.value("--detach-keys", keys, "keys that leave it running");
  std::vector<std::string> arguments = context.parse(options);
  if (arguments.empty() || arguments.size() > 2) throw UsageError("attach: takes the ID of a session, and perhaps the name of a call");
  std::optional<std::uint64_t> offset = parse_whole(from.empty() ? "0" : from);
  if (!offset) throw UsageError(fmt::format("attach: --from {}: not an offset", from));

  session::Entry entry = context.entry(arguments[0]);
  session::State state = entry.read_state();
  isolate::sys::Fd awake = awaken(context, entry, state);
  if (!state.is_session) throw std::runtime_error("attach: a container's streams are its caller's; only sessions can be attached to");
  supervise::Watching how;
  how.interactive = !no_stdin;
  how.only_looks = no_stdin;
  how.takes_over = take_over;
  how.detach_keys = parse_detach_keys(keys);
  isolate::sys::Fd socket = supervise::connect_to_session(entry.file("control.sock"));
  awake.close();  // who looks on does not keep it awake
  supervise::Watched end = supervise::attach_call(socket, arguments.size() == 2 ? arguments[1] : "", *offset, how);
  if (end.taken) std::fputs("\r\nrunner: another client took over; it runs on\n", stderr);
  if (end.left) std::fputs("\r\nrunner: detached; it runs on\n", stderr);
  return end.exit_code;
}

}  // namespace runner::cli
