/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets keep peers, names, queues and descriptors in flight over a move. */
#include <sys/ioctl.h>
#include <sys/time.h>
#include <sys/un.h>

#include "tests/unit/checkpoint/harness.h"

#define WANT(x)                                                                                    \
	do {                                                                                       \
		if (!(x)) {                                                                        \
			fprintf(stderr, "# %s:%d: %s: %s\n", __func__, __LINE__, #x,               \
				strerror(errno));                                                  \
			return __LINE__ % 100 + 1;                                                 \
		}                                                                                  \
	} while (0)

static socklen_t address(struct sockaddr_un *un, const struct trial *t, const char *name)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	if (name[0] == '@') {
		snprintf(un->sun_path + 1, sizeof(un->sun_path) - 1, "%s", name + 1);
		return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	}
	snprintf(un->sun_path, sizeof(un->sun_path), "%s/%s", t->dir, name);
	return sizeof(*un);
}

static int named(const struct trial *t, int type, const char *name)
{
	int fd = socket(AF_UNIX, type, 0);
	struct sockaddr_un un;
	socklen_t len = address(&un, t, name);

	return bind(fd, (struct sockaddr *)&un, len) < 0 ? -1 : fd;
}

static int dial(const struct trial *t, int fd, const char *name)
{
	struct sockaddr_un un;
	socklen_t len = address(&un, t, name);

	return connect(fd, (struct sockaddr *)&un, len);
}

static bool has_name(int fd, const struct trial *t, const char *name, bool peer)
{
	struct sockaddr_un un = { 0 }, want;
	socklen_t len = sizeof(un), wlen = address(&want, t, name);
	int r = peer ? getpeername(fd, (struct sockaddr *)&un, &len)
		     : getsockname(fd, (struct sockaddr *)&un, &len);

	if (name[0] == '@')
		return r == 0 && len == wlen && memcmp(&un, &want, len) == 0;
	return r == 0 && strcmp(un.sun_path, want.sun_path) == 0;
}

static int send_fd(int sock, const char *text, int fd)
{
	return fd_send(sock, text, strlen(text), &fd, 1);
}

static int pairs(struct trial *t)
{
	int s[2], d[2], q[2], half[2], gone[2], p[2], fds[2], got = -1, status, size = 100000, v;
	struct timeval tv = { .tv_sec = 7 };
	socklen_t len = sizeof(tv);
	char buf[200000] = "";
	size_t nfds = 1;
	pid_t child;

	WANT(socketpair(AF_UNIX, SOCK_STREAM, 0, s) == 0);
	WANT(socketpair(AF_UNIX, SOCK_DGRAM, 0, d) == 0);
	WANT(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, q) == 0);
	WANT(socketpair(AF_UNIX, SOCK_STREAM, 0, half) == 0);
	WANT(socketpair(AF_UNIX, SOCK_STREAM, 0, gone) == 0 && pipe(p) == 0);
	WANT(write(s[0], "hello ", 6) == 6 && write(s[0], "world", 5) == 5);
	WANT(write(s[1], "back", 4) == 4);
	memset(buf, 'b', sizeof(buf));
	WANT(send(d[0], "first", 5, 0) == 5 && send(d[0], "", 0, 0) == 0);
	WANT(send(d[0], buf, 50000, 0) == 50000);
	WANT(send(q[1], "packet one", 10, 0) == 10 && send(q[1], "two", 3, 0) == 3);
	WANT(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	WANT(send_fd(fds[0], "with fd", p[0]) == 0 && send_fd(fds[0], "self", fds[1]) == 0);
	WANT(write(half[0], "bye", 3) == 3 && shutdown(half[0], SHUT_WR) == 0);
	WANT(write(gone[0], "testament", 9) == 9 && close(gone[0]) == 0);
	WANT(setsockopt(d[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)) == 0);
	WANT(setsockopt(d[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
	WANT(close(p[0]) == 0 && write(p[1], "through", 7) == 7);
	child = fork();
	if (child == 0) {
		trial_await(t);
		_exit(write(s[0], "!", 1) == 1 ? 0 : 1);
	}
	trial_ready(t);
	trial_await(t);
	WANT(read(s[1], buf, 11) == 11 && memcmp(buf, "hello world", 11) == 0);
	WANT(fd_recv(fds[1], buf, 100, &got, &nfds) == 7 && nfds == 1 &&
	     memcmp(buf, "with fd", 7) == 0);
	WANT(read(got, buf, 10) == 7 && memcmp(buf, "through", 7) == 0);
	nfds = 1;
	WANT(fd_recv(fds[1], buf, 100, &got, &nfds) == 4 && nfds == 1);
	WANT(write(fds[0], "loop", 4) == 4 && read(got, buf, 10) == 4);
	WANT(waitpid(child, &status, 0) == child && status == 0 && read(s[1], buf, 9) == 1);
	WANT(read(s[0], buf, 10) == 4 && memcmp(buf, "back", 4) == 0);
	WANT(recv(d[1], buf, 100, 0) == 5 && recv(d[1], buf, 100, 0) == 0);
	WANT(recv(d[1], buf, sizeof(buf), 0) == 50000 && buf[49999] == 'b');
	WANT(recv(d[1], buf, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
	WANT(recv(q[0], buf, 100, 0) == 10 && recv(q[0], buf, 100, 0) == 3);
	WANT(read(half[1], buf, 10) == 3 && read(half[1], buf, 10) == 0);
	signal(SIGPIPE, SIG_IGN);
	WANT(write(half[0], "x", 1) < 0 && errno == EPIPE);
	WANT(write(half[1], "y", 1) == 1 && read(half[0], buf, 1) == 1);
	WANT(read(gone[1], buf, 20) == 9 && read(gone[1], buf, 20) == 0);
	WANT(write(gone[1], "x", 1) < 0 && errno == EPIPE);
	len = sizeof(v);
	WANT(getsockopt(d[1], SOL_SOCKET, SO_SNDBUF, &v, &len) == 0 && v == 2 * size);
	len = sizeof(tv);
	WANT(getsockopt(d[1], SOL_SOCKET, SO_RCVTIMEO, &tv, &len) == 0 && tv.tv_sec == 7);
	return 0;
}

static void test_pairs_keep_data_in_both_directions(void **state)
{
	struct trial t = { .program = pairs };

	(void)state;
	trial_run(&t, 0);
}

static int servers(struct trial *t)
{
	static const char *const names[] = { "listener", "@abstract" };
	int l[2], client[2], server[2], waiting[2];
	struct stat st;
	char path[128], buf[10];

	for (int i = 0; i < 2; i++) {
		l[i] = named(t, SOCK_STREAM, names[i]);
		WANT(l[i] >= 0 && listen(l[i], 10) == 0);
		client[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		waiting[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		WANT(dial(t, client[i], names[i]) == 0);
		server[i] = accept(l[i], NULL, NULL);
		WANT(server[i] >= 0 && write(client[i], "query", 5) == 5);
		WANT(write(server[i], "answer", 6) == 6);
		WANT(dial(t, waiting[i], names[i]) == 0); /* stays in the accept queue */
	}
	snprintf(path, sizeof(path), "%s/listener", t->dir);
	WANT(chmod(path, 0640) == 0);
	trial_ready(t);
	trial_await(t);
	WANT(stat(path, &st) == 0 && S_ISSOCK(st.st_mode) && (st.st_mode & 0777) == 0640);
	for (int i = 0; i < 2; i++) {
		int fresh = socket(AF_UNIX, SOCK_STREAM, 0), a;
		struct ucred u = { 0 };
		socklen_t len = sizeof(u);

		WANT(has_name(server[i], t, names[i], false) &&
		     has_name(client[i], t, names[i], true));
		WANT(read(server[i], buf, 10) == 5 && read(client[i], buf, 10) == 6);
		WANT(write(client[i], "more", 4) == 4 && read(server[i], buf, 10) == 4);
		a = accept(l[i], NULL, NULL);
		WANT(a >= 0 && write(waiting[i], "hi", 2) == 2 && read(a, buf, 10) == 2);
		WANT(dial(t, fresh, names[i]) == 0);
		WANT(getsockopt(fresh, SOL_SOCKET, SO_PEERCRED, &u, &len) == 0 && u.pid == 1);
		a = accept(l[i], NULL, NULL);
		WANT(a >= 0 && write(fresh, "new", 3) == 3 && read(a, buf, 10) == 3);
	}
	return 0;
}

static void test_listeners_and_their_connections_move(void **state)
{
	struct trial t = { .program = servers };

	(void)state;
	trial_run(&t, 0);
}

static int datagrams(struct trial *t)
{
	int log = named(t, SOCK_DGRAM, "log"), client = socket(AF_UNIX, SOCK_DGRAM, 0);
	int namely = named(t, SOCK_DGRAM, "@namely"), third = named(t, SOCK_DGRAM, "@third");
	struct sockaddr_un un, from;
	socklen_t len;
	char buf[100];

	WANT(log >= 0 && namely >= 0 && dial(t, client, "log") == 0);
	WANT(send(client, "from client", 11, 0) == 11);
	len = address(&un, t, "log");
	WANT(sendto(namely, "from namely", 11, 0, (struct sockaddr *)&un, len) == 11);
	WANT(sendto(third, "from third", 10, 0, (struct sockaddr *)&un, len) == 10);
	WANT(close(third) == 0);
	trial_ready(t);
	trial_await(t);
	len = sizeof(from);
	WANT(recvfrom(log, buf, 100, 0, (struct sockaddr *)&from, &len) == 11);
	WANT(memcmp(buf, "from client", 11) == 0);
	len = sizeof(from);
	WANT(recvfrom(log, buf, 100, 0, (struct sockaddr *)&from, &len) == 11);
	WANT(memcmp(buf, "from namely", 11) == 0 && memcmp(from.sun_path, "\0namely", 7) == 0);
	len = sizeof(from);
	WANT(recvfrom(log, buf, 100, 0, (struct sockaddr *)&from, &len) == 10);
	WANT(memcmp(from.sun_path, "\0third", 6) == 0);
	WANT(send(client, "again", 5, 0) == 5 && recv(log, buf, 100, 0) == 5);
	return 0;
}

static void test_datagrams_keep_their_senders(void **state)
{
	struct trial t = { .program = datagrams };

	(void)state;
	trial_run(&t, 0);
}

int main(void)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pairs_keep_data_in_both_directions),
		cmocka_unit_test(test_listeners_and_their_connections_move),
		cmocka_unit_test(test_datagrams_keep_their_senders),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
