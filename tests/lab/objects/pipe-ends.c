/* SPDX-License-Identifier: Apache-2.0 */
/* Ends of pipes that are closed stay closed; a reader waits on for the writer that lives. */
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int eof[2], broken[2], waits[2], status;
	char buf[8] = "";
	pid_t child;

	object_init(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	CHECK(pipe(eof) == 0 && pipe(broken) == 0 && pipe(waits) == 0);
	CHECK(write(eof[1], "last", 4) == 4 && close(eof[1]) == 0 && close(broken[0]) == 0);
	child = fork();
	if (child == 0) {
		close(waits[1]);
		_exit(read(waits[0], buf, 8) == 5 && read(waits[0], buf, 8) == 0 ? 0 : 1);
	}
	close(waits[0]);
	object_move();
	CHECK(read(eof[0], buf, 8) == 4 && read(eof[0], buf, 8) == 0);
	CHECK(write(broken[1], "x", 1) < 0 && errno == EPIPE);
	CHECK(write(waits[1], "hello", 5) == 5);
	usleep(20000);
	close(waits[1]);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	return 0;
}
