/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors as values. A failing function returns a negative errno and leaves in
 * `struct error` one sentence, built where the cause is known and wrapped with
 * context on the way up: "attaching volume db: opening image ferry/db: host b
 * holds its exclusive lock". Whoever receives an error either returns it or
 * logs it, never both.
 */
#ifndef FERRY_BASE_ERROR_H
#define FERRY_BASE_ERROR_H

#include <errno.h>

struct error {
	int code;	/* positive errno; 0: no error */
	char msg[1000]; /* always NUL-terminated; cut at the end when too long */
};

/*
 * Sets code and message (printf format). `err` may be NULL. Returns -code, so
 * that a caller can write `return error_set(err, EBUSY, ...)`.
 */
int error_set(struct error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* As error_set(), with ": " and strerror(code) behind the message. */
int error_sys(struct error *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Puts context in front of the message that is there: "context: message".
 * Returns -err->code (-EIO where err is NULL or was never set).
 */
int error_wrap(struct error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Forgets the error. */
void error_clear(struct error *err);

/* The HTTP status that the Docker Engine API gives for this (positive) errno. */
int error_http_status(int code);

/*
 * The exit status of ferry's own commands for this (positive) errno: 2 for bad
 * usage (EINVAL), 1 for everything else.
 */
int error_exit_status(int code);

#endif
