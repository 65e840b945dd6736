// runner-tools [--channel] [WORKSPACE]: serves the built-in file tools on stdin and stdout, or on the channel of its call (descriptor 3, see
// isolate/init/protocol.h), inside the sandbox and without rights of its own. runner-tools --wait: does nothing, for as long as the session lives.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <string_view>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"
#include "runner/tools/host.h"
#include "runner/tools/protocol.h"

using namespace runner::tools;

namespace {

void serve(Host& host, int in, int out) {
  Frames frames;
  std::string piece(64u << 10, '\0');
  for (;;) {
    ssize_t got = ::read(in, piece.data(), piece.size());
    if (got == -1 && errno == EINTR) continue;
    if (isolate::sys::check(got, "read the next call") == 0) break;
    frames.add({piece.data(), static_cast<std::size_t>(got)});
    while (auto frame = frames.next()) {
      std::string answer = host.answer(*frame);
      if (!answer.empty()) isolate::sys::write_all(out, frame_of(answer));
    }
    if (frames.too_long()) throw BadFrame(fmt::format("a frame of more than {} bytes", kLongestFrame));
  }
  if (!frames.empty()) throw BadFrame("a frame that ends too early");
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);  // a file that gets too large is an error of that call
  try {
    std::string_view flag = argc > 1 ? argv[1] : "";
    while (flag == "--wait") ::pause();
    bool channel = flag == "--channel";
    int words = channel ? 2 : 1;
    Host host(argc > words ? argv[words] : "/workspace");
    serve(host, channel ? 3 : STDIN_FILENO, channel ? 3 : STDOUT_FILENO);
    return 0;
  } catch (const BadFrame& error) {
    std::fprintf(stderr, "runner-tools: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "runner-tools: %s\n", error.what());
    return 1;
  }
}
