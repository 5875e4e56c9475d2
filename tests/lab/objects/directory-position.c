/* SPDX-License-Identifier: Apache-2.0 */
/* A folder that is being listed goes on where it was: nothing twice, nothing left out. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "object.h"

int main(int argc, char **argv)
{
	bool seen[200] = { false };
	struct dirent *e;
	int n = 0;
	DIR *d, *end;

	object_init(argc, argv);
	CHECK(mkdir("/dev/shm/folder", 0700) == 0);
	for (int i = 0; i < 200; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/dev/shm/folder/%d", i);
		close(open(path, O_CREAT | O_WRONLY, 0600));
	}
	d = opendir("/dev/shm/folder");
	end = opendir("/dev/shm/folder");
	CHECK(d && end);
	while (readdir(end))
		;
	/* one at a time: what the library has read ahead it would give by itself */
	CHECK(lseek(dirfd(d), 0, SEEK_SET) == 0);
	object_move();
	while ((e = readdir(d)))
		if (e->d_name[0] != '.') {
			int i = atoi(e->d_name);

			CHECK(!seen[i], "%d twice", i);
			seen[i] = true;
			n++;
		}
	CHECK(n == 200, "%d entries", n);
	CHECK(readdir(end) == NULL);
	return 0;
}
