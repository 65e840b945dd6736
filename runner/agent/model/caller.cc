#include "runner/agent/model/caller.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <strings.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>

#include "isolate/sys/error.h"
#include "runner/agent/model/protocol.h"

namespace runner::agent::model {

namespace {

using nlohmann::json;

constexpr std::size_t kLargestBody = 64u << 20;
constexpr long kConnectMs = 30'000;
constexpr std::string_view kTold[] = {"retry-after", "retry-after-ms", "x-should-retry", "request-id", "x-request-id", "content-type"};

struct Gone {};  // the other end of the socket has closed

struct Request {
  std::string path;
  std::vector<std::pair<std::string, std::string>> headers;
  std::uint64_t total_ms = 0, first_byte_ms = kFirstByteMs, idle_ms = kIdleMs;
};

struct Outcome {
  std::string kind, message;
};

using List = std::unique_ptr<curl_slist, void (*)(curl_slist*)>;

std::uint64_t now_ms() {
  using namespace std::chrono;
  return static_cast<std::uint64_t>(duration_cast<milliseconds>(steady_clock::now().time_since_epoch()).count());
}

bool is_token(std::string_view name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

bool is_line(std::string_view text) { return text.find_first_of(std::string_view("\r\n\0", 3)) == std::string_view::npos; }

Request read_request(const std::string& payload) {
  json object = json::parse(payload);
  Request request{.path = object.at("path")};
  bool printable = std::all_of(request.path.begin(), request.path.end(), [](char c) { return c > ' ' && c <= '~'; });
  if (!request.path.starts_with('/') || !printable)
    throw std::runtime_error("read a request: its path must begin with / and be printable");
  for (const json& header : object.at("headers")) {
    std::string name = header.at(0), value = header.at(1);
    if (!is_token(name) || !is_line(value)) throw std::runtime_error("read a request: a header must be one line");
    request.headers.emplace_back(name, value);
  }
  request.total_ms = object.value("total_ms", request.total_ms);
  request.first_byte_ms = object.value("first_byte_ms", request.first_byte_ms);
  request.idle_ms = object.value("idle_ms", request.idle_ms);
  return request;
}

std::string kind_of(CURLcode code) {
  switch (code) {
    case CURLE_OK: return "";
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT: return "connect";  // the one limit of libcurl's that is set
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_USE_SSL_FAILED: return "tls";
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_SSL_SHUTDOWN_FAILED: return "eof";
    default: return "other";
  }
}

}  // namespace

struct Caller::State {
  explicit State(Setup given) : setup(std::move(given)), resolve(nullptr, ::curl_slist_free_all) {
    easy = ::curl_easy_init();
    multi = ::curl_multi_init();
    if (!easy || !multi) throw std::runtime_error("begin to use libcurl: no memory");
    if (!setup.endpoint.resolve.empty()) resolve.reset(::curl_slist_append(nullptr, setup.endpoint.resolve.c_str()));
  }
  ~State() {
    ::curl_multi_cleanup(multi);
    ::curl_easy_cleanup(easy);
  }
  State(const State&) = delete;

  Setup setup;
  CURL* easy = nullptr;
  CURLM* multi = nullptr;
  List resolve;
  Frames frames;

  // Of the call under way.
  json told;  // its headers
  bool status_sent = false;
  std::size_t received = 0;
  std::uint64_t last_byte = 0;
  std::optional<Outcome> broken_off;  // by us

  void send(char kind, std::string_view payload) {
    std::string bytes = frame(kind, payload);
    for (std::string_view left = bytes; !left.empty();) {
      ssize_t sent = ::send(setup.socket, left.data(), left.size(), MSG_NOSIGNAL);
      if (sent == -1 && errno == EINTR) continue;
      if (sent == -1) throw Gone{};
      left.remove_prefix(static_cast<std::size_t>(sent));
    }
  }

  // False when nothing is there and `wait` is not set.
  bool receive(bool wait) {
    char bytes[64 << 10];
    ssize_t got;
    do got = ::recv(setup.socket, bytes, sizeof bytes, wait ? 0 : MSG_DONTWAIT);
    while (got == -1 && errno == EINTR);
    if (got == -1 && errno == EAGAIN) return false;
    if (got <= 0) throw Gone{};
    frames.add({bytes, static_cast<std::size_t>(got)});
    return true;
  }

  std::optional<Frame> next_frame() {
    if (frames.broken()) throw std::runtime_error("read a frame: it is larger than 64 MiB");
    return frames.next();
  }

  // Nothing may be thrown through libcurl: what is thrown here is thrown again when it has returned.
  std::exception_ptr thrown;
  template <typename Step>
  std::size_t guarded(std::size_t size, Step step) {
    try {
      return step() ? size : 0;  // another number than the size stops the transfer
    } catch (...) {
      thrown = std::current_exception();
      return 0;
    }
  }

  bool take_header(std::string_view line) {
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.remove_suffix(1);
    if (status_sent) return true;  // a trailer
    if (line.starts_with("HTTP/")) told = json::object();  // those of an answer 100 before it do not count
    if (line.empty()) return take_status();
    std::size_t colon = line.find(':');
    if (colon == std::string_view::npos) return true;
    std::string name(line.substr(0, colon));
    std::transform(name.begin(), name.end(), name.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    if (std::find(std::begin(kTold), std::end(kTold), name) == std::end(kTold)) return true;
    line.remove_prefix(std::min(line.find_first_not_of(" \t", colon + 1), line.size()));
    told[name] = line;
    return true;
  }

  bool take_status() {
    long status = 0;
    ::curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200) return true;
    status_sent = true;
    send(kStatus, json{{"status", status}, {"headers", told}}.dump(-1, ' ', true, json::error_handler_t::replace));
    if (status >= 300 && status < 400) broken_off = {"redirect", fmt::format("status {}", status)};
    return !broken_off;
  }

  bool take_body(std::string_view bytes) {
    last_byte = now_ms();
    received += bytes.size();
    if (received > kLargestBody) broken_off = {"other", "the body is larger than 64 MiB"};
    else send(kData, bytes);
    return !broken_off;
  }

  static std::size_t on_header(char* bytes, std::size_t, std::size_t size, void* state) {
    auto* self = static_cast<State*>(state);
    return self->guarded(size, [&] { return self->take_header({bytes, size}); });
  }

  static std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* state) {
    auto* self = static_cast<State*>(state);
    return self->guarded(size, [&] { return self->take_body({bytes, size}); });
  }

  List headers_of(const Request& request) const {
    List list(nullptr, ::curl_slist_free_all);
    auto add = [&](const std::string& line) {
      curl_slist* longer = ::curl_slist_append(list.get(), line.c_str());
      if (!longer) throw std::bad_alloc();
      static_cast<void>(list.release());
      list.reset(longer);
    };
    for (const auto& [name, value] : request.headers) {
      if (::strcasecmp(name.c_str(), setup.auth_name.c_str()) == 0) continue;  // ours alone
      add(value.empty() ? name + ";" : name + ": " + value);
    }
    if (!setup.auth_value.empty()) add(setup.auth_name + ": " + setup.auth_value);
    add("Expect:");  // libcurl would wait a second for a 100 before it sends a long conversation
    return list;
  }

  template <typename Value>
  void set(CURLoption option, Value value) {
    if (CURLcode code = ::curl_easy_setopt(easy, option, value); code != CURLE_OK)
      throw std::runtime_error(fmt::format("set option {} of libcurl: {}", static_cast<int>(option), ::curl_easy_strerror(code)));
  }

  void prepare(const Request& request, const std::string& body, const List& headers, const std::string& url, char* error) {
    ::curl_easy_reset(easy);  // connections stay
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_PATH_AS_IS, 1L);
    set(CURLOPT_PROTOCOLS_STR, setup.endpoint.encrypted ? "https" : "http");
    set(CURLOPT_PROXY, "");  // whatever the environment says: its name could not be resolved any more
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
    set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
    set(CURLOPT_CAINFO, nullptr);
    set(CURLOPT_CAPATH, nullptr);  // else the system's certificates are trusted beside those that were given
    curl_blob ca{setup.ca.data(), setup.ca.size(), CURL_BLOB_COPY};
    if (setup.endpoint.encrypted) set(CURLOPT_CAINFO_BLOB, &ca);
    if (resolve) set(CURLOPT_RESOLVE, resolve.get());
    set(CURLOPT_DNS_CACHE_TIMEOUT, -1L);
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_TCP_KEEPIDLE, 30L);
    set(CURLOPT_TCP_KEEPINTVL, 15L);
    set(CURLOPT_CONNECTTIMEOUT_MS, request.total_ms ? std::min(kConnectMs, static_cast<long>(request.total_ms)) : kConnectMs);
    set(CURLOPT_USERAGENT, "runner");
    set(CURLOPT_HTTPHEADER, headers.get());
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    set(CURLOPT_POSTFIELDS, body.data());
    set(CURLOPT_HEADERFUNCTION, &on_header);
    set(CURLOPT_HEADERDATA, this);
    set(CURLOPT_WRITEFUNCTION, &on_body);
    set(CURLOPT_WRITEDATA, this);
    set(CURLOPT_ERRORBUFFER, error);
  }

  // How long there may still be nothing; the class of the limit when that is over.
  std::pair<std::uint64_t, const char*> next_limit(const Request& request, std::uint64_t began) const {
    std::pair<std::uint64_t, const char*> limit{began + request.first_byte_ms, "first-byte"};
    if (received) limit = {last_byte + request.idle_ms, "idle"};
    if (request.total_ms && began + request.total_ms < limit.first) limit = {began + request.total_ms, "total"};
    return limit;
  }

  Outcome transfer(const Request& request, const char* error) {
    std::uint64_t began = now_ms();
    for (;;) {
      int running = 0, left = 0;
      if (CURLMcode code = ::curl_multi_perform(multi, &running); code != CURLM_OK) return {"other", ::curl_multi_strerror(code)};
      if (thrown) std::rethrow_exception(std::exchange(thrown, nullptr));
      if (broken_off) return *broken_off;
      while (CURLMsg* message = ::curl_multi_info_read(multi, &left)) {
        if (message->msg != CURLMSG_DONE) continue;
        CURLcode code = message->data.result;
        if (code == CURLE_OK && !status_sent) return {"eof", "the connection ended in the head of the answer"};  // libcurl takes that for HTTP/0.9
        return {kind_of(code), code == CURLE_OK ? "" : *error ? error : ::curl_easy_strerror(code)};
      }
      auto [until, kind] = next_limit(request, began);
      std::uint64_t now = now_ms();
      if (now >= until) return {kind, ""};
      curl_waitfd also{.fd = setup.socket, .events = CURL_WAIT_POLLIN, .revents = 0};
      ::curl_multi_poll(multi, &also, 1, static_cast<int>(std::min<std::uint64_t>(until - now, 60'000)), nullptr);
      receive(false);
      while (auto next = next_frame()) {
        if (next->kind == kCancel) return {"cancelled", ""};
        throw std::runtime_error("read a frame: a request is under way");
      }
    }
  }

  void run(const Request& request, const std::string& body) {
    told = json::object();
    status_sent = false;
    received = 0;
    broken_off.reset();
    char error[CURL_ERROR_SIZE] = "";
    List headers = headers_of(request);
    std::string url = setup.endpoint.origin + request.path;
    prepare(request, body, headers, url, error);
    ::curl_multi_add_handle(multi, easy);
    struct Removal {
      State& state;
      ~Removal() { ::curl_multi_remove_handle(state.multi, state.easy); }  // closes the connection if it is in the middle of something
    };
    Outcome outcome;
    {
      Removal removal{*this};
      outcome = transfer(request, error);
    }
    json end{{"ok", outcome.kind.empty()}, {"class", outcome.kind}, {"message", outcome.message}};
    send(kEnd, end.dump(-1, ' ', true, json::error_handler_t::replace));
  }

  void serve() {
    std::optional<Request> request;
    for (;;) {
      std::optional<Frame> next = next_frame();
      if (!next) {
        receive(true);
        continue;
      }
      switch (next->kind) {
        case kRequest: request = read_request(next->payload); break;
        case kBody:
          if (!request) throw std::runtime_error("read a frame: a body without a request");
          run(*request, next->payload);
          request.reset();
          break;
        case kCancel: break;
        default: throw std::runtime_error("read a frame: its kind is unknown");
      }
    }
  }
};

Caller::Caller(Setup setup) : state_(std::make_unique<State>(std::move(setup))) {}

Caller::~Caller() = default;

void Caller::serve() {
  try {
    state_->serve();
  } catch (const Gone&) {
  }
}

}  // namespace runner::agent::model
