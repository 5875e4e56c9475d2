/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that counts what a migration does to it. It keeps one connection, sends one
 * request after the other, and never reconnects: a broken connection is an error.
 *
 *   load redis ADDRESS PORT RATE   SET k<i mod 100,000> i, at most RATE a second; at the end
 *                                  every key must hold the last value that was acknowledged
 *   load http ADDRESS PORT RATE    GET / over one keep-alive connection
 *
 * SIGUSR1: prints "gap MICROSECONDS", the longest time between two answers since the last
 * SIGUSR1. SIGTERM: verifies and prints "done OPERATIONS ERRORS LOST". Exit status 0 only
 * where there was no error and nothing was lost.
 */
#include <curl/curl.h>
#include <hiredis/hiredis.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/process.h"
#include "base/str.h"

#define KEYS 100000

static volatile sig_atomic_t want_gap, want_end;

static void on_signal(int signo)
{
	if (signo == SIGUSR1)
		want_gap = 1;
	else
		want_end = 1;
}

struct load {
	int64_t period_ns, last_ns, gap_ns;
	uint64_t ops, errors, lost;
};

/* Books an answer; waits for the time of the next request. */
static void answered(struct load *l)
{
	int64_t now = clock_mono_ns();

	if (l->last_ns && now - l->last_ns > l->gap_ns)
		l->gap_ns = now - l->last_ns;
	l->last_ns = now;
	l->ops++;
	if (want_gap) {
		want_gap = 0;
		printf("gap %lld\n", (long long)l->gap_ns / 1000);
		fflush(stdout);
		l->gap_ns = 0;
	}
}

static void pace(const struct load *l, int64_t start_ns)
{
	int64_t due = start_ns + (int64_t)l->ops * l->period_ns, now = clock_mono_ns();

	/* Behind by more than a moment: do not catch up in a burst. */
	if (due > now && due - now < 1000000000)
		clock_sleep_ns(due - now);
}

static int redis_load(struct load *l, const char *address, int port)
{
	uint64_t *acked = mem_zalloc(KEYS * sizeof(*acked));
	redisContext *c = redisConnect(address, port);
	int64_t start;
	redisReply *r;

	if (!c || c->err) {
		fprintf(stderr, "load: %s\n", c ? c->errstr : "no memory");
		return 1;
	}
	start = clock_mono_ns();
	for (uint64_t i = 1; !want_end; i++) {
		r = redisCommand(c, "SET k%llu %llu", (unsigned long long)(i % KEYS),
				 (unsigned long long)i);
		if (!r || r->type == REDIS_REPLY_ERROR) {
			fprintf(stderr, "load: %s\n", r ? r->str : c->errstr);
			l->errors++;
			break;
		}
		freeReplyObject(r);
		acked[i % KEYS] = i;
		answered(l);
		if (clock_mono_ns() - start > (int64_t)l->ops * l->period_ns + 100000000)
			start = clock_mono_ns() - (int64_t)l->ops * l->period_ns;
		pace(l, start);
	}
	for (uint64_t k = 0; k < KEYS && !l->errors; k++) {
		if (!acked[k])
			continue;
		r = redisCommand(c, "GET k%llu", (unsigned long long)k);
		if (!r || r->type != REDIS_REPLY_STRING || strtoull(r->str, NULL, 10) != acked[k]) {
			fprintf(stderr, "load: k%llu should be %llu, is %s\n",
				(unsigned long long)k, (unsigned long long)acked[k],
				r && r->str ? r->str : "missing");
			l->lost++;
		}
		freeReplyObject(r);
	}
	redisFree(c);
	free(acked);
	return 0;
}

static size_t body(char *data, size_t size, size_t n, void *ctx)
{
	buf_add(ctx, data, size * n);
	return size * n;
}

static int http_load(struct load *l, const char *address, int port)
{
	char *url = str_format("http://%s:%d/", address, port);
	struct buf first = { 0 }, now = { 0 };
	CURL *c = curl_easy_init();
	int64_t start = clock_mono_ns();

	curl_easy_setopt(c, CURLOPT_URL, url);
	curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, body);
	curl_easy_setopt(c, CURLOPT_WRITEDATA, &now);
	while (!want_end) {
		long connects = 0, status = 0;
		CURLcode r;

		now.len = 0;
		r = curl_easy_perform(c);
		curl_easy_getinfo(c, CURLINFO_NUM_CONNECTS, &connects);
		curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
		if (!first.len)
			buf_add(&first, now.data, now.len);
		if (r != CURLE_OK || status != 200 || connects > (l->ops ? 0 : 1) ||
		    now.len != first.len || memcmp(now.data, first.data, now.len)) {
			fprintf(stderr, "load: %s, status %ld, %ld new connections, %zu bytes\n",
				curl_easy_strerror(r), status, connects, now.len);
			l->errors++;
			break;
		}
		answered(l);
		/* nginx ends a connection after keepalive_requests; the image sets it high. */
		if (clock_mono_ns() - start > (int64_t)l->ops * l->period_ns + 100000000)
			start = clock_mono_ns() - (int64_t)l->ops * l->period_ns;
		pace(l, start);
	}
	curl_easy_cleanup(c);
	buf_free(&first);
	buf_free(&now);
	free(url);
	return 0;
}

int main(int argc, char **argv)
{
	struct load l = { 0 };
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	int64_t port, rate;
	int r;

	if (argc != 5 || str_to_i64(argv[3], 1, 65535, &port) < 0 ||
	    str_to_i64(argv[4], 1, 1000000, &rate) < 0) {
		fprintf(stderr, "usage: load redis|http ADDRESS PORT RATE\n");
		return 2;
	}
	sigaction(SIGUSR1, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	l.period_ns = 1000000000 / rate;
	r = !strcmp(argv[1], "redis") ? redis_load(&l, argv[2], (int)port)
				      : http_load(&l, argv[2], (int)port);
	printf("done %llu %llu %llu\n", (unsigned long long)l.ops, (unsigned long long)l.errors,
	       (unsigned long long)l.lost);
	return r || l.errors || l.lost;
}
