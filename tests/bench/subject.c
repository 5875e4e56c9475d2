// SPDX-License-Identifier: Apache-2.0
/*
 * What engine.sh moves: a process, or many, with so much of one thing.
 *
 *   subject idle                  one process that sleeps
 *   subject processes N           N children that sleep
 *   subject vmas N                N memory areas of one page
 *   subject memory MIB            so many MiB, each page different, idle
 *   subject work MIB              MIB of memory, written all over at full speed by one thread;
 *                                 prints how many pages a tenth of a second took, forever
 *   subject connections N HOST    N TCP connections to `subject peer` at HOST, idle
 *   subject peer                  accepts connections and keeps them
 *
 * "ready" on standard output says that all of it is there.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define PORT 7000

static int die(const char *what)
{
	fprintf(stderr, "subject: %s: %s\n", what, strerror(errno));
	return 1;
}

static int stay(void)
{
	puts("ready");
	fflush(stdout);
	while (pause())
		;
	return 0;
}

static void *anonymous(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static int processes(long n)
{
	for (long i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid < 0)
			return die("fork");
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	return stay();
}

/* Areas that cannot be merged: every other one may not be written. */
static int vmas(long n)
{
	char *p = anonymous((size_t)n * PAGE);

	if (!p)
		return die("mmap");
	for (long i = 0; i < n; i++) {
		p[(size_t)i * PAGE] = (char)(i | 1);
		if (i % 2 && mprotect(p + (size_t)i * PAGE, PAGE, PROT_READ) != 0)
			return die("mprotect");
	}
	return stay();
}

/* Content that no compressor likes. */
static void fill(uint64_t *p, size_t words)
{
	uint64_t x = 88172645463325252ULL;

	for (size_t i = 0; i < words; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = x;
	}
}

static int64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int work(size_t bytes)
{
	uint64_t *p = anonymous(bytes), done = 0;
	int64_t mark;

	if (!p)
		return die("mmap");
	fill(p, bytes / 8);
	puts("ready");
	mark = now_ns();
	for (uint64_t round = 1;; round++)
		for (size_t i = 0; i < bytes / 8; i += PAGE / 8) {
			p[i] = round;
			/* Some work for each page, as a server has. */
			for (size_t k = 1; k < 256; k++)
				p[i] += p[i + k] * round;
			if (++done % 256 == 0 && now_ns() - mark >= 100000000) {
				printf("%ld %lu\n", (long)time(NULL), done);
				fflush(stdout);
				done = 0;
				mark = now_ns();
			}
		}
}

static int connections(long n, const char *host)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };

	if (inet_pton(AF_INET, host, &a.sin_addr) != 1)
		return die(host);
	for (long i = 0; i < n; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
			return die("connect");
	}
	return stay();
}

static int peer(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);

	if (setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) != 0 ||
	    bind(s, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(s, 1024) != 0)
		return die("listen");
	puts("ready");
	fflush(stdout);
	for (;;)
		if (accept(s, NULL, NULL) < 0)
			return die("accept");
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	long n = argc > 2 ? strtol(argv[2], NULL, 10) : 0;

	if (strcmp(what, "idle") == 0)
		return stay();
	if (strcmp(what, "peer") == 0)
		return peer();
	if (n > 0 && strcmp(what, "processes") == 0)
		return processes(n);
	if (n > 0 && strcmp(what, "vmas") == 0)
		return vmas(n);
	if (n > 0 && strcmp(what, "work") == 0)
		return work((size_t)n << 20);
	if (n > 0 && strcmp(what, "memory") == 0) {
		uint64_t *p = anonymous((size_t)n << 20);

		if (!p)
			return die("mmap");
		fill(p, ((size_t)n << 20) / 8);
		return stay();
	}
	if (n > 0 && argc > 3 && strcmp(what, "connections") == 0)
		return connections(n, argv[3]);
	fprintf(stderr, "usage: see the top of tests/bench/subject.c\n");
	return 2;
}
