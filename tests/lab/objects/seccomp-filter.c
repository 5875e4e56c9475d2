/* SPDX-License-Identifier: Apache-2.0 */
/* Seccomp filters on top of the container's, of the whole process and of one thread, and
 * no_new_privs. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "object.h"

static pthread_barrier_t both;

static void forbid(int nr, int code, unsigned int flags)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned int)code),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { 4, f };

	CHECK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog) == 0);
}

static void *body(void *arg)
{
	pthread_barrier_wait(&both);
	pthread_barrier_wait(&both);
	errno = 0;
	CHECK(syscall(SYS_getpgrp) == -1 && errno == EOWNERDEAD);
	forbid(SYS_getsid, EBADE, 0);
	CHECK(syscall(SYS_getsid, 0) == -1 && errno == EBADE);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t th;

	object_init(argc, argv);
	pthread_barrier_init(&both, NULL, 2);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(pthread_create(&th, NULL, body, NULL) == 0);
	pthread_barrier_wait(&both);
	forbid(SYS_getpgrp, EOWNERDEAD, SECCOMP_FILTER_FLAG_TSYNC);
	object_move();
	errno = 0;
	CHECK(syscall(SYS_getpgrp) == -1 && errno == EOWNERDEAD);
	CHECK(syscall(SYS_getsid, 0) >= 0, "the thread's own filter is everybody's");
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	pthread_barrier_wait(&both);
	CHECK(pthread_join(th, NULL) == 0);
	/* The threads' filters have one root still: one can be put on all of them. */
	forbid(SYS_getppid, ENOTNAM, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG);
	CHECK(syscall(SYS_getppid) == -1 && errno == ENOTNAM);
	return 0;
}
