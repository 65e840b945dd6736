#include "runner/cli/table.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "runner/cli/options.h"

namespace runner::cli {

namespace {

// Also what is beyond ASCII: C1 controls and marks that turn the direction of text are written in it.
std::string harmless(std::string text) {
  for (char& c : text)
    if (static_cast<signed char>(c) < ' ' || c == 127) c = '?';
  return text;
}

}  // namespace

std::string table(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths;
  for (const Row& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i)
      text += i + 1 == row.size() ? harmless(row[i]) : fmt::format("{:<{}}  ", harmless(row[i]), widths[i]);
    text += '\n';
  }
  return text;
}

bool wants_table(const std::string& format) {
  if (!format.empty() && format != "table" && format != "json")
    throw UsageError(fmt::format("--format: '{}' is neither table nor json", format));
  return format.empty() ? ::isatty(STDOUT_FILENO) == 1 : format == "table";
}

std::string human_bytes(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{}B", bytes);
  double number = static_cast<double>(bytes);
  const char* unit = "";
  for (const char* next : {"K", "M", "G", "T", "P"}) {
    if (number < 1024) break;
    number /= 1024;
    unit = next;
  }
  return fmt::format("{:.1f}{}", number, unit);
}

std::string human_time(std::int64_t seconds) {
  seconds = std::max<std::int64_t>(seconds, 0);
  if (seconds < 120) return fmt::format("{}s", seconds);
  if (seconds < 120 * 60) return fmt::format("{}m", seconds / 60);
  if (seconds < 48 * 3600) return fmt::format("{}h", seconds / 3600);
  return fmt::format("{}d", seconds / 86400);
}

std::string human_command(const std::vector<std::string>& argv, std::size_t longest) {
  std::string text;
  for (const std::string& word : argv) {
    if (text.size() > longest) break;
    if (!text.empty()) text += ' ';
    bool plain = !word.empty() && word.find_first_of(" \t\n\"'\\$&|;<>()*?#~`!{}[]") == std::string::npos;
    text += plain ? word : "'" + word + "'";
  }
  if (text.size() > longest) text = text.substr(0, longest - 3) + "...";
  return text;
}

}  // namespace runner::cli
