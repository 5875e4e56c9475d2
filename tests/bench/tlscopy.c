// SPDX-License-Identifier: Apache-2.0
/*
 * The yardstick for pre-copy: bytes from memory over one TLS 1.3 connection between two hosts, as
 * ferry's own connections are made (base/tls.h), and nothing else.
 *
 *   tlscopy receive PORT PKI       takes one connection, reads to its end
 *   tlscopy send HOST PORT MIB PKI prints the seconds from the first byte to the last acknowledged
 *
 * PKI is a host's folder of certificates (state-dir/pki).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/str.h"
#include "base/tls.h"

#define CHUNK	    (1UL << 20)
#define PATIENCE_NS 120000000000LL

static struct tls_ctx *context(const char *pki, struct error *err)
{
	char cert[512], key[512], ca[512];

	snprintf(cert, sizeof(cert), "%s/host.crt", pki);
	snprintf(key, sizeof(key), "%s/host.key", pki);
	snprintf(ca, sizeof(ca), "%s/ca.crt", pki);
	return tls_ctx_new(cert, key, ca, err);
}

static int receive(struct tls_ctx *ctx, uint16_t port, char *buf, struct error *err)
{
	int listener = tls_listen(NULL, port, NULL, err), fd;
	struct tls *t;
	ssize_t n;

	if (listener < 0)
		return listener;
	puts("listening");
	fflush(stdout);
	fd = accept(listener, NULL, NULL);
	if (fd < 0)
		return error_sys(err, errno, "accept");
	if (tls_accept(ctx, fd, false, PATIENCE_NS, &t, err) < 0)
		return -1;
	while ((n = tls_read_some(t, buf, CHUNK, PATIENCE_NS, err)) > 0)
		if (memcmp(buf + n - 1, "E", 1) == 0) /* the last byte, and only that: see fill */
			if (tls_write(t, "e", 1, PATIENCE_NS, err) < 0)
				return -1;
	return (int)n;
}

static int transmit(struct tls_ctx *ctx, const char *host, uint16_t port, long mib, char *buf,
		    struct error *err)
{
	struct timespec from, to;
	struct tls *t;
	char answer;

	if (tls_connect(ctx, host, port, PATIENCE_NS, &t, err) < 0)
		return -1;
	memset(buf, 'x', CHUNK);
	clock_gettime(CLOCK_MONOTONIC, &from);
	for (long i = 0; i < mib; i++) {
		if (i == mib - 1)
			buf[CHUNK - 1] = 'E';
		if (tls_write(t, buf, CHUNK, PATIENCE_NS, err) < 0)
			return -1;
	}
	if (tls_read(t, &answer, 1, PATIENCE_NS, err) < 0)
		return -1;
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("%.4f\n",
	       (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
	tls_close(t);
	return 0;
}

int main(int argc, char **argv)
{
	struct error err = { 0 };
	char *buf = malloc(CHUNK);
	struct tls_ctx *ctx = argc > 3 ? context(argv[argc - 1], &err) : NULL;
	int r = -1;

	if (argc == 4 && strcmp(argv[1], "receive") == 0 && ctx)
		r = receive(ctx, (uint16_t)atoi(argv[2]), buf, &err);
	else if (argc == 6 && strcmp(argv[1], "send") == 0 && ctx)
		r = transmit(ctx, argv[2], (uint16_t)atoi(argv[3]), atol(argv[4]), buf, &err);
	else if (ctx || argc < 4)
		error_set(&err, EINVAL, "usage: see the top of tests/bench/tlscopy.c");
	if (r < 0)
		fprintf(stderr, "tlscopy: %s\n", err.msg);
	tls_ctx_free(ctx);
	free(buf);
	return r < 0;
}
