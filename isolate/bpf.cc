#include "isolate/bpf.h"

#include <sys/syscall.h>
#include <unistd.h>

namespace isolate::bpf {

int call(int command, bpf_attr& attributes) { return static_cast<int>(::syscall(SYS_bpf, command, &attributes, sizeof attributes)); }

sys::Fd load(bpf_prog_type type, const Program& program) {
  bpf_attr load{};
  load.prog_type = type;
  load.insns = reinterpret_cast<std::uintptr_t>(program.data());
  load.insn_cnt = static_cast<std::uint32_t>(program.size());
  load.license = reinterpret_cast<std::uintptr_t>("Apache-2.0");
  return sys::Fd(call(BPF_PROG_LOAD, load));
}

bool attach(int group, const sys::Fd& program, bpf_attach_type type) {
  bpf_attr attach{};
  attach.target_fd = static_cast<std::uint32_t>(group);
  attach.attach_bpf_fd = static_cast<std::uint32_t>(program.get());
  attach.attach_type = type;
  attach.attach_flags = BPF_F_ALLOW_MULTI;
  return call(BPF_PROG_ATTACH, attach) == 0;
}

}  // namespace isolate::bpf
