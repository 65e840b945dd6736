// Who begins to listen on a TCP port in a cgroup. The kernel tells nobody (sock_diag's groups are of sockets that are destroyed) but a
// BPF program of the type sock_ops: this one says "somebody did", and /proc says who.
#pragma once

#include <optional>
#include <utility>

#include "isolate/cgroup.h"
#include "isolate/sys/fd.h"

namespace isolate {

class ListenWatch {
 public:
  /// Empty where this user or this kernel cannot: it needs CAP_BPF, Linux 5.8 and a cgroup of version 2.
  static std::optional<ListenWatch> on(const Cgroup& group);
  ListenWatch(ListenWatch&& other) noexcept { *this = std::move(other); }
  ListenWatch& operator=(ListenWatch&& other) noexcept;
  ~ListenWatch();

  int fd() const { return ring_.get(); }  ///< readable once somebody did
  bool clear();                           ///< until the next does; false when nobody has

 private:
  explicit ListenWatch(sys::Fd ring) : ring_(std::move(ring)) {}

  sys::Fd ring_;
  unsigned long* read_ = nullptr;           // how far we are, in a page of its own: Documentation/bpf/ringbuf.rst
  const unsigned long* written_ = nullptr;  // and how far the kernel is
};

}  // namespace isolate
