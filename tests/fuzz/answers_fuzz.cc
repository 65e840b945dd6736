// Any bytes at all as what an interpreter says. What must hold: no crash, an answer or a complaint, and results that are JSON again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "runner/code/answers.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace runner::code;
  Lines lines;
  lines.add({reinterpret_cast<const char*>(data), size});
  while (auto line = lines.next()) {
    try {
      Answer answer = parse_answer(*line);
      const Done* done = std::get_if<Done>(&answer);
      if (done && !nlohmann::json::accept(done->results)) std::abort();
    } catch (const BadAnswer&) {
    }
  }
  return 0;
}
