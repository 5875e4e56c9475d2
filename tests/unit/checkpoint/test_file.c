/* SPDX-License-Identifier: Apache-2.0 */
/* Checkpoints in files: programs come back from them, and only from whole and signed ones. */
#include "runtime/checkpoint/sock_tcp.h"
#include "tests/unit/checkpoint/harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <libgen.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include "runtime/checkpoint/file.h"

static char folder[200]; /* of this program, and of the other tests */

/* The other tests' programs, each migration of which goes through a file instead. */
static void through_file(const char *name)
{
	CLEANUP_FREE char *path = str_format("%s/%s", folder, name);
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 1);
		setenv("TRIAL_FILE", "1", 1);
		execl(path, path, NULL);
		_exit(127);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

#define THROUGH_FILE(name)                                                                         \
	static void test_##name##_through_a_file(void **state)                                     \
	{                                                                                          \
		(void)state;                                                                       \
		through_file("test_" #name);                                                       \
	}
THROUGH_FILE(core)
THROUGH_FILE(mem)
THROUGH_FILE(obj_files)
THROUGH_FILE(obj_events)
THROUGH_FILE(obj_unix)
THROUGH_FILE(obj_ipc)
THROUGH_FILE(processes)
THROUGH_FILE(sock_move)

/* --- one that is left running ------------------------------------------------------------- */
/* Counts on; both copies find what the checkpoint found, and what they did themselves. */
static int counts(struct trial *t)
{
	volatile unsigned long before = 41, n = 0;
	char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int pipe_fds[2];
	char text[8] = "";

	if (pipe(pipe_fds) < 0 || write(pipe_fds[1], "queued", 6) != 6)
		return 1;
	strcpy(shared, "shared");
	before++;
	trial_ready(t);
	while (!trial_told(t, "go")) {
		n++;
		usleep(1000);
	}
	if (read(pipe_fds[0], text, sizeof(text)) != 6 || strcmp(text, "queued") != 0)
		return 2;
	if (strcmp(shared, "shared") != 0)
		return 3;
	strcpy(shared, "mine");
	return before == 42 && n > 0 ? 0 : 4;
}

static int status_of(pid_t *pid)
{
	int status = -1;

	for (int i = 0; i < 10000 && waitpid(*pid, &status, WNOHANG) != *pid; i++)
		usleep(2000);
	*pid = 0;
	return status;
}

static bool alive(pid_t pid)
{
	siginfo_t info = { 0 };

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && !info.si_pid;
}

static bool has_file(const struct trial *t, const char *name)
{
	return trial_told(t, name);
}

static void test_the_source_runs_on_and_copies_run_beside_it(void **state)
{
	struct trial t = { .program = counts };
	json_t *saved = NULL;
	int r;

	(void)state;
	trial_start(&t);
	r = trial_save(&t);
	assert_false(has_file(&t, "file"));
	if (r == 0)
		r = trial_step(&t, true, "resume", NULL, &saved);
	assert_true(r < 0 || json_is_true(json_object_get(saved, "saved")));
	assert_true(r < 0 || has_file(&t, "file"));
	json_decref(saved);
	if (r == 0)
		r = trial_load(&t, NULL);
	if (r == 0) {
		control_client_close(&t.ca);
		control_client_close(&t.cb);
		assert_true(alive(t.a) && alive(t.b));
		trial_touch(&t, "go");
		assert_int_equal(status_of(&t.b), 0);
		assert_int_equal(status_of(&t.a), 0);
	}
	trial_clean(&t);
	assert_int_equal(r, 0);
}

/* --- what goes wrong ----------------------------------------------------------------------- */
static size_t entries(const char *path)
{
	CLEANUP_CLOSEDIR DIR *d = opendir(path);
	size_t n = 0;

	for (struct dirent *e; d && (e = readdir(d));)
		n += e->d_name[0] != '.' || strlen(e->d_name) > 2;
	return n;
}

static void end_engine(struct trial *t, bool kill_it)
{
	pid_t *pid = t->engine_a ? &t->engine_a : &t->engine_b;
	struct control_client *c = t->engine_a ? &t->ca : &t->cb;

	if (kill_it)
		process_kill(*pid, SIGKILL);
	control_client_close(c);
	process_wait(*pid, &(int){ 0 });
	*pid = 0;
}

/* 16 MiB that do not compress: they do not fit onto a small disk, nor into a pipe. */
static int fills_first(struct trial *t)
{
	enum { SIZE = 16 << 20 };
	uint32_t *p = malloc(SIZE), x = 1;

	for (size_t i = 0; i < SIZE / 4; i++)
		p[i] = x = x * 1664525u + 1013904223u;
	return counts(t) || p[5] == 0;
}

/* A small disk at t->dir/disk, under which the file is to be. */
static void small_disk(struct trial *t, const char *size)
{
	CLEANUP_FREE char *path = str_format("%s/disk", t->dir);
	CLEANUP_FREE char *options = str_format("size=%s", size);

	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(mount("small", path, "tmpfs", 0, options), 0);
}

/* In the rounds, or only when it is frozen: the source goes on, nothing is left. */
static void on_full_disk(bool precopy)
{
	struct trial t = { .program = fills_first };
	CLEANUP_FREE char *disk = NULL, *file = NULL;
	int r, status;

	trial_start(&t);
	small_disk(&t, "4m");
	disk = str_format("%s/disk", t.dir);
	t.file = file = str_format("%s/disk/f", t.dir);
	r = trial_save_begin(&t);
	if (r == 0 && precopy)
		r = trial_precopy(&t);
	if (r == 0 && !precopy)
		r = trial_step(&t, true, "freeze", NULL, NULL);
	if (r == 0 && !precopy)
		r = trial_step(&t, true, "dump", json_pack("{s:b}", "verify", 0), NULL);
	assert_int_equal(trial_step(&t, true, "resume", NULL, NULL), 0);
	status = trial_finish(&t);
	end_engine(&t, false);
	assert_int_equal(entries(disk), 0);
	umount2(disk, MNT_DETACH);
	trial_clean(&t);
	assert_int_equal(r, -ENOSPC);
	assert_int_equal(status, 0);
}

static void test_a_full_disk_leaves_the_source_running(void **state)
{
	(void)state;
	on_full_disk(true);
	on_full_disk(false);
}

/* The engine is killed after each of its steps. */
static void test_an_engine_that_dies_leaves_no_file(void **state)
{
	static const char *const steps[] = { "save", "precopy", "freeze", "dump" };

	(void)state;
	for (size_t last = 0; last < 4; last++) {
		struct trial t = { .program = counts };
		CLEANUP_FREE char *disk = NULL, *file = NULL;
		int r, status;

		trial_start(&t);
		disk = str_format("%s/files", t.dir);
		assert_int_equal(mkdir(disk, 0700), 0);
		t.file = file = str_format("%s/files/f", t.dir);
		r = trial_save_begin(&t);
		for (size_t i = 1; i <= last && r == 0; i++)
			r = i == 1 ? trial_precopy(&t) : trial_step(&t, true, steps[i], NULL, NULL);
		end_engine(&t, true);
		assert_int_equal(entries(disk), 0);
		if (last == 3) {
			/* the freezer holds it until a new engine lets it go */
			t.engine_a = trial_engine(&t.ca.sock, -1, -1);
			r = trial_step(&t, true, "resume",
				       json_pack("{s:s,s:i,s:o}", "cgroup", t.cg_a, "init_pid", t.a,
						 "externals", trial_externals(t.a)),
				       NULL);
		}
		status = trial_finish(&t);
		trial_clean(&t);
		assert_int_equal(r, 0);
		assert_int_equal(status, 0);
	}
}

static void test_what_is_discarded_is_gone(void **state)
{
	struct trial t = { .program = counts };
	json_t *saved = NULL;
	int r, status;

	(void)state;
	trial_start(&t);
	r = trial_save(&t);
	if (r == 0)
		r = trial_step(&t, true, "resume", json_pack("{s:b}", "discard", 1), &saved);
	assert_true(r < 0 || json_is_false(json_object_get(saved, "saved")));
	json_decref(saved);
	assert_false(has_file(&t, "file"));
	/* killing needs a whole one */
	end_engine(&t, false);
	if (r == 0)
		r = trial_save_begin(&t);
	assert_int_equal(trial_step(&t, true, "kill", NULL, NULL), -EINVAL);
	status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

/* Cuts off the signature, behind the last frame before it. */
static int truncate_to_done(int fd)
{
	struct {
		uint32_t len;
		uint16_t type, flags;
		uint32_t crc;
	} h;
	off_t at = 0;

	while (pread(fd, &h, sizeof(h), at) == sizeof(h) && h.type != FRAME_SIGNATURE)
		at += (off_t)(sizeof(h) + h.len);
	return ftruncate(fd, at);
}

/* A destination that refuses has made nothing, and one that is killed takes all with it. */
static void test_a_destination_refuses_or_dies_whole(void **state)
{
	struct trial t = { .program = counts };
	CLEANUP_FREE char *path = NULL, *ca = NULL, *tasks = NULL, *text = NULL;
	int r, fd;

	(void)state;
	trial_start(&t);
	r = trial_save(&t);
	if (r == 0)
		r = trial_step(&t, true, "kill", NULL, NULL);
	path = str_format("%s/file", t.dir);
	ca = str_format("%s/ca.pem", t.dir);
	tasks = str_format("%s/cgroup.procs", t.cg_b);
	end_engine(&t, false);
	if (r == 0) {
		fd = open(path, O_RDWR);
		assert_int_equal(ftruncate(fd, lseek(fd, 0, SEEK_END) - 1), 0);
		r = trial_load_begin(&t, json_pack("{s:s,s:s}", "path", path, "ca", ca), NULL);
		assert_int_equal(r, -EBADMSG);
		assert_non_null(strstr(t.err.msg, "truncated"));
		assert_int_equal(file_read(tasks, 65536, &text, NULL, NULL), 0);
		assert_int_equal(atoi(text), t.b);
		assert_null(strchr(strchr(text, '\n') + 1, '\n'));
		/* unsigned by now, and still whole enough to be built */
		r = truncate_to_done(fd);
		close(fd);
		end_engine(&t, false);
		kill(t.b, SIGKILL);
		status_of(&t.b);
		assert_int_equal(r, 0);
		r = trial_load_begin(&t, json_pack("{s:s,s:b}", "path", path, "allow_unsigned", 1),
				     NULL);
		if (r == 0)
			r = trial_step(&t, false, "storage_ready", NULL, NULL);
		if (r == 0)
			r = trial_step(&t, false, "wait_restored", NULL, &t.restored);
		end_engine(&t, true);
		assert_int_equal(status_of(&t.b), SIGKILL);
	}
	trial_clean(&t);
	assert_int_equal(r, 0);
}

/* One engine writes into a pipe, the other reads from it, at the same time. */
static void test_a_pipe_serves_as_well(void **state)
{
	struct trial t = { .program = fills_first, .no_verify = true };
	CLEANUP_FREE char *ca = NULL;
	int r, status = -1, pipe_fds[2];

	(void)state;
	trial_start(&t);
	trial_identity(t.dir, "host-a");
	ca = str_format("%s/ca.pem", t.dir);
	assert_int_equal(pipe(pipe_fds), 0);
	t.save_fd = pipe_fds[1];
	r = trial_load_begin(&t, json_pack("{s:i,s:s}", "fd", pipe_fds[0], "ca", ca), NULL);
	if (r == 0)
		r = trial_step(&t, false, "storage_ready", NULL, NULL);
	close(pipe_fds[0]);
	if (r == 0)
		r = trial_save(&t);
	close(pipe_fds[1]);
	if (r == 0)
		r = trial_step(&t, true, "kill", NULL, NULL);
	if (r == 0)
		r = trial_step(&t, false, "wait_restored", NULL, &t.restored);
	if (r == 0)
		r = trial_step(&t, false, "run", NULL, NULL);
	t.migrated = r == 0;
	if (r == 0)
		status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

/* --- restored under another address --------------------------------------------------------- */
#define OLD	"10.77.0.2"
#define NEW	"10.77.0.9"
#define OUTSIDE "10.88.0.1" /* on the source's lo only */

static int other_addresses(struct trial *t, bool stub)
{
	/* with a way to the outside, and without */
	if (stub && t->arg && system("ip link set lo up && ip route add default dev lo") != 0)
		return 97;
	return system(stub ? "ip link set lo up && ip addr add " NEW "/24 dev lo"
			   : "ip link set lo up && ip addr add " OLD "/24 dev lo && "
			     "ip addr add " OUTSIDE "/24 dev lo")
		       ? 97
		       : 0;
}

static struct sockaddr_in at(const char *ip, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };

	inet_pton(AF_INET, ip, &a.sin_addr);
	return a;
}

static int bound(int type, const char *ip, int port)
{
	struct sockaddr_in a = at(ip, port);
	int s = socket(AF_INET, type, 0), on = 1;

	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(s, (struct sockaddr *)&a, sizeof(a)) < 0 ||
	    (type == SOCK_STREAM && listen(s, 50) < 0))
		return -1;
	return s;
}

static int dial(const char *from, const char *ip, int port)
{
	struct sockaddr_in a = at(ip, port), me = at(from, 0);
	int s = socket(AF_INET, SOCK_STREAM, 0);

	if (bind(s, (struct sockaddr *)&me, sizeof(me)) < 0 ||
	    connect(s, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -1;
	return s;
}

static bool is_at(int s, const char *ip, bool peer)
{
	struct sockaddr_in a = { 0 };
	socklen_t len = sizeof(a);
	char text[32];

	if ((peer ? getpeername : getsockname)(s, (struct sockaddr *)&a, &len) < 0)
		return false;
	return strcmp(inet_ntop(AF_INET, &a.sin_addr, text, sizeof(text)), ip) == 0;
}

/* The other end of a connection disappears without a word, as if it were on another host. */
static bool vanish(int s)
{
	int on = 1;

	return setsockopt(s, IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) == 0 && close(s) == 0;
}

static bool talk(int a, int b)
{
	char text[8] = "";

	return send(a, "there", 5, 0) == 5 && recv(b, text, 8, 0) == 5 &&
	       send(b, "back", 4, 0) == 4 && recv(a, text, 8, 0) == 4;
}

static bool queue_travels; /* Linux 6.9 */

static int moves(struct trial *t)
{
	int l = bound(SOCK_STREAM, OLD, 80), any = bound(SOCK_STREAM, "0.0.0.0", 81);
	int out = bound(SOCK_STREAM, OUTSIDE, 80), u = bound(SOCK_DGRAM, OLD, 53);
	int own_a = dial(OLD, OLD, 80), own_b = accept(l, NULL, NULL);
	int lo_a = dial("127.0.0.1", "127.0.0.1", 81), lo_b = accept(any, NULL, NULL);
	int there = dial(OLD, OUTSIDE, 80), gone = accept(out, NULL, NULL);
	int from = dial(OUTSIDE, OLD, 80), served = accept(l, NULL, NULL);
	int waits = queue_travels ? dial(OUTSIDE, OLD, 80) : -1;
	struct in_addr interface = at(OLD, 0).sin_addr;
	socklen_t len = sizeof(interface);
	struct pollfd p = { .fd = there, .events = POLLIN };
	char text[16] = "";

	CHECK(l >= 0 && any >= 0 && out >= 0 && u >= 0 && own_b >= 0 && lo_b >= 0);
	CHECK(there >= 0 && gone >= 0 && from >= 0 && served >= 0);
	CHECK(waits >= 0 || !queue_travels);
	CHECK(send(gone, "unread", 6, 0) == 6 && send(there, "lost", 4, 0) == 4);
	CHECK(send(own_a, "queued", 6, 0) == 6);
	CHECK(setsockopt(u, IPPROTO_IP, IP_MULTICAST_IF, &interface, len) == 0);
	CHECK(vanish(gone) && vanish(from) && (waits < 0 || vanish(waits)) && close(out) == 0);
	trial_ready(t);
	trial_await(t);
	CHECK(getsockopt(u, IPPROTO_IP, IP_MULTICAST_IF, &interface, &len) == 0);
	CHECK(interface.s_addr == at(NEW, 0).sin_addr.s_addr);
	/* outside: what had come, then the reset */
	CHECK(is_at(there, NEW, false));
	CHECK(poll(&p, 1, 0) == 1 && (p.revents & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP));
	CHECK(recv(there, text, sizeof(text), 0) == 6 && memcmp(text, "unread", 6) == 0);
	CHECK(recv(there, text, sizeof(text), 0) < 0 && errno == ECONNRESET);
	CHECK(recv(there, text, sizeof(text), 0) == 0);
	CHECK(recv(served, text, sizeof(text), 0) < 0 && errno == ECONNRESET);
	/* its own: both ends, with what was on its way */
	CHECK(is_at(own_a, NEW, false) && is_at(own_a, NEW, true));
	CHECK(is_at(own_b, NEW, false) && is_at(own_b, NEW, true));
	CHECK(recv(own_b, text, sizeof(text), 0) == 6 && memcmp(text, "queued", 6) == 0);
	CHECK(talk(own_a, own_b) && talk(own_b, own_a));
	CHECK(is_at(lo_a, "127.0.0.1", true) && talk(lo_a, lo_b));
	/* listeners: nobody waits at the first, and both serve */
	CHECK(is_at(l, NEW, false) && is_at(any, "0.0.0.0", false) && is_at(u, NEW, false));
	p.fd = l;
	CHECK(poll(&p, 1, 0) == 0);
	CHECK((own_a = dial(NEW, NEW, 80)) >= 0 && (own_b = accept(l, NULL, NULL)) >= 0);
	CHECK(talk(own_a, own_b) && dial(NEW, NEW, 81) >= 0);
	return 0;
}

static json_t *new_addresses(void)
{
	return json_pack("{s:s,s:[{s:s,s:s}]}", "connections", "drop", "addresses", "old", OLD,
			 "new", NEW);
}

static void under_a_new_address(bool route)
{
	struct trial t = { .program = moves, .setup = other_addresses, .arg = route ? "" : NULL };
	int r, status = -1;

	/* Asked in a child: what the answer takes stays mapped. */
	status = fork();
	if (status == 0)
		_exit(tcp_pending_possible() ? 1 : 0);
	waitpid(status, &status, 0);
	queue_travels = status != 0;
	trial_start(&t);
	r = trial_save(&t);
	if (r == 0)
		r = trial_step(&t, true, "kill", NULL, NULL);
	if (r == 0)
		r = trial_load(&t, new_addresses());
	if (r == 0)
		status = trial_finish(&t);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(status, 0);
}

static void test_sockets_come_back_under_a_new_address(void **state)
{
	(void)state;
	under_a_new_address(true);
	under_a_new_address(false);
}

/* --- evil, but signed ------------------------------------------------------------------------ */
static void *sleeps(void *arg)
{
	pause();
	return arg;
}

/* A bit of everything, so that there is something to damage. */
static int rich(struct trial *t)
{
	int p[2], u[2], ep = epoll_create1(0), tfd = timerfd_create(CLOCK_MONOTONIC, 0);
	int l = bound(SOCK_STREAM, "127.0.0.1", 80), udp = bound(SOCK_DGRAM, "127.0.0.1", 53);
	int a = dial("127.0.0.1", "127.0.0.1", 80), b = accept(l, NULL, NULL);
	struct epoll_event e = { .events = EPOLLIN };
	struct itimerspec its = { .it_value.tv_sec = 1000 };
	char *shared = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sigaction sa = { .sa_handler = SIG_IGN };
	pthread_t thread;

	CHECK(pipe(p) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, u) == 0 && udp >= 0 && b >= 0);
	CHECK(write(p[1], "pipe", 4) == 4 && write(u[0], "unix", 4) == 4);
	CHECK(send(a, "tcp", 3, 0) == 3 && epoll_ctl(ep, EPOLL_CTL_ADD, b, &e) == 0);
	CHECK(timerfd_settime(tfd, 0, &its, NULL) == 0 && sigaction(SIGUSR1, &sa, NULL) == 0);
	CHECK(pthread_create(&thread, NULL, sleeps, NULL) == 0);
	strcpy(shared, "shared");
	if (fork() == 0) {
		setsid();
		pause();
	}
	if (fork() == 0)
		_exit(3); /* a zombie */
	usleep(10000);
	trial_ready(t);
	trial_await(t);
	return 0;
}

struct piece {
	uint16_t type, flags;
	uint32_t len;
	uint8_t *data;
};

static size_t cut(char *whole, size_t len, struct piece **out)
{
	size_t n = 0;

	for (size_t at = 0; at + 12 <= len;) {
		struct piece p;

		memcpy(&p.len, whole + at, 4);
		memcpy(&p.type, whole + at + 4, 2);
		memcpy(&p.flags, whole + at + 6, 2);
		p.data = (uint8_t *)whole + at + 12;
		at += 12 + p.len;
		if (p.type == FRAME_SIGNATURE)
			break;
		*out = mem_grow(*out, n + 1, sizeof(**out));
		(*out)[n++] = p;
	}
	return n;
}

static uint32_t dice(uint32_t *seed, uint32_t sides)
{
	*seed = *seed * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)*seed * sides >> 32);
}

/* A type first, then a frame of it: there are many pages, which may hold anything anyhow. */
static size_t pick(const struct piece *p, size_t n, uint32_t *seed)
{
	for (;;) {
		uint16_t type = (uint16_t)(2 + dice(seed, FRAME_DONE - 2));
		size_t first = dice(seed, (uint32_t)n);

		for (size_t i = 0; i < n - 1; i++) {
			size_t at = 1 + (first + i) % (n - 1);

			if (p[at].type == type)
				return at;
		}
	}
}

/* One to three changes. */
static size_t mutate(struct piece *p, size_t n, uint32_t *seed)
{
	static const uint8_t odd[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };

	for (uint32_t k = 1 + dice(seed, 3); k; k--) {
		size_t i = pick(p, n, seed);

		switch (dice(seed, 8)) {
		case 0: /* gone */
			memmove(&p[i], &p[i + 1], (n - i - 1) * sizeof(*p));
			n--;
			break;
		case 1: { /* twice, elsewhere */
			struct piece one = p[i];
			size_t to = 1 + dice(seed, (uint32_t)n - 2);

			memmove(&p[to + 1], &p[to], (n - to) * sizeof(*p));
			p[to] = one;
			n++;
			break;
		}
		default: {
			uint8_t *copy = mem_zalloc(p[i].len + 1);

			/* freed by nobody: the tests' process ends soon */
			memcpy(copy, p[i].data, p[i].len);
			if (p[i].len)
				copy[dice(seed, p[i].len)] = odd[dice(seed, sizeof(odd))];
			p[i].data = copy;
		}
		}
	}
	return n;
}

static void sign_again(const char *dir, const struct piece *p, size_t n)
{
	CLEANUP_FREE char *path = str_format("%s/evil", dir);
	CLEANUP_FREE char *key = str_format("%s/key.pem", dir);
	CLEANUP_FREE char *cert = str_format("%s/cert.pem", dir);
	json_t *args = json_pack("{s:s,s:s,s:s}", "path", path, "key", key, "cert", cert);
	struct error err = { 0 };
	struct save *v = NULL;
	struct stream *s;
	int fd;

	assert_int_equal(save_open(args, &v, &fd, &err), 0);
	s = stream_new_file(fd);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(
			stream_send(s, p[i].type, p[i].flags, NULL, 0, p[i].data, p[i].len, &err),
			0);
	assert_int_equal(save_seal(v, s, &err), 0);
	assert_int_equal(save_publish(v, &err), 0);
	stream_close(s);
	save_free(v);
	json_decref(args);
}

static volatile pid_t watched;

static void too_long(int sig)
{
	(void)sig;
	kill(watched, SIGABRT);
}

/* 1: it went through, 0: it was refused; -1: the engine crashed or hung. */
static int load_evil(struct trial *t)
{
	CLEANUP_FREE char *path = str_format("%s/evil", t->dir);
	CLEANUP_FREE char *ca = str_format("%s/ca.pem", t->dir);
	struct sigaction sa = { .sa_handler = too_long };
	int r, status = 0;

	sigaction(SIGALRM, &sa, NULL);
	trial_stub(t);
	t->engine_b = watched = trial_engine(&t->cb.sock, -1, -1);
	alarm(60);
	r = control_call(&t->cb, "prepare",
			 json_pack("{s:i,s:s,s:o,s:{s:s,s:s}}", "init_pid", t->b, "cgroup", t->cg_b,
				   "externals", trial_externals(t->b), "load", "path", path, "ca",
				   ca),
			 NULL, &t->err);
	if (r == 0)
		r = control_call(&t->cb, "storage_ready", NULL, NULL, &t->err);
	if (r == 0)
		r = control_call(&t->cb, "wait_restored", NULL, NULL, &t->err);
	if (r == 0)
		r = control_call(&t->cb, "run", NULL, NULL, &t->err);
	control_client_close(&t->cb);
	process_wait(t->engine_b, &status);
	alarm(0);
	t->engine_b = 0;
	kill(t->b, SIGKILL);
	status_of(&t->b);
	return !WIFEXITED(status) ? -1 : r == 0;
}

static void test_evil_files_crash_no_engine(void **state)
{
	uint32_t seed = getenv("FILE_SEED") ? (uint32_t)atoi(getenv("FILE_SEED")) : 1;
	int rounds = getenv("FILE_ROUNDS") ? atoi(getenv("FILE_ROUNDS")) : 30, bad = 0, good = 0;
	struct trial t = { .program = rich, .setup = trial_lo_up, .no_verify = true };
	CLEANUP_FREE char *whole = NULL, *path = NULL;
	struct piece *all = NULL;
	size_t len = 0, n;
	int r;

	(void)state;
	trial_start(&t);
	r = trial_save(&t);
	if (r == 0)
		r = trial_step(&t, true, "kill", NULL, NULL);
	end_engine(&t, false);
	path = str_format("%s/file", t.dir);
	if (r == 0)
		r = file_read(path, 64 << 20, &whole, &len, NULL);
	n = r == 0 ? cut(whole, len, &all) : 0;
	for (int i = 0; i < rounds && r == 0; i++) {
		CLEANUP_FREE struct piece *p = mem_zalloc((n + 8) * sizeof(*p));
		uint32_t this = seed;
		int e;

		memcpy(p, all, n * sizeof(*p));
		sign_again(t.dir, p, i ? mutate(p, n, &seed) : n);
		e = load_evil(&t);
		if (e < 0)
			fprintf(stderr, "# FILE_SEED=%u: the engine crashed\n", this);
		if (getenv("FILE_ROUNDS"))
			fprintf(stderr, "# FILE_SEED=%u: %s\n", this, e ? "taken" : t.err.msg);
		assert_string_not_equal(t.err.msg, "the engine failed"); /* without a word */
		bad += e < 0;
		good += e > 0;
	}
	free(all);
	trial_clean(&t);
	assert_int_equal(r, 0);
	assert_int_equal(bad, 0);
	assert_true(good > 0); /* the first one is as it was saved */
}

int main(int argc, char **argv)
{
	TRIAL_UNSANITIZED();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_core_through_a_file),
		cmocka_unit_test(test_mem_through_a_file),
		cmocka_unit_test(test_obj_files_through_a_file),
		cmocka_unit_test(test_obj_events_through_a_file),
		cmocka_unit_test(test_obj_unix_through_a_file),
		cmocka_unit_test(test_obj_ipc_through_a_file),
		cmocka_unit_test(test_processes_through_a_file),
		cmocka_unit_test(test_sock_move_through_a_file),
		cmocka_unit_test(test_the_source_runs_on_and_copies_run_beside_it),
		cmocka_unit_test(test_a_full_disk_leaves_the_source_running),
		cmocka_unit_test(test_an_engine_that_dies_leaves_no_file),
		cmocka_unit_test(test_what_is_discarded_is_gone),
		cmocka_unit_test(test_a_destination_refuses_or_dies_whole),
		cmocka_unit_test(test_a_pipe_serves_as_well),
		cmocka_unit_test(test_sockets_come_back_under_a_new_address),
		cmocka_unit_test(test_evil_files_crash_no_engine),
	};
	char self[200];

	(void)argc;
	snprintf(self, sizeof(self), "%s", argv[0]);
	snprintf(folder, sizeof(folder), "%s", dirname(self));
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
