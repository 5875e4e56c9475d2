/* SPDX-License-Identifier: Apache-2.0 */
/* inotify: watches keep their numbers and tell of what happens after the move. */
#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include "object.h"

int main(int argc, char **argv)
{
	char buf[4096] __attribute__((aligned(8)));
	int fd = inotify_init1(IN_NONBLOCK), wd[40], n, f;
	const struct inotify_event *e = (const void *)buf;

	object_init(argc, argv);
	for (int i = 0; i < 40; i++) {
		char path[32];

		snprintf(path, sizeof(path), "/tmp/w%d", i);
		CHECK(mkdir(path, 0700) == 0);
		wd[i] = inotify_add_watch(fd, path, IN_CREATE | IN_DELETE | IN_MODIFY);
		CHECK(wd[i] > 0);
		if (i % 2)
			CHECK(inotify_rm_watch(fd, wd[i]) == 0);
	}
	while (read(fd, buf, sizeof(buf)) > 0)
		;
	object_move();
	CHECK(read(fd, buf, sizeof(buf)) < 0 && errno == EAGAIN);
	f = open("/tmp/w38/new", O_CREAT | O_WRONLY, 0600);
	n = (int)read(fd, buf, sizeof(buf));
	CHECK(n > 0 && e->wd == wd[38] && e->mask == IN_CREATE && strcmp(e->name, "new") == 0);
	CHECK(write(f, "x", 1) == 1 && read(fd, buf, sizeof(buf)) > 0 && e->mask == IN_MODIFY);
	close(open("/tmp/w37/unwatched", O_CREAT | O_WRONLY, 0600));
	CHECK(read(fd, buf, sizeof(buf)) < 0);
	CHECK(inotify_add_watch(fd, "/tmp/w37", IN_CREATE) > wd[39]);
	return 0;
}
