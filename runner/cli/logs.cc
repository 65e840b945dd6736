#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <stdexcept>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/cli/context.h"
#include "runner/events/verify.h"

namespace runner::cli {

using namespace isolate::sys;

int logs_main(Context& context) {
  bool verify = false;
  Options options("logs", "Print the events of a session.");
  options.flag("--verify", verify, "prove that no event was changed, added, moved or cut off");
  std::string id = one_argument(context.parse(options), "logs");
  check_id(id);
  std::string log = context.directories().session_data(id) + "/events.ndjson";
  if (::access(log.c_str(), F_OK) == -1) throw std::runtime_error(fmt::format("session {} has no log at {}", id, log));

  if (verify) {
    events::VerifyResult result = events::verify_log(log);
    if (!result.ok) throw std::runtime_error(fmt::format("{}: {}", log, result.why));
    fmt::print("{}: {} events, none missing, none changed\n", log, result.lines);
    return 0;
  }
  Fd file = open_file(log, O_RDONLY);
  char bytes[1 << 16];
  for (ssize_t got; (got = check(::read(file.get(), bytes, sizeof bytes), "read {}", log)) > 0;)
    write_all(STDOUT_FILENO, {bytes, static_cast<std::size_t>(got)});
  return 0;
}

}  // namespace runner::cli
