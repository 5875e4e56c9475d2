/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers that travel. A thread that was stopped inside a system call shows the
 * kernel's internal restart codes; elsewhere no kernel remembers the call, so the thread
 * is put back in front of the `syscall` instruction and makes it again.
 */
#include <cpuid.h>
#include <sys/syscall.h>

#include "runtime/checkpoint/core.h"

#define ERESTARTSYS	      512
#define ERESTARTNOINTR	      513
#define ERESTARTNOHAND	      514
#define ERESTART_RESTARTBLOCK 516

/* Calls that the kernel ends with EINTR whatever stopped them (signal(7), "interruption
 * by stop signals"): it was only us, so they too start again. */
static bool eintr_is_ours(unsigned long nr)
{
	switch (nr) {
	case SYS_epoll_wait:
	case SYS_epoll_pwait:
	case SYS_epoll_pwait2:
	case SYS_semop:
	case SYS_semtimedop:
	case SYS_rt_sigtimedwait:
	case SYS_io_getevents:
	case SYS_io_pgetevents:
		return true;
	}
	return false;
}

void arch_regs_restart(struct user_regs_struct *r)
{
	long ret = (long)r->rax;

	if ((long)r->orig_rax < 0)
		return;
	switch (-ret) {
	case ERESTARTSYS:
	case ERESTARTNOINTR:
	case ERESTARTNOHAND:
	/* The restart block holds an absolute end that cannot be read. The call is made
	 * again with its arguments: nanosleep's (glibc passes one struct for both) already
	 * holds what remains, poll's and futex's timeouts begin anew. */
	case ERESTART_RESTARTBLOCK:
		break;
	case EINTR:
		if (eintr_is_ours(r->orig_rax))
			break;
		/* fall through */
	default:
		r->orig_rax = (unsigned long)-1;
		return;
	}
	r->rax = r->orig_rax;
	r->rip -= 2;
	r->orig_rax = (unsigned long)-1;
}

void arch_xsave(uint64_t *mask, uint32_t *bytes)
{
	unsigned int a, b, c, d;

	*mask = 0;
	*bytes = 0;
	if (!__get_cpuid_count(0xd, 0, &a, &b, &c, &d))
		return;
	*bytes = b;
	__asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
	*mask = (uint64_t)d << 32 | a;
}
