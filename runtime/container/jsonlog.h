/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Docker's json-file log: one object a line, {"log":"text\n","stream":"stdout","time":"…Z"}.
 * A line longer than 16 KiB is split into several entries of which only the last ends in \n.
 */
#ifndef FERRY_CONTAINER_JSONLOG_H
#define FERRY_CONTAINER_JSONLOG_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/str.h"

#define JSONLOG_PIECE 16384

struct jsonlog {
	int fd;
	struct buf part[3]; /* by stream 1, 2: what has no newline yet */
	int64_t part_ns[3]; /* when its first byte came */
};

/* Takes output as it comes; complete lines are written at once. Errors of the disk are ignored:
 * a full disk must not stop the container. */
void jsonlog_add(struct jsonlog *l, int stream, const void *p, size_t n);
/* At EOF of a stream: what is left becomes a last entry without a newline. */
void jsonlog_flush(struct jsonlog *l, int stream);

/* One entry as text with its newline, into out (pure). */
void jsonlog_format(struct buf *out, int stream, const char *p, size_t n, int64_t time_ns);
/*
 * Reads one line of the log. *text is the caller's to free, *stream 1 or 2. -EINVAL for a
 * torn or foreign line.
 */
int jsonlog_parse(const char *line, size_t n, int *stream, char **text, size_t *len,
		  int64_t *time_ns);

/* RFC 3339 with nanoseconds, in UTC, and back (caller frees; -EINVAL). */
char *time_format(int64_t ns);
int time_parse(const char *text, int64_t *ns);

#endif
