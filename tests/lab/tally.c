/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that knows what every answer must be. It speaks to the servers of tests/images/README.md
 * (and to memcached) over connections that it opens once: one that breaks is an error, an answer
 * that does not come is one, and so is a number that is not exactly the one that has to come next,
 * so an update that was lost or applied twice shows at once.
 *
 *   tally lines|http|memcached ADDRESS PORT CONNECTIONS RATE
 *
 * Each connection has a thread, keys of its own and one that all share, sends RATE batches of
 * requests a second at most, and waits for the answers. One more thread lets one-shot timers run,
 * one watches the periodic timer. Nothing is asserted about how long anything takes, with one
 * exception that load cannot break: neither the server's clock nor its timer may run ahead of the
 * clock here.
 *
 * Prints "ready" when everything is connected. SIGUSR1: waits until timers of both kinds, the
 * server's workers and every connection have gone on since the signal, and prints "gap
 * MICROSECONDS", the longest that anyone waited for an answer since the last SIGUSR1; "stuck: what"
 * after a minute. SIGTERM: compares every key with what it has to be, prints "done OPERATIONS
 * ERRORS WRONG". Exit status 0 only where there was neither.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/process.h"
#include "base/str.h"

#define KEYS	 64   /* numbers and texts of a connection */
#define BATCH	 8    /* requests under way at most */
#define TEXT_MAX 6000 /* bytes of a text; a few are more than one segment */
#define PATIENCE 60   /* seconds until something is stuck */
#define TICK_US	 10000
#define AHEAD_US                                                                                   \
	20000 /* what reading two clocks may differ by (offsets are in whole microseconds) */
#define CATCH_UP  500	  /* ticks that a timer may have been behind before it was first asked */
#define SHARED	  "all"	  /* the key of all connections */
#define MEMC_TICK 1000000 /* memcached's clock event, in microseconds */

enum dialect { LINES, HTTP, MEMCACHED };

static enum dialect dialect;
static struct sockaddr_in server;
static int64_t period_ns;
static atomic_bool ending;
static atomic_ullong ops, errors, wrong, shared_sum, gap_us, ticks, work, shots;

struct conn {
	int fd;
	struct buf out, in;
	size_t at; /* of `in`: what has been taken */
};

struct worker {
	pthread_t thread;
	int id;
	struct conn c;
	long long numbers[KEYS], shared_last;
	unsigned texts[KEYS]; /* the version that was acknowledged; 0: none */
	uint64_t random;
	atomic_ullong rounds;
};

static void __attribute__((format(printf, 2, 3)))
complain(atomic_ullong *what, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	flockfile(stderr);
	fputs("tally: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	funlockfile(stderr);
	va_end(ap);
	(*what)++;
}

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* The text that key `key` has in its version `version`: anyone can make it again. */
static size_t text_of(char *out, int id, int key, unsigned version)
{
	uint64_t x = ((uint64_t)id << 40 | (uint64_t)key << 32 | version) * 0x9e3779b97f4a7c15 + 1;
	size_t n = 1 + next_random(&x) % (next_random(&x) % 8 ? 200 : TEXT_MAX);

	for (size_t i = 0; i < n; i++)
		out[i] = (char)('a' + next_random(&x) % 26);
	out[n] = '\0';
	return n;
}

/* --- the connection ------------------------------------------------------------------------------
 */
static int conn_open(struct conn *c)
{
	int on = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&server, sizeof(server)) < 0) {
		complain(&errors, "connecting: %s", strerror(errno));
		return -1;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return 0;
}

static void request(struct conn *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void request(struct conn *c, const char *fmt, ...)
{
	char line[TEXT_MAX + 100];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (dialect == HTTP)
		buf_addf(&c->out, "POST / HTTP/1.1\r\nHost: ferry\r\nContent-Length: %d\r\n\r\n",
			 n);
	buf_add(&c->out, line, (size_t)n);
	if (dialect == LINES)
		buf_add(&c->out, "\n", 1);
}

static int conn_flush(struct conn *c)
{
	for (size_t at = 0; at < c->out.len;) {
		ssize_t n = send(c->fd, c->out.data + at, c->out.len - at, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			complain(&errors, "sending: %s", strerror(errno));
			return -1;
		}
		at += (size_t)n;
	}
	c->out.len = 0;
	return 0;
}

/* Waits for more of the answer. */
static int conn_fill(struct conn *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };
	char block[16384];
	ssize_t n;

	if (c->at) {
		memmove(c->in.data, c->in.data + c->at, c->in.len - c->at);
		c->in.len -= c->at;
		c->at = 0;
	}
	n = poll(&p, 1, PATIENCE * 1000);
	if (n > 0)
		n = recv(c->fd, block, sizeof(block), 0);
	else
		n = n ? -1 : -2;
	if (n <= 0) {
		complain(&errors, "waiting for an answer: %s",
			 n == -2  ? "none came in a minute"
			 : n == 0 ? "the server has closed the connection"
				  : strerror(errno));
		return -1;
	}
	buf_add(&c->in, block, (size_t)n);
	return 0;
}

/* The next line, without its end, valid until the next call; NULL after an error. */
static char *conn_line(struct conn *c)
{
	for (;;) {
		char *from = c->in.len ? c->in.data + c->at : NULL;
		char *end = from ? memchr(from, '\n', c->in.len - c->at) : NULL;

		if (end) {
			c->at = (size_t)(end + 1 - c->in.data);
			*end = '\0';
			if (end > from && end[-1] == '\r')
				end[-1] = '\0';
			return from;
		}
		if (conn_fill(c) < 0)
			return NULL;
	}
}

/* The answer to one request of lines or http. */
static char *conn_answer(struct conn *c)
{
	char *line = conn_line(c);

	if (dialect != HTTP || !line)
		return line;
	if (strcmp(line, "HTTP/1.1 200 OK") != 0) {
		complain(&errors, "the server answers %s", line);
		return NULL;
	}
	while (line && *line) {
		if (!strcasecmp(line, "Connection: close")) {
			complain(&errors, "the server wants to close the connection");
			return NULL;
		}
		line = conn_line(c);
	}
	return line ? conn_line(c) : NULL; /* every body is one line */
}

/* --- what may be asked
 * ----------------------------------------------------------------------------- */
static void ask_add(struct conn *c, const char *key, long long n)
{
	request(c, dialect == MEMCACHED ? "incr %s %lld\r\n" : "add %s %lld", key, n);
}

static int answer_add(struct conn *c, long long *value)
{
	char *line = conn_answer(c), *end;

	if (!line)
		return -1;
	*value = strtoll(line, &end, 10);
	if (*line && !*end)
		return 0;
	complain(&errors, "a number should come, not %.60s", line);
	return -1;
}

static void ask_put(struct conn *c, const char *key, const char *text)
{
	if (dialect == MEMCACHED)
		request(c, "set %s 0 0 %zu\r\n%s\r\n", key, strlen(text), text);
	else
		request(c, "put %s %s", key, text);
}

static int answer_put(struct conn *c)
{
	char *line = conn_answer(c);

	if (line && !strcmp(line, dialect == MEMCACHED ? "STORED" : "ok"))
		return 0;
	if (line)
		complain(&errors, "putting was answered by %.60s", line);
	return -1;
}

static void ask_get(struct conn *c, const char *key)
{
	request(c, dialect == MEMCACHED ? "get %s\r\n" : "get %s", key);
}

/* Into `text` (TEXT_MAX + 1); empty where there is none. */
static int answer_get(struct conn *c, char *text)
{
	char *line = conn_answer(c);

	*text = '\0';
	if (dialect == MEMCACHED) {
		if (!line || !strcmp(line, "END"))
			return line ? 0 : -1;
		line = conn_line(c); /* after VALUE … */
	}
	if (!line)
		return -1;
	snprintf(text, TEXT_MAX + 1, "%s", line);
	if (dialect == MEMCACHED) {
		line = conn_line(c);
		if (!line || strcmp(line, "END") != 0) {
			complain(&errors, "a value is followed by %.60s", line ? line : "nothing");
			return -1;
		}
	}
	return 0;
}

static void waited(int64_t since_ns)
{
	unsigned long long us = (unsigned long long)(clock_mono_ns() - since_ns) / 1000,
			   max = gap_us;

	while (us > max && !atomic_compare_exchange_weak(&gap_us, &max, us))
		;
}

static void key_name(char out[24], char kind, int id, int key)
{
	snprintf(out, 24, "%c%d.%d", kind, id, key);
}

/* --- a connection with its keys
 * ---------------------------------------------------------------------- */
static int expect_text(struct worker *w, int k)
{
	char got[TEXT_MAX + 1], want[TEXT_MAX + 1];

	if (answer_get(&w->c, got) < 0)
		return -1;
	text_of(want, w->id, k, w->texts[k]);
	if (strcmp(got, w->texts[k] ? want : "") != 0)
		complain(&wrong, "t%d.%d should be version %u (%.20s…), is %.20s…", w->id, k,
			 w->texts[k], want, got);
	return 0;
}

static int expect_number(struct worker *w, int k)
{
	long long v;

	if (answer_add(&w->c, &v) < 0)
		return -1;
	if (v != w->numbers[k])
		complain(&wrong, "n%d.%d should be %lld, is %lld: an update was %s", w->id, k,
			 w->numbers[k], v, v < w->numbers[k] ? "lost" : "applied twice");
	w->numbers[k] = v;
	return 0;
}

/* One batch: some additions, a text written, one read, the shared number raised. */
static int batch(struct worker *w)
{
	char name[24], text[TEXT_MAX + 1];
	int n = 1 + (int)(next_random(&w->random) % BATCH), keys[BATCH];
	int put = (int)(next_random(&w->random) % KEYS),
	    get = (int)(next_random(&w->random) % KEYS);
	int64_t start = clock_mono_ns();
	long long v;

	/* HTTP without pipelining: one request, then its answer. */
	for (int i = 0; i < n; i++) {
		keys[i] = (int)(next_random(&w->random) % KEYS);
		key_name(name, 'n', w->id, keys[i]);
		ask_add(&w->c, name, 1);
		if (dialect == HTTP) {
			w->numbers[keys[i]]++;
			if (conn_flush(&w->c) < 0 || expect_number(w, keys[i]) < 0)
				return -1;
		}
	}
	if (dialect != HTTP) {
		if (conn_flush(&w->c) < 0)
			return -1;
		for (int i = 0; i < n; i++) {
			w->numbers[keys[i]]++;
			if (expect_number(w, keys[i]) < 0)
				return -1;
		}
	}
	waited(start);
	start = clock_mono_ns();
	key_name(name, 't', w->id, put);
	text_of(text, w->id, put, w->texts[put] + 1);
	ask_put(&w->c, name, text);
	if (conn_flush(&w->c) < 0 || answer_put(&w->c) < 0)
		return -1;
	w->texts[put]++;
	waited(start);
	start = clock_mono_ns();
	key_name(name, 't', w->id, get);
	ask_get(&w->c, name);
	if (conn_flush(&w->c) < 0 || expect_text(w, get) < 0)
		return -1;
	ask_add(&w->c, SHARED, 1);
	if (conn_flush(&w->c) < 0 || answer_add(&w->c, &v) < 0)
		return -1;
	shared_sum++;
	if (v <= w->shared_last)
		complain(&wrong, "the shared number was %lld and is %lld", w->shared_last, v);
	w->shared_last = v;
	waited(start);
	ops += (unsigned long long)n + 3;
	w->rounds++;
	return 0;
}

/* memcached counts only what there is. */
static int prepare(struct conn *c, const char *key)
{
	if (dialect != MEMCACHED)
		return 0;
	ask_put(c, key, "0");
	return conn_flush(c) < 0 || answer_put(c) < 0 ? -1 : 0;
}

static void *work_on(void *arg)
{
	struct worker *w = arg;
	char name[24];

	for (int k = 0; k < KEYS; k++) {
		key_name(name, 'n', w->id, k);
		if (prepare(&w->c, name) < 0)
			return NULL;
	}
	while (!ending && !batch(w))
		clock_sleep_ns(period_ns);
	return NULL;
}

/* At the end, by the connection itself: every key as it was acknowledged. */
static void verify(struct worker *w)
{
	char name[24];

	for (int k = 0; k < KEYS; k++) {
		key_name(name, 'n', w->id, k);
		ask_add(&w->c, name, 0);
		if (conn_flush(&w->c) < 0 || expect_number(w, k) < 0)
			return;
		key_name(name, 't', w->id, k);
		ask_get(&w->c, name);
		if (conn_flush(&w->c) < 0 || expect_text(w, k) < 0)
			return;
	}
}

/* --- timers
 * ------------------------------------------------------------------------------------------ */
/* One-shot timers: `after`, or an item of memcached that must have expired. */
static int shot(struct conn *c)
{
	char text[TEXT_MAX + 1];

	if (dialect != MEMCACHED) {
		request(c, "after %d", 10 + (int)(shots % 100));
		return conn_flush(c) < 0 || answer_put(c) < 0 ? -1 : 0;
	}
	request(c, "set expires 0 1 1\r\nx\r\n");
	if (conn_flush(c) < 0 || answer_put(c) < 0)
		return -1;
	for (int i = 0; i < PATIENCE * 10 && !ending; i++) {
		ask_get(c, "expires");
		if (conn_flush(c) < 0 || answer_get(c, text) < 0)
			return -1;
		if (!*text)
			return 0;
		clock_sleep_ns(100000000);
	}
	if (!ending)
		complain(&errors, "an item does not expire");
	return ending ? 0 : -1;
}

static void *let_shots_run(void *arg)
{
	struct conn c = { .fd = -1 };

	(void)arg;
	if (!conn_open(&c))
		while (!ending && !shot(&c))
			shots++;
	buf_free(&c.in);
	buf_free(&c.out);
	return NULL;
}

struct reading {
	long long ticks, work, back, mono_us;
};

static int read_ticks(struct conn *c, struct reading *r)
{
	char *line;

	if (dialect == MEMCACHED) {
		request(c, "stats\r\n");
		if (conn_flush(c) < 0)
			return -1;
		while ((line = conn_line(c)) && strcmp(line, "END") != 0)
			sscanf(line, "STAT uptime %lld", &r->ticks);
		r->work = r->ticks;
		r->mono_us = r->ticks * MEMC_TICK;
		return line ? 0 : -1;
	}
	request(c, "ticks");
	line = conn_flush(c) < 0 ? NULL : conn_answer(c);
	if (line &&
	    sscanf(line, "%lld %lld %lld %lld", &r->ticks, &r->work, &r->back, &r->mono_us) == 4)
		return 0;
	if (line)
		complain(&errors, "ticks were answered by %.60s", line);
	return -1;
}

static void *watch_ticks(void *arg)
{
	long long tick_us = dialect == MEMCACHED ? MEMC_TICK : TICK_US, ran, clock_us;
	/* memcached's clock is known to a second. */
	long long slack_us = dialect == MEMCACHED ? 2 * MEMC_TICK : AHEAD_US;
	struct conn c = { .fd = -1 };
	struct reading first = { 0 }, last, now = { 0 };
	int64_t start;

	(void)arg;
	if (conn_open(&c) < 0)
		return NULL;
	start = clock_mono_ns();
	if (read_ticks(&c, &first) < 0)
		return NULL;
	for (last = first; !ending; last = now) {
		clock_sleep_ns(50000000);
		if (read_ticks(&c, &now) < 0)
			break;
		clock_us = (clock_mono_ns() - start) / 1000;
		ran = now.mono_us - first.mono_us;
		if (now.ticks < last.ticks || now.work < last.work || now.mono_us < last.mono_us)
			complain(&wrong,
				 "ticks, work or clock went back: %lld %lld %lld after %lld %lld "
				 "%lld",
				 now.ticks, now.work, now.mono_us, last.ticks, last.work,
				 last.mono_us);
		if (now.back != last.back)
			complain(&wrong, "the server saw a clock go back");
		if (ran > clock_us + slack_us)
			complain(&wrong, "%lld us have passed for the server, %lld here", ran,
				 clock_us);
		if (now.ticks - first.ticks > ran / tick_us + CATCH_UP)
			complain(&wrong, "the timer ticked %lld times in %lld us",
				 now.ticks - first.ticks, ran);
		ticks = (unsigned long long)now.ticks;
		work = (unsigned long long)now.work;
		if (wrong > 20)
			break;
	}
	buf_free(&c.in);
	buf_free(&c.out);
	return NULL;
}

/* --- signals
 * ----------------------------------------------------------------------------------------- */
static void report_gap(struct worker *workers, int n)
{
	unsigned long long from[3] = { ticks, work, shots };
	unsigned long long *rounds = mem_zalloc((size_t)n * sizeof(*rounds));
	unsigned tick = dialect == MEMCACHED ? 1 : 10;
	const char *stuck = NULL;

	for (int i = 0; i < n; i++)
		rounds[i] = workers[i].rounds;
	for (int64_t end = clock_mono_ns() + PATIENCE * 1000000000LL; clock_mono_ns() < end;) {
		stuck = ticks < from[0] + tick ? "the periodic timer"
			: work <= from[1]      ? "the workers"
			: shots <= from[2]     ? "one-shot timers"
					       : NULL;
		for (int i = 0; i < n && !stuck; i++)
			if (workers[i].rounds <= rounds[i])
				stuck = "a connection";
		if (!stuck || errors)
			break;
		clock_sleep_ns(10000000);
	}
	if (stuck)
		complain(&errors, "stuck: %s", stuck);
	printf(stuck ? "stuck\n" : "gap %llu\n", atomic_exchange(&gap_us, 0));
	fflush(stdout);
	free(rounds);
}

static int usage(void)
{
	fprintf(stderr, "usage: tally lines|http|memcached ADDRESS PORT CONNECTIONS RATE\n");
	return 2;
}

int main(int argc, char **argv)
{
	int64_t port, connections, rate;
	pthread_t timers[2];
	struct worker *workers;
	struct worker *w;
	sigset_t set;
	int signo, n;

	if (argc != 6 || str_to_i64(argv[3], 1, 65535, &port) < 0 ||
	    str_to_i64(argv[4], 1, 1000, &connections) < 0 ||
	    str_to_i64(argv[5], 1, 100000, &rate) < 0)
		return usage();
	if (!strcmp(argv[1], "http"))
		dialect = HTTP;
	else if (!strcmp(argv[1], "memcached"))
		dialect = MEMCACHED;
	else if (strcmp(argv[1], "lines") != 0)
		return usage();
	server.sin_family = AF_INET;
	server.sin_port = htons((uint16_t)port);
	if (inet_pton(AF_INET, argv[2], &server.sin_addr) != 1)
		return usage();
	period_ns = 1000000000 / rate;
	n = (int)connections;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	workers = mem_zalloc((size_t)n * sizeof(*workers));
	for (w = workers; w < workers + n; w++) {
		w->id = (int)(w - workers);
		w->random = (uint64_t)w->id * 7919 + 1;
		if (conn_open(&w->c) < 0 || (w == workers && prepare(&w->c, SHARED) < 0))
			return 1;
	}
	for (w = workers; w < workers + n; w++)
		pthread_create(&w->thread, NULL, work_on, w);
	pthread_create(&timers[0], NULL, let_shots_run, NULL);
	pthread_create(&timers[1], NULL, watch_ticks, NULL);
	puts("ready");
	fflush(stdout);
	while (!sigwait(&set, &signo) && signo != SIGTERM)
		report_gap(workers, n);
	ending = true;
	for (w = workers; w < workers + n; w++)
		pthread_join(w->thread, NULL);
	pthread_join(timers[0], NULL);
	pthread_join(timers[1], NULL);
	for (w = workers; w < workers + n && !errors; w++)
		verify(w);
	if (!errors) {
		long long v = -1;

		ask_add(&workers->c, SHARED, 0);
		if (!conn_flush(&workers->c) && !answer_add(&workers->c, &v) &&
		    v != (long long)shared_sum)
			complain(&wrong, "the shared number is %lld, %llu were acknowledged", v,
				 shared_sum);
	}
	printf("done %llu %llu %llu\n", ops, errors, wrong);
	for (w = workers; w < workers + n; w++) {
		close(w->c.fd);
		buf_free(&w->c.in);
		buf_free(&w->c.out);
	}
	free(workers);
	return errors || wrong;
}
