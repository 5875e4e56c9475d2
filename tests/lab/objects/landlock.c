/* SPDX-License-Identifier: Apache-2.0 */
/* docker: --security-opt seccomp=unconfined */
/* refused: Landlock */
/* A process under Landlock's rules is refused: nobody can read them out, so they would be
 * lost. */
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "object.h"

int main(int argc, char **argv)
{
	uint64_t handled = 1;
	long fd;

	object_init(argc, argv);
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	fd = syscall(444 /* landlock_create_ruleset */, &handled, sizeof(handled), 0);
	CHECK(fd >= 0 && syscall(446 /* landlock_restrict_self */, fd, 0) == 0);
	close((int)fd);
	object_move();
	return 0;
}
