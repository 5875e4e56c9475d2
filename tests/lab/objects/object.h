/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the programs of this folder share. Each is one kernel object that must travel:
 *
 *   int main(int argc, char **argv)
 *   {
 *           object_init(argc, argv);
 *           … make the state …
 *           object_move();          says "ready" and returns when the container has moved
 *           … CHECK(what must still be so) …
 *           return 0;
 *   }
 *
 * The program is PID 1 of its container. It is told that it has moved by SIGUSR2, which
 * object_init() blocks in every thread and child: it interrupts nothing that the program
 * tests. README.md in this folder tells how the programs are run.
 */
#ifndef FERRY_TESTS_OBJECT_H
#define FERRY_TESTS_OBJECT_H

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Set in the second container that a program marked "peer" gets: it stays where it is. */
static bool object_is_peer;

__attribute__((format(printf, 4, 5), noreturn)) static inline void
object_fail(const char *file, int line, const char *cond, const char *fmt, ...)
{
	int saved = errno;
	va_list ap;

	fprintf(stderr, "%s:%d: %s is false. ", file, line, cond);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, " (errno %d: %s)\n", saved, strerror(saved));
	fflush(NULL);
	_exit(1);
}

/* CHECK(condition) or CHECK(condition, "format", …): ends the program with status 1. */
#define CHECK(cond, ...)                                                                           \
	do {                                                                                       \
		if (!(cond))                                                                       \
			object_fail(__FILE__, __LINE__, #cond, " " __VA_ARGS__);                   \
	} while (0)

static inline void object_init(int argc, char **argv)
{
	sigset_t set;

	setvbuf(stdout, NULL, _IOLBF, 0);
	object_is_peer = argc > 1 && strcmp(argv[1], "peer") == 0;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	CHECK(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
}

/* The peer container's address, as text (IPv4). */
__attribute__((unused)) static inline const char *object_peer(void)
{
	const char *address = getenv("OBJECT_PEER");

	CHECK(address && *address,
	      "OBJECT_PEER is not set: is the program marked as one with a peer?");
	return address;
}

/* Tells the test that the state is made. A peer calls it as soon as it can be reached. */
static inline void object_ready(void)
{
	puts("ready");
	fflush(stdout);
}

/* Returns when the container has moved. */
static inline void object_wait(void)
{
	sigset_t set;
	int signo = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	do
		CHECK(sigwait(&set, &signo) == 0);
	while (signo != SIGUSR2);
}

__attribute__((unused)) static inline void object_move(void)
{
	object_ready();
	object_wait();
}

#endif
