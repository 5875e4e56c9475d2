/* SPDX-License-Identifier: Apache-2.0 */
/* A process that waits in connect(). */
#include <sys/wait.h>

#include "net.h"

int main(int argc, char **argv)
{
	union net_address at;
	socklen_t len;
	int l, status;
	pid_t child;

	object_init(argc, argv);
	l = net_listen("127.0.0.1", 7000, 0);
	net_dial("127.0.0.1", 7000); /* fills the accept queue */
	len = net_at(&at, "127.0.0.1", 7000);
	child = fork();
	CHECK(child >= 0);
	if (!child) {
		int s = socket(AF_INET, SOCK_STREAM, 0);

		CHECK(connect(s, &at.sa, len) == 0);
		net_send(s, 8, 0, 1);
		_exit(0);
	}
	usleep(100000);
	object_move();
	CHECK(accept(l, NULL, NULL) >= 0);
	net_recv(accept(l, NULL, NULL), 8, 0, 1);
	CHECK(waitpid(child, &status, 0) == child && status == 0, "status %#x", status);
	return 0;
}
