/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Destination: lanes. A thread for each takes its connection, checks that it belongs to
 * this migration, and writes the pages that come on it into the stubs, in the turns that
 * lane.h draws. Writing needs no tracer; everything that does stays with the main
 * connection and the engine's own thread.
 */
#include "runtime/checkpoint/lane.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/tls.h"
#include "runtime/checkpoint/check.h"

#define HELLO_NS 10000000000ll
/* So long a lane may bring nothing while the others and the engine wait for it. */
#define SILENCE_NS 30000000000ll

struct lane {
	struct lanes_in *all;
	pthread_t thread;
	struct stream *s; /* NULL: not come yet */
	uint32_t ended;	  /* the last turn that it came to the end of */
};

struct lanes_in {
	struct restore *r;
	struct lane lane[LANES_MAX];
	size_t n;
	int listen_fd, stop_fd;
	pthread_mutex_t lock; /* of what follows, and of lane[].s, lane[].ended */
	pthread_cond_t changed;
	uint32_t go;	/* the turn that is under way, or was the last */
	uint32_t taken; /* bits: numbers of lanes that have come */
	size_t come;
	uint64_t frames; /* so that silence can be told from slowness */
	bool stop;
	struct error failed; /* the first; code 0: fine */
};

static void fail(struct lanes_in *l, const struct error *err)
{
	pthread_mutex_lock(&l->lock);
	if (!l->failed.code) {
		l->failed = *err;
		if (!l->failed.code)
			l->failed.code = EIO;
	}
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
}

/* --- coming ------------------------------------------------------------------------------- */
/* Whether it is this migration's; gives it its number. */
static bool belongs(struct lanes_in *l, struct stream *s)
{
	struct frame f;
	Ck__Lane *m = NULL;
	bool ok;

	if (stream_recv(s, &f, NULL) == 0 && f.type == FRAME_LANE)
		m = check_unpack(&ck__lane__descriptor, f.data, f.len);
	ok = m && strcmp(m->token, l->r->token) == 0 && m->index < l->n;
	pthread_mutex_lock(&l->lock);
	ok = ok && !(l->taken >> m->index & 1);
	if (ok)
		l->taken |= 1u << m->index;
	pthread_mutex_unlock(&l->lock);
	if (m)
		ck__lane__free_unpacked(m, NULL);
	return ok;
}

/* The next connection; NULL: it was a stranger's, or there is no more to wait for. */
static struct stream *accept_one(struct lanes_in *l)
{
	struct pollfd p[2] = { { .fd = l->listen_fd, .events = POLLIN },
			       { .fd = l->stop_fd, .events = POLLIN } };
	struct tls *t;
	int fd;

	poll(p, 2, -1);
	if (p[1].revents)
		return NULL;
	/* Another lane's thread may have been faster. */
	fd = accept4(l->listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0 || tls_accept(l->r->tls, fd, false, HELLO_NS, &t, NULL) < 0)
		return NULL;
	return stream_new_tls(t);
}

static bool stopped(struct lanes_in *l)
{
	bool stop;

	pthread_mutex_lock(&l->lock);
	stop = l->stop || l->come == l->n;
	pthread_mutex_unlock(&l->lock);
	return stop;
}

/* Makes s the lane's own; false: everything is over. */
static bool keep(struct lane *lane, struct stream *s)
{
	struct lanes_in *l = lane->all;
	bool ok;

	pthread_mutex_lock(&l->lock);
	ok = !l->stop;
	if (ok)
		lane->s = s;
	pthread_mutex_unlock(&l->lock);
	return ok;
}

static void drop(struct lane *lane)
{
	struct stream *s;

	pthread_mutex_lock(&lane->all->lock);
	s = lane->s;
	lane->s = NULL;
	pthread_mutex_unlock(&lane->all->lock);
	stream_close(s);
}

static bool come(struct lane *lane)
{
	struct lanes_in *l = lane->all;

	/* Given at once, in tests. */
	if (lane->s)
		return belongs(l, lane->s);
	while (!stopped(l)) {
		struct stream *s = accept_one(l);

		if (!s)
			continue;
		if (!keep(lane, s)) {
			stream_close(s);
			return false;
		}
		if (belongs(l, s)) {
			pthread_mutex_lock(&l->lock);
			/* The listening socket wakes those who look at it no more. */
			if (++l->come == l->n)
				eventfd_write(l->stop_fd, 1);
			pthread_mutex_unlock(&l->lock);
			return true;
		}
		drop(lane);
	}
	return false;
}

/* --- turns -------------------------------------------------------------------------------- */
/* Pages of the turn after the last one that the lane has ended; they wait for it to begin. */
static int await_turn(struct lane *lane, struct error *err)
{
	struct lanes_in *l = lane->all;
	int r = 0;

	pthread_mutex_lock(&l->lock);
	while (!l->stop && !l->failed.code && l->go <= lane->ended)
		pthread_cond_wait(&l->changed, &l->lock);
	if (l->stop || l->failed.code)
		r = error_set(err, ECANCELED, "the migration has ended");
	pthread_mutex_unlock(&l->lock);
	return r;
}

static int end_turn(struct lane *lane, const struct frame *f, struct error *err)
{
	struct lanes_in *l = lane->all;
	Ck__RoundEnd *m = check_unpack(&ck__round_end__descriptor, f->data, f->len);
	int r = 0;

	pthread_mutex_lock(&l->lock);
	if (!m || m->round != l->go)
		r = error_set(err, EBADMSG, "a further connection is out of step");
	else
		lane->ended = m->round;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	if (m)
		ck__round_end__free_unpacked(m, NULL);
	return r;
}

static int serve(struct lane *lane, struct error *err)
{
	struct lanes_in *l = lane->all;
	struct frame f;
	int r;

	r = stream_recv(lane->s, &f, err);
	if (r == 0)
		r = await_turn(lane, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&l->lock);
	l->frames++;
	pthread_mutex_unlock(&l->lock);
	if (f.type == FRAME_PAGES)
		return restore_pages_content(l->r, &f, err);
	if (f.type == FRAME_LANE_END)
		return end_turn(lane, &f, err);
	return error_set(err, EBADMSG, "a frame of type %u on a further connection", f.type);
}

static void *lane_thread(void *arg)
{
	struct lane *lane = arg;
	struct error err = { 0 };

	if (!come(lane)) {
		/* Where nobody listens no better one can follow. */
		if (lane->all->listen_fd < 0) {
			error_set(&err, EACCES, "a further connection is not this migration's");
			fail(lane->all, &err);
		}
		return NULL;
	}
	while (serve(lane, &err) == 0)
		;
	error_wrap(&err, "further connection");
	fail(lane->all, &err);
	/* So that the source notices, and asks why. */
	stream_abort(lane->s);
	return NULL;
}

/* --- the engine's thread -------------------------------------------------------------------- */
unsigned int lanes_expect(struct restore *r, unsigned int wanted)
{
	struct lanes_in *l;
	size_t given = r->lane_fds ? json_array_size(r->lane_fds) : LANES_MAX;

	wanted = wanted < LANES_MAX ? wanted : LANES_MAX;
	wanted = wanted < given ? wanted : (unsigned int)given;
	if (!wanted || r->lanes || (!r->lane_fds && r->listen_fd < 0))
		return 0;
	l = r->lanes = mem_zalloc(sizeof(*l));
	l->r = r;
	l->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->listen_fd = TAKE_FD(r->listen_fd);
	if (l->listen_fd >= 0)
		fd_set_nonblock(l->listen_fd, true);
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->changed, NULL);
	for (unsigned int i = 0; i < wanted; i++) {
		l->lane[i].all = l;
		if (r->lane_fds)
			l->lane[i].s = stream_new_fd(
				(int)json_integer_value(json_array_get(r->lane_fds, i)));
	}
	/* Known before the first of them looks. */
	l->n = wanted;
	for (unsigned int i = 0; i < wanted; i++)
		if (pthread_create(&l->lane[i].thread, NULL, lane_thread, &l->lane[i])) {
			l->lane[i].all = NULL;
			fail(l, &(struct error){ .code = EAGAIN,
						 .msg = "no thread for a further connection" });
		}
	return wanted;
}

int lanes_go(struct restore *r, const Ck__RoundEnd *m, struct error *err)
{
	struct lanes_in *l = r->lanes;
	int e = lanes_wait(r, err);

	if (e < 0)
		return e;
	if (!l || m->round != l->go + 1)
		return error_set(err, EBADMSG, "pages on connections that are not there");
	pthread_mutex_lock(&l->lock);
	l->go++;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	return 0;
}

/* Lock held. */
static bool all_ended(const struct lanes_in *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->lane[i].ended != l->go)
			return false;
	return true;
}

int lanes_wait(struct restore *r, struct error *err)
{
	struct lanes_in *l = r->lanes;
	int64_t since = clock_mono_ns();
	uint64_t seen;
	int e = 0;

	if (!l)
		return 0;
	pthread_mutex_lock(&l->lock);
	seen = l->frames;
	while (!all_ended(l) && !l->failed.code && e == 0) {
		struct timespec until;

		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec++;
		pthread_cond_timedwait(&l->changed, &l->lock, &until);
		if (l->frames != seen)
			since = clock_mono_ns();
		seen = l->frames;
		if (clock_mono_ns() - since > SILENCE_NS)
			e = error_set(err, ETIMEDOUT,
				      "a further connection of the source brings nothing");
	}
	if (e == 0 && !all_ended(l)) {
		*err = l->failed;
		e = -err->code;
	}
	pthread_mutex_unlock(&l->lock);
	return e;
}

void lanes_in_free(struct restore *r)
{
	struct lanes_in *l = r->lanes;

	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	for (size_t i = 0; i < l->n; i++)
		if (l->lane[i].s)
			stream_abort(l->lane[i].s);
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	eventfd_write(l->stop_fd, 1);
	for (size_t i = 0; i < l->n; i++) {
		if (l->lane[i].all)
			pthread_join(l->lane[i].thread, NULL);
		stream_close(l->lane[i].s);
	}
	if (l->listen_fd >= 0)
		close(l->listen_fd);
	close(l->stop_fd);
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->changed);
	free(l);
	r->lanes = NULL;
}
