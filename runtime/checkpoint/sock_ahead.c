/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP connections read ahead: from the moment everything stands still a second thread reads
 * them, while the main one sends memory. When that comes to the sockets, it takes what is
 * ready and reads the rest too, each from the front.
 *
 *   free ──► taken (by one of both) ──► done: body or error
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "runtime/checkpoint/sock_idle.h"
#include "runtime/checkpoint/sock_options.h"
#include "runtime/checkpoint/sock_tcp.h"

/* For fewer a thread does not pay. */
#define ENOUGH 16

enum { FREE, TAKEN, DONE };
static struct item {
	struct ofd *o;
	atomic_int state;
	int result;
	struct buf body;
	struct error err;
} * items;
static size_t nitems, cursor;
static struct dump *source;
static pthread_t thread;
static bool running;
static atomic_bool enough;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t one_is_done = PTHREAD_COND_INITIALIZER;

static bool take(struct item *i)
{
	int free_ = FREE;

	return atomic_compare_exchange_strong(&i->state, &free_, TAKEN);
}

static void *read_ahead(void *arg)
{
	(void)arg;
	sock_beside = true;
	for (size_t i = 0; i < nitems && !enough; i++) {
		struct item *it = &items[i];

		if (!take(it))
			continue;
		it->result = tcp_dump_beside(source, it->o, &it->body, &it->err);
		pthread_mutex_lock(&lock);
		atomic_store(&it->state, DONE);
		pthread_cond_signal(&one_is_done);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

void tcp_ahead_start(struct dump *d)
{
	size_t n = dump_ofd_count(d);

	tcp_ahead_stop();
	items = mem_zalloc((n + 1) * sizeof(*items));
	for (size_t i = 0; i < n; i++)
		if (dump_ofd_at(d, i)->kind == &sock_type_tcp && !sock_idle_has(dump_ofd_at(d, i)))
			items[nitems++].o = dump_ofd_at(d, i);
	source = d;
	enough = false;
	running = nitems >= ENOUGH && pthread_create(&thread, NULL, read_ahead, NULL) == 0;
	if (!running)
		tcp_ahead_stop();
}

void tcp_ahead_stop(void)
{
	enough = true;
	if (running)
		pthread_join(thread, NULL);
	running = false;
	for (size_t i = 0; i < nitems; i++)
		buf_free(&items[i].body);
	free(items);
	items = NULL;
	nitems = cursor = 0;
}

/* Both go through the same list in the same order. */
static struct item *item_of(const struct ofd *o)
{
	for (size_t k = 0; k < nitems; k++, cursor = cursor + 1 < nitems ? cursor + 1 : 0)
		if (items[cursor].o == o)
			return &items[cursor];
	return NULL;
}

int tcp_ahead_take(struct ofd *o, struct buf *body, struct error *err)
{
	struct item *it = running ? item_of(o) : NULL;

	if (!it || take(it))
		return 0;
	pthread_mutex_lock(&lock);
	while (atomic_load(&it->state) != DONE)
		pthread_cond_wait(&one_is_done, &lock);
	pthread_mutex_unlock(&lock);
	if (it->result == -EAGAIN && !it->err.code)
		return 0;
	if (it->result < 0) {
		*err = it->err;
		return it->result;
	}
	buf_add(body, it->body.data, it->body.len);
	buf_free(&it->body);
	it->result = sock_options_send_sets(source, err);
	return it->result < 0 ? it->result : 1;
}
