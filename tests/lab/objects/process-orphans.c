/* SPDX-License-Identifier: Apache-2.0 */
/* Processes whose parent has ended belong to init, which hears of their end after the move. */
#include <sys/wait.h>

#include "object.h"

int main(int argc, char **argv)
{
	int go[2], ready[2], status, codes = 0;
	char byte;

	object_init(argc, argv);
	CHECK(pipe(go) == 0 && pipe(ready) == 0);
	if (fork() == 0) {
		for (int i = 1; i <= 3; i++)
			if (fork() == 0) {
				while (getppid() != 1)
					usleep(1000);
				CHECK(write(ready[1], "r", 1) == 1 && read(go[0], &byte, 1) == 1);
				_exit(getppid() == 1 ? i : 99);
			}
		_exit(0);
	}
	CHECK(wait(&status) > 0 && status == 0);
	for (int i = 0; i < 3; i++)
		CHECK(read(ready[0], &byte, 1) == 1);
	object_move();
	CHECK(write(go[1], "ggg", 3) == 3);
	for (int i = 0; i < 3; i++) {
		CHECK(wait(&status) > 0 && WIFEXITED(status));
		codes += WEXITSTATUS(status);
	}
	CHECK(codes == 6, "%d", codes);
	return 0;
}
