// Lists for people: columns as wide as their widest cell.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace runner::cli {

using Row = std::vector<std::string>;

/// Lines of the table, the first row being its head. What a terminal would obey (control characters) is shown as '?'.
std::string table(const std::vector<Row>& rows);

/// Whether --format, or without it the kind of our stdout, asks for a table. Throws UsageError for a word that is neither.
bool wants_table(const std::string& format);

std::string human_bytes(std::uint64_t bytes);  ///< "12.3M"
std::string human_time(std::int64_t seconds);  ///< "45s", "12m", "3h", "5d"
/// The words of a command line as a shell would read them, at most so many bytes.
std::string human_command(const std::vector<std::string>& argv, std::size_t longest);

}  // namespace runner::cli
