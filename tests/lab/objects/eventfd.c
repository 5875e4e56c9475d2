/* SPDX-License-Identifier: Apache-2.0 */
/* eventfd: count, semaphore mode, a writer that waits for room. */
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int a = eventfd(5, 0), s = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK), full = eventfd(0, 0),
	    status;
	uint64_t v, most = UINT64_MAX - 1;
	pid_t child;

	object_init(argc, argv);
	CHECK(write(full, &most, 8) == 8);
	child = fork();
	if (child == 0)
		_exit(eventfd_write(full, 1) == 0 ? 0 : 1);
	object_move();
	CHECK(read(a, &v, 8) == 8 && v == 5);
	for (int i = 0; i < 3; i++)
		CHECK(read(s, &v, 8) == 8 && v == 1);
	CHECK(read(s, &v, 8) < 0 && errno == EAGAIN);
	CHECK(waitpid(child, &status, WNOHANG) == 0 && read(full, &v, 8) == 8 && v == most);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(read(full, &v, 8) == 8 && v == 1);
	return 0;
}
