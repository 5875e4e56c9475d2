/* SPDX-License-Identifier: Apache-2.0 */
/* A stopped process stays stopped until it is continued. */
#include <sys/wait.h>

#include "object.h"

static bool stopped(pid_t pid)
{
	char path[64], text[512], *end;
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "r");
	CHECK(f);
	n = fread(text, 1, sizeof(text) - 1, f);
	fclose(f);
	text[n] = '\0';
	end = strrchr(text, ')');
	return end && end[2] == 'T';
}

int main(int argc, char **argv)
{
	int go[2], tell[2], status;
	volatile int n = 0;
	char byte;
	pid_t pid;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(tell) == 0);
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		CHECK(write(tell[1], "r", 1) == 1);
		while (read(go[0], &byte, 1) == 1)
			CHECK(write(tell[1], "a", 1) == 1 && ++n);
		_exit(n);
	}
	CHECK(read(tell[0], &byte, 1) == 1);
	CHECK(kill(pid, SIGSTOP) == 0 && waitpid(pid, &status, WUNTRACED) == pid &&
	      WIFSTOPPED(status));
	CHECK(write(go[1], "12", 2) == 2);
	object_move();
	usleep(200000);
	CHECK(stopped(pid));
	CHECK(kill(pid, SIGCONT) == 0);
	CHECK(read(tell[0], &byte, 1) == 1 && byte == 'a');
	close(go[1]);
	close(go[0]);
	while (waitpid(pid, &status, 0) != pid || WIFSTOPPED(status))
		;
	CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 2, "%x", status);
	return 0;
}
