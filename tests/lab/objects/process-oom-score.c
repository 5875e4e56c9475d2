/* SPDX-License-Identifier: Apache-2.0 */
/* The process's place in the queue for the out-of-memory killer. */
#include <fcntl.h>

#include "object.h"

int main(int argc, char **argv)
{
	char text[16] = "";
	int fd = open("/proc/self/oom_score_adj", O_RDWR);

	object_init(argc, argv);
	CHECK(fd >= 0 && write(fd, "321", 3) == 3);
	close(fd);
	object_move();
	fd = open("/proc/self/oom_score_adj", O_RDONLY);
	CHECK(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && atoi(text) == 321, "%s", text);
	return 0;
}
