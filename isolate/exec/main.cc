// runner-exec: the last step from runner to a program in a container.
//
// What a container calls /proc/self/exe while its first process becomes a program is the file of the process before: were that
// runner itself, a container that runs on the host's ids could open it for writing later (CVE-2019-5736). So the step is made from
// this file, on a read-only mount. Without libc, whose start costs 0.25 ms in a virtual machine for reading the CPU's features.
//
//   runner-exec LINK PROFILE PROGRAM ARGV...
//     LINK     the descriptor on which a failure is reported, or -1 for an exit status like a shell's
//     PROFILE  of AppArmor, for the program; empty: none. It is asked for here, since it comes into force with the next execve
#include <asm/unistd.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/vfs.h>

#include "isolate/link.h"

namespace {

#if defined(__x86_64__)
asm(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call enter\n");
long call(long number, long a, long b, long c, long d = 0) {
  long result;
  register long fourth asm("r10") = d;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
  return result;
}
#elif defined(__aarch64__)
asm(".globl _start\n_start: mov x0, sp\n bl enter\n");
long call(long number, long a, long b, long c, long d = 0) {
  register long r8 asm("x8") = number;
  register long r0 asm("x0") = a;
  register long r1 asm("x1") = b;
  register long r2 asm("x2") = c;
  register long r3 asm("x3") = d;
  asm volatile("svc 0" : "+r"(r0) : "r"(r8), "r"(r1), "r"(r2), "r"(r3) : "memory");
  return r0;
}
#else
#error "runner-exec knows x86_64 and aarch64: add the system call of this machine here"
#endif

long address(const void* pointer) { return reinterpret_cast<long>(pointer); }

[[noreturn]] void leave(int status) {
  for (;;) call(__NR_exit_group, status, 0, 0);
}

// One message of isolate::Link: Error, then stage, errno and path, with zeros between; the cause is found by the receiver.
struct Report {
  char bytes[4300];
  long size = 0;
  void add(char byte) {
    if (size < static_cast<long>(sizeof bytes)) bytes[size++] = byte;
  }
  void add_number(int number) {
    if (number >= 10) add_number(number / 10);
    add(static_cast<char>('0' + number % 10));
  }
  void add_text(const char* text) {
    while (*text) add(*text++);
  }
};

void report(int link, int code, const char* program, const char* profile) {
  Report report;
  report.add(static_cast<char>(isolate::Signal::Error));
  report.add_number(static_cast<int>(isolate::Stage::Exec));
  report.add(0);
  report.add_number(code);
  report.add(0);
  report.add_text(program);
  if (*profile) report.add_text(" with AppArmor profile "), report.add_text(profile);
  report.add(0);
  call(__NR_write, link, address(report.bytes), report.size);
}

// "exec PROFILE" into the attribute: the kernel's Documentation/admin-guide/LSM. Returns 0 or minus an errno.
long ask_for(const char* profile) {
  long file = call(__NR_openat, AT_FDCWD, address("/proc/self/attr/apparmor/exec"), O_WRONLY | O_CLOEXEC);
  if (file == -ENOENT) file = call(__NR_openat, AT_FDCWD, address("/proc/self/attr/exec"), O_WRONLY | O_CLOEXEC);  // before Linux 5.1
  if (file < 0) return file;
  // An image may have a folder of plain files in the place of /proc, and the program would run without its profile (CVE-2019-16884).
  struct statfs info;
  constexpr long kProcMagic = 0x9fa0;  // PROC_SUPER_MAGIC
  if (long result = call(__NR_fstatfs, file, address(&info), 0)) return result;
  if (info.f_type != kProcMagic) return -ENOTSUP;
  char text[4200] = "exec ";
  long size = 5;
  for (const char* at = profile; *at; ++at) {
    if (size == sizeof text) return -ENAMETOOLONG;
    text[size++] = *at;
  }
  long result = call(__NR_write, file, address(text), size);
  return result < 0 ? result : 0;
}

// -1 for "-1", -2 for what is no descriptor.
int parse_link(const char* text) {
  if (text[0] == '-' && text[1] == '1' && !text[2]) return -1;
  int number = 0;
  for (const char* at = text; *at; ++at) {
    if (*at < '0' || *at > '9' || number > 1'000'000) return -2;
    number = number * 10 + (*at - '0');
  }
  return *text ? number : -2;
}

}  // namespace

extern "C" [[noreturn]] void enter(long* stack) {
  long count = stack[0];
  char** argv = reinterpret_cast<char**>(stack + 1);
  char** environment = argv + count + 1;
  int link = count >= 5 ? parse_link(argv[1]) : -2;
  if (link == -2) {
    constexpr char kText[] = "runner-exec: only runner starts this\n";
    call(__NR_write, 2, address(kText), sizeof kText - 1);
    leave(125);
  }
  // A container's own processes may look into this one until this line; an execve makes it as it was.
  call(__NR_prctl, PR_SET_DUMPABLE, 0, 0);
  // The program must not inherit the link; and that it closes is how the other side knows that the program runs.
  long result = link < 0 ? 0 : call(__NR_fcntl, link, F_SETFD, FD_CLOEXEC);
  const char *profile = argv[2], *program = argv[3];
  if (result == 0 && *profile) result = ask_for(profile);
  bool fits = result == 0;
  if (fits) result = call(__NR_execve, address(program), address(argv + 4), address(environment));
  int code = static_cast<int>(-result);
  if (link >= 0) report(link, code, program, fits ? "" : profile);
  leave(code == ENOENT ? 127 : 126);
}
