#include "isolate/privileges.h"

#include <grp.h>
#include <linux/securebits.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "isolate/sys/error.h"

namespace isolate {

using sys::check;

namespace {

constexpr std::uint64_t bit(int capability) { return std::uint64_t{1} << capability; }

using State = std::unique_ptr<_cap_struct, int (*)(void*)>;

void put(const State& state, cap_flag_t flag, std::uint64_t set) {
  for (cap_value_t c = 0; c <= last_capability(); ++c)
    check(::cap_set_flag(state.get(), flag, 1, &c, set & bit(c) ? CAP_SET : CAP_CLEAR), "compose capabilities");
}

// The kernel adds nothing to the inheritable set that is not in the bounding set: to be called while that is full.
void set_inheritable(std::uint64_t inheritable) {
  State state(::cap_get_proc(), ::cap_free);
  if (!state) sys::fail(errno, "read the capabilities");
  put(state, CAP_INHERITABLE, inheritable);
  check(::cap_set_proc(state.get()), "set the inheritable capabilities");
}

void set_three_sets(const Capabilities& wanted) {
  State state(::cap_init(), ::cap_free);
  put(state, CAP_EFFECTIVE, wanted.effective);
  put(state, CAP_PERMITTED, wanted.permitted);
  put(state, CAP_INHERITABLE, wanted.inheritable);
  check(::cap_set_proc(state.get()), "set capabilities");
}

}  // namespace

int last_capability() {
  static const int last = static_cast<int>(::cap_max_bits()) - 1;
  return last;
}

int capability_number(const std::string& name) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  if (lower.rfind("cap_", 0) != 0) lower = "cap_" + lower;
  cap_value_t value;
  return ::cap_from_name(lower.c_str(), &value) == 0 && value <= last_capability() ? value : -1;
}

std::string capability_name(int number) {
  std::unique_ptr<char, int (*)(void*)> name(::cap_to_name(number), ::cap_free);
  std::string upper = name ? name.get() : fmt::format("cap_{}", number);
  std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return std::toupper(c); });
  return upper;
}

void become_user(const Process& process, const Capabilities& capabilities, bool lock) {
  set_inheritable(capabilities.inheritable);
  // The bounding set next: it needs SETPCAP, which the change of user may take away.
  for (int c = 0; c <= last_capability(); ++c)
    if (!(capabilities.bounding & bit(c)) && ::cap_get_bound(c) == 1)
      check(::cap_drop_bound(c), "drop {} from the bounding set", capability_name(c));

  // Kept over the change of user, so that the sets below are ours to choose; where securebits are locked they are kept anyway.
  if (!(::prctl(PR_GET_SECUREBITS) & SECBIT_NO_SETUID_FIXUP)) check(::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), "keep capabilities over setuid");
  // A process whose namespace forbids setgroups (an ordinary user's) has no groups to give up either.
  if (!process.keep_groups && ::setgroups(process.groups.size(), process.groups.data()) == -1 && !(errno == EPERM && process.groups.empty()))
    sys::fail(errno, "set the supplementary groups");
  check(::setresgid(process.gid, process.gid, process.gid), "become group {}", process.gid);
  check(::setresuid(process.uid, process.uid, process.uid), "become user {}", process.uid);

  Capabilities with_setpcap = capabilities;
  if (lock) with_setpcap.effective |= bit(CAP_SETPCAP), with_setpcap.permitted |= bit(CAP_SETPCAP);
  // After setuid the effective set is empty and the permitted one is still full.
  set_three_sets(with_setpcap);
  ::cap_reset_ambient();
  for (int c = 0; c <= last_capability(); ++c)
    if (capabilities.ambient & capabilities.permitted & capabilities.inheritable & bit(c)) check(::cap_set_ambient(c, CAP_SET), "make {} ambient", capability_name(c));
  if (lock) {
    unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED |
                         SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    if (process.capabilities.ambient == 0) bits |= SECBIT_NO_CAP_AMBIENT_RAISE;
    check(::prctl(PR_SET_SECUREBITS, bits, 0, 0, 0), "lock the securebits");
    set_three_sets(capabilities);
  }
  if (process.umask) ::umask(*process.umask);
}

void hand_on_nothing() {
  check(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "empty the ambient set");  // libcap asks for each of them first
  std::unique_ptr<std::remove_pointer_t<cap_t>, int (*)(void*)> self(::cap_get_proc(), ::cap_free);
  if (!self) sys::fail(errno, "read the capabilities");
  check(::cap_clear_flag(self.get(), CAP_INHERITABLE), "empty the inheritable set");
  check(::cap_set_proc(self.get()), "set the capabilities");
}

void set_rlimits(const std::vector<Rlimit>& limits) {
  for (const Rlimit& limit : limits) {
    rlimit value{limit.soft, limit.hard};
    check(::setrlimit(static_cast<__rlimit_resource>(limit.resource), &value), "set resource limit {} to {}:{}",
          limit.resource, limit.soft, limit.hard);
  }
}

void forbid_new_privileges() { check(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "set no_new_privs"); }

}  // namespace isolate
