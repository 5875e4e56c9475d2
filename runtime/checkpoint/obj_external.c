/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Part "external": what clients have written to the container's stdin and the container
 * has not read yet. The pipe's descriptors are the core's and its writer the shim's; the
 * bytes would stay behind with the source's shim. (What the container has written and the
 * shim has not read yet stays with the source's shim, which reads it to the end.)
 *
 * The destination puts them into the stub's stdin pipe before the tasks run, through a
 * writing end that it opens for that moment.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/obj_pipe.h"
#include "runtime/checkpoint/obj_types.h"

/* Destination: what came, one message an external. */
static Cko__External **externals;
static size_t nexternals;

static int chunk_add(void *ctx, const void *data, size_t len)
{
	Cko__External *m = ctx;
	ProtobufCBinaryData *c;

	m->chunks = mem_grow(m->chunks, m->n_chunks + 1, sizeof(*m->chunks));
	c = &m->chunks[m->n_chunks++];
	c->data = mem_zalloc(len);
	c->len = len;
	memcpy(c->data, data, len);
	return 0;
}

static int external_dump(struct dump *d, struct error *err)
{
	for (size_t i = 0; i < dump_ofd_count(d); i++) {
		const struct ofd *o = dump_ofd_at(d, i);
		Cko__External m = CKO__EXTERNAL__INIT;
		CLEANUP_BUF struct buf body = { 0 };
		int n;

		if (o->kind || !S_ISFIFO(o->st.st_mode) || (o->flags & O_ACCMODE) != O_RDONLY)
			continue;
		m.id = o->id;
		n = pipe_peek(o->fd, chunk_add, &m, err);
		if (n == 0 && m.n_chunks) {
			obj_pack(&m.base, &body);
			n = dump_send_part(d, obj_external_part.name, body.data, body.len, err);
		}
		for (size_t k = 0; k < m.n_chunks; k++)
			free(m.chunks[k].data);
		free(m.chunks);
		if (n < 0)
			return error_wrap(err, "stdin %s", o->link);
	}
	return 0;
}

static int external_receive(struct restore *r, const void *body, size_t len, struct error *err)
{
	Cko__External *m = obj_unpack(&cko__external__descriptor, body, len, err);

	(void)r;
	if (!m)
		return -EBADMSG;
	externals = mem_grow(externals, nexternals + 1, sizeof(Cko__External *));
	externals[nexternals++] = m;
	return 0;
}

static int external_complete(struct restore *r, struct error *err)
{
	for (size_t i = 0; i < nexternals; i++) {
		CLEANUP_CLOSE int w = -1;
		int fd = restore_fd(r, externals[i]->id, err);

		if (fd < 0)
			return fd;
		w = obj_reopen(fd, O_WRONLY | O_NONBLOCK);
		if (w < 0)
			return error_sys(err, -w, "opening the container's stdin");
		for (size_t k = 0; k < externals[i]->n_chunks; k++) {
			const ProtobufCBinaryData *c = &externals[i]->chunks[k];
			int n = fd_write_all(w, c->data, c->len);

			if (n < 0)
				return error_sys(err, -n, "filling the container's stdin");
		}
		obj_message_free(&externals[i]);
	}
	free(externals);
	externals = NULL;
	nexternals = 0;
	return 0;
}

const struct checkpoint_part obj_external_part = {
	.name = "external",
	.dump = external_dump,
	.receive = external_receive,
	.complete = external_complete,
};
