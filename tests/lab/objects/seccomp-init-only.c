/* SPDX-License-Identifier: Apache-2.0 */
/* A seccomp filter that PID 1 has put on itself after its children were made. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOWNERDEAD),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { 4, f };
	int go[2], tell[2], status;
	char byte;
	pid_t pid;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(tell) == 0);
	pid = fork();
	if (pid == 0) {
		CHECK(write(tell[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1);
		_exit(syscall(SYS_getpgrp) >= 0 ? 0 : 1);
	}
	CHECK(read(tell[0], &byte, 1) == 1);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0);
	object_move();
	errno = 0;
	CHECK(syscall(SYS_getpgrp) == -1 && errno == EOWNERDEAD);
	CHECK(write(go[1], "g", 1) == 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "%x", status);
	return 0;
}
