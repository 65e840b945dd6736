// Stands in for a shared library of CRIU and loads it at the first call. CRIU links GnuTLS (for pages sent over TLS) and nftables (to lock
// networks, and to probe once a boot), which together bring fifteen libraries: 3.6 of the 6 ms that it takes to start, and runner calls
// neither. scripts/setup compiles this for each of them: REAL is the path of the library, NAMES a file with FUNCTION(name) or VALUE(name) for
// each symbol that CRIU takes from it.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define FUNCTION(name)
#define VALUE(name) void *name;
#include NAMES
#undef FUNCTION
#undef VALUE

static void *library;

static void *found(const char *name) {
  void *symbol = library ? dlsym(library, name) : NULL;
  if (symbol) return symbol;
  fprintf(stderr, "criu: %s\n", dlerror());
  abort();
}

__attribute__((used)) static void *address_of(const char *name) {
  if (!library) {
    library = dlopen(REAL, RTLD_NOW);
#define FUNCTION(name)
#define VALUE(name) name = *(void **)found(#name);
#include NAMES
#undef FUNCTION
#undef VALUE
  }
  return found(name);
}

// The caller's arguments are kept as they are: they may be anything that fits registers of integers. The stack is aligned as for any call.
__asm__(
    "forward:\n"
    "  push %rdi; push %rsi; push %rdx; push %rcx; push %r8; push %r9; sub $8, %rsp\n"
    "  mov %rax, %rdi\n"
    "  call address_of\n"
    "  add $8, %rsp; pop %r9; pop %r8; pop %rcx; pop %rdx; pop %rsi; pop %rdi\n"
    "  jmp *%rax\n");

#define FUNCTION(name) \
  __asm__(".globl " #name "\n.type " #name ", @function\n" #name ": lea " #name "_name(%rip), %rax\n  jmp forward\n" #name "_name: .asciz \"" #name "\"\n");
#define VALUE(name)
#include NAMES
