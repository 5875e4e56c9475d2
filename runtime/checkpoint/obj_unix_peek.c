/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Queues of unix sockets as the kernel has them, read by BPF: what waits in a connection
 * that was not accepted yet, of which nobody has a descriptor; and with which message of a
 * stream descriptors came, which MSG_PEEK does not tell.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/obj_types.h"
#include "runtime/checkpoint/obj_unix.h"
#include "runtime/checkpoint/peek.h"

void unix_message_free(Cko__UnixMessage *m)
{
	free(m->data.data);
	free(m->name.data);
	free(m->fds);
	free(m);
}

/* One message of the one socket that is asked for. */
struct message {
	struct peek_unix head;
	pid_t pid;
	uint8_t *data;
};

struct look {
	uint32_t own, client; /* inodes; own 0: not accepted yet */
	struct message *m;
	size_t n, total;
	struct error *err;
};

static int look_one(void *ctx, const struct peek_record *rec, const void *data)
{
	const struct peek_unix *u = data;
	struct look *l = ctx;
	struct message *m;

	if (rec->len < sizeof(*u) || (uint32_t)rec->a != l->own ||
	    (!l->own && (uint32_t)rec->b != l->client))
		return 0;
	l->total = rec->d;
	l->m = mem_grow(l->m, l->n + 1, sizeof(*l->m));
	m = &l->m[l->n++];
	memcpy(&m->head, u, sizeof(m->head));
	m->pid = rec->tid;
	m->data = NULL;
	if (u->data && u->data <= rec->len - sizeof(*u)) {
		m->data = mem_zalloc(u->data);
		memcpy(m->data, u->bytes, u->data);
	}
	return 0;
}

static void look_free(struct look *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->m[i].data);
	free(l->m);
}

/* In the container's network namespace. */
static int look(void *arg)
{
	struct look *l = arg;
	size_t before;
	int r;

	do {
		before = l->n;
		r = peek_unix_from(l->own, l->client, (uint32_t)l->n, l->err);
		if (r == 0)
			r = peek(PEEK_UNIX, look_one, l, l->err);
	} while (r == 0 && l->n > before && l->n < l->total);
	return r == 0 && l->n != l->total ? -EAGAIN : r;
}

static Cko__UnixMessage *message_of(struct dump *d, const struct message *m, bool creds)
{
	Cko__UnixMessage *out = mem_zalloc(sizeof(*out));
	struct task *t = dump_task_by_pid(d, m->pid);

	cko__unix_message__init(out);
	out->creds = creds && t;
	out->vpid = t ? task_vpid(t) : 0;
	out->uid = m->head.uid;
	out->gid = m->head.gid;
	return out;
}

int unix_sent_peek(struct dump *d, uint32_t client, Cko__Unix *m, struct error *err)
{
	struct look l = { .client = client, .err = err };
	int r = dump_in_netns(d, look, &l, NULL);

	if (r == 0 && !l.n)
		r = -ENOENT;
	for (size_t i = 0; i < l.n && r == 0; i++) {
		Cko__UnixMessage *out;

		/* Large ones lie in pages of their own, descriptors only the receiver gets. */
		if (l.m[i].head.fds || l.m[i].head.data != l.m[i].head.len) {
			r = -EAGAIN;
			break;
		}
		out = message_of(d, &l.m[i], true);
		out->data.len = l.m[i].head.data;
		out->data.data = TAKE_PTR(l.m[i].data);
		m->sent = mem_grow(m->sent, m->n_sent + 1, sizeof(Cko__UnixMessage *));
		m->sent[m->n_sent++] = out;
	}
	look_free(&l);
	return r;
}

/* Takes the next n bytes and k descriptors of what was peeked. */
struct source {
	const Cko__Unix *m;
	size_t msg, at, fd_msg, fd_at;
};

static bool take(struct source *s, size_t n, size_t k, Cko__UnixMessage *out)
{
	out->data.data = mem_zalloc(n + 1);
	while (out->data.len < n && s->msg < s->m->n_queue) {
		const Cko__UnixMessage *from = s->m->queue[s->msg];
		size_t part = from->data.len - s->at;

		part = part < n - out->data.len ? part : n - out->data.len;
		memcpy(out->data.data + out->data.len, from->data.data + s->at, part);
		out->data.len += part;
		s->at += part;
		if (s->at == from->data.len) {
			s->msg++;
			s->at = 0;
		}
	}
	while (out->n_fds < k && s->fd_msg < s->m->n_queue) {
		const Cko__UnixMessage *from = s->m->queue[s->fd_msg];

		if (s->fd_at == from->n_fds) {
			s->fd_msg++;
			s->fd_at = 0;
			continue;
		}
		out->fds = mem_grow(out->fds, out->n_fds + 1, sizeof(*out->fds));
		out->fds[out->n_fds++] = from->fds[s->fd_at++];
	}
	return out->data.len == n && out->n_fds == k;
}

int unix_messages_place(struct dump *d, uint32_t ino, Cko__Unix *m)
{
	struct look l = { .own = ino };
	struct source s = { .m = m };
	Cko__UnixMessage **placed = NULL;
	size_t n = 0;
	bool creds = false, fine;

	for (size_t i = 0; i < m->n_queue; i++)
		creds |= m->queue[i]->creds;
	fine = dump_in_netns(d, look, &l, NULL) == 0 && l.n;
	for (size_t i = 0; i < l.n && fine; i++) {
		placed = mem_grow(placed, n + 1, sizeof(Cko__UnixMessage *));
		placed[n++] = message_of(d, &l.m[i], creds);
		fine = l.m[i].head.consumed <= l.m[i].head.len &&
		       take(&s, l.m[i].head.len - l.m[i].head.consumed, l.m[i].head.fds,
			    placed[n - 1]);
	}
	fine = fine && s.msg == m->n_queue;
	look_free(&l);
	/* What is not wanted any more: the old cut, or the new one. */
	if (fine) {
		Cko__UnixMessage **old = m->queue;
		size_t nold = m->n_queue;

		m->queue = placed;
		m->n_queue = n;
		placed = old;
		n = nold;
	}
	for (size_t i = 0; i < n; i++)
		unix_message_free(placed[i]);
	free(placed);
	return fine ? 0 : -EAGAIN;
}

/* Loaded while the tasks run, where a unix socket listens: __SO_ACCEPTCON. */
static int unix_round(struct dump *d, int n, json_t *args, struct error *err)
{
	struct task *init = dump_task(d, 1);
	CLEANUP_FREE char *path = str_format("/proc/%d/net/unix", init ? task_pid(init) : 0);
	CLEANUP_FREE char *text = NULL;

	(void)args;
	(void)err;
	if (n == 1 && init && file_read(path, 64 << 20, &text, NULL, NULL) == 0 &&
	    strstr(text, " 00010000 "))
		peek_load(PEEK_UNIX, NULL);
	return 0;
}

const struct checkpoint_part unix_part = {
	.name = "unix",
	.round = unix_round,
};
