#include "isolate/listen_bpf.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

#include "isolate/bpf.h"

namespace isolate {

using bpf::instruction;

namespace {

std::size_t page_size() { return static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)); }

// if (op == listen) ringbuf_output(ring, &zero, 8, 0); return 1
bpf::Program tell_listening(int ring) {
  constexpr int kSize = 8;
  return {
      instruction(BPF_LDX | BPF_MEM | BPF_W, BPF_REG_2, BPF_REG_1, offsetof(bpf_sock_ops, op), 0),
      instruction(BPF_JMP | BPF_JNE | BPF_K, BPF_REG_2, 0, 8, BPF_SOCK_OPS_TCP_LISTEN_CB),
      instruction(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_10, 0, -kSize, 0),
      instruction(BPF_LD | BPF_IMM | BPF_DW, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, ring),
      instruction(0, 0, 0, 0, 0),  // its second half
      instruction(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_2, BPF_REG_10, 0, 0),
      instruction(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -kSize),
      instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_3, 0, 0, kSize),
      instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_4, 0, 0, 0),
      instruction(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_ringbuf_output),
      instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1),
      instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
}

void* map_page(const sys::Fd& ring, int protection, std::size_t page) {
  void* at = ::mmap(nullptr, page_size(), protection, MAP_SHARED, ring.get(), static_cast<off_t>(page * page_size()));
  return at == MAP_FAILED ? nullptr : at;
}

}  // namespace

std::optional<ListenWatch> ListenWatch::on(const Cgroup& group) {
  if (group.v2_fd() < 0) return std::nullopt;
  bpf_attr make{};
  make.map_type = BPF_MAP_TYPE_RINGBUF;
  make.max_entries = static_cast<std::uint32_t>(page_size());  // the least; when it is full there is something to read all the same
  ListenWatch watch{sys::Fd(bpf::call(BPF_MAP_CREATE, make))};
  if (!watch.ring_) return std::nullopt;
  watch.read_ = static_cast<unsigned long*>(map_page(watch.ring_, PROT_READ | PROT_WRITE, 0));
  watch.written_ = static_cast<const unsigned long*>(map_page(watch.ring_, PROT_READ, 1));
  // The program lives as long as the cgroup, to which it stays attached.
  sys::Fd program = bpf::load(BPF_PROG_TYPE_SOCK_OPS, tell_listening(watch.ring_.get()));
  if (!watch.read_ || !watch.written_ || !program || !bpf::attach(group.v2_fd(), program, BPF_CGROUP_SOCK_OPS)) return std::nullopt;
  return watch;
}

ListenWatch& ListenWatch::operator=(ListenWatch&& other) noexcept {
  std::swap(ring_, other.ring_);
  std::swap(read_, other.read_);
  std::swap(written_, other.written_);
  return *this;
}

ListenWatch::~ListenWatch() {
  if (read_) ::munmap(read_, page_size());
  if (written_) ::munmap(const_cast<unsigned long*>(written_), page_size());
}

bool ListenWatch::clear() {
  unsigned long written = __atomic_load_n(written_, __ATOMIC_ACQUIRE);
  if (written == *read_) return false;
  __atomic_store_n(read_, written, __ATOMIC_RELEASE);
  return true;
}

}  // namespace isolate
