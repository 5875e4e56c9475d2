/* SPDX-License-Identifier: Apache-2.0 */
/* A process that waits in accept(), another in recv(). */
#include <sys/wait.h>

#include "net.h"

int main(int argc, char **argv)
{
	int l, a, b;
	pid_t first, second;
	int status;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	first = fork();
	CHECK(first >= 0);
	if (!first) {
		int c = accept(l, NULL, NULL);

		net_recv(c, 6, 0, 10);
		_exit(0);
	}
	second = fork();
	CHECK(second >= 0);
	if (!second) {
		char byte;

		CHECK(recv(b, &byte, 1, 0) == 1 && byte == 'x');
		_exit(0);
	}
	usleep(100000);
	object_move();
	CHECK(send(a, "x", 1, MSG_NOSIGNAL) == 1);
	net_send(net_dial("127.0.0.1", 7000), 6, 0, 10);
	CHECK(waitpid(first, &status, 0) == first && status == 0);
	CHECK(waitpid(second, &status, 0) == second && status == 0);
	return 0;
}
