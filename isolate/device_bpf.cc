// The device rules of the OCI specification as a BPF_PROG_TYPE_CGROUP_DEVICE program: the v2 successor of the v1 devices
// controller. The program sees bpf_cgroup_dev_ctx {access_type, major, minor} and answers 1 (allow) or 0 (deny).
#include "isolate/bpf.h"
#include "isolate/cgroup_backends.h"
#include "isolate/sys/error.h"

namespace isolate::cgroups {

using bpf::instruction;

namespace {

// r2 access, r3 type, r4 major, r5 minor: loaded once at the start.
constexpr std::uint8_t kAccess = BPF_REG_2, kType = BPF_REG_3, kMajor = BPF_REG_4, kMinor = BPF_REG_5;

std::int32_t access_bits(const std::string& access) {
  std::int32_t bits = 0;
  for (char c : access) {
    if (c == 'r') bits |= BPF_DEVCG_ACC_READ;
    else if (c == 'w') bits |= BPF_DEVCG_ACC_WRITE;
    else if (c == 'm') bits |= BPF_DEVCG_ACC_MKNOD;
    else sys::fail(EINVAL, "use device access '{}' (only r, w and m exist)", access);
  }
  return bits;
}

void answer(bpf::Program& program, bool allow) {
  program.push_back(instruction(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, allow));
  program.push_back(instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

// "If all of this is so, answer": each mismatch jumps behind the answer.
void add_rule(bpf::Program& program, const DeviceRule& rule) {
  std::vector<std::size_t> jumps;
  auto unless_equal = [&](std::uint8_t reg, std::int32_t value) {
    jumps.push_back(program.size());
    program.push_back(instruction(BPF_JMP | BPF_JNE | BPF_K, reg, 0, 0, value));
  };
  if (rule.type == 'b' || rule.type == 'c') unless_equal(kType, rule.type == 'b' ? BPF_DEVCG_DEV_BLOCK : BPF_DEVCG_DEV_CHAR);
  std::int32_t bits = access_bits(rule.access);
  if (bits != (BPF_DEVCG_ACC_READ | BPF_DEVCG_ACC_WRITE | BPF_DEVCG_ACC_MKNOD)) {
    // An allow rule must cover all that is asked; a deny rule strikes when it covers any of it.
    program.push_back(instruction(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_1, kAccess, 0, 0));
    program.push_back(instruction(BPF_ALU64 | BPF_AND | BPF_K, BPF_REG_1, 0, 0, bits));
    jumps.push_back(program.size());
    program.push_back(rule.allow ? instruction(BPF_JMP | BPF_JNE | BPF_X, BPF_REG_1, kAccess, 0, 0)
                                 : instruction(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_1, 0, 0, 0));
  }
  if (rule.major) unless_equal(kMajor, static_cast<std::int32_t>(*rule.major));
  if (rule.minor) unless_equal(kMinor, static_cast<std::int32_t>(*rule.minor));
  answer(program, rule.allow);
  for (std::size_t at : jumps) program[at].off = static_cast<std::int16_t>(program.size() - at - 1);
}

bpf::Program compile(const std::vector<DeviceRule>& rules) {
  bpf::Program program;
  auto load = [&](std::uint8_t reg, std::size_t offset) {
    program.push_back(instruction(BPF_LDX | BPF_MEM | BPF_W, reg, BPF_REG_1, static_cast<std::int16_t>(offset), 0));
  };
  load(kAccess, offsetof(bpf_cgroup_dev_ctx, access_type));
  load(kMajor, offsetof(bpf_cgroup_dev_ctx, major));
  load(kMinor, offsetof(bpf_cgroup_dev_ctx, minor));
  // access_type is (access << 16) | type.
  program.push_back(instruction(BPF_ALU64 | BPF_MOV | BPF_X, kType, kAccess, 0, 0));
  program.push_back(instruction(BPF_ALU64 | BPF_AND | BPF_K, kType, 0, 0, 0xffff));
  program.push_back(instruction(BPF_ALU64 | BPF_RSH | BPF_K, kAccess, 0, 0, 16));
  // The last rule that matches decides, so the program asks from the last to the first.
  for (auto rule = rules.rbegin(); rule != rules.rend(); ++rule) {
    if (rule->type == 'a' && !rule->major && !rule->minor) {
      answer(program, rule->allow);
      return program;
    }
    add_rule(program, *rule);
  }
  answer(program, false);
  return program;
}

}  // namespace

void set_device_rules(int group, const std::vector<DeviceRule>& rules) {
  sys::Fd loaded = bpf::load(BPF_PROG_TYPE_CGROUP_DEVICE, compile(rules));
  sys::check(loaded.get(), "load the device rules");

  // An update replaces ours: all others of this group were ours too.
  bpf_attr query{};
  std::uint32_t old[8] = {};
  query.query.target_fd = static_cast<std::uint32_t>(group);
  query.query.attach_type = BPF_CGROUP_DEVICE;
  query.query.prog_ids = reinterpret_cast<std::uintptr_t>(old);
  query.query.prog_cnt = 8;
  if (bpf::call(BPF_PROG_QUERY, query) == -1) query.query.prog_cnt = 0;

  sys::check(bpf::attach(group, loaded, BPF_CGROUP_DEVICE) ? 0 : -1, "attach the device rules");

  for (std::uint32_t i = 0; i < query.query.prog_cnt; ++i) {
    bpf_attr by_id{};
    by_id.prog_id = old[i];
    sys::Fd before(bpf::call(BPF_PROG_GET_FD_BY_ID, by_id));
    bpf_attr detach{};
    detach.target_fd = static_cast<std::uint32_t>(group);
    detach.attach_bpf_fd = static_cast<std::uint32_t>(before.get());
    detach.attach_type = BPF_CGROUP_DEVICE;
    if (before) bpf::call(BPF_PROG_DETACH, detach);
  }
}

}  // namespace isolate::cgroups
