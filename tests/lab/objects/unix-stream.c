/* SPDX-License-Identifier: Apache-2.0 */
/* Unix streams: both directions, half-closed, the other end gone, across processes. */
#include <sys/socket.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int pair[2], half[2], orphan[2], status;
	char buf[300000];
	pid_t child;

	object_init(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, half) == 0);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, orphan) == 0);
	child = fork();
	if (child == 0) {
		close(pair[0]);
		CHECK(write(pair[1], "from child", 10) == 10);
		object_wait();
		CHECK(read(pair[1], buf, sizeof(buf)) == 9 && memcmp(buf, "to child,", 9) == 0);
		_exit(write(pair[1], ", again", 7) == 7 ? 0 : 1);
	}
	close(pair[1]);
	memset(buf, 'b', sizeof(buf));
	CHECK(write(pair[0], "to child,", 9) == 9 && write(half[0], buf, 100000) == 100000);
	CHECK(shutdown(half[0], SHUT_WR) == 0 && write(orphan[1], "will", 4) == 4);
	close(orphan[1]);
	CHECK(recv(pair[0], buf, 4, MSG_WAITALL) == 4);
	object_move();
	CHECK(recv(pair[0], buf, 6, MSG_WAITALL) == 6 && memcmp(buf, " child", 6) == 0);
	kill(child, SIGUSR2);
	CHECK(read(pair[0], buf, 20) == 7 && memcmp(buf, ", again", 7) == 0);
	CHECK(waitpid(child, &status, 0) == child && status == 0 && read(pair[0], buf, 1) == 0);
	CHECK(recv(half[1], buf, 100000, MSG_WAITALL) == 100000 && buf[99999] == 'b');
	CHECK(read(half[1], buf, 1) == 0 && write(half[1], "back", 4) == 4);
	CHECK(read(half[0], buf, 8) == 4 && write(half[0], "x", 1) < 0 && errno == EPIPE);
	CHECK(read(orphan[0], buf, 8) == 4 && read(orphan[0], buf, 8) == 0);
	CHECK(write(orphan[0], "x", 1) < 0 && errno == EPIPE);
	return 0;
}
