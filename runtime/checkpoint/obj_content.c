/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content of files without a name (deleted, O_TMPFILE, memfd): part "content". The
 * source sends each inode once, data only, holes left out; the destination gathers it in
 * a memfd, because the file system that the file belongs to may come only later
 * (volumes), and copies it into place when the file is made.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"

#define CHUNK (1u << 20)

/* Source: inodes sent in this dump. Destination: what came, and what was made of it. */
struct content {
	uint64_t key;
	dev_t dev;
	ino_t ino;
	int data;  /* memfd, destination */
	int inode; /* the file made, destination */
};
static struct content *contents;
static size_t ncontents;
static uint64_t last_key;

void obj_content_forget(void)
{
	for (size_t i = 0; i < ncontents; i++) {
		if (contents[i].data >= 0)
			close(contents[i].data);
		if (contents[i].inode >= 0)
			close(contents[i].inode);
	}
	free(contents);
	contents = NULL;
	ncontents = 0;
}

static struct content *content_add(uint64_t key)
{
	struct content *c;

	contents = mem_grow(contents, ncontents + 1, sizeof(*contents));
	c = &contents[ncontents++];
	*c = (struct content){ .key = key, .data = -1, .inode = -1 };
	return c;
}

static struct content *content_find(uint64_t key)
{
	for (size_t i = 0; i < ncontents; i++)
		if (contents[i].key == key)
			return &contents[i];
	return NULL;
}

static int content_chunk(struct dump *d, uint64_t key, uint64_t offset, uint8_t *data, size_t len,
			 struct error *err)
{
	CLEANUP_BUF struct buf body = { 0 };
	Cko__Content m = CKO__CONTENT__INIT;

	m.key = key;
	m.offset = offset;
	m.data.data = data;
	m.data.len = len;
	obj_pack(&m.base, &body);
	return dump_send_part(d, obj_content_part.name, body.data, body.len, err);
}

int obj_content_send(struct dump *d, int fd, const struct stat *st, uint64_t *key,
		     struct error *err)
{
	CLEANUP_FREE uint8_t *buf = NULL;
	CLEANUP_CLOSE int in = -1;
	struct content *c;
	off_t pos = 0;
	int n;

	for (size_t i = 0; i < ncontents; i++)
		if (contents[i].dev == st->st_dev && contents[i].ino == st->st_ino) {
			*key = contents[i].key;
			return 0;
		}
	/* its own descriptor may be write-only, and its position must not move */
	in = obj_reopen(fd, O_RDONLY);
	if (in < 0)
		return error_sys(err, -in, "reading a deleted file");
	c = content_add(++last_key);
	c->dev = st->st_dev;
	c->ino = st->st_ino;
	*key = c->key;
	buf = mem_zalloc(CHUNK);
	n = content_chunk(d, *key, 0, NULL, 0, err);
	while (n == 0 && pos < st->st_size) {
		off_t from = lseek(in, pos, SEEK_DATA), to;

		if (from < 0 && errno == ENXIO)
			break;
		to = from < 0 ? st->st_size : lseek(in, from, SEEK_HOLE);
		if (from < 0)
			from = pos;
		if (to < 0)
			to = st->st_size;
		for (pos = from; n == 0 && pos < to;) {
			size_t want = to - pos < (off_t)CHUNK ? (size_t)(to - pos) : CHUNK;
			ssize_t got = pread(in, buf, want, pos);

			if (got < 0 && errno == EINTR)
				continue;
			if (got < 0)
				return error_sys(err, errno, "reading a deleted file");
			if (got == 0)
				return n;
			n = content_chunk(d, *key, (uint64_t)pos, buf, (size_t)got, err);
			pos += got;
		}
	}
	return n;
}

/* A part's dump() comes before or after the objects': only the undo forgets. */
static int content_undo(struct dump *d)
{
	(void)d;
	obj_content_forget();
	return 0;
}

static int content_receive(struct restore *r, const void *body, size_t len, struct error *err)
{
	CLEANUP_MSG Cko__Content *m = obj_unpack(&cko__content__descriptor, body, len, err);
	struct content *c;

	(void)r;
	if (!m)
		return -EBADMSG;
	c = content_find(m->key);
	if (!c) {
		c = content_add(m->key);
		c->data = memfd_create("ferry-content", MFD_CLOEXEC);
		if (c->data < 0)
			return error_sys(err, errno, "making room for a deleted file");
	}
	for (size_t done = 0; done < m->data.len;) {
		ssize_t w = pwrite(c->data, m->data.data + done, m->data.len - done,
				   (off_t)(m->offset + done));

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return error_sys(err, errno, "keeping a deleted file's content");
		done += (size_t)w;
	}
	return 0;
}

int obj_content_fill(uint64_t key, int fd, uint64_t size, struct error *err)
{
	struct content *c = content_find(key);
	CLEANUP_FREE uint8_t *buf = mem_zalloc(CHUNK);
	off_t pos = 0, end;

	if (!c || c->data < 0)
		return error_set(err, EBADMSG, "the content of a deleted file did not come");
	if (ftruncate(fd, (off_t)size) < 0)
		return error_sys(err, errno, "setting the size of a deleted file");
	end = lseek(c->data, 0, SEEK_END);
	while (pos < end) {
		off_t from = lseek(c->data, pos, SEEK_DATA), to;

		if (from < 0)
			break;
		to = lseek(c->data, from, SEEK_HOLE);
		if (to < 0)
			to = end;
		for (pos = from; pos < to;) {
			size_t want = to - pos < (off_t)CHUNK ? (size_t)(to - pos) : CHUNK;
			ssize_t got = pread(c->data, buf, want, pos);

			if (got <= 0)
				return error_sys(err, got ? errno : EIO, "reading back content");
			for (ssize_t done = 0; done < got;) {
				ssize_t w =
					pwrite(fd, buf + done, (size_t)(got - done), pos + done);

				if (w < 0 && errno == EINTR)
					continue;
				if (w <= 0)
					return error_sys(err, errno, "filling a deleted file");
				done += w;
			}
			pos += got;
		}
	}
	close(c->data);
	c->data = -1;
	return 0;
}

int obj_content_inode(uint64_t key)
{
	struct content *c = content_find(key);

	return c ? c->inode : -1;
}

int obj_content_made(uint64_t key, int fd)
{
	struct content *c = content_find(key);
	int n = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	if (n < 0)
		return -errno;
	if (!c)
		c = content_add(key);
	c->inode = n;
	return 0;
}

const struct checkpoint_part obj_content_part = {
	.name = "content",
	.dump_undo = content_undo,
	.receive = content_receive,
};
