/* SPDX-License-Identifier: Apache-2.0 */
/* A log that is appended to all the time: every line is in it once, in order, at the end. */
#include <fcntl.h>
#include <time.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct timespec none = { 0, 100000 };
	int fd = open("/var.log", O_WRONLY | O_CREAT | O_APPEND, 0600), n = 0, k = 0;
	char line[32];
	sigset_t set;
	FILE *f;

	object_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	do {
		int len = snprintf(line, sizeof(line), "line %d\n", n++);

		CHECK(write(fd, line, (size_t)len) == len);
		if (n == 1000)
			object_ready();
	} while (n < 1000 || sigtimedwait(&set, NULL, &none) != SIGUSR2);
	f = fopen("/var.log", "r");
	CHECK(f);
	for (int i; k < n; k++)
		CHECK(fscanf(f, "line %d\n", &i) == 1 && i == k, "line %d", k);
	CHECK(fgetc(f) == EOF);
	return 0;
}
