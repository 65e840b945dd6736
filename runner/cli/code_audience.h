// Who hears of a cell of `runner code`: the caller's standard output and error, or a stream of events.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runner/code/cell.h"
#include "runner/events/writer.h"

namespace runner::cli {

/// What the cell prints as it prints it, and the texts of its results behind that.
class RawCell : public code::Audience {
 public:
  void ready(const code::Ready&) override {}
  void output(std::uint8_t stream, std::string_view bytes) override;
  std::vector<supervise::Output*> outputs() override { return {&out_, &err_}; }
  void finish(const code::CellEnd& end);
  void give_up(const std::string& reason);  ///< it will not be known how it ended; the reason is the caller's to tell

 private:
  supervise::Output out_{1}, err_{2};
  bool in_line_ = false;
};

/// A stream of its own, as of `exec --events`: tool.call.started, stdio, tool.call.finished.
class ToldCell : public code::Audience {
 public:
  ToldCell(const std::string& session, const std::string& context, const std::string& language, bool fresh);
  void ready(const code::Ready& ready) override;
  void output(std::uint8_t stream, std::string_view bytes) override { streams_[stream == 2 ? 1 : 0]->bytes(bytes); }
  std::vector<supervise::Output*> outputs() override { return {&out_}; }
  void finish(const code::CellEnd& end);
  void give_up(const std::string& reason);  ///< what began as events ends as one, whatever goes wrong

 private:
  events::ToolCallFinished event_of(const code::CellEnd& end) const;
  void end(const events::ToolCallFinished& event);

  supervise::Output out_{1};
  events::Writer writer_;
  std::optional<events::StdioSplitter> streams_[2];
  std::string context_, language_, call_;  // the last is empty before the cell has begun
  bool fresh_;
};

}  // namespace runner::cli
