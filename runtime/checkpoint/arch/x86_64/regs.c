/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Registers that travel. A thread that was stopped inside a system call shows the
 * kernel's internal restart codes in rax, and the call in orig_rax. Both travel as they
 * are: the destination's kernel sees them when the thread is let go and decides as this
 * one would have, between making the call again and ending it with EINTR, according to
 * the signal that is pending.
 */
#include <cpuid.h>
#include <errno.h>
#include <sys/syscall.h>

#include "runtime/checkpoint/core.h"

#define ERESTARTSYS	      512
#define ERESTARTNOINTR	      513
#define ERESTARTNOHAND	      514
#define ERESTART_RESTARTBLOCK 516

/* Calls that the kernel ends with EINTR whatever stopped them (signal(7), "interruption
 * by stop signals"). Where one ends so, it has done nothing yet. */
static bool eintr_by_stop(unsigned long nr)
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
	/* From sockets with a timeout, and inotify. */
	case SYS_read:
	case SYS_readv:
	case SYS_recvfrom:
	case SYS_recvmsg:
	case SYS_recvmmsg:
	case SYS_sendto:
	case SYS_sendmsg:
	case SYS_accept:
	case SYS_accept4:
	case SYS_connect:
		return true;
	}
	return false;
}

bool arch_regs_stopped(struct user_regs_struct *r)
{
	if ((long)r->orig_rax < 0 || (long)r->rax != -EINTR || !eintr_by_stop(r->orig_rax))
		return false;
	/* It was only us: made again, unless a handler runs. */
	r->rax = (unsigned long)-ERESTARTNOHAND;
	return true;
}

void arch_regs_restart(struct user_regs_struct *r)
{
	if ((long)r->orig_rax < 0)
		return;
	switch (-(long)r->rax) {
	case ERESTARTSYS:
	case ERESTARTNOINTR:
	case ERESTARTNOHAND:
		break;
	/* The kernel's restart block stays behind; restore_task.c makes another one where it
	 * can, else the call is made again with its arguments. */
	case ERESTART_RESTARTBLOCK:
		r->rax = (unsigned long)-ERESTARTNOHAND;
		break;
	default:
		r->orig_rax = (unsigned long)-1;
	}
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
