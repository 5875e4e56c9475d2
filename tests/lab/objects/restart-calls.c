/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that wait, one thread each: none of them ends because of the move, and each still
 * does what it was called for. */
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>

#include "object.h"

enum {
	READ,
	POLL,
	PPOLL,
	SELECT,
	EPOLL,
	FUTEX,
	ACCEPT,
	RECV_TIMEOUT,
	SIGWAIT,
	SEMOP,
	MSGRCV,
	SLEEP,
	KINDS
};
static const char *const names[] = { "read",	     "poll",  "ppoll",	"select",
				     "epoll_wait",   "futex", "accept", "recv with SO_RCVTIMEO",
				     "sigtimedwait", "semop", "msgrcv", "clock_nanosleep" };
static const long expected[] = { 1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 4, 0 };
static volatile long result[KINDS];
static volatile int code[KINDS];
static volatile bool done[KINDS];
static int pipes[KINDS][2], listener, ep, sems, queue;
static struct sockaddr_un at = { AF_UNIX, "/tmp/restart-socket" };
static uint32_t word;
static struct message {
	long type;
	char text[4];
} message = { 5, "abc" };

static void setup(void)
{
	struct timeval tv = { 100, 0 };
	struct epoll_event ev = { .events = EPOLLIN };

	for (int i = 0; i < KINDS; i++)
		CHECK((i == RECV_TIMEOUT ? socketpair(AF_UNIX, SOCK_STREAM, 0, pipes[i])
					 : pipe(pipes[i])) == 0);
	CHECK(setsockopt(pipes[RECV_TIMEOUT][0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
	unlink(at.sun_path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(bind(listener, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(listener, 5) == 0);
	ep = epoll_create1(0);
	CHECK(epoll_ctl(ep, EPOLL_CTL_ADD, pipes[EPOLL][0], &ev) == 0);
	sems = semget(IPC_PRIVATE, 1, 0600);
	queue = msgget(IPC_PRIVATE, 0600);
	CHECK(sems >= 0 && queue >= 0);
}

static long wait_in(int kind)
{
	struct pollfd p = { .fd = pipes[kind][0], .events = POLLIN };
	struct timespec ts = { 100, 0 };
	struct timeval tv = { 100, 0 };
	struct epoll_event ev;
	struct sembuf op = { 0, -1, 0 };
	struct message m;
	fd_set fds;
	sigset_t set;
	char byte;

	switch (kind) {
	case READ:
		return read(pipes[kind][0], &byte, 1);
	case POLL:
		return poll(&p, 1, 100000);
	case PPOLL:
		return ppoll(&p, 1, &ts, NULL);
	case SELECT:
		FD_ZERO(&fds);
		FD_SET(pipes[kind][0], &fds);
		return select(pipes[kind][0] + 1, &fds, NULL, NULL, &tv);
	case EPOLL:
		return epoll_wait(ep, &ev, 1, 100000);
	case FUTEX:
		return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &ts);
	case ACCEPT:
		return accept(listener, NULL, NULL) >= 0;
	case RECV_TIMEOUT:
		return recv(pipes[kind][0], &byte, 1, 0);
	case SIGWAIT:
		sigemptyset(&set);
		sigaddset(&set, SIGRTMIN);
		return sigtimedwait(&set, NULL, &ts) == SIGRTMIN;
	case SEMOP:
		return semop(sems, &op, 1);
	case MSGRCV:
		return msgrcv(queue, &m, sizeof(m.text), 5, 0);
	}
	ts = (struct timespec){ 3, 0 };
	return clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

static void *waiter(void *arg)
{
	int kind = (int)(long)arg;

	result[kind] = wait_in(kind);
	code[kind] = errno;
	done[kind] = kind != SLEEP; /* which may be over by now */
	return NULL;
}

static void wake(pthread_t *th)
{
	struct sembuf op = { 0, 1, 0 };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	for (int i = 0; i < KINDS; i++)
		CHECK(write(pipes[i][1], "w", 1) == 1);
	word = 1;
	CHECK(syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1) == 1, "nobody waits at the futex");
	CHECK(connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	CHECK(pthread_kill(th[SIGWAIT], SIGRTMIN) == 0);
	CHECK(semop(sems, &op, 1) == 0 && msgsnd(queue, &message, 4, 0) == 0);
	semctl(sems, 0, IPC_RMID);
	msgctl(queue, IPC_RMID, NULL);
}

int main(int argc, char **argv)
{
	pthread_t th[KINDS];
	sigset_t set;

	object_init(argc, argv);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	setup();
	for (long i = 0; i < KINDS; i++)
		CHECK(pthread_create(&th[i], NULL, waiter, (void *)i) == 0);
	usleep(300000);
	for (int i = 0; i < KINDS; i++)
		CHECK(!done[i], "%s did not wait", names[i]);
	object_move();
	usleep(200000);
	for (int i = 0; i < KINDS; i++)
		CHECK(!done[i], "%s ended with %ld (errno %d)", names[i], result[i], code[i]);
	wake(th);
	for (int i = 0; i < KINDS; i++) {
		CHECK(pthread_join(th[i], NULL) == 0);
		CHECK(result[i] == expected[i], "%s: %ld (errno %d)", names[i], result[i], code[i]);
	}
	return 0;
}
