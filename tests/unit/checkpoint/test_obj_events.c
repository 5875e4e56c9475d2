/* SPDX-License-Identifier: Apache-2.0 */
/* Pipes, epoll, eventfd, signalfd, timerfd, pidfd keep their state over a move. */
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <termios.h>
#include <time.h>

#include "tests/unit/checkpoint/harness.h"

#define WANT(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "# %s:%d: %s: %s\n", __func__, __LINE__, #x,               \
				strerror(errno));                                                  \
			return __LINE__ % 100 + 1;                                                 \
		}                                                                                  \
	} while (0)

static int pipes(struct trial *t)
{
	int p[2], packets[2], big[2], eof[2], broken[2], status;
	char buf[4096] = "";
	pid_t child;

	WANT(pipe(p) == 0 && pipe2(packets, O_DIRECT | O_NONBLOCK) == 0 && pipe(big) == 0);
	WANT(pipe(eof) == 0 && pipe(broken) == 0);
	WANT(write(p[1], "in the pipe", 11) == 11);
	WANT(write(packets[1], "one", 3) == 3 && write(packets[1], "second", 6) == 6);
	WANT(fcntl(big[1], F_SETPIPE_SZ, 1 << 18) == 1 << 18);
	for (int i = 0; i < 40; i++) {
		memset(buf, i, sizeof(buf));
		WANT(write(big[1], buf, sizeof(buf)) == sizeof(buf));
	}
	WANT(write(eof[1], "last", 4) == 4 && close(eof[1]) == 0 && close(broken[0]) == 0);
	child = fork();
	if (child == 0) {
		trial_await(t);
		close(p[0]);
		_exit(write(p[1], " and more", 9) == 9 ? 0 : 1);
	}
	trial_ready(t);
	trial_await(t);
	WANT(waitpid(child, &status, 0) == child && status == 0);
	WANT(close(p[1]) == 0);
	WANT(read(p[0], buf, sizeof(buf)) == 20 && memcmp(buf, "in the pipe and more", 20) == 0);
	WANT(read(p[0], buf, sizeof(buf)) == 0); /* nobody else holds the writing end */
	WANT(read(packets[0], buf, sizeof(buf)) == 3 && read(packets[0], buf, 100) == 6);
	WANT(read(packets[0], buf, 1) < 0 && errno == EAGAIN);
	WANT(fcntl(packets[1], F_GETFL) & O_DIRECT);
	WANT(fcntl(big[0], F_GETPIPE_SZ) == 1 << 18);
	for (int i = 0; i < 40; i++) {
		WANT(read(big[0], buf, sizeof(buf)) == sizeof(buf));
		WANT(buf[0] == i && buf[4095] == i);
	}
	WANT(read(eof[0], buf, 10) == 4 && read(eof[0], buf, 10) == 0);
	signal(SIGPIPE, SIG_IGN);
	WANT(write(broken[1], "x", 1) < 0 && errno == EPIPE);
	return 0;
}

static void test_pipes_keep_content_ends_and_packets(void **state)
{
	struct trial t = { .program = pipes };

	(void)state;
	trial_run(&t, 0);
}

static int epolls(struct trial *t)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), outer = epoll_create1(0), p[2], q[2],
	    ev = eventfd(0, 0);
	struct epoll_event e = { .events = EPOLLIN, .data.u64 = 0x1122334455667788 }, got[8];
	int moved, n;

	WANT(pipe(p) == 0 && pipe(q) == 0);
	WANT(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &e) == 0);
	e.events = EPOLLIN | EPOLLET;
	e.data.u64 = 2;
	WANT(epoll_ctl(ep, EPOLL_CTL_ADD, q[0], &e) == 0);
	e.events = EPOLLIN | EPOLLONESHOT;
	e.data.u64 = 3;
	WANT(epoll_ctl(ep, EPOLL_CTL_ADD, ev, &e) == 0);
	e.events = EPOLLIN;
	e.data.u64 = 4;
	WANT(epoll_ctl(outer, EPOLL_CTL_ADD, ep, &e) == 0);
	/* an item whose number is closed while its file lives under another one */
	moved = dup(q[0]);
	close(q[0]);
	trial_ready(t);
	trial_await(t);
	WANT(epoll_wait(outer, got, 8, 0) == 0);
	WANT(write(p[1], "x", 1) == 1);
	n = epoll_wait(ep, got, 8, 1000);
	WANT(n == 1 && got[0].data.u64 == 0x1122334455667788 && got[0].events == EPOLLIN);
	n = epoll_wait(outer, got, 8, 1000);
	WANT(n == 1 && got[0].data.u64 == 4);
	WANT(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL) == 0);
	WANT(write(q[1], "y", 1) == 1 && epoll_wait(ep, got, 8, 1000) == 1 && got[0].data.u64 == 2);
	WANT(epoll_wait(ep, got, 8, 0) == 0); /* edge */
	WANT(eventfd_write(ev, 1) == 0);
	WANT(epoll_wait(ep, got, 8, 1000) == 1 && got[0].data.u64 == 3);
	WANT(eventfd_write(ev, 1) == 0 && epoll_wait(ep, got, 8, 0) == 0);
	e.events = EPOLLIN;
	WANT(epoll_ctl(ep, EPOLL_CTL_MOD, ev, &e) == 0 && epoll_wait(ep, got, 8, 1000) == 1);
	WANT(read(moved, got, 1) == 1);
	return 0;
}

static void test_epoll_items_are_watched_after_the_move(void **state)
{
	struct trial t = { .program = epolls };

	(void)state;
	trial_run(&t, 0);
}

static int counters(struct trial *t)
{
	int a = eventfd(5, 0), s = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK), sfd;
	struct signalfd_siginfo si;
	uint64_t v = 0;
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR1);
	sigaddset(&mask, SIGRTMIN + 1);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	sfd = signalfd(-1, &mask, SFD_NONBLOCK);
	WANT(a >= 0 && s >= 0 && sfd >= 0);
	trial_ready(t);
	trial_await(t);
	WANT(read(a, &v, 8) == 8 && v == 5);
	WANT(read(s, &v, 8) == 8 && v == 1 && read(s, &v, 8) == 8 && read(s, &v, 8) == 8);
	WANT(read(s, &v, 8) < 0 && errno == EAGAIN);
	WANT(read(sfd, &si, sizeof(si)) < 0 && errno == EAGAIN);
	raise(SIGUSR1);
	WANT(read(sfd, &si, sizeof(si)) == sizeof(si) && si.ssi_signo == SIGUSR1);
	return 0;
}

static void test_eventfd_and_signalfd_keep_their_state(void **state)
{
	struct trial t = { .program = counters };

	(void)state;
	trial_run(&t, 0);
}

static int timers(struct trial *t)
{
	int off = timerfd_create(CLOCK_MONOTONIC, 0), far = timerfd_create(CLOCK_BOOTTIME, 0);
	int tick = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK), real;
	struct itimerspec its = { .it_value.tv_sec = 1000 }, now,
			  period = { { 0, 1000000 }, { 0, 1000000 } };
	struct timespec rt;
	uint64_t v = 0;

	real = timerfd_create(CLOCK_REALTIME, 0);
	WANT(timerfd_settime(far, 0, &its, NULL) == 0);
	WANT(timerfd_settime(tick, 0, &period, NULL) == 0);
	clock_gettime(CLOCK_REALTIME, &rt);
	its.it_value.tv_sec = rt.tv_sec + 500;
	WANT(timerfd_settime(real, TFD_TIMER_ABSTIME, &its, NULL) == 0);
	usleep(20000);
	trial_ready(t);
	trial_await(t);
	WANT(timerfd_gettime(off, &now) == 0 && now.it_value.tv_sec == 0 &&
	     now.it_value.tv_nsec == 0);
	WANT(timerfd_gettime(far, &now) == 0 && now.it_value.tv_sec > 900 &&
	     now.it_value.tv_sec < 1000);
	WANT(timerfd_gettime(real, &now) == 0 && now.it_value.tv_sec > 400 &&
	     now.it_value.tv_sec < 500);
	WANT(read(tick, &v, 8) == 8 && v >= 15); /* those of before the move as well */
	WANT(fcntl(tick, F_SETFL, 0) == 0 && read(tick, &v, 8) == 8 && v >= 1);
	return 0;
}

static void test_timerfds_run_on(void **state)
{
	struct trial t = { .program = timers };

	(void)state;
	trial_run(&t, 0);
}

static int pidfds(struct trial *t)
{
	pid_t child = fork();
	siginfo_t si = { 0 };
	int fd;

	if (child == 0)
		for (;;)
			pause();
	fd = (int)syscall(SYS_pidfd_open, child, 0);
	WANT(fd >= 0);
	trial_ready(t);
	trial_await(t);
	WANT(syscall(SYS_pidfd_send_signal, fd, SIGTERM, NULL, 0) == 0);
	WANT(waitid((idtype_t)3 /* P_PIDFD */, (id_t)fd, &si, WEXITED) == 0);
	return si.si_pid == child && si.si_status == SIGTERM ? 0 : 1;
}

static void test_pidfd_stands_for_the_same_process(void **state)
{
	struct trial t = { .program = pidfds };

	(void)state;
	trial_run(&t, 0);
}

static int got_io;
static void on_io(int signo, siginfo_t *si, void *ctx)
{
	(void)signo;
	(void)ctx;
	got_io = si->si_fd;
}

static int owner(struct trial *t)
{
	struct sigaction sa = { .sa_sigaction = on_io, .sa_flags = SA_SIGINFO };
	int p[2];

	WANT(pipe(p) == 0 && sigaction(SIGRTMIN + 2, &sa, NULL) == 0);
	WANT(fcntl(p[0], F_SETOWN, getpid()) == 0 && fcntl(p[0], F_SETSIG, SIGRTMIN + 2) == 0);
	WANT(fcntl(p[0], F_SETFL, O_ASYNC) == 0);
	trial_ready(t);
	trial_await(t);
	WANT(fcntl(p[0], F_GETOWN) == 1 && fcntl(p[0], F_GETSIG) == SIGRTMIN + 2);
	WANT(fcntl(p[0], F_GETFL) & O_ASYNC);
	WANT(write(p[1], "x", 1) == 1);
	for (int i = 0; i < 5000 && !got_io; i++)
		usleep(1000);
	return got_io == p[0] ? 0 : 1;
}

static void test_signal_owner_is_kept(void **state)
{
	struct trial t = { .program = owner };

	(void)state;
	trial_run(&t, 0);
}

static int inotifies(struct trial *t)
{
	int fd = inotify_init1(IN_NONBLOCK), a, b, gap;
	char path[128], buf[4096] __attribute__((aligned(8)));
	struct inotify_event *e = (struct inotify_event *)buf;

	snprintf(path, sizeof(path), "%s/watched", t->dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	mkdir(strcat(strcpy(buf, t->dir), "/folder"), 0700);
	gap = inotify_add_watch(fd, path, IN_ATTRIB);
	WANT(gap > 0 && inotify_rm_watch(fd, gap) == 0 && read(fd, buf, sizeof(buf)) > 0);
	a = inotify_add_watch(fd, path, IN_MODIFY | IN_CLOSE_WRITE);
	b = inotify_add_watch(fd, strcat(strcpy(buf, t->dir), "/folder"), IN_CREATE);
	WANT(a > gap && b > a);
	trial_ready(t);
	trial_await(t);
	WANT(read(fd, buf, sizeof(buf)) < 0 && errno == EAGAIN);
	close(open(path, O_WRONLY));
	WANT(read(fd, buf, sizeof(buf)) > 0 && e->wd == a && e->mask == IN_CLOSE_WRITE);
	snprintf(path, sizeof(path), "%s/folder/new", t->dir);
	close(open(path, O_CREAT | O_WRONLY, 0600));
	WANT(read(fd, buf, sizeof(buf)) > 0 && e->wd == b && e->mask == IN_CREATE);
	return strcmp(e->name, "new") == 0 ? 0 : 1;
}

static void test_inotify_watches_keep_their_numbers(void **state)
{
	struct trial t = { .program = inotifies };

	(void)state;
	trial_run(&t, 0);
}

static int own_pts(struct trial *t, bool stub)
{
	(void)t;
	(void)stub;
	return mount("devpts", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666") < 0 ? 123 : 0;
}

static int terminals(struct trial *t)
{
	int extra = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY), m, s, n = -1, zero = 0, status, got;
	struct winsize ws = { .ws_row = 33, .ws_col = 77 };
	struct termios tio;
	char name[32], buf[100];
	pid_t child, group;

	m = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY);
	WANT(extra >= 0 && m >= 0 && ioctl(m, TIOCGPTN, &n) == 0 && n == 1);
	WANT(ioctl(m, TIOCSPTLCK, &zero) == 0);
	close(extra); /* number 0 is free again: 1 has to be reached all the same */
	snprintf(name, sizeof(name), "/dev/pts/%d", n);
	child = fork();
	if (child == 0) {
		setsid();
		s = open(name, O_RDWR);
		tcgetattr(s, &tio);
		tio.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(s, TCSANOW, &tio);
		group = fork();
		if (group == 0) {
			for (;;)
				pause();
		}
		setpgid(group, group);
		signal(SIGTTOU, SIG_IGN);
		tcsetpgrp(s, group);
		trial_ready(t);
		trial_await(t);
		if (tcgetpgrp(s) != group || tcgetsid(s) != getpid())
			_exit(1);
		if (open("/dev/tty", O_RDWR) < 0)
			_exit(2);
		if (tcgetattr(s, &tio) < 0 || (tio.c_lflag & ECHO))
			_exit(3);
		if (write(s, "out\n", 4) != 4)
			_exit(4);
		/* ^C goes to the foreground group */
		if (waitpid(group, &status, 0) != group || !WIFSIGNALED(status) ||
		    WTERMSIG(status) != SIGINT)
			_exit(5);
		_exit(0);
	}
	WANT(ioctl(m, TIOCSWINSZ, &ws) == 0);
	trial_await(t);
	memset(&ws, 0, sizeof(ws));
	WANT(ioctl(m, TIOCGWINSZ, &ws) == 0 && ws.ws_row == 33 && ws.ws_col == 77);
	/* On a slow machine it comes in two parts. */
	for (got = 0; got < 5 && (n = (int)read(m, buf + got, sizeof(buf) - (size_t)got)) > 0;)
		got += n;
	WANT(got == 5 && memcmp(buf, "out\r\n", 5) == 0);
	WANT(write(m, "\003", 1) == 1);
	WANT(waitpid(child, &status, 0) == child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 99;
}

static void test_terminals_keep_session_and_settings(void **state)
{
	struct trial t = { .program = terminals, .setup = own_pts };

	(void)state;
	trial_run(&t, 0);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pipes_keep_content_ends_and_packets),
		cmocka_unit_test(test_epoll_items_are_watched_after_the_move),
		cmocka_unit_test(test_eventfd_and_signalfd_keep_their_state),
		cmocka_unit_test(test_timerfds_run_on),
		cmocka_unit_test(test_pidfd_stands_for_the_same_process),
		cmocka_unit_test(test_signal_owner_is_kept),
		cmocka_unit_test(test_inotify_watches_keep_their_numbers),
		cmocka_unit_test(test_terminals_keep_session_and_settings),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
