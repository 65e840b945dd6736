// bpf(2) as far as the programs of a cgroup need it: a few instructions, loaded and attached. Not for other folders.
#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <vector>

#include "isolate/sys/fd.h"

namespace isolate::bpf {

using Program = std::vector<bpf_insn>;

inline bpf_insn instruction(int code, std::uint8_t to, std::uint8_t from, std::int16_t offset, std::int32_t immediate) {
  bpf_insn insn{};
  insn.code = static_cast<std::uint8_t>(code);
  insn.dst_reg = to & 15;
  insn.src_reg = from & 15;
  insn.off = offset;
  insn.imm = immediate;
  return insn;
}

/// The system call itself, with its errno.
int call(int command, bpf_attr& attributes);

/// -1 inside, with errno, where this user or this kernel cannot.
sys::Fd load(bpf_prog_type type, const Program& program);

/// Beside the programs that others have attached to this cgroup, as systemd and runc do it. False, with errno, when it cannot.
bool attach(int group, const sys::Fd& program, bpf_attach_type type);

}  // namespace isolate::bpf
