#include "runner/snapshot/secrets.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace runner::snapshot {

namespace {

constexpr std::string_view kDigits = "0123456789", kLower = "abcdefghijklmnopqrstuvwxyz", kUpper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";

using Alphabet = std::bitset<256>;

Alphabet letters(std::initializer_list<std::string_view> lists) {
  Alphabet all;
  for (std::string_view list : lists)
    for (unsigned char c : list) all.set(c);
  return all;
}

const Alphabet kDigit = letters({kDigits}), kSmall = letters({kLower}), kAlnum = letters({kDigits, kLower, kUpper}),
               kBase32 = letters({kUpper, "234567"}), kBase64Url = letters({kDigits, kLower, kUpper, "-_"}),
               kPem = letters({kDigits, kUpper, " "});

// How many bytes from `at` on, at most `most`, are of the alphabet.
std::size_t run(std::string_view text, std::size_t at, const Alphabet& alphabet, std::size_t most) {
  std::size_t n = 0;
  while (n < most && at + n < text.size() && alphabet[static_cast<unsigned char>(text[at + n])]) ++n;
  return n;
}

struct Part {
  Alphabet alphabet;
  std::size_t least, most;
  std::string_view then = {};
};

// One of the beginnings, then the parts; and then no letter, digit, - or _: base64 in which a token begins by chance goes on.
struct Form {
  const char* kind;
  std::vector<std::string_view> begins;
  std::vector<Part> parts;
};

const std::vector<Form>& forms() {
  static const std::vector<Form> all{
      {"aws-access-key", {"AKIA", "ASIA"}, {{kBase32, 16, 16}}},
      {"github-token", {"ghp_", "gho_", "ghu_", "ghs_", "ghr_"}, {{kAlnum, 36, 36}}},
      {"github-token", {"github_pat_"}, {{kAlnum, 22, 22, "_"}, {kAlnum, 59, 59}}},
      {"anthropic-key", {"sk-ant-"}, {{kSmall, 2, 8}, {kDigit, 2, 2, "-"}, {kBase64Url, 80, 140}}},
      {"openai-key", {"sk-proj-", "sk-svcacct-", "sk-admin-"}, {{kBase64Url, 40, 200}}},
      {"slack-token", {"xoxb-", "xoxa-", "xoxp-", "xoxr-", "xoxs-"}, {{kDigit, 1, 14, "-"}, {kBase64Url, 16, 250}}},
      {"google-api-key", {"AIza"}, {{kBase64Url, 35, 35}}},
      {"npm-token", {"npm_"}, {{kAlnum, 36, 36}}},
  };
  return all;
}

bool has_form(std::string_view text, std::size_t at, const Form& form) {
  auto begin = std::find_if(form.begins.begin(), form.begins.end(), [&](std::string_view each) { return text.substr(at).starts_with(each); });
  if (begin == form.begins.end()) return false;
  at += begin->size();
  for (const Part& part : form.parts) {
    std::size_t length = run(text, at, part.alphabet, part.most);
    at += length;
    if (length < part.least || !text.substr(at).starts_with(part.then)) return false;
    at += part.then.size();
  }
  return run(text, at, kBase64Url, 1) == 0;
}

constexpr std::string_view kPemBegin = "-----BEGIN ", kPemEnd = "PRIVATE KEY";

// With a line end behind it, plain or as JSON writes it, and a line that begins: libraries have the words alone.
bool has_private_key(std::string_view text, std::size_t at) {
  text = text.substr(at, 200);
  if (!text.starts_with(kPemBegin)) return false;
  std::size_t words = run(text, kPemBegin.size(), kPem, 60) + kPemBegin.size();
  std::string_view name = text.substr(0, words);
  if (name.ends_with(" BLOCK")) name.remove_suffix(6);
  if (!name.ends_with(kPemEnd) || !text.substr(words).starts_with("-----")) return false;
  std::string_view behind = text.substr(words + 5);
  std::size_t ends = 0;
  for (;; ++ends) {
    if (behind.starts_with("\n") || behind.starts_with("\r")) behind.remove_prefix(1);
    else if (behind.starts_with("\\n") || behind.starts_with("\\r")) behind.remove_prefix(2);
    else break;
  }
  return ends > 0 && run(behind, 0, kAlnum, 4) == 4;
}

constexpr std::string_view kJwtMiddle = ".eyJ";  // of base64url, {" begins so: the head and the claims are objects
constexpr std::size_t kJwtHead = 2048, kJwtPart = 6000, kJwtLeast = 10;

// Where it begins, when its middle is at `at`. Found by its middle, for of the runs between dots each is looked at but twice: a file full
// of heads must not take for ever.
std::size_t jwt_begin(std::string_view text, std::size_t at) {
  constexpr std::size_t none = std::string_view::npos;
  if (!text.substr(at).starts_with(kJwtMiddle)) return none;
  std::size_t claims = run(text, at + 1, kBase64Url, kJwtPart), dot = at + 1 + claims;
  if (claims < kJwtLeast || dot >= text.size() || text[dot] != '.' || run(text, dot + 1, kBase64Url, kJwtLeast) < kJwtLeast) return none;
  std::size_t head = at;
  while (head > 0 && at - head < kJwtHead && kBase64Url[static_cast<unsigned char>(text[head - 1])]) --head;
  std::size_t begin = text.substr(head, at - head).find("eyJ");
  return begin == none || at - head - begin < kJwtLeast ? none : head + begin;
}

constexpr std::size_t kPrivateKey = 1000, kJwt = 1001;  // among the numbers of forms()

std::uint32_t four(const char* at) {
  std::uint32_t bytes;
  std::memcpy(&bytes, at, 4);
  return bytes;
}

std::uint16_t two(const char* at) {
  std::uint16_t bytes;
  std::memcpy(&bytes, at, 2);
  return bytes;
}

}  // namespace

Secrets::Secrets() {
  for (std::size_t i = 0; i < forms().size(); ++i)
    for (std::string_view begins : forms()[i].begins) add({forms()[i].kind, "", i}, begins);
  add({"private-key", "", kPrivateKey}, kPemBegin);
  add({"jwt", "", kJwt}, kJwtMiddle);
}

void Secrets::add(const std::string& kind, const std::string& value) {
  if (value.size() < kShortest || value.size() > kLongest)
    throw std::runtime_error(fmt::format("look for the secret {}: it has {} bytes, and must have {} to {} (a shorter one would be found everywhere)", kind, value.size(), kShortest, kLongest));
  add({kind, value, 0}, value);
}

void Secrets::add(Wanted wanted, std::string_view begins) {
  auto& same = begins_[four(begins.data())];
  // Two beginnings of one form may have four bytes in common: sk-proj-, sk-...
  bool known = std::any_of(same.begin(), same.end(), [&](std::size_t i) { return all_[i].value.empty() && wanted.value.empty() && all_[i].form == wanted.form; });
  if (known) return;
  for (std::size_t i = 0; i < 3; ++i) pairs_.set(two(begins.data() + i));
  same.push_back(all_.size());
  all_.push_back(std::move(wanted));
}

void Search::add(std::string_view bytes) {
  bytes_.append(bytes);
  // The longest secret, and the byte behind it that must be none of its own.
  if (bytes_.size() <= next_ + Secrets::kLongest) return;
  look(bytes_.size() - Secrets::kLongest);
  std::size_t behind = std::min(next_, kJwtHead);
  base_ += next_ - behind;
  bytes_.erase(0, next_ - behind);
  next_ = behind;
}

void Search::end_piece() {
  if (bytes_.size() >= 4 && bytes_.size() - 3 > next_) look(bytes_.size() - 3);
  base_ += bytes_.size();
  bytes_.clear();
  next_ = 0;
}

void Search::skip(std::uint64_t hole) {
  end_piece();
  base_ += hole;
}

// Looks at all beginnings in front of `end`, which has 3 bytes behind it.
void Search::look(std::size_t end) {
  const char* bytes = bytes_.data();
  for (std::size_t pair = next_ + 2; pair < end + 2; pair += 3) {
    if (!secrets_.pairs_[two(bytes + pair)]) continue;
    for (std::size_t at = pair - 2; at <= pair && at < end; ++at) look_at(at);
  }
  next_ = end;
}

void Search::look_at(std::size_t at) {
  std::string_view text = bytes_;
  auto begins = secrets_.begins_.find(four(text.data() + at));
  if (begins == secrets_.begins_.end()) return;
  for (std::size_t i : begins->second) {
    const Secrets::Wanted& wanted = secrets_.all_[i];
    std::size_t from = at;
    bool is = !wanted.value.empty()       ? text.substr(at).starts_with(wanted.value)
              : wanted.form == kPrivateKey ? has_private_key(text, at)
              : wanted.form == kJwt        ? (from = jwt_begin(text, at)) != std::string_view::npos
                                           : has_form(text, at, forms()[wanted.form]);
    if (!is) continue;
    Found& found = found_.try_emplace(wanted.kind, Found{wanted.kind, base_ + from, 0}).first->second;
    ++found.count;
  }
}

std::vector<Found> Search::finish() {
  end_piece();
  std::vector<Found> all;
  for (auto& [kind, found] : found_) all.push_back(std::move(found));
  found_.clear();
  base_ = 0;
  return all;
}

}  // namespace runner::snapshot
