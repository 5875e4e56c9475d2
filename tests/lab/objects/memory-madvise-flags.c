/* SPDX-License-Identifier: Apache-2.0 */
/* What madvise() has said of memory: not for children, wiped for children, not for core
 * dumps, read at random or in order, pages of its own size. */
#include <sys/mman.h>
#include <sys/wait.h>

#include "object.h"
#include "vmflags.h"

static const struct {
	int advice;
	const char *flag;
} kinds[] = {
	{ MADV_DONTFORK, "dc" },   { MADV_WIPEONFORK, "wf" }, { MADV_DONTDUMP, "dd" },
	{ MADV_RANDOM, "rr" },	   { MADV_SEQUENTIAL, "sr" }, { MADV_HUGEPAGE, "hg" },
	{ MADV_NOHUGEPAGE, "nh" },
};

int main(int argc, char **argv)
{
	char *p[sizeof(kinds) / sizeof(kinds[0])];
	int status;
	pid_t pid;

	object_init(argc, argv);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		/* A page between them, so that they are not joined. */
		p[i] = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			    0);
		CHECK(p[i] != MAP_FAILED && mprotect(p[i], 4096, PROT_NONE) == 0);
		p[i] += 4096;
		p[i][0] = (char)(i + 1);
		CHECK(madvise(p[i], 8192, kinds[i].advice) == 0, "%s", kinds[i].flag);
	}
	object_move();
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		CHECK(p[i][0] == (char)(i + 1) && vm_has(p[i], kinds[i].flag, NULL, 0), "%s",
		      kinds[i].flag);
	pid = fork();
	if (pid == 0)
		_exit(p[1][0]);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0, "wiped for the child: %x", status);
	pid = fork();
	if (pid == 0)
		_exit(p[0][0]);
	CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
	return 0;
}
