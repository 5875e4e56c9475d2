/* SPDX-License-Identifier: Apache-2.0 */
/* O_NONBLOCK of a description and FD_CLOEXEC of a descriptor, duplicates included. */
#include "net.h"

int main(int argc, char **argv)
{
	int l, a, b, again;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	CHECK(fcntl(a, F_SETFL, O_NONBLOCK) == 0);
	CHECK(fcntl(b, F_SETFD, FD_CLOEXEC) == 0);
	again = dup(a);
	object_move();
	CHECK(fcntl(a, F_GETFL) & O_NONBLOCK);
	CHECK(!(fcntl(b, F_GETFL) & O_NONBLOCK));
	CHECK(fcntl(b, F_GETFD) == FD_CLOEXEC && fcntl(a, F_GETFD) == 0);
	CHECK(fcntl(a, F_SETFL, 0) == 0 && !(fcntl(again, F_GETFL) & O_NONBLOCK)); /* still one */
	net_works(again, b);
	return 0;
}
