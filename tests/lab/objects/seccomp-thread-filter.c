/* SPDX-License-Identifier: Apache-2.0 */
/* A seccomp filter that one thread has for itself. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "object.h"

static pthread_barrier_t both;

static void *body(void *arg)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOWNERDEAD),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { 4, f };

	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
	pthread_barrier_wait(&both);
	pthread_barrier_wait(&both);
	errno = 0;
	CHECK(syscall(SYS_getpgrp) == -1 && errno == EOWNERDEAD);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t th;

	object_init(argc, argv);
	pthread_barrier_init(&both, NULL, 2);
	CHECK(pthread_create(&th, NULL, body, NULL) == 0);
	pthread_barrier_wait(&both);
	object_move();
	CHECK(syscall(SYS_getpgrp) >= 0);
	CHECK(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
	pthread_barrier_wait(&both);
	CHECK(pthread_join(th, NULL) == 0);
	return 0;
}
