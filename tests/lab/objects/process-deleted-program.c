/* SPDX-License-Identifier: Apache-2.0 */
/* A program whose file was replaced while it runs (a package upgrade) goes on with its old
 * code. */
#include <fcntl.h>
#include <sys/wait.h>

#include "object.h"

static void copy(const char *from, const char *to)
{
	static char buf[65536];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
	ssize_t n;

	CHECK(in >= 0 && out >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		CHECK(write(out, buf, (size_t)n) == n);
	close(in);
	close(out);
}

int main(int argc, char **argv)
{
	char link[256] = "";
	int go[2], tell[2], status;
	char byte;
	pid_t pid;

	if (argc > 1 && strcmp(argv[1], "old") == 0) {
		int in = atoi(argv[2]);

		CHECK(write(atoi(argv[3]), "r", 1) == 1 && read(in, &byte, 1) == 1);
		CHECK(readlink("/proc/self/exe", link, sizeof(link) - 1) > 0);
		CHECK(strstr(link, "(deleted)") && strstr(link, "object-old"), "%s", link);
		return 42;
	}
	object_init(argc, argv);
	copy("/proc/self/exe", "/tmp/object-old");
	CHECK(pipe(go) == 0 && pipe(tell) == 0);
	pid = fork();
	if (pid == 0) {
		char in[8], out[8];

		snprintf(in, sizeof(in), "%d", go[0]);
		snprintf(out, sizeof(out), "%d", tell[1]);
		execl("/tmp/object-old", "object-old", "old", in, out, NULL);
		_exit(99);
	}
	CHECK(read(tell[0], &byte, 1) == 1);
	CHECK(unlink("/tmp/object-old") == 0);
	copy("/bin/busybox", "/tmp/object-old");
	object_move();
	CHECK(write(go[1], "g", 1) == 1);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 42,
	      "%x", status);
	return 0;
}
