/* SPDX-License-Identifier: Apache-2.0 */
/* docker logs: reading a container's json-file log, from its end, and on as it grows. */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/container/internal.h"
#include "runtime/container/jsonlog.h"

struct reader {
	const struct container_log_options *o;
	int (*sink)(void *ctx, int stream, const void *p, size_t n);
	void *ctx;
	bool fresh[3]; /* the next entry of this stream begins a line */
};

/* Returns non-zero when it is over. */
static int emit(struct reader *r, const char *line, size_t n)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_BUF struct buf out = { 0 };
	size_t len;
	int stream;
	int64_t ns;

	if (jsonlog_parse(line, n, &stream, &text, &len, &ns) < 0)
		return 0; /* torn by a crash: the next one is whole again */
	if (r->o->since_ns && ns < r->o->since_ns)
		return 0;
	if (r->o->until_ns && ns > r->o->until_ns)
		return 1;
	if (!(stream == 1 ? r->o->stdout_ : r->o->stderr_))
		return 0;
	if (r->o->timestamps && r->fresh[stream]) {
		CLEANUP_FREE char *when = time_format(ns);

		buf_addf(&out, "%s ", when);
	}
	buf_add(&out, text, len);
	r->fresh[stream] = len && text[len - 1] == '\n';
	return out.len ? r->sink(r->ctx, stream, out.data, out.len) : 0;
}

/* Does this entry count as a line of a `tail`? */
static bool counts(const struct reader *r, const char *line, size_t n)
{
	CLEANUP_FREE char *text = NULL;
	int64_t ns;
	size_t len;
	int stream;

	return jsonlog_parse(line, n, &stream, &text, &len, &ns) == 0 &&
	       (stream == 1 ? r->o->stdout_ : r->o->stderr_);
}

/* Where the last `tail` lines begin, looking from the end in blocks. */
static off_t tail_start(int fd, const struct reader *r, long tail)
{
	CLEANUP_BUF struct buf back = { 0 };
	off_t at = lseek(fd, 0, SEEK_END);
	long seen = 0;

	if (!tail)
		return at;
	while (at > 0) {
		CLEANUP_BUF struct buf joined = { 0 };
		char chunk[65536];
		size_t take = at > (off_t)sizeof(chunk) ? sizeof(chunk) : (size_t)at, stop;

		at -= (off_t)take;
		if (pread(fd, chunk, take, at) != (ssize_t)take)
			return 0;
		buf_add(&joined, chunk, take);
		if (back.len)
			buf_add(&joined, back.data, back.len);
		/* Whole lines from the back; what is left in front waits for the next block. */
		stop = joined.len;
		for (size_t i = joined.len; i-- > 0;) {
			if (joined.data[i] != '\n' || i + 1 >= stop)
				continue;
			if (counts(r, joined.data + i + 1, stop - i - 1) && ++seen == tail)
				return at + (off_t)i + 1;
			stop = i + 1;
		}
		back.len = 0;
		buf_add(&back, joined.data, stop);
	}
	return 0;
}

/* Reads to the end of the file; part holds an unfinished line. */
static int drain(int fd, struct reader *r, struct buf *part)
{
	char chunk[65536];
	ssize_t n;

	while ((n = read(fd, chunk, sizeof(chunk))) > 0) {
		size_t done = 0;
		char *nl;

		buf_add(part, chunk, (size_t)n);
		while ((nl = memchr(part->data + done, '\n', part->len - done))) {
			size_t len = (size_t)(nl - part->data) - done;

			if (emit(r, part->data + done, len))
				return 1;
			done += len + 1;
		}
		memmove(part->data, part->data + done, part->len - done);
		part->len -= done;
	}
	return 0;
}

static bool still_running(struct container_manager *m, struct container *c)
{
	bool yes;

	pthread_mutex_lock(&m->lock);
	yes = !c->removed && (c->status == RUNNING || c->status == STARTING || c->stub);
	pthread_mutex_unlock(&m->lock);
	return yes;
}

int container_logs(struct container_manager *m, const char *id,
		   const struct container_log_options *o,
		   int (*sink)(void *ctx, int stream, const void *p, size_t n), void *ctx,
		   struct error *err)
{
	struct container *c = container_get(m, id, err);
	struct reader r = { .o = o, .sink = sink, .ctx = ctx, .fresh = { true, true, true } };
	CLEANUP_FREE char *name = NULL, *path = NULL;
	CLEANUP_CLOSE int fd = -1, notify = -1;
	CLEANUP_BUF struct buf part = { 0 };
	int waits = 0;

	if (!c)
		return -ENOENT;
	name = str_format("%s-json.log", id);
	path = container_dir(m, id, name);
	/* Made here when it is not there yet, so that following can begin before the start. */
	fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0640);
	if (fd < 0) {
		container_put(m, c);
		return error_sys(err, errno, "opening %s", path);
	}
	if (o->tail >= 0)
		lseek(fd, tail_start(fd, &r, o->tail), SEEK_SET);
	if (o->follow) {
		notify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		inotify_add_watch(notify, path, IN_MODIFY);
	}
	for (;;) {
		bool running = still_running(m, c); /* before reading: its last words count */
		struct pollfd pfd = { .fd = notify, .events = POLLIN };
		char events[4096];

		if (drain(fd, &r, &part) || !o->follow || !running)
			break;
		if (poll(&pfd, 1, 200) == 0 && ++waits % 5 == 0 && sink(ctx, 1, "", 0))
			break;
		while (read(notify, events, sizeof(events)) > 0)
			;
	}
	container_put(m, c);
	return 0;
}
