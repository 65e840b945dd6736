#include "runner/cli/code_audience.h"

#include <fmt/format.h>

#include <cstdlib>
#include <memory>

#include "runner/events/trace.h"
#include "runner/supervise/supervisor.h"

namespace runner::cli {

namespace {

constexpr const char* kTool = "code";

}  // namespace

void RawCell::output(std::uint8_t stream, std::string_view bytes) {
  (stream == 2 ? err_ : out_).write(bytes);
  if (stream != 2 && !bytes.empty()) in_line_ = bytes.back() != '\n';
}

void RawCell::finish(const code::CellEnd& end) {
  if (end.done) {
    if (in_line_ && !end.done->texts.empty()) out_.write("\n");
    for (const std::string& text : end.done->texts) out_.write(text + "\n");
    if (end.done->error)
      err_.write(end.done->error->traceback + (end.done->error->traceback.ends_with('\n') ? "" : "\n"));
  }
  out_.drain();
  err_.drain();
}

void RawCell::give_up(const std::string&) {
  out_.drain();
  err_.drain();
}

ToldCell::ToldCell(const std::string& session, const std::string& context, const std::string& language, bool fresh)
    : writer_("runner/session/" + session, events::caller_traceparent()), context_(context), language_(language), fresh_(fresh) {
  writer_.add(std::make_unique<supervise::OutputSink>(out_));
}

void ToldCell::ready(const code::Ready& ready) {
  call_ = fmt::format("{}-{}", code::call_of(context_), ready.id);
  streams_[0].emplace(writer_, events::Stream::Stdout, call_);
  streams_[1].emplace(writer_, events::Stream::Stderr, call_);
  writer_.write(events::ToolCallStarted{call_, kTool, context_, language_, fresh_});
}

void ToldCell::finish(const code::CellEnd& it) {
  if (!call_.empty()) end(event_of(it));
  out_.drain();
}

void ToldCell::give_up(const std::string& reason) {
  events::ToolCallFinished event;
  event.call = call_, event.tool = kTool;
  event.result = events::word(events::Result::RunnerError);
  event.reason = reason;
  if (!call_.empty()) end(event);
  out_.drain();
}

void ToldCell::end(const events::ToolCallFinished& event) {
  for (auto& stream : streams_) stream->finish();
  writer_.write(event);
}

events::ToolCallFinished ToldCell::event_of(const code::CellEnd& end) const {
  events::ToolCallFinished event;
  event.call = call_, event.tool = kTool;
  event.ms = end.ms;
  event.result = events::word(end.how == code::How::TimedOut ? events::Result::Timeout : events::Result::Cancelled);
  if (end.how == code::How::Lost) event.result = end.result;
  if (end.how == code::How::Left) event.reason = "nobody waits for it any more, and it goes on";
  if (end.lost) event.reason = "the interpreter has ended: " + end.reason;
  if (end.lost) event.context_lost = true;
  if (!end.done) return event;
  event.results = events::JsonText{end.done->results};
  event.error = end.done->error;
  if (end.done->dropped) event.dropped = end.done->dropped;
  if (end.how != code::How::Done || end.done->status == code::Status::Interrupted) return event;
  event.ok = end.done->status == code::Status::Ok;
  event.result = event.ok ? events::word(events::Result::Success) : "exception";
  return event;
}

}  // namespace runner::cli
