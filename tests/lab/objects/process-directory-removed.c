/* SPDX-License-Identifier: Apache-2.0 */
/* A working directory that was removed: relative names lead nowhere, and the process can
 * leave it. */
#include <fcntl.h>
#include <sys/stat.h>

#include "object.h"

int main(int argc, char **argv)
{
	char where[256];

	object_init(argc, argv);
	CHECK(mkdir("/tmp/gone", 0700) == 0 && chdir("/tmp/gone") == 0 && rmdir("/tmp/gone") == 0);
	object_move();
	CHECK(!getcwd(where, sizeof(where)) && errno == ENOENT);
	CHECK(open("x", O_CREAT | O_WRONLY, 0600) < 0 && errno == ENOENT);
	CHECK(access("/tmp/gone", F_OK) < 0 && errno == ENOENT);
	CHECK(chdir("/tmp") == 0 && getcwd(where, sizeof(where)));
	return 0;
}
