// Which bytes are a secret, wherever the pieces are cut.
#include "runner/snapshot/secrets.h"

#include <doctest/doctest.h>

#include <random>
#include <stdexcept>

using namespace runner::snapshot;

namespace {

std::string some(std::size_t n, std::string_view alphabet = "aZ3kQ9xB7") {
  std::string text;
  for (std::size_t i = 0; i < n; ++i) text += alphabet[(i * 7 + i / 5) % alphabet.size()];
  return text;
}

std::string jwt() { return "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + some(43); }

std::vector<std::pair<std::string, std::string>> known() {
  return {{"aws-access-key", "AKIAIOSFODNN7EXAMPLE"},
          {"aws-access-key", "ASIA" + some(16, "Q2BZ7A")},
          {"github-token", "ghp_" + some(36)},
          {"github-token", "ghs_" + some(36)},
          {"github-token", "github_pat_" + some(22) + "_" + some(59)},
          {"anthropic-key", "sk-ant-api03-" + some(93, "aZ3-_Q") + "AA"},
          {"openai-key", "sk-proj-" + some(156, "aZ3-_Q")},
          {"openai-key", "sk-svcacct-" + some(60)},
          {"slack-token", "xoxb-123456789012-1234567890123-" + some(24)},
          {"google-api-key", "AIza" + some(35, "aZ3-_Q")},
          {"npm-token", "npm_" + some(36)},
          {"jwt", jwt()},
          {"private-key", "-----BEGIN PRIVATE KEY-----\nMIIEvQ"},
          {"private-key", "-----BEGIN RSA PRIVATE KEY-----\r\nProc-Type: 4,ENCRYPTED"},
          {"private-key", "-----BEGIN OPENSSH PRIVATE KEY-----\\nb3BlbnNzaC1rZXk"},
          {"private-key", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQVYBF"}};
}

std::vector<Found> in(const std::string& text, const Secrets& secrets = Secrets()) {
  Search search(secrets);
  search.add(text);
  return search.finish();
}

using All = std::vector<Found>;

}  // namespace

TEST_SUITE("secrets") {
  TEST_CASE("each known form is found where it stands, whatever is around it") {
    for (const auto& [kind, secret] : known())
      for (const char* end : {"", "\n", "\"", ".", " x"}) {
        INFO(secret, end);
        for (std::size_t before : {0u, 1u, 2u, 3u, 4u, 100u}) CHECK(in(std::string(before, '=') + secret + end) == All{{kind, before, 1}});
      }
  }

  TEST_CASE("what is not quite of a form is none") {
    for (std::string text : {"AKIAIOSFODNN7EXAMPL", "AKIAIOSFODNN7EXAMPLEX", "AKIAIOSFODNN7EXAMPL1", "akiaiosfodnn7example", "ghp_short", "sk-ant-api03-short", "eyJhbGciOiJIUzI1NiJ9.e30.x",
                             "-----BEGIN PRIVATE KEY-----", "-----BEGIN PRIVATE KEY-----\0\0", "-----BEGIN %s PRIVATE KEY-----\n", "-----BEGIN PUBLIC KEY-----\nMIIBIj"})
      CHECK(in(text) == All{});
    for (const auto& [kind, secret] : known()) {
      CAPTURE(secret);
      if (kind != "private-key") CHECK(in(secret.substr(0, 9) + " " + secret.substr(9)) == All{});
    }
    CHECK(in("ghp_" + some(37)) == All{});
    CHECK(in("AIza" + some(36)) == All{});
  }

  TEST_CASE("random bytes, and random base64, have none") {
    std::mt19937_64 random(7);
    for (std::string_view alphabet : {std::string_view(), std::string_view("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")}) {
      std::string bytes(4 << 20, '\0');
      for (char& c : bytes) c = alphabet.empty() ? static_cast<char>(random()) : alphabet[random() % alphabet.size()];
      CHECK(in(bytes) == All{});
    }
  }

  TEST_CASE("a secret across two pieces is found once, wherever it is cut") {
    Secrets secrets;
    std::string own = "correct horse battery staple";
    secrets.add("own", own);
    auto all = known();
    all.emplace_back("own", own);
    for (const auto& [kind, secret] : all) {
      CAPTURE(secret);
      // Behind it so much that it is looked at before the end, and in front of it more than is kept.
      for (std::size_t behind : {std::size_t{5}, 2 * Secrets::kLongest}) {
        std::string text = std::string(10'000, '.') + secret + "\n" + std::string(behind, '.');
        for (std::size_t cut = 10'000 - 2; cut <= 10'000 + secret.size() + 2; ++cut) {
          Search search(secrets);
          search.add(std::string_view(text).substr(0, cut));
          search.add(std::string_view(text).substr(cut));
          REQUIRE(search.finish() == All{{kind, 10'000, 1}});
        }
      }
    }
  }

  TEST_CASE("many pieces: each is counted, and the first one's place is told") {
    Secrets secrets;
    std::string text;
    for (int i = 0; i < 1000; ++i) text += some(static_cast<std::size_t>(i % 97), "ab \n") + "\n" + known()[static_cast<std::size_t>(i) % 12].second + "\n";
    All whole = in(text, secrets);
    for (std::size_t piece : {1u, 3u, 100u, 4096u, 8191u, 8193u, 100'000u}) {
      Search search(secrets);
      for (std::size_t at = 0; at < text.size(); at += piece) search.add(std::string_view(text).substr(at, piece));
      CHECK(search.finish() == whole);
    }
    std::uint64_t count = 0;
    for (const Found& found : whole) count += found.count;
    CHECK(count == 1000);
  }

  TEST_CASE("places are those of the file behind a hole too, and nothing is found across one") {
    std::string secret = known()[0].second;
    Secrets secrets;
    Search search(secrets);
    search.add("12345");
    search.skip(1ull << 40);
    search.add("abc " + secret + "\n");
    CHECK(search.finish() == All{{"aws-access-key", (1ull << 40) + 9, 1}});
    search.add(secret.substr(0, 10));
    search.skip(4096);
    search.add(secret.substr(10));
    CHECK(search.finish() == All{});
  }

  TEST_CASE("a value of the caller's is any bytes, found inside others, and too short a one is refused without being shown") {
    Secrets secrets;
    secrets.add("env:A", "hunter22");
    secrets.add("env:B", "hunter22-and-more");
    secrets.add("long", std::string(Secrets::kLongest, 'x'));
    CHECK(in("xxhunter22-and-morexx", secrets) == All{{"env:A", 2, 1}, {"env:B", 2, 1}});
    CHECK(in(std::string(20'000, '.') + std::string(Secrets::kLongest, 'x') + std::string(20'000, '.'), secrets) == All{{"long", 20'000, 1}});
    for (std::string bad : {std::string(), std::string("hunter2"), std::string(Secrets::kLongest + 1, 'x')}) {
      std::string said;
      try {
        secrets.add("env:C", bad);
      } catch (const std::runtime_error& error) {
        said = error.what();
      }
      CHECK(said.find("env:C") != std::string::npos);
      CHECK((bad.empty() || said.find(bad) == std::string::npos));
    }
  }

  TEST_CASE("a file that looks like nothing but beginnings takes no longer") {
    for (std::string part : {"eyJ", ".eyJ", "-----BEGIN ", "sk-proj-", "AIza", "-"}) {
      std::string text;
      while (text.size() < (1 << 20)) text += part;
      in(text);
    }
  }
}
