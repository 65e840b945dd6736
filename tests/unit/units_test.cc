// Sizes, durations and shares of a CPU: what is read, what is not, and that what is shown can be read again.
#include "runner/config/units.h"

#include <doctest/doctest.h>

#include <string>

using namespace runner;

namespace {

constexpr std::uint64_t kK = 1024, kM = kK * 1024, kG = kM * 1024, kT = kG * 1024;
constexpr std::uint64_t kLargest = ~std::uint64_t{0};

// What no unit may carry, whichever it is.
const char* const kNeverNumbers[] = {"",
                                     " ",
                                     "lots",
                                     "-1",
                                     "+1",
                                     " 1",
                                     "1 ",
                                     "1\n",
                                     "0x10",
                                     "1e3",
                                     "1_000",
                                     "1,5",
                                     "٣",
                                     "010",
                                     "00",
                                     "0b1",
                                     "nan",
                                     "inf",
                                     "1 M",
                                     "1-",
                                     "--1",
                                     "1..5",
                                     ".5",
                                     "5.",
                                     "99999999999999999999999",
                                     "18446744073709551616"};

}  // namespace

TEST_CASE("a size is a number of bytes, or of a unit that is a power of 1024") {
  CHECK(parse_size("0") == 0);
  CHECK(parse_size("1048576") == kM);
  CHECK(parse_size("1048576b") == kM);
  CHECK(parse_size("1K") == kK);
  CHECK(parse_size("512M") == 512 * kM);
  CHECK(parse_size("2G") == 2 * kG);
  CHECK(parse_size("3T") == 3 * kT);
}

TEST_CASE("a size's unit may be written as docker, systemd and people write it") {
  for (const char* text : {"512M", "512m", "512MB", "512mb", "512MiB", "512mib", "512Mb"})
    CHECK(parse_size(text) == 512 * kM);
}

TEST_CASE("a size is refused when anything but digits and a unit is in it") {
  for (const char* text : kNeverNumbers) CHECK_MESSAGE(!parse_size(text), text);
  for (const char* text : {"M", "1.5G", "512iB", "512i", "512Mi", "512MM", "512MiBs", "512P", "1M1K", "1Bi"})
    CHECK_MESSAGE(!parse_size(text), text);
  CHECK(!parse_size(std::string("1\0", 2)));
}

TEST_CASE("a size that does not fit is refused, and the largest that fits is not") {
  CHECK(parse_size("18446744073709551615") == kLargest);
  CHECK(parse_size("16777215T") == 16777215 * kT);
  CHECK(!parse_size("16777216T"));
  CHECK(!parse_size("18446744073709551615K"));
}

TEST_CASE("a duration is a number of milliseconds, seconds, minutes or hours; seconds when it does not say") {
  CHECK(parse_duration("250ms") == 250);
  CHECK(parse_duration("30s") == 30'000);
  CHECK(parse_duration("30") == 30'000);
  CHECK(parse_duration("5m") == 300'000);
  CHECK(parse_duration("2h") == 7'200'000);
  CHECK(parse_duration("0") == 0);
}

TEST_CASE("a duration is refused when anything but digits and one unit is in it") {
  for (const char* text : kNeverNumbers) CHECK_MESSAGE(!parse_duration(text), text);
  for (const char* text : {"s", "1.5h", "1h30m", "5M", "5min", "1d", "10S", "5mss"})
    CHECK_MESSAGE(!parse_duration(text), text);
  CHECK(!parse_duration("18446744073709551615"));
  CHECK(!parse_duration("5124095576031h"));
}

TEST_CASE("cpus are counted in thousandths") {
  CHECK(parse_cpus("2") == 2000);
  CHECK(parse_cpus("1.5") == 1500);
  CHECK(parse_cpus("0.25") == 250);
  CHECK(parse_cpus("0.001") == 1);
  CHECK(parse_cpus("10.000") == 10'000);
}

TEST_CASE("cpus are refused when they are none, finer than a thousandth, or no number") {
  for (const char* text : kNeverNumbers) CHECK_MESSAGE(!parse_cpus(text), text);
  for (const char* text : {"0", "0.0", "0.000", "1.2345", "1.2.3", "1.5 ", "01.5", "1.x", "18446744073709551.616"})
    CHECK_MESSAGE(!parse_cpus(text), text);
  CHECK(parse_cpus("18446744073709551.615") == kLargest);
}

TEST_CASE("what is shown is the shortest text that says exactly the same") {
  CHECK(format_size(0) == "0");
  CHECK(format_size(2147483648) == "2G");
  CHECK(format_size(1536) == "1536");
  CHECK(format_size(1536 * kM) == "1536M");
  CHECK(format_size(1024 * kT) == "1024T");
  CHECK(format_duration(0) == "0s");
  CHECK(format_duration(1'800'000) == "30m");
  CHECK(format_duration(90'000) == "90s");
  CHECK(format_duration(1250) == "1250ms");
  CHECK(format_cpus(1500) == "1.5");
  CHECK(format_cpus(2000) == "2");
  CHECK(format_cpus(1) == "0.001");
  CHECK(format_cpus(10'000) == "10");
}

TEST_CASE("what is shown is read again as the same number") {
  for (std::uint64_t value : {std::uint64_t{1}, std::uint64_t{1000}, std::uint64_t{1023}, kK, kM + 1, 4096 * kM,
                              720 * std::uint64_t{3'600'000}, kLargest}) {
    CHECK(parse_size(format_size(value)) == value);
    CHECK(parse_duration(format_duration(value)) == value);
    CHECK(parse_cpus(format_cpus(value)) == value);
  }
}
