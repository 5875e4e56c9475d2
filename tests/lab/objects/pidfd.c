/* SPDX-License-Identifier: Apache-2.0 */
/* pidfd: of a process, a thread, a zombie, and of a process that is gone. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "object.h"

static volatile pid_t tid;
static volatile bool end;

static void *thread(void *arg)
{
	tid = gettid();
	while (!end)
		usleep(1000);
	return arg;
}

int main(int argc, char **argv)
{
	struct pollfd p = { .events = POLLIN };
	int live, thread_fd, zombie_fd, gone_fd, status;
	pid_t child, zombie, gone;
	siginfo_t si = { 0 };
	pthread_t th;

	object_init(argc, argv);
	child = fork();
	if (child == 0) {
		object_wait();
		_exit(3);
	}
	zombie = fork();
	if (zombie == 0)
		_exit(4);
	gone = fork();
	if (gone == 0)
		_exit(5);
	live = (int)syscall(SYS_pidfd_open, child, O_NONBLOCK);
	zombie_fd = (int)syscall(SYS_pidfd_open, zombie, 0);
	gone_fd = (int)syscall(SYS_pidfd_open, gone, 0);
	CHECK(live >= 0 && zombie_fd >= 0 && gone_fd >= 0);
	CHECK(waitpid(gone, &status, 0) == gone);
	CHECK(waitid(P_PID, (id_t)zombie, &si, WEXITED | WNOWAIT) == 0);
	CHECK(pthread_create(&th, NULL, thread, NULL) == 0);
	while (!tid)
		usleep(1000);
	thread_fd = (int)syscall(SYS_pidfd_open, tid, O_EXCL /* PIDFD_THREAD, Linux 6.9 */);
	object_move();
	CHECK(syscall(SYS_pidfd_send_signal, live, SIGUSR2, NULL, 0) == 0);
	p.fd = live;
	CHECK(poll(&p, 1, 10000) == 1);
	CHECK(waitid(P_PIDFD, (id_t)live, &si, WEXITED) == 0 && si.si_status == 3);
	CHECK(waitid(P_PIDFD, (id_t)zombie_fd, &si, WEXITED) == 0 && si.si_status == 4);
	p.fd = gone_fd;
	CHECK(poll(&p, 1, 0) == 1 && syscall(SYS_pidfd_send_signal, gone_fd, 0, NULL, 0) < 0 &&
	      errno == ESRCH);
	CHECK(waitid(P_PIDFD, (id_t)gone_fd, &si, WEXITED) < 0 && errno == ECHILD);
	if (thread_fd >= 0) {
		p.fd = thread_fd;
		CHECK(poll(&p, 1, 0) == 0);
		end = true;
		CHECK(poll(&p, 1, 10000) == 1);
	}
	end = true;
	CHECK(pthread_join(th, NULL) == 0);
	return 0;
}
