/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaving repair mode, on the destination after the commit. For each connection a window
 * probe goes all the way through the network, in the call: 10 µs and more. Where there are
 * many a second thread begins at the end of the list, while the main one comes from the front.
 *
 *   free ──► taken (by one of both) ──► done: result
 */
#include "runtime/checkpoint/sock_release.h"

#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "runtime/checkpoint/sock_common.h"

/* For fewer a thread does not pay. */
#define ENOUGH 64

enum { FREE, TAKEN, DONE };
static struct item {
	int fd;
	bool reuse;
	atomic_int state;
	int result;
} * items;
static size_t nitems;
static pthread_t thread;
static bool running;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t one_is_done = PTHREAD_COND_INITIALIZER;

size_t sock_release_add(int fd, bool reuse)
{
	items = mem_grow(items, nitems + 1, sizeof(*items));
	items[nitems] = (struct item){ .fd = fd, .reuse = reuse };
	return nitems++;
}

static int release(const struct item *i)
{
	int n = sock_opt_set(i->fd, IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF);

	/* leaving repair mode forgets it */
	return n == 0 && i->reuse ? sock_opt_set(i->fd, SOL_SOCKET, SO_REUSEADDR, 1) : n;
}

static bool take(struct item *i)
{
	int free_ = FREE;

	return atomic_compare_exchange_strong(&i->state, &free_, TAKEN);
}

static void *from_the_end(void *arg)
{
	(void)arg;
	for (size_t k = nitems; k-- > 0;) {
		struct item *i = &items[k];

		/* the other one is here already, and has all before */
		if (!take(i))
			break;
		i->result = release(i);
		pthread_mutex_lock(&lock);
		atomic_store(&i->state, DONE);
		pthread_cond_signal(&one_is_done);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

int sock_release_take(size_t k)
{
	struct item *i = &items[k];

	if (k == 0 && nitems >= ENOUGH)
		running = pthread_create(&thread, NULL, from_the_end, NULL) == 0;
	if (take(i))
		return release(i);
	pthread_mutex_lock(&lock);
	while (atomic_load(&i->state) != DONE)
		pthread_cond_wait(&one_is_done, &lock);
	pthread_mutex_unlock(&lock);
	return i->result;
}

void sock_release_end(void)
{
	if (running)
		pthread_join(thread, NULL);
	running = false;
	free(items);
	items = NULL;
	nitems = 0;
}
