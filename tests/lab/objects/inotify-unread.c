/* SPDX-License-Identifier: Apache-2.0 */
/*
 * inotify events that wait to be read: the move is tried again until they have been, and
 * none is lost.
 */
#include <fcntl.h>
#include <sys/inotify.h>
#include <time.h>

#include "object.h"

int main(int argc, char **argv)
{
	char buf[4096] __attribute__((aligned(8)));
	int fd = inotify_init1(0), made = 0, seen = 0;
	struct timespec soon = { 0, 300000000 };
	sigset_t set;

	object_init(argc, argv);
	CHECK(inotify_add_watch(fd, "/tmp", IN_CREATE) > 0);
	object_ready();
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	/* now and then there are some, for a third of a second: longer than one attempt */
	do {
		char path[32];

		if (made < 3) {
			snprintf(path, sizeof(path), "/tmp/%d", made++);
			close(open(path, O_CREAT | O_WRONLY, 0600));
		}
		if (sigtimedwait(&set, NULL, &soon) == SIGUSR2)
			break;
		while (seen < made) {
			ssize_t n = read(fd, buf, sizeof(buf));

			for (char *p = buf; p < buf + n;) {
				struct inotify_event *e = (void *)p;

				CHECK(atoi(e->name) == seen++);
				p += sizeof(*e) + e->len;
			}
		}
	} while (true);
	CHECK(made == 3);
	return 0;
}
