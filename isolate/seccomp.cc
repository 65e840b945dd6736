#include "isolate/seccomp.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <nettle/sha2.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <sstream>

#include "isolate/sys/error.h"
#include "isolate/sys/file.h"

namespace isolate {

using namespace sys;

namespace {

// A new layout of the cached programs, or of the rules' text, needs a new number here.
constexpr const char* kCacheVersion = "2";

// Newer than libseccomp 2.5.4; the numbers from 424 on are the same on all architectures.
constexpr std::pair<const char*, int> kNewerSyscalls[] = {
    {"set_mempolicy_home_node", 450}, {"cachestat", 451},         {"fchmodat2", 452},      {"map_shadow_stack", 453},
    {"futex_wake", 454},              {"futex_wait", 455},        {"futex_requeue", 456},  {"statmount", 457},
    {"listmount", 458},               {"lsm_get_self_attr", 459}, {"lsm_set_self_attr", 460}, {"lsm_list_modules", 461},
    {"mseal", 462},                   {"setxattrat", 463},        {"getxattrat", 464},     {"listxattrat", 465},
    {"removexattrat", 466},           {"open_tree_attr", 467},    {"file_getattr", 468},   {"file_setattr", 469},
    {"listns", 470},             {"rseq_slice_yield", 471},
#ifdef __x86_64__
    {"uretprobe", 335},          {"uprobe", 336},
#endif
};

std::uint32_t action_of(SeccompAction action, std::uint32_t errno_value) {
  switch (action) {
    case SeccompAction::Allow: return SCMP_ACT_ALLOW;
    case SeccompAction::Log: return SCMP_ACT_LOG;
    case SeccompAction::Errno: return SCMP_ACT_ERRNO(errno_value);
    case SeccompAction::KillThread: return SCMP_ACT_KILL_THREAD;
    case SeccompAction::KillProcess: return SCMP_ACT_KILL_PROCESS;
    case SeccompAction::Trap: return SCMP_ACT_TRAP;
    case SeccompAction::Trace: return SCMP_ACT_TRACE(errno_value);
    case SeccompAction::Notify: return SCMP_ACT_NOTIFY;
  }
  fail(EINVAL, "translate a seccomp action");
}

scmp_compare operator_of(const std::string& op) {
  constexpr std::pair<const char*, scmp_compare> kOperators[] = {
      {"SCMP_CMP_NE", SCMP_CMP_NE}, {"SCMP_CMP_LT", SCMP_CMP_LT}, {"SCMP_CMP_LE", SCMP_CMP_LE},
      {"SCMP_CMP_EQ", SCMP_CMP_EQ}, {"SCMP_CMP_GE", SCMP_CMP_GE}, {"SCMP_CMP_GT", SCMP_CMP_GT},
      {"SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ}};
  for (auto [name, value] : kOperators)
    if (op == name) return value;
  fail(EINVAL, "use seccomp operator {}", op);
}

std::uint32_t architecture_of(const std::string& name) {
  std::string lower = name.rfind("SCMP_ARCH_", 0) == 0 ? name.substr(10) : name;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  std::uint32_t arch = ::seccomp_arch_resolve_name(lower.c_str());
  if (arch == 0) fail(EINVAL, "use seccomp architecture {}", name);
  return arch;
}

constexpr unsigned kWaitKillable = 1u << 5;  // SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, Linux 5.19

unsigned flags_of(const std::vector<std::string>& names) {
  unsigned flags = 0;
  for (const std::string& name : names) {
    if (name == "SECCOMP_FILTER_FLAG_LOG") flags |= SECCOMP_FILTER_FLAG_LOG;
    else if (name == "SECCOMP_FILTER_FLAG_SPEC_ALLOW") flags |= SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    else if (name == "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") flags |= kWaitKillable;
    else if (name == "SECCOMP_FILTER_FLAG_TSYNC") continue;  // one thread loads it, before any other exists
    else fail(EINVAL, "use seccomp flag {}", name);
  }
  return flags;
}

struct ContextDeleter {
  void operator()(void* context) const { ::seccomp_release(context); }
};
using Context = std::unique_ptr<void, ContextDeleter>;

void must(int result, const std::string& attempted) {
  if (result < 0) throw_system_error(-result, attempted, {});
}

void add_rule(scmp_filter_ctx context, const SeccompRules& rules, const SeccompRule& rule) {
  std::uint32_t action = action_of(rule.action, rule.errno_value);
  // libseccomp refuses a rule that only repeats the default.
  if (action == action_of(rules.default_action, rules.default_errno)) return;
  std::vector<scmp_arg_cmp> arguments;
  for (const SeccompArgument& a : rule.arguments)
    arguments.push_back({a.index, operator_of(a.op), a.value, a.value_two});
  // The same argument twice cannot be one conjunction for libseccomp; the specification's readers treat it as "any of".
  bool repeated = false;
  for (std::size_t i = 0; i < arguments.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) repeated |= arguments[i].arg == arguments[j].arg;

  for (const std::string& name : rule.names) {
    int number = syscall_number(name);
    if (number == __NR_SCMP_ERROR) continue;  // unknown here: the default action answers it
    auto add = [&](unsigned count, const scmp_arg_cmp* list) {
      int result = ::seccomp_rule_add_array(context, action, number, count, list);
      // A number of our own table has no translation for a second architecture: there the default action answers it.
      bool untranslated = result == -EFAULT && ::seccomp_syscall_resolve_name(name.c_str()) == __NR_SCMP_ERROR;
      if (result != -EEXIST && !untranslated) must(result, fmt::format("add a seccomp rule for {}", name));
    };
    if (!repeated) add(static_cast<unsigned>(arguments.size()), arguments.data());
    else for (const scmp_arg_cmp& one : arguments) add(1, &one);
  }
}

// A profile is older than the machine: libc tries new calls first, and takes an older one when they answer ENOSYS, and not when they are forbidden.
// So numbers above all that the rules name are unknown, on each architecture of theirs, as runc has it.
void answer_newer_calls(const SeccompRules& rules, std::vector<sock_filter>& program) {
  std::vector<std::uint32_t> architectures{::seccomp_arch_native()};
  for (const std::string& name : rules.architectures)
    if (std::uint32_t arch = architecture_of(name); arch != SCMP_ARCH_X32 && arch != architectures[0]) architectures.push_back(arch);
  std::vector<sock_filter> prologue;
  for (std::uint32_t arch : architectures) {
    int newest = -1;
    for (const SeccompRule& rule : rules.rules)
      for (const std::string& name : rule.names)
        newest = std::max(newest, arch == architectures[0] ? syscall_number(name) : ::seccomp_syscall_resolve_name_arch(arch, name.c_str()));
    if (newest < 0) continue;
    constexpr std::uint32_t kX32 = 0x40000000;  // the bit of x32's numbers, which libseccomp tells apart itself
    prologue.insert(prologue.end(), {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, arch, 0, 4),
                             BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)), BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, static_cast<std::uint32_t>(newest), 0, 2),
                             BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kX32, 1, 0), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS)});
  }
  program.insert(program.begin(), prologue.begin(), prologue.end());
}

std::vector<sock_filter> compile(const SeccompRules& rules) {
  Context context(::seccomp_init(action_of(rules.default_action, rules.default_errno)));
  if (!context) fail(ENOMEM, "make a seccomp filter");
  // A foreign architecture's calls (int 0x80, x32) get the answer of an unknown number, so that a probe sees a plain error.
  must(::seccomp_attr_set(context.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS)), "set the action for foreign architectures");
  must(::seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2), "ask for a binary tree of rules");
  for (const std::string& name : rules.architectures) {
    int result = ::seccomp_arch_add(context.get(), architecture_of(name));
    if (result != -EEXIST) must(result, "add seccomp architecture " + name);
  }
  for (const SeccompRule& rule : rules.rules) add_rule(context.get(), rules, rule);

  Fd memory(check(::memfd_create("seccomp", MFD_CLOEXEC), "make a memory file"));
  must(::seccomp_export_bpf(context.get(), memory.get()), "compile a seccomp filter");
  off_t size = check(::lseek(memory.get(), 0, SEEK_END), "measure a seccomp filter");
  std::vector<sock_filter> program(static_cast<std::size_t>(size) / sizeof(sock_filter));
  check(::pread(memory.get(), program.data(), static_cast<std::size_t>(size), 0), "read a seccomp filter");
  bool refuses = rules.default_action != SeccompAction::Allow && rules.default_action != SeccompAction::Log;
  if (rules.newer_unknown && refuses) answer_newer_calls(rules, program);
  return program;
}

// All that the program depends on, as text; its digest is the name in the cache.
std::string canonical(const SeccompRules& rules) {
  const scmp_version* version = ::seccomp_version();
  std::string text = fmt::format("{} {}.{}.{} {:x} {} {} {}\n", kCacheVersion, version->major, version->minor, version->micro,
                                 ::seccomp_arch_native(), static_cast<int>(rules.default_action), rules.default_errno, rules.newer_unknown);
  for (const std::string& a : rules.architectures) text += a + ' ';
  for (const SeccompRule& rule : rules.rules) {
    text += fmt::format("\n{} {}", static_cast<int>(rule.action), rule.errno_value);
    for (const std::string& name : rule.names) (text += ' ') += name;
    for (const SeccompArgument& a : rule.arguments) text += fmt::format(" {},{},{},{}", a.index, a.op, a.value, a.value_two);
  }
  return text;
}

std::string digest_of(const std::string& text) {
  sha256_ctx state;
  sha256_init(&state);
  sha256_update(&state, text.size(), reinterpret_cast<const std::uint8_t*>(text.data()));
  std::uint8_t digest[SHA256_DIGEST_SIZE];
  sha256_digest(&state, sizeof digest, digest);
  std::string hex;
  for (std::uint8_t byte : digest) hex += fmt::format("{:02x}", byte);
  return hex;
}

// Empty when it is not there, or was not written by us: the folder is ours alone, but a cache must never weaken a wall.
std::vector<sock_filter> find_cached(const std::string& path) {
  Fd file(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
  struct stat info;
  if (!file || ::fstat(file.get(), &info) == -1) return {};
  bool ours = info.st_uid == ::geteuid() && (info.st_mode & 022) == 0;
  if (!ours || info.st_size <= 0 || info.st_size % sizeof(sock_filter) || info.st_size > (1 << 20)) return {};
  std::vector<sock_filter> program(static_cast<std::size_t>(info.st_size) / sizeof(sock_filter));
  return ::read(file.get(), program.data(), static_cast<std::size_t>(info.st_size)) == info.st_size ? program
                                                                                                     : std::vector<sock_filter>{};
}

}  // namespace

int syscall_number(const std::string& name) {
  int number = ::seccomp_syscall_resolve_name(name.c_str());
  if (number != __NR_SCMP_ERROR) return number;
  for (auto [known, value] : kNewerSyscalls)
    if (name == known) return value;
  return __NR_SCMP_ERROR;
}

Filter make_filter(const SeccompRules& rules, const std::string& cache) {
  Filter filter;
  filter.flags = flags_of(rules.flags);
  filter.listener = rules.listener_path;
  filter.listener_metadata = rules.listener_metadata;
  std::string path = cache.empty() ? "" : cache + "/" + digest_of(canonical(rules));
  if (!path.empty()) filter.program = find_cached(path);
  if (!filter.program.empty()) return filter;
  filter.program = compile(rules);
  if (!path.empty()) {
    make_dirs(cache, 0700);
    replace_file(path, {reinterpret_cast<const char*>(filter.program.data()), filter.program.size() * sizeof(sock_filter)}, 0600);
  }
  return filter;
}

bool has_listener(const std::vector<Filter>& filters) {
  return std::any_of(filters.begin(), filters.end(), [](const Filter& filter) { return !filter.listener.empty(); });
}

int load_filter(const Filter& filter) {
  sock_fprog program{static_cast<unsigned short>(filter.program.size()), const_cast<sock_filter*>(filter.program.data())};
  unsigned flags = filter.flags | (filter.listener.empty() ? 0 : SECCOMP_FILTER_FLAG_NEW_LISTENER);
  return static_cast<int>(check(::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program), "load a seccomp filter"));
}

std::vector<std::string> kernel_seccomp_actions() {
  std::istringstream text(find_file("/proc/sys/kernel/seccomp/actions_avail").value_or(""));
  std::vector<std::string> actions;
  for (std::string word; text >> word;) actions.push_back(word);
  return actions;
}

}  // namespace isolate
