// Getting more rights, or at others: namespaces, mounts, other processes, capabilities, files of the kernel.
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <mqueue.h>
#include <net/if.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "tests/probe/attack.h"

namespace attack {
namespace {

// On the host this works in a mount namespace of the child's own, so that nothing of it is seen outside.
std::string apart(const std::function<long()>& attempt) {
  return in_child([&]() -> long {
    if (::unshare(CLONE_NEWNS) == 0 && ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return -1;
    return attempt();
  });
}

void mounts(const Words&) {
  say("unshare-user", in_child([] { return static_cast<long>(::unshare(CLONE_NEWUSER)); }));
  say("unshare-mount", in_child([] { return static_cast<long>(::unshare(CLONE_NEWNS)); }));
  say("setns", in_child([] { return static_cast<long>(::setns(::open("/proc/self/ns/uts", O_RDONLY), 0)); }));
  say("mount-tmpfs", apart([] { return static_cast<long>(::mount("tmpfs", "/tmp", "tmpfs", 0, nullptr)); }));
  say("mount-proc", apart([] { return static_cast<long>(::mount("proc", "/tmp", "proc", 0, nullptr)); }));
  say("mount-cgroup", apart([] { return static_cast<long>(::mount("cgroup", "/tmp", "cgroup", 0, "memory")); }));
  say("mount-cgroup2", apart([] { return static_cast<long>(::mount("cgroup2", "/tmp", "cgroup2", 0, nullptr)); }));
  say("bind-root", apart([] { return static_cast<long>(::mount("/", "/tmp", nullptr, MS_BIND | MS_REC, nullptr)); }));
  say("remount-dev",
      apart([] { return static_cast<long>(::mount(nullptr, "/dev", nullptr, MS_REMOUNT | MS_BIND, nullptr)); }));
  say("umount-proc", apart([] { return static_cast<long>(::umount2("/proc", MNT_DETACH)); }));
  say("fsopen", apart([] { return ::syscall(SYS_fsopen, "tmpfs", 0L); }));
  say("open-tree", apart([] { return ::syscall(SYS_open_tree, AT_FDCWD, "/", 1L); }));
  say("chroot", in_child([] { return static_cast<long>(::chroot("/tmp")); }));
}

void processes(const Words& words) {
  pid_t child = ::fork();
  if (child == 0) {
    ::pause();
    ::_exit(0);
  }
  static int here = 1;
  iovec mine{&here, sizeof here}, theirs{&here, sizeof here};
  say("traceme", in_child([] { return ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }));
  say("seize", in_child([&] { return ::ptrace(PTRACE_SEIZE, child, nullptr, nullptr); }));
  say("vm-read", in_child([&] { return static_cast<long>(::process_vm_readv(child, &mine, 1, &theirs, 1, 0)); }));
  say("vm-write", in_child([&] { return static_cast<long>(::process_vm_writev(child, &mine, 1, &theirs, 1, 0)); }));
  say("getfd", in_child([&] { return ::syscall(SYS_pidfd_getfd, ::syscall(SYS_pidfd_open, child, 0L), 0L, 0L); }));
  say("kcmp", in_child([&] { return ::syscall(SYS_kcmp, ::getpid(), child, 1L, 0L, 0L); }));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  for (const std::string& word : words) say("kill-" + word, outcome(::kill(std::stoi(word), 0)));
}

// Only in a pid namespace that may end: never on the host.
void init(const Words&) {
  for (const char* name : {"mem", "environ", "maps", "root", "cwd", "exe", "fd", "ns/mnt"}) {
    std::string path = std::string("/proc/1/") + name;
    say(name, outcome(::open(path.c_str(), O_RDONLY | O_CLOEXEC)));
  }
  say("attach", in_child([] { return ::ptrace(PTRACE_SEIZE, 1, nullptr, nullptr); }));
  say("kill", outcome(::kill(1, SIGKILL)));
}

long set_all_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2];
  data[0] = {~0u, ~0u, 0};
  data[1] = {0x1ff, 0x1ff, 0};
  // What this process may have and not what a later kernel has, or the control would fail too.
  if (::prctl(PR_CAPBSET_READ, 24, 0, 0, 0) != 1 && ::prctl(PR_CAPBSET_READ, 21, 0, 0, 0) == 1)
    data[0].effective &= ~(1u << 24), data[0].permitted &= ~(1u << 24);
  return ::syscall(SYS_capset, &header, data);
}

void rights(const Words&) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("Cap", 0) == 0 || line.rfind("NoNewPrivs", 0) == 0 || line.rfind("Seccomp", 0) == 0)
      say(line.substr(0, line.find(':')), line.substr(line.find_last_of(" \t") + 1));
  say("securebits", ::prctl(PR_GET_SECUREBITS));
  say("euid", static_cast<long>(::geteuid()));
  say("groups", ::getgroups(0, nullptr));
  say("dumpable", ::prctl(PR_GET_DUMPABLE));
  say("capset", in_child([] { return set_all_capabilities(); }));
  say("ambient",
      in_child([] { return static_cast<long>(::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0)); }));
  say("set-securebits", in_child([] { return static_cast<long>(::prctl(PR_SET_SECUREBITS, 0, 0, 0, 0)); }));
  say("keepcaps", in_child([] { return static_cast<long>(::prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)); }));
  say("setuid-other", in_child([] { return static_cast<long>(::setresuid(4242, 4242, 4242)); }));
  say("setgroups", in_child([] {
        gid_t group = 4242;
        return static_cast<long>(::syscall(SYS_setgroups, 1, &group));
      }));
  say("chown", in_child([] {
        int fd = ::open("/tmp", O_TMPFILE | O_RDWR, 0600);
        return fd < 0 ? -1L : static_cast<long>(::fchown(fd, 4242, 4242));
      }));
  say("drop-no-new-privs", in_child([] { return static_cast<long>(::prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0)); }));
  say("sethostname", in_child([] { return ::unshare(CLONE_NEWUTS), static_cast<long>(::sethostname("x", 1)); }));
  say("nice", in_child([] { return static_cast<long>(::setpriority(0, 0, -5)); }));
}

void devices(const Words&) {
  std::vector<std::string> names;
  if (DIR* dev = ::opendir("/dev")) {
    while (dirent* entry = ::readdir(dev))
      if (entry->d_name[0] != '.') names.push_back(entry->d_name);
    ::closedir(dev);
  }
  std::sort(names.begin(), names.end());
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : " ") + name;
  say("dev", list);
  auto node = [](const char* path, mode_t kind, int major, int minor) {
    long made = ::mknod(path, kind | 0600, makedev(major, minor));
    std::string result = outcome(made);
    if (made == 0) ::unlink(path);
    return result;
  };
  say("mknod-char", node("/tmp/attack-node", S_IFCHR, 1, 1));
  say("mknod-block", node("/tmp/attack-node", S_IFBLK, 254, 0));
  int fd = ::open("/dev/attack-file", O_CREAT | O_EXCL | O_WRONLY, 0600);
  say("create-in-dev", outcome(fd));
  if (fd >= 0) ::unlink("/dev/attack-file");
}

// PATH...: may it be read / opened for writing (nothing is written)?
void readable(const Words& words) {
  for (const std::string& path : words) say(path, read_outcome(path));
}
void writable(const Words& words) {
  for (const std::string& path : words) {
    int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NONBLOCK);
    say(path, outcome(fd));
    if (fd >= 0) ::close(fd);
  }
}

// ABSTRACT-NAME SHM-KEY QUEUE-NAME: things of the host by name
void names(const Words& words) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ::memcpy(address.sun_path + 1, words.at(0).data(), words[0].size());
  say("abstract", outcome(::connect(::socket(AF_UNIX, SOCK_STREAM, 0), reinterpret_cast<sockaddr*>(&address),
                                    static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + words[0].size()))));
  say("shm", outcome(::shmget(static_cast<key_t>(number(words, 1, 0)), 0, 0)));
  say("queue", outcome(::mq_open(words.at(2).c_str(), O_RDONLY)));
}

void network(const Words&) {
  std::string names;
  if (struct if_nameindex* list = ::if_nameindex()) {
    for (auto* each = list; each->if_index; ++each) names += (names.empty() ? "" : " ") + std::string(each->if_name);
    ::if_freenameindex(list);
  }
  say("interfaces", names);
  // TEST-NET-1 and the documentation prefix. Connecting a datagram socket sends nothing.
  sockaddr_in four{AF_INET, htons(53), {htonl(0xc0000201)}, {}};
  sockaddr_in6 six{AF_INET6, htons(53), 0, {}, 0};
  ::inet_pton(AF_INET6, "2001:db8::1", &six.sin6_addr);
  say("udp4", outcome(::connect(::socket(AF_INET, SOCK_DGRAM, 0), reinterpret_cast<sockaddr*>(&four), sizeof four)));
  say("udp6", outcome(::connect(::socket(AF_INET6, SOCK_DGRAM, 0), reinterpret_cast<sockaddr*>(&six), sizeof six)));
  int server = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in own{AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {}};
  socklen_t size = sizeof own;
  (void)!::bind(server, reinterpret_cast<sockaddr*>(&own), sizeof own);
  ::listen(server, 1);
  ::getsockname(server, reinterpret_cast<sockaddr*>(&own), &size);
  say("loopback", outcome(::connect(::socket(AF_INET, SOCK_STREAM, 0), reinterpret_cast<sockaddr*>(&own), sizeof own)));
}

// Only where the network is ours: "tcp" would send a packet.
void tcp(const Words&) {
  sockaddr_in four{AF_INET, htons(80), {htonl(0xc0000201)}, {}};
  say("tcp4", outcome(::connect(::socket(AF_INET, SOCK_STREAM, 0), reinterpret_cast<sockaddr*>(&four), sizeof four)));
}

void environment(const Words&) {
  for (char** entry = environ; *entry; ++entry) say("env", *entry);
}
void descriptors(const Words&) {
  std::string list;
  for (int fd = 0; fd < 1024; ++fd)
    if (::fcntl(fd, F_GETFD) >= 0) list += (list.empty() ? "" : " ") + std::to_string(fd);
  say("fds", list);
}

// What was mounted over the root, or left there, shows where one goes up from it.
void above(const Words&) {
  for (const char* path : {"/", "/..", "/etc/../..", "/proc/self/root/..", "/proc/self/cwd/../../.."}) {
    struct stat info{};
    say(path, ::stat(path, &info) == 0 ? std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino) : outcome(-1));
  }
}

// FOLDER: every way to a file with a set-id bit; what is made is left there, to be looked at from outside.
void set_id(const Words& words) {
  ::umask(0);
  ::chdir(words.at(0).c_str()) == 0 || (say("chdir", outcome(-1)), 0);
  auto plain = [](const char* name) { return ::open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0755); };
  // A file without a name that gets one.
  auto link = [](long fd, const char* name) -> long {
    std::string path = "/proc/self/fd/" + std::to_string(fd);
    return fd < 0 ? -1 : ::linkat(AT_FDCWD, path.c_str(), AT_FDCWD, name, AT_SYMLINK_FOLLOW);
  };
  for (long bits : {04000L, 02000L}) {
    std::string n = bits == 04000 ? "u-" : "g-";
    long mode = bits | 0755;
    auto name = [&](const char* way) { return n + way; };
    auto attempt = [&](const char* way, const std::function<long(const char*)>& act) {
      std::string file = name(way);
      say(file, outcome(act(file.c_str())));
    };
    attempt("chmod", [&](const char* f) { return ::close(plain(f)), ::syscall(SYS_chmod, f, mode); });
    attempt("chmod-with-junk",
            [&](const char* f) { return ::close(plain(f)), ::syscall(SYS_chmod, f, mode | 1L << 32); });
    attempt("fchmod", [&](const char* f) { return ::syscall(SYS_fchmod, plain(f), mode); });
    attempt("fchmodat", [&](const char* f) { return ::close(plain(f)), ::syscall(SYS_fchmodat, AT_FDCWD, f, mode); });
    attempt("fchmodat2", [&](const char* f) { return ::close(plain(f)), ::syscall(452, AT_FDCWD, f, mode, 0); });
    attempt("open", [&](const char* f) { return ::syscall(SYS_open, f, O_CREAT | O_WRONLY, mode); });
    attempt("openat", [&](const char* f) { return ::syscall(SYS_openat, AT_FDCWD, f, O_CREAT | O_WRONLY, mode); });
    attempt("creat", [&](const char* f) { return ::syscall(SYS_creat, f, mode); });
    attempt("open-tmpfile", [&](const char* f) { return link(::syscall(SYS_open, ".", O_TMPFILE | O_RDWR, mode), f); });
    attempt("openat-tmpfile",
            [&](const char* f) { return link(::syscall(SYS_openat, AT_FDCWD, ".", O_TMPFILE | O_RDWR, mode), f); });
    attempt("mknod", [&](const char* f) { return ::syscall(SYS_mknod, f, S_IFREG | mode, 0L); });
    attempt("mknodat", [&](const char* f) { return ::syscall(SYS_mknodat, AT_FDCWD, f, S_IFREG | mode, 0L); });
    unsigned long how[3] = {O_CREAT | O_WRONLY, static_cast<unsigned long>(mode), 0};
    attempt("openat2", [&](const char* f) { return ::syscall(SYS_openat2, AT_FDCWD, f, how, sizeof how); });
    unsigned long nameless[3] = {O_TMPFILE | O_RDWR, static_cast<unsigned long>(mode), 0};
    attempt("openat2-tmpfile",
            [&](const char* f) { return link(::syscall(SYS_openat2, AT_FDCWD, ".", nameless, sizeof nameless), f); });
  }
}

const Attacks kAttacks{{"mounts", mounts, "namespaces, mounts, chroot"},
                       {"above", above, "where /.. leads"},
                       {"processes", processes, "[PID...]: other processes"},
                       {"init", init, "PID 1"},
                       {"rights", rights, "capabilities, ids, securebits"},
                       {"devices", devices, "nodes"},
                       {"read", readable, "PATH..."},
                       {"write", writable, "PATH...: opens only"},
                       {"set-id", set_id, "FOLDER: files with set-id bits"},
                       {"names", names, "ABSTRACT-NAME SHM-KEY QUEUE-NAME"},
                       {"network", network, "interfaces and routes"},
                       {"tcp", tcp, "connects to 192.0.2.1"},
                       {"env", environment, "all of it"},
                       {"fds", descriptors, "which are open"}};

}  // namespace
}  // namespace attack
