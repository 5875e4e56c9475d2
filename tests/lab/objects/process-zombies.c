/* SPDX-License-Identifier: Apache-2.0 */
/* Children that have ended and were not waited for, with their exit codes and signals. */
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	pid_t code[5], sig;
	siginfo_t si;
	int status;

	object_init(argc, argv);
	for (int i = 0; i < 5; i++) {
		code[i] = fork();
		if (code[i] == 0)
			_exit(i * 50);
	}
	sig = fork();
	if (sig == 0) {
		signal(SIGTERM, SIG_DFL);
		raise(SIGKILL);
	}
	for (int i = 0; i < 5; i++)
		CHECK(waitid(P_PID, (id_t)code[i], &si, WEXITED | WNOWAIT) == 0);
	CHECK(waitid(P_PID, (id_t)sig, &si, WEXITED | WNOWAIT) == 0);
	object_move();
	for (int i = 4; i >= 0; i--)
		CHECK(waitpid(code[i], &status, 0) == code[i] && WIFEXITED(status) &&
			      WEXITSTATUS(status) == i * 50,
		      "child %d: %x", i, status);
	CHECK(waitid(P_PID, (id_t)sig, &si, WEXITED) == 0 && si.si_code == CLD_KILLED &&
	      si.si_status == SIGKILL);
	CHECK(waitpid(-1, &status, 0) < 0 && errno == ECHILD);
	return 0;
}
