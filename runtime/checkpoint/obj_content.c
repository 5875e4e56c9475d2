/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content of files without a name (deleted, O_TMPFILE, memfd): part "content". Each inode
 * is sent once, data only, holes left out, and then what has changed: in pre-copy, where a
 * process has it open, and at the freeze. A file whose times are as they were is not read
 * again, unless it is mapped, in which case writes leave no trace for a while.
 *
 * The destination makes files of the container's root file system at once. Others it
 * gathers in a memfd, because their file system may come only later (volumes), and copies
 * them into place when the file is made.
 */
#include <dirent.h>
#include <errno.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/obj_types.h"

#define CHUNK (1u << 16) /* what is compared, and sent where it differs */
#define COPY  (1u << 20)
#define BLOCK 4096u

/* Source: inodes sent in this dump. Destination: what came, and what was made of it. */
struct content {
	uint64_t key;
	dev_t dev;
	ino_t ino;
	int source;	 /* the engine's, for reading, so that the inode is not reused */
	struct stat st;	 /* as it was before it was read last */
	int64_t read_ns; /* when that was, wall clock */
	uint64_t *hash;	 /* of each chunk as it was sent; 0: a hole */
	size_t nhash;
	bool complete;
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
		if (contents[i].source >= 0)
			close(contents[i].source);
		free(contents[i].hash);
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
	*c = (struct content){ .key = key, .data = -1, .inode = -1, .source = -1 };
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

/* FNV-1a over words, never 0: two chunks that differ are to be told apart, no more. */
static uint64_t chunk_hash(const uint8_t *p, size_t len)
{
	uint64_t h[4] = { 1, 2, 3, len }, w;
	size_t i = 0;

	for (; i + 32 <= len; i += 32)
		for (int k = 0; k < 4; k++) {
			memcpy(&w, p + i + 8 * k, 8);
			h[k] = (h[k] ^ w) * 0x9e3779b97f4a7c15ull;
			h[k] ^= h[k] >> 29;
		}
	for (; i < len; i++)
		h[i % 4] = (h[i % 4] ^ p[i]) * 0x100000001b3ull;
	w = h[0];
	for (int k = 1; k < 4; k++)
		w = (w ^ (w >> 31) ^ h[k]) * 0xbf58476d1ce4e5b9ull;
	return w ? w : 1;
}

static bool all_zero(const uint8_t *block)
{
	static const uint8_t zeros[BLOCK];

	return memcmp(block, zeros, BLOCK) == 0;
}

/* Does any process have this inode mapped? Then its times tell nothing. */
static bool is_mapped(struct dump *d, const struct content *c)
{
	CLEANUP_FREE char *ino = str_format(" %lu ", (unsigned long)c->ino);

	for (size_t i = 0; i < dump_task_count(d); i++) {
		CLEANUP_FREE char *path = str_format("/proc/%d/maps", task_pid(dump_task_at(d, i)));
		CLEANUP_FREE char *maps = NULL;

		if (file_read(path, 64 << 20, &maps, NULL, NULL) < 0 || strstr(maps, ino))
			return true;
	}
	return false;
}

static bool unchanged(struct dump *d, const struct content *c, const struct stat *now)
{
	const struct timespec *t = &c->st.st_ctim;
	int64_t changed = t->tv_sec * INT64_C(1000000000) + t->tv_nsec;

	/* Within a tick of the clock that stamps files a later write shows the same time. */
	return c->nhash && now->st_size == c->st.st_size &&
	       now->st_mtim.tv_sec == c->st.st_mtim.tv_sec &&
	       now->st_mtim.tv_nsec == c->st.st_mtim.tv_nsec && now->st_ctim.tv_sec == t->tv_sec &&
	       now->st_ctim.tv_nsec == t->tv_nsec && c->read_ns - changed > 50000000 &&
	       !is_mapped(d, c);
}

/* Sends the chunks that the destination does not have as they are. */
static int content_pass(struct dump *d, struct content *c, struct error *err)
{
	CLEANUP_FREE uint8_t *buf = NULL;
	struct stat st;
	off_t data = 0, hole = 0;
	size_t n;
	int r = 0;

	if (fstat(c->source, &st) < 0)
		return error_sys(err, errno, "looking at a deleted file");
	if (unchanged(d, c, &st))
		return 0;
	n = ((size_t)st.st_size + CHUNK - 1) / CHUNK;
	if (n + 1 > c->nhash) {
		c->hash = mem_grow(c->hash, n + 1, sizeof(*c->hash));
		memset(c->hash + c->nhash, 0, (n + 1 - c->nhash) * sizeof(*c->hash));
		c->nhash = n + 1;
	}
	c->st = st;
	c->read_ns = clock_real_ns();
	buf = mem_zalloc(CHUNK);
	for (size_t i = 0; i < n && r == 0; i++) {
		off_t at = (off_t)(i * CHUNK), end = at + (off_t)CHUNK;
		size_t want = end < st.st_size ? CHUNK : (size_t)(st.st_size - at);
		uint64_t h = 0;

		if (at >= hole) { /* the next stretch of data; ENXIO: none, else: not known */
			data = lseek(c->source, at, SEEK_DATA);
			if (data < 0)
				data = errno == ENXIO ? st.st_size : at;
			hole = data < st.st_size ? lseek(c->source, data, SEEK_HOLE) : st.st_size;
			if (hole < 0)
				hole = st.st_size;
		}
		if (data >= end && !c->hash[i])
			continue;
		memset(buf, 0, want);
		if (data < end) {
			ssize_t got = pread(c->source, buf, want, at);

			if (got < 0)
				return error_sys(err, errno, "reading a deleted file");
			h = chunk_hash(buf, want);
			/* There may be another stretch of data in this chunk. */
			if (hole < end)
				hole = end;
		}
		if (h != c->hash[i]) {
			size_t from = 0, to = want;

			/* Where nothing is yet, zeros at either end may stay a hole. */
			while (!c->hash[i] && from + BLOCK < to && all_zero(buf + from))
				from += BLOCK;
			while (!c->hash[i] && to > from + BLOCK && to % BLOCK == 0 &&
			       all_zero(buf + to - BLOCK))
				to -= BLOCK;
			r = content_chunk(d, c->key, (uint64_t)at + from, buf + from, to - from,
					  err);
		}
		c->hash[i] = h;
	}
	return r;
}

/* The entry of an inode, made and announced if need be. `path`: see objects.proto. */
static struct content *content_of(struct dump *d, int fd, const struct stat *st, const char *path,
				  bool linkable, struct error *err)
{
	CLEANUP_BUF struct buf body = { 0 };
	Cko__Content m = CKO__CONTENT__INIT;
	struct content *c;
	int in;

	for (size_t i = 0; i < ncontents; i++)
		if (contents[i].dev == st->st_dev && contents[i].ino == st->st_ino)
			return &contents[i];
	/* its own descriptor may be write-only, and its position must not move */
	in = obj_reopen(fd, O_RDONLY | O_NONBLOCK);
	if (in < 0) {
		error_sys(err, -in, "reading a deleted file");
		return NULL;
	}
	c = content_add(++last_key);
	c->source = in;
	c->dev = st->st_dev;
	c->ino = st->st_ino;
	m.key = c->key;
	m.path = (char *)(uintptr_t)(path ? path : "");
	m.linkable = linkable;
	obj_pack(&m.base, &body);
	return dump_send_part(d, obj_content_part.name, body.data, body.len, err) < 0 ? NULL : c;
}

int obj_content_send(struct dump *d, int fd, const struct stat *st, uint64_t *key,
		     struct error *err)
{
	struct content *c = content_of(d, fd, st, NULL, false, err);

	if (!c)
		return -err->code;
	*key = c->key;
	return content_pass(d, c, err);
}

/* --- pre-copy --------------------------------------------------------------------------- */
/* A descriptor of a task: a deleted file whose content is to be sent ahead? */
static int content_round_fd(struct dump *d, struct task *t, const char *num, uint64_t root_mount,
			    struct error *err)
{
	CLEANUP_FREE char *path = str_format("/proc/%d/fd/%s", task_pid(t), num);
	CLEANUP_FREE char *info = NULL;
	CLEANUP_CLOSE int fd = -1;
	uint64_t mount = 0;
	struct content *c;
	struct statfs fs;
	struct stat st;
	char to[4096], *slash;
	ssize_t n = readlink(path, to, sizeof(to) - 1);

	to[n < 0 ? 0 : n] = '\0';
	if (to[0] != '/' || str_starts(to, "/memfd:") || !str_ends(to, " (deleted)"))
		return 0;
	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink || !st.st_size)
		return 0;
	fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	/* What is gone, or cannot be read now, comes with the rest. Memory is the core's. */
	if (fd < 0 || fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0 || fs.f_type == TMPFS_MAGIC ||
	    fs.f_type == RAMFS_MAGIC || st.st_nlink)
		return 0;
	info = fdinfo_read(0, fd);
	fdinfo_u64(info, "mnt_id", 10, &mount);
	to[strlen(to) - strlen(" (deleted)")] = '\0';
	slash = strrchr(to, '/');
	c = content_of(d, fd, &st, mount && mount == root_mount ? to : NULL,
		       slash && slash[1] == '#' &&
			       strspn(slash + 2, "0123456789") == strlen(slash + 2),
		       err);
	return c ? content_pass(d, c, err) : -err->code;
}

static int content_round(struct dump *d, int n, json_t *args, struct error *err)
{
	CLEANUP_FREE char *info = fdinfo_read(0, dump_root_fd(d));
	uint64_t root_mount = 0;
	int r = 0;

	(void)n;
	(void)args;
	fdinfo_u64(info, "mnt_id", 10, &root_mount);
	for (size_t i = 0; i < dump_task_count(d) && r == 0; i++) {
		struct task *t = dump_task_at(d, i);
		CLEANUP_FREE char *path = str_format("/proc/%d/fd", task_pid(t));
		CLEANUP_CLOSEDIR DIR *dir = opendir(path);
		struct dirent *e;

		while (r == 0 && dir && (e = readdir(dir)))
			if (e->d_name[0] != '.')
				r = content_round_fd(d, t, e->d_name, root_mount, err);
	}
	return r;
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
	int to;

	if (!m)
		return -EBADMSG;
	c = content_find(m->key);
	if (!c) {
		c = content_add(m->key);
		if (m->path && m->path[0] == '/') {
			c->inode = obj_deleted_make(restore_root_fd(r), m->path, false, m->linkable,
						    err);
			if (c->inode < 0)
				return -err->code;
		} else {
			c->data = memfd_create("ferry-content", MFD_CLOEXEC);
			if (c->data < 0)
				return error_sys(err, errno, "making room for a deleted file");
		}
	}
	to = c->inode >= 0 ? c->inode : c->data;
	for (size_t done = 0; done < m->data.len;) {
		ssize_t w = pwrite(to, m->data.data + done, m->data.len - done,
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
	CLEANUP_FREE uint8_t *buf = mem_zalloc(COPY);
	off_t pos = 0, end;

	if (!c || (c->data < 0 && c->inode < 0))
		return error_set(err, EBADMSG, "the content of a deleted file did not come");
	if (ftruncate(fd, (off_t)size) < 0)
		return error_sys(err, errno, "setting the size of a deleted file");
	if (c->data < 0)
		return 0;
	/* It may have been longer once. */
	if (ftruncate(c->data, (off_t)size) < 0)
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
			size_t want = to - pos < (off_t)COPY ? (size_t)(to - pos) : COPY;
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
	if (c->inode >= 0)
		close(c->inode);
	c->inode = n;
	c->complete = true;
	return 0;
}

bool obj_content_complete(uint64_t key)
{
	struct content *c = content_find(key);

	return c && c->complete;
}

const struct checkpoint_part obj_content_part = {
	.name = "content",
	.round = content_round,
	.dump_undo = content_undo,
	.receive = content_receive,
};
