/* SPDX-License-Identifier: Apache-2.0 */
/* docker: --security-opt seccomp=unconfined */
/* refused: keyring */
/* A process that keeps keys in a keyring of its own is refused: their numbers cannot be
 * given again. */
#include <sys/syscall.h>

#include "object.h"

int main(int argc, char **argv)
{
	long id;

	object_init(argc, argv);
	/* KEY_SPEC_PROCESS_KEYRING */
	id = syscall(SYS_add_key, "user", "object", "secret", 6, -2);
	CHECK(id > 0);
	object_move();
	return 0;
}
