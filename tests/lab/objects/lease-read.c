/* SPDX-License-Identifier: Apache-2.0 */
/* A read lease: who opens the file for writing is made to wait, and its owner told. */
#include <fcntl.h>
#include <sys/wait.h>
#include <time.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct timespec second = { 10, 0 };
	int fd, status;
	siginfo_t si;
	sigset_t set;
	pid_t child;

	object_init(argc, argv);
	close(open("/leased", O_RDONLY | O_CREAT, 0600));
	fd = open("/leased", O_RDONLY);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	CHECK(fcntl(fd, F_SETSIG, SIGRTMIN) == 0 && fcntl(fd, F_SETLEASE, F_RDLCK) == 0);
	object_move();
	CHECK(fcntl(fd, F_GETLEASE) == F_RDLCK);
	CHECK(sigtimedwait(&set, &si, &(struct timespec){ 0, 0 }) < 0, "the move broke it");
	child = fork();
	if (child == 0)
		_exit(open("/leased", O_WRONLY | O_NONBLOCK) < 0 && errno == EWOULDBLOCK ? 0 : 1);
	CHECK(sigtimedwait(&set, &si, &second) == SIGRTMIN && si.si_fd == fd);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	CHECK(fcntl(fd, F_SETLEASE, F_UNLCK) == 0 && open("/leased", O_WRONLY | O_NONBLOCK) >= 0);
	return 0;
}
