/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See guard_code.h. All of it is addressed relative to rip; it may lie anywhere. Between
 * popfq and the jump nothing changes the flags: mov, lea, syscall and jrcxz do not.
 */
#include <stddef.h>

#include "runtime/checkpoint/arch/x86_64/guard_code.h"
#include "runtime/checkpoint/core.h"

#define TEXT_(x) #x
#define TEXT(x)	 TEXT_(x)

/* Offsets in struct guard_data, for the assembler. */
#define MASK	  16
#define ALL_MASK  24
#define ZERO	  32
#define PID	  48
#define TID	  52
#define SIG	  56
#define FLAGS	  64
#define RSP	  72
#define RBX	  80
#define RCX	  184
#define RAX	  192
#define RIP	  200
#define RAX_EINTR 208
#define RIP_EINTR 216
#define AREA	  28672

_Static_assert(AREA == REMOTE_AREA, "the scratch area");
_Static_assert(offsetof(struct guard_data, mask) == MASK, "mask");
_Static_assert(offsetof(struct guard_data, all_mask) == ALL_MASK, "all_mask");
_Static_assert(offsetof(struct guard_data, zero) == ZERO, "zero");
_Static_assert(offsetof(struct guard_data, pid) == PID, "pid");
_Static_assert(offsetof(struct guard_data, tid) == TID, "tid");
_Static_assert(offsetof(struct guard_data, sig) == SIG, "sig");
_Static_assert(offsetof(struct guard_data, flags) == FLAGS, "flags");
_Static_assert(offsetof(struct guard_data, rsp) == RSP, "rsp");
_Static_assert(offsetof(struct guard_data, rbx) == RBX, "rbx");
_Static_assert(offsetof(struct guard_data, r15) == RBX + 96, "r15");
_Static_assert(offsetof(struct guard_data, rcx) == RCX, "rcx");
_Static_assert(offsetof(struct guard_data, rax) == RAX, "rax");
_Static_assert(offsetof(struct guard_data, rip) == RIP, "rip");
_Static_assert(offsetof(struct guard_data, rax_eintr) == RAX_EINTR, "rax_eintr");
_Static_assert(offsetof(struct guard_data, rip_eintr) == RIP_EINTR, "rip_eintr");

#define DATA(at) "guard_data+" TEXT(at) "(%rip)"

/* clang-format off */
__asm__(
	".pushsection .rodata\n"
	".balign 8\n"
	".globl guard_code, guard_offset\n"
	"guard_code:\n"
	"\tmov (%rbx), %rax\n"
	"\tmov 8(%rbx), %rdi\n"
	"\tmov 16(%rbx), %rsi\n"
	"\tmov 24(%rbx), %rdx\n"
	"\tmov 32(%rbx), %r10\n"
	"\tmov 40(%rbx), %r8\n"
	"\tmov 48(%rbx), %r9\n"
	"\tsyscall\n"
	"\tmov %rax, 56(%rbx)\n"
	"\tadd $64, %rbx\n"
	"\tdec %r12\n"
	"\tjnz guard_code\n"
	"\tjmp 1f\n"
	"guard_one:\n"
	"\tsyscall\n"
	"\tmov %rax, %r14\n"
	"1:\tmov " DATA(PID) ", %edi\n"
	"\tmov " DATA(TID) ", %esi\n"
	"\tmov " DATA(SIG) ", %edx\n"
	"\tmov $234, %eax\n" /* tgkill */
	"\tsyscall\n"
	"guard_rest:\n"
	"\tmov $2, %edi\n" /* SIG_SETMASK */
	"\tlea " DATA(ALL_MASK) ", %rsi\n"
	"\txor %edx, %edx\n"
	"\tmov $8, %r10d\n"
	"\tmov $14, %eax\n" /* rt_sigprocmask */
	"\tsyscall\n"
	"\ttest $1, %r13b\n" /* GUARD_CLOSE */
	"\tjz 2f\n"
	"\tmov %r14d, %edi\n"
	"\tmov $3, %eax\n"
	"\tsyscall\n"
	"2:\ttest $2, %r13b\n" /* GUARD_UNMAP */
	"\tjz 3f\n"
	"\tmov %r14, %rdi\n"
	"\tmov $" TEXT(AREA) ", %esi\n"
	"\tmov $11, %eax\n" /* munmap */
	"\tsyscall\n"
	"3:\ttest %r15, %r15\n"
	"\tjz 4f\n"
	"\tmov %r15, %rdi\n"
	"\tmov $" TEXT(AREA) ", %esi\n"
	"\tmov $11, %eax\n"
	"\tsyscall\n"
	"4:\txor %edi, %edi\n"
	"\txor %esi, %esi\n"
	"\tlea " DATA(ZERO) ", %rdx\n"
	"\tlea " DATA(MASK) ", %r10\n"
	"\tmov $8, %r8d\n"
	"\tmov $271, %eax\n" /* ppoll */
	"\tsyscall\n"
	"\txor %r12d, %r12d\n"
	"\tcmp $-4, %rax\n" /* EINTR */
	"\tsete %r12b\n"
	"\tlea " DATA(FLAGS) ", %rsp\n"
	"\tpopfq\n"
	"\tmov " DATA(RSP) ", %rsp\n"
	"\tmov $2, %edi\n"
	"\tlea " DATA(MASK) ", %rsi\n"
	"\tmov $0, %edx\n"
	"\tmov $8, %r10d\n"
	"\tmov $14, %eax\n"
	"\tsyscall\n"
	"\tmov %r12, %rcx\n"
	"\tmov " DATA(RBX) ", %rbx\n"
	"\tmov " DATA(RBX + 8) ", %rdx\n"
	"\tmov " DATA(RBX + 16) ", %rsi\n"
	"\tmov " DATA(RBX + 24) ", %rdi\n"
	"\tmov " DATA(RBX + 32) ", %rbp\n"
	"\tmov " DATA(RBX + 40) ", %r8\n"
	"\tmov " DATA(RBX + 48) ", %r9\n"
	"\tmov " DATA(RBX + 56) ", %r10\n"
	"\tmov " DATA(RBX + 64) ", %r11\n"
	"\tmov " DATA(RBX + 72) ", %r12\n"
	"\tmov " DATA(RBX + 80) ", %r13\n"
	"\tmov " DATA(RBX + 88) ", %r14\n"
	"\tmov " DATA(RBX + 96) ", %r15\n"
	"\tjrcxz 5f\n"
	"\tmov " DATA(RCX) ", %rcx\n"
	"\tmov " DATA(RAX_EINTR) ", %rax\n"
	"\tjmp *" DATA(RIP_EINTR) "\n"
	"5:\tmov " DATA(RCX) ", %rcx\n"
	"\tmov " DATA(RAX) ", %rax\n"
	"\tjmp *" DATA(RIP) "\n"
	".balign 8\n"
	"guard_data:\n"
	".fill 224, 1, 0\n"
	"guard_end:\n"
	".balign 8\n"
	"guard_offset:\n"
	".quad guard_one - guard_code, guard_rest - guard_code\n"
	".quad guard_data - guard_code, guard_end - guard_code\n"
	".popsection\n");
/* clang-format on */

_Static_assert(sizeof(struct guard_data) == 224, "guard_data");
