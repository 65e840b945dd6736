#include "runner/agent/model/endpoint.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

namespace runner::agent::model {

namespace {

using Url = std::unique_ptr<CURLU, void (*)(CURLU*)>;
using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

std::string part_of(const Url& url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (::curl_url_get(url.get(), part, &text, flags) != CURLUE_OK) return {};
  std::string result = text;
  ::curl_free(text);
  return result;
}

bool is_loopback(const addrinfo& address) {
  if (address.ai_family == AF_INET) return ntohl(reinterpret_cast<const sockaddr_in*>(address.ai_addr)->sin_addr.s_addr) >> 24 == 127;
  return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address.ai_addr)->sin6_addr);
}

std::string text_of(const addrinfo& address) {
  char text[INET6_ADDRSTRLEN] = "";
  const void* bytes = address.ai_family == AF_INET ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(address.ai_addr)->sin_addr)
                                                   : &reinterpret_cast<const sockaddr_in6*>(address.ai_addr)->sin6_addr;
  ::inet_ntop(address.ai_family, bytes, text, sizeof text);
  return address.ai_family == AF_INET ? std::string(text) : fmt::format("[{}]", text);
}

}  // namespace

Endpoint find_endpoint(const std::string& base_url, bool allow_http) {
  Url url(::curl_url(), ::curl_url_cleanup);
  if (::curl_url_set(url.get(), CURLUPART_URL, base_url.c_str(), 0) != CURLUE_OK)
    throw std::runtime_error(fmt::format("use {} as a URL: it is none", base_url));
  std::string scheme = part_of(url, CURLUPART_SCHEME), port = part_of(url, CURLUPART_PORT, CURLU_DEFAULT_PORT);
  std::string host = part_of(url, CURLUPART_HOST, CURLU_PUNYCODE);  // a name in Unicode would be translated later, with files that are gone
  if (scheme != "https" && scheme != "http") throw std::runtime_error(fmt::format("use {}: it must begin with https://", base_url));
  if (!part_of(url, CURLUPART_USER).empty()) throw std::runtime_error("use a URL with a user name in it: the key does not go there");
  if (host.empty()) throw std::runtime_error(fmt::format("use {}: it has no host", base_url));

  bool address = host.front() == '[' || host.find_first_not_of("0123456789.") == std::string::npos;
  std::string plain = host.front() == '[' ? host.substr(1, host.size() - 2) : host;
  addrinfo hints{}, *raw = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (address) hints.ai_flags = AI_NUMERICHOST;
  if (int error = ::getaddrinfo(plain.c_str(), nullptr, &hints, &raw))
    throw std::runtime_error(fmt::format("resolve {}: {}", plain, ::gai_strerror(error)));
  Addresses addresses(raw, ::freeaddrinfo);

  bool here = true;
  std::vector<std::string> texts;
  for (const addrinfo* one = raw; one; one = one->ai_next) {
    here = here && is_loopback(*one);
    texts.push_back(text_of(*one));
  }
  if (scheme == "http" && !here && !allow_http)
    throw std::runtime_error(fmt::format("use {}: without https the key could be read on the way; say --allow-http to allow it", base_url));

  Endpoint endpoint{.origin = fmt::format("{}://{}:{}", scheme, host, port), .encrypted = scheme == "https"};
  if (!address) endpoint.resolve = fmt::format("{}:{}:{}", host, port, fmt::join(texts, ","));
  return endpoint;
}

}  // namespace runner::agent::model
