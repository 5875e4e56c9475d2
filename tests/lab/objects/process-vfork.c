/* SPDX-License-Identifier: Apache-2.0 */
/* Programs are started by vfork() all the time while the container moves; the freeze waits
 * out the instant between vfork and exec. */
#include <pthread.h>
#include <sys/wait.h>

#include "object.h"

static volatile bool stop;
static volatile int started;

static void *starter(void *arg)
{
	while (!stop) {
		int status;
		pid_t pid = vfork();

		if (pid == 0) {
			execl("/proc/self/exe", "object", "child", NULL);
			_exit(98);
		}
		CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3, "%x", status);
		started++;
	}
	return arg;
}

int main(int argc, char **argv)
{
	pthread_t th;

	if (argc > 1 && strcmp(argv[1], "child") == 0)
		return 3;
	object_init(argc, argv);
	CHECK(pthread_create(&th, NULL, starter, NULL) == 0);
	object_move();
	stop = true;
	CHECK(pthread_join(th, NULL) == 0);
	CHECK(started > 0);
	return 0;
}
