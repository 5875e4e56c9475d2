/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The code that a thread of the source runs for the engine (remote_guard.c), and the data
 * behind it. It lies in the dead end of the task's vdso, is never writable there, and uses
 * no stack of the program.
 *
 *   batch ─┐ calls at rbx, r12 of them, results beside them
 *   one ───┤ one call, all registers given; r14: its result
 *          ▼
 *        tgkill(itself)      the tracer gets its stop here, and the thread rests
 *   rest ──                  only reached where there is no tracer any more:
 *        all signals blocked
 *        close(r14)          where r13 has GUARD_CLOSE
 *        munmap(r14)         where r13 has GUARD_UNMAP
 *        munmap(r15)         where r15 is not 0: the scratch area
 *        ppoll(own mask)     handlers of what waits run; EINTR: one did
 *        flags, signal mask, registers, and a jump to where it was
 */
#ifndef FERRY_CHECKPOINT_GUARD_CODE_H
#define FERRY_CHECKPOINT_GUARD_CODE_H

#include <stdint.h>

#define GUARD_CLOSE 1
#define GUARD_UNMAP 2

/* What stands at guard_data. */
struct guard_data {
	uint64_t magic;
	uint64_t scratch;	 /* of the engine that wrote this; 0: none */
	uint64_t mask, all_mask; /* of signals */
	uint64_t zero[2];
	uint32_t pid, tid, sig, unused;
	uint64_t flags, rsp;
	uint64_t rbx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rcx;
	uint64_t rax, rip;	       /* where no handler has run */
	uint64_t rax_eintr, rip_eintr; /* where one has */
};

extern const uint8_t guard_code[];
/* Where things are in it; GUARD_END: how long it is. */
enum guard_place { GUARD_ONE, GUARD_REST, GUARD_DATA, GUARD_END };
extern const uint64_t guard_offset[4];

#endif
