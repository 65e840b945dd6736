// Loaded into CRIU, which is another program: how a restore reads memory.
//
// CRIU fills memory in its restorer, code without a C library, by one thread and with a page fault for every 4 KiB: 0.6 ms a MB on the
// machine that this was measured on, most of the restore of anything large. Only images that build on earlier ones (criu(8), --parent-path)
// are read sooner, by preadv(). So a restore is told that its images build on earlier ones, which are empty, and preadv() reads with as many
// threads as there are CPUs for, into huge pages wherever all of one is there: 0.3 ms a MB.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25  // Linux 6.1
#endif

enum { kHugePage = 2 << 20, kStack = 64 << 10, kMostThreads = 4, kWorthAThread = 1 << 20 };

static int wanted, huge_pages;
static pid_t last_pid;
static int images = -1;  // their folder

static const char *read_text(const char *path, char *text, size_t room, const char *otherwise) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t size = fd == -1 ? -1 : read(fd, text, room - 1);
  if (fd != -1) close(fd);
  if (size <= 0) return otherwise;
  text[size] = 0;
  return text;
}

// While the root is the host's. The variable is for this program, not for those that it calls.
__attribute__((constructor)) static void look_around(void) {
  wanted = getenv("RUNNER_CRIU_READS") != NULL;
  if (!wanted) return;
  unsetenv("RUNNER_CRIU_READS");
  char text[64];
  huge_pages = !strstr(read_text("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text, "[never]"), "[never]");
  last_pid = atoi(read_text("/proc/sys/kernel/pid_max", text, sizeof text, "32768")) - 1;
}

// An image of the map of no pages: its magic numbers, and the head that has the number of the file of its pages.
static const unsigned char kNoPages[] = {0x19, 0x43, 0x56, 0x54, 0x25, 0x40, 0x08, 0x56, 2, 0, 0, 0, 0x08, 1};

static int file_of(const void *text, size_t size) {
  int fd = memfd_create("no-pages", MFD_CLOEXEC);
  if (fd == -1 || pwrite(fd, text, size, 0) == (ssize_t)size) return fd;
  close(fd);
  errno = EIO;
  return -1;
}

// The folder of the earlier images, while CRIU looks for those of one process there. First their map, then their pages.
static int earlier = -1;

static int is_earlier(int dir, const char *path) { return wanted && dir != earlier && strcmp(path, "parent") == 0; }

static int open_earlier(const char *path) {
  if (strncmp(path, "pagemap-", 8) == 0 && path[8 + strspn(path + 8, "0123456789")] == '.') return file_of(kNoPages, sizeof kNoPages);
  earlier = -1;
  if (strncmp(path, "pages-", 6) == 0) return file_of("", 0);
  errno = ENOENT;  // of shared memory
  return -1;
}

int fstatat64(int dir, const char *path, struct stat64 *info, int flags) {
  long result = syscall(SYS_newfstatat, dir, path, info, flags);
  if (result == 0 || errno != ENOENT || !is_earlier(dir, path)) return (int)result;
  images = dir;
  return 0;
}

int openat64(int dir, const char *path, int flags, ...) {
  va_list more;
  va_start(more, flags);
  unsigned mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(more, unsigned) : 0;
  va_end(more);
  if (earlier != -1 && dir == earlier && strcmp(path, "parent") != 0) return open_earlier(path);
  long fd = syscall(SYS_openat, dir, path, flags, mode);
  if (fd == -1 && errno == ENOENT && is_earlier(dir, path)) fd = earlier = fcntl(dir, F_DUPFD_CLOEXEC, 0);
  return (int)fd;
}

// What is left to read: each thread takes a piece of at most one huge page.
struct work {
  int file;
  const struct iovec *parts;
  int count, part;   // the part that is begun, of as many
  size_t done;       // of that part, in bytes
  off_t at;          // in the file
  atomic_flag busy;  // whoever takes a piece
  atomic_int error;
};

struct piece {
  char *to;
  size_t size;
  off_t at;
};

static int take(struct work *work, struct piece *piece) {
  while (atomic_flag_test_and_set(&work->busy)) sched_yield();
  while (work->part < work->count && work->done == work->parts[work->part].iov_len) ++work->part, work->done = 0;
  int found = work->part < work->count;
  if (found) {
    piece->to = (char *)work->parts[work->part].iov_base + work->done;
    piece->at = work->at;
    size_t left = work->parts[work->part].iov_len - work->done, until = kHugePage - (uintptr_t)piece->to % kHugePage;
    piece->size = left < until ? left : until;
    work->done += piece->size;
    work->at += (off_t)piece->size;
  }
  atomic_flag_clear(&work->busy);
  return found;
}

// The mapping itself stays as it is: huge pages are neither asked for in general, nor is anything there that was not in the image. MADV_FREE
// is for memory without a file only, and so tells which it is.
static void make_huge(char *at) {
  if (syscall(SYS_madvise, at, 4096, MADV_FREE) == -1) return;
  *(volatile char *)at = 0;
  syscall(SYS_madvise, at, (size_t)kHugePage, MADV_COLLAPSE);
}

// With no more of the C library than system calls: it knows nothing of these threads.
static int read_pieces(void *argument) {
  struct work *work = argument;
  struct piece piece;
  while (!atomic_load(&work->error) && take(work, &piece)) {
    if (huge_pages && piece.size == kHugePage) make_huge(piece.to);
    while (piece.size) {
      long size = syscall(SYS_pread64, work->file, piece.to, piece.size, piece.at);
      if (size <= 0) {
        atomic_store(&work->error, size == 0 ? ENODATA : EIO);
        break;
      }
      piece.to += size, piece.size -= (size_t)size, piece.at += size;
    }
  }
  return 0;
}

static int threads_for(size_t size) {
  cpu_set_t cpus;
  int most = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
  if (most > kMostThreads) most = kMostThreads;
  return size / kWorthAThread < (size_t)most ? (int)(size / kWorthAThread) : most;
}

// clone3(2), for which the C library has no function. The new thread runs on `args->stack` and ends with read_pieces().
static long clone_thread(struct clone_args *args, struct work *work) {
  long result;
  register struct work *kept __asm__("r12") = work;
  __asm__ volatile(
      "syscall\n"
      "test %%eax, %%eax\n"
      "jnz 1f\n"
      "xor %%ebp, %%ebp\n"
      "mov %%r12, %%rdi\n"
      "call *%[run]\n"
      "xor %%edi, %%edi\n"
      "mov %[end], %%eax\n"
      "syscall\n"
      "1:"
      : "=a"(result)
      : "a"(SYS_clone3), "D"(args), "S"(sizeof *args), "r"(kept), [run] "r"(&read_pieces), [end] "i"(SYS_exit)
      : "rcx", "r11", "memory");
  return result;
}

// In the pid namespace that is restored CRIU gives processes the numbers that they had, and none of those may be taken: it is one that no image of a
// process has, from the end that a namespace comes to last. 0 when there is no thread to be had (pids.max).
static pid_t begin_thread(struct work *work, char *stack, pid_t *running) {
  for (pid_t id = last_pid; images != -1 && id > last_pid - 64; --id) {
    char core[32];
    snprintf(core, sizeof core, "core-%d.img", id);
    if (syscall(SYS_faccessat, images, core, F_OK) == 0) continue;
    struct clone_args args = {
        .flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID,
        .child_tid = (uintptr_t)running, .parent_tid = (uintptr_t)running, .stack = (uintptr_t)stack, .stack_size = kStack,
        .set_tid = (uintptr_t)&id, .set_tid_size = 1};
    long result = clone_thread(&args, work);
    if (result > 0) return id;
    if (result != -EEXIST) return 0;  // EEXIST: of another process that reads now
  }
  return 0;
}

static void wait_for(pid_t id, pid_t *running) {
  while (__atomic_load_n(running, __ATOMIC_ACQUIRE)) syscall(SYS_futex, running, FUTEX_WAIT, id, NULL, NULL, 0);
}

ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t at) {
  if (!wanted) return syscall(SYS_preadv, fd, parts, (long)count, (long)at, 0l);
  size_t size = 0;
  for (int i = 0; i < count; ++i) size += parts[i].iov_len;
  struct work work = {.file = fd, .parts = parts, .count = count, .at = at, .busy = ATOMIC_FLAG_INIT};

  int others = threads_for(size) - 1;  // this one reads as well
  char *stacks = others > 0 ? mmap(NULL, (size_t)others * kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) : MAP_FAILED;
  pid_t ids[kMostThreads] = {0}, running[kMostThreads] = {0};
  for (int i = 0; stacks != MAP_FAILED && i < others; ++i) ids[i] = begin_thread(&work, stacks + (size_t)i * kStack, &running[i]);
  read_pieces(&work);
  for (int i = 0; i < kMostThreads; ++i) wait_for(ids[i], &running[i]);
  if (stacks != MAP_FAILED) munmap(stacks, (size_t)others * kStack);
  errno = atomic_load(&work.error);
  return errno ? -1 : (ssize_t)size;
}
