/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Source: lanes. The pages of a round are cut into pieces; the engine's thread and one for
 * each lane take piece after piece, read it out of the task and send it on the connection
 * of their own. Pages of zeros, which the destination clears by calls in the task, are
 * noted, and sent on the main connection behind all others.
 */
#include "runtime/checkpoint/lane.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/tls.h"
#include "runtime/checkpoint/mem_copy.h"
#include "runtime/checkpoint/mem_huge.h"
#include "runtime/checkpoint/track.h"

#define AUTO_MOST 4 /* connections, without being told */
#define LEAST	  (8ull << 20)
#define HELLO_NS  20000000000ll

struct piece {
	struct task *t;
	uint64_t start, npages;
};

struct lane {
	struct lanes_out *all;
	struct stream *s;
	pthread_t thread;
	bool started;
	struct mem_copier copier;
};

struct lanes_out {
	struct dump *d;
	struct lane lane[LANES_MAX];
	size_t n;
	uint64_t least; /* bytes below which threads are not woken */
	struct piece *pieces;
	size_t npieces, cap;
	atomic_size_t next;
	atomic_bool broken;   /* nobody need go on */
	pthread_mutex_t lock; /* of what follows */
	pthread_cond_t changed;
	uint32_t turn;
	size_t busy;
	bool stop;
	struct error failed; /* the first */
};

/* --- connecting --------------------------------------------------------------------------- */
unsigned int lanes_wanted(json_t *args)
{
	json_int_t streams = json_integer_value(json_object_get(args, "streams"));
	cpu_set_t cpus;

	if (json_object_get(args, "fd"))
		return (unsigned int)json_array_size(json_object_get(args, "lane_fds"));
	if (streams <= 0) {
		streams = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
		streams = streams < AUTO_MOST ? streams : AUTO_MOST;
	}
	streams = streams <= LANES_MAX ? streams : LANES_MAX + 1;
	return (unsigned int)streams - 1;
}

static int say_hello(struct stream *s, const char *token, size_t index, struct error *err)
{
	Ck__Lane m = CK__LANE__INIT;
	int r;

	m.token = (char *)(uintptr_t)(token ? token : "");
	m.index = (uint32_t)index;
	r = stream_send_msg(s, FRAME_LANE, &m.base, err);
	return r < 0 ? r : stream_flush(s, err);
}

static int connect_one(json_t *args, struct tls_ctx *ctx, size_t index, struct stream **out,
		       struct error *err)
{
	struct tls *t;
	int r;

	if (!ctx) {
		*out = stream_new_fd((int)json_integer_value(
			json_array_get(json_object_get(args, "lane_fds"), index)));
		return 0;
	}
	r = tls_connect(ctx, json_string_value(json_object_get(args, "address")),
			(uint16_t)json_integer_value(json_object_get(args, "port")), HELLO_NS, &t,
			err);
	if (r == 0)
		*out = stream_new_tls(t);
	return r;
}

/* --- sending ------------------------------------------------------------------------------ */
/* Keeps the first error, and lets everybody come to an end. Lock not held. */
static void broke(struct lanes_out *l, const struct error *err)
{
	pthread_mutex_lock(&l->lock);
	if (!atomic_exchange(&l->broken, true)) {
		l->failed = *err;
		for (size_t i = 0; i < l->n; i++)
			stream_abort(l->lane[i].s);
	}
	pthread_mutex_unlock(&l->lock);
}

static int take_pieces(struct lanes_out *l, struct mem_copier *c, struct error *err)
{
	size_t i;
	int r = 0;

	while (r == 0 && !atomic_load(&l->broken) &&
	       (i = atomic_fetch_add(&l->next, 1)) < l->npieces)
		r = mem_copier_send(c, l->pieces[i].t, l->pieces[i].start, l->pieces[i].npages,
				    err);
	return r;
}

static int end_turn(struct stream *s, uint16_t type, uint32_t turn, struct error *err)
{
	Ck__RoundEnd m = CK__ROUND_END__INIT;
	int r;

	m.round = turn;
	r = stream_send_msg(s, type, &m.base, err);
	return r < 0 ? r : stream_flush(s, err);
}

static void *lane_thread(void *arg)
{
	struct lane *lane = arg;
	struct lanes_out *l = lane->all;
	uint32_t turn = 0;

	for (;;) {
		struct error err = { 0 };
		bool stop;
		int r;

		pthread_mutex_lock(&l->lock);
		while (l->turn == turn && !l->stop)
			pthread_cond_wait(&l->changed, &l->lock);
		turn = l->turn;
		stop = l->stop;
		pthread_mutex_unlock(&l->lock);
		if (stop)
			return NULL;
		r = take_pieces(l, &lane->copier, &err);
		if (r == 0)
			r = end_turn(lane->s, FRAME_LANE_END, turn, &err);
		if (r < 0)
			broke(l, &err);
		pthread_mutex_lock(&l->lock);
		l->busy--;
		pthread_cond_broadcast(&l->changed);
		pthread_mutex_unlock(&l->lock);
	}
}

int lanes_connect(struct dump *d, json_t *args, struct tls_ctx *ctx, unsigned int n,
		  struct error *err)
{
	struct lanes_out *l;
	int r = 0;

	if (!n)
		return 0;
	l = d->lanes = mem_zalloc(sizeof(*l));
	l->d = d;
	l->least = ctx ? LEAST : 1;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->changed, NULL);
	while (r == 0 && l->n < n && l->n < LANES_MAX) {
		struct lane *lane = &l->lane[l->n];

		r = connect_one(args, ctx, l->n, &lane->s, err);
		if (r < 0)
			break;
		lane->all = l;
		mem_copier_init(&lane->copier, d, lane->s, false);
		r = say_hello(lane->s, json_string_value(json_object_get(args, "token")), l->n++,
			      err);
		if (r == 0 && pthread_create(&lane->thread, NULL, lane_thread, lane))
			r = error_set(err, EAGAIN, "no thread for a connection");
		lane->started = r == 0;
	}
	return r < 0 ? error_wrap(err, "further connection %zu", l->n) : 0;
}

/* --- a round ------------------------------------------------------------------------------ */
static void cut(struct lanes_out *l, struct task *t, const struct page_found *run)
{
	for (uint64_t at = run->start; at < run->end;) {
		uint64_t n = (run->end - at) / PAGE;

		n = n < MEM_BATCH ? n : MEM_BATCH;
		if (l->npieces == l->cap) {
			l->cap = l->cap ? 2 * l->cap : 1024;
			l->pieces = mem_grow(l->pieces, l->cap, sizeof(*l->pieces));
		}
		l->pieces[l->npieces++] = (struct piece){ t, at, n };
		at += n * PAGE;
	}
}

/* Compared by content, on the main connection. */
static bool is_huge(const struct task *t, const struct page_found *run)
{
	const struct vma *v = t->nhuge ? vmas_find(&t->vmas, run->start) : NULL;

	return v && huge_bytes(v);
}

/* Pages with content of all tasks; how many bytes. */
static uint64_t collect(struct dump *d, struct lanes_out *l)
{
	uint64_t bytes = 0;

	l->npieces = 0;
	for (size_t i = 0; i < d->tasks.n; i++) {
		struct task *t = d->tasks.t[i];
		const struct page_found *run = (const struct page_found *)(void *)t->runs.data;

		for (size_t k = 0; k < t->runs.len / sizeof(*run); k++)
			if (!(run[k].what & PAGES_ZERO) && !is_huge(t, &run[k])) {
				cut(l, t, &run[k]);
				bytes += run[k].end - run[k].start;
			}
	}
	return bytes;
}

/* By the engine's thread: what cannot be read is taken out again by mem_copier_settle(). */
static void note_sent(struct lanes_out *l)
{
	for (size_t i = 0; i < l->npieces; i++)
		pageset_set(&l->pieces[i].t->sent, l->pieces[i].start, l->pieces[i].npages, true);
}

/* Counts of one connection are added up, its pages of zeros sent. */
static int settle(struct dump *d, struct mem_copier *c, struct error *err)
{
	const struct page_run *zero = (const struct page_run *)(void *)c->zeros.data;
	int r = 0;

	mem_copier_settle(c);
	for (size_t i = 0; i < c->zeros.len / sizeof(*zero) && r == 0; i++)
		r = stream_send(d->s, FRAME_PAGES, FRAME_ZERO, &zero[i], sizeof(*zero), NULL, 0,
				err);
	c->zeros.len = 0;
	return r;
}

int lanes_send(struct dump *d, struct error *err)
{
	struct lanes_out *l = d->lanes;
	struct mem_copier own;
	int r;

	if (!l || (!d->final && !tracker_chosen()) || (d->final && d->postcopy) ||
	    collect(d, l) < l->least)
		return 0;
	r = end_turn(d->s, FRAME_LANE_GO, l->turn + 1, err);
	if (r < 0)
		return r;
	note_sent(l);
	mem_copier_init(&own, d, d->s, true);
	pthread_mutex_lock(&l->lock);
	atomic_store(&l->next, 0);
	l->busy = l->n;
	l->turn++;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	r = take_pieces(l, &own, err);
	if (r < 0)
		broke(l, err);
	pthread_mutex_lock(&l->lock);
	while (l->busy)
		pthread_cond_wait(&l->changed, &l->lock);
	pthread_mutex_unlock(&l->lock);
	if (r == 0 && atomic_load(&l->broken)) {
		*err = l->failed;
		r = -err->code;
		/* Asked for the end of this round, the destination says what it knows of it. */
		end_turn(d->s, FRAME_ROUND_END, (uint32_t)d->round, NULL);
	}
	if (r == 0)
		r = settle(d, &own, err);
	for (size_t i = 0; i < l->n && r == 0; i++)
		r = settle(d, &l->lane[i].copier, err);
	mem_copier_free(&own);
	return r < 0 ? r : 1;
}

static uint64_t bytes_of(const struct stream *s, bool plain)
{
	return plain ? stream_plain_bytes(s) : stream_bytes(s);
}

uint64_t lanes_bytes(const struct dump *d, bool plain)
{
	uint64_t sum = d->s ? bytes_of(d->s, plain) : 0;

	for (size_t i = 0; d->lanes && i < d->lanes->n; i++)
		sum += bytes_of(d->lanes->lane[i].s, plain);
	return sum;
}

void lanes_patience(struct dump *d, unsigned int seconds)
{
	stream_patience(d->s, seconds);
	for (size_t i = 0; d->lanes && i < d->lanes->n; i++)
		stream_patience(d->lanes->lane[i].s, seconds);
}

void lanes_out_free(struct lanes_out *l)
{
	if (!l)
		return;
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_cond_broadcast(&l->changed);
	pthread_mutex_unlock(&l->lock);
	for (size_t i = 0; i < l->n; i++) {
		if (l->lane[i].started)
			pthread_join(l->lane[i].thread, NULL);
		stream_close(l->lane[i].s);
		mem_copier_free(&l->lane[i].copier);
	}
	pthread_mutex_destroy(&l->lock);
	pthread_cond_destroy(&l->changed);
	free(l->pieces);
	free(l);
}
