/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A listening unix socket: backlog, clients that wait to be accepted, clients that come
 * after the move.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/tmp/listening" };
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c[3], late, s, status;
	struct stat st;
	char buf[8];
	pid_t child;

	object_init(argc, argv);
	umask(0);
	CHECK(bind(l, (struct sockaddr *)&un, sizeof(un)) == 0 && chmod(un.sun_path, 0755) == 0);
	CHECK(listen(l, 2) == 0);
	for (int i = 0; i < 3; i++) {
		c[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		CHECK(connect(c[i], (struct sockaddr *)&un, sizeof(un)) == 0);
	}
	late = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CHECK(connect(late, (struct sockaddr *)&un, sizeof(un)) < 0 && errno == EAGAIN);
	child = fork();
	if (child == 0) { /* waits for room in the queue */
		int w = socket(AF_UNIX, SOCK_STREAM, 0);

		CHECK(connect(w, (struct sockaddr *)&un, sizeof(un)) == 0);
		_exit(read(w, buf, 8) == 1 && buf[0] == '3' ? 0 : 1);
	}
	usleep(20000);
	object_move();
	CHECK(stat(un.sun_path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0755);
	for (int i = 0; i < 4; i++) {
		char digit = (char)('0' + i);

		CHECK((s = accept(l, NULL, NULL)) >= 0 && write(s, &digit, 1) == 1);
		CHECK(i == 3 || (read(c[i], buf, 8) == 1 && buf[0] == digit), "client %d", i);
	}
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(connect(late, (struct sockaddr *)&un, sizeof(un)) == 0);
	return 0;
}
