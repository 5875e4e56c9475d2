/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a checkpoint: the pass over all of it that comes before anything is built, and
 * the second one that hands out its frames. What comes through a pipe is kept in a nameless
 * file between the two.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/checkpoint/check.h"
#include "runtime/checkpoint/file.h"

/* --- the pass ---------------------------------------------------------------------------- */
struct pass {
	const struct load_check *how;
	struct load_info *info;
	struct stream *s;
	bool begun, done, ended;
};

static int first_frame(struct pass *p, const struct frame *f, struct error *err)
{
	Ck__Hello *m = f->type == FRAME_HELLO
			       ? check_unpack(&ck__hello__descriptor, f->data, f->len)
			       : NULL;

	if (!m)
		return error_set(err, EBADMSG, "this is no checkpoint of ferry");
	p->begun = true;
	p->info->saved_at_s =
		m->has_saved_at && m->saved_at <= INT64_MAX / 2 ? (int64_t)m->saved_at : 0;
	ck__hello__free_unpacked(m, NULL);
	return 0;
}

static int signature(struct pass *p, const struct frame *f, struct error *err)
{
	Ck__Signature *m = check_unpack(&ck__signature__descriptor, f->data, f->len);
	struct error bad = { 0 };
	struct signature s;
	int r;

	p->info->signature = p->ended = true;
	if (!m || f->flags) {
		ck__signature__free_unpacked(m, NULL);
		return error_set(err, EBADMSG, "the checkpoint's signature is damaged");
	}
	s = (struct signature){ m->certificate.data, (long)m->certificate.len, m->signature.data,
				m->signature.len };
	r = sign_check(p->info->digest, &s, p->how->ca, p->info->saved_at_s, &p->info->signed_by,
		       &bad);
	ck__signature__free_unpacked(m, NULL);
	if (r < 0 && p->how->inspect)
		p->info->bad = bad;
	else if (r < 0)
		return error_set(err, bad.code, "%s", bad.msg);
	return 0;
}

static int pass_frame(struct pass *p, const struct frame *f, struct error *err)
{
	if (p->ended)
		return error_set(err, EBADMSG, "the checkpoint goes on behind its signature");
	if (p->done)
		return f->type == FRAME_SIGNATURE
			       ? signature(p, f, err)
			       : error_set(err, EBADMSG, "the checkpoint goes on behind its end");
	if (!p->begun) {
		int r = first_frame(p, f, err);

		if (r < 0)
			return r;
	} else if (f->type == FRAME_HELLO || f->type == FRAME_REPLY || f->type == FRAME_SIGNATURE) {
		return error_set(err, EBADMSG,
				 "the checkpoint has a frame of type %u in its middle", f->type);
	}
	if (check_frame(f, err) < 0)
		return error_wrap(err, "the checkpoint is damaged");
	if (f->type == FRAME_DONE) {
		p->done = true;
		if (stream_digest(p->s, p->info->digest, err) < 0)
			return -EIO;
	}
	return p->how->each ? p->how->each(p->how->ctx, f, err) : 0;
}

/* Nothing more comes. */
static int pass_end(struct pass *p, struct error *err)
{
	if (!p->begun)
		return error_set(err, EBADMSG, "this is no checkpoint of ferry: it is empty");
	if (!p->done)
		return error_set(
			err, EBADMSG,
			"the checkpoint is truncated: its end is missing; write or copy it "
			"again");
	if (p->how->ca && !p->ended && !p->how->allow_unsigned) {
		struct error bad = { 0 };

		error_set(&bad, EKEYREJECTED,
			  "the checkpoint bears no signature: anybody may have written it. Where "
			  "you know its origin, allow unsigned ones");
		if (!p->how->inspect) {
			*err = bad;
			return -bad.code;
		}
		p->info->bad = bad;
	}
	p->info->bytes = stream_bytes(p->s);
	return 0;
}

/* The stream's fd is the caller's. */
int load_check(int fd, const struct load_check *how, struct load_info *info, struct error *err)
{
	struct pass p = { .how = how, .info = info };
	int mine = fcntl(fd, F_DUPFD_CLOEXEC, 3), r;
	struct frame f;

	memset(info, 0, sizeof(*info));
	if (mine < 0 || lseek(mine, 0, SEEK_SET) < 0) {
		r = error_sys(err, errno, "the checkpoint");
		if (mine >= 0)
			close(mine);
		return r;
	}
	p.s = stream_new_file(mine);
	while ((r = stream_recv(p.s, &f, err)) == 0)
		if ((r = pass_frame(&p, &f, err)) < 0)
			break;
	if (r == -ENODATA) {
		error_clear(err);
		r = pass_end(&p, err);
	}
	stream_close(p.s);
	if (r < 0)
		load_info_free(info);
	return r;
}

void load_info_free(struct load_info *info)
{
	free(TAKE_PTR(info->signed_by));
}

/* --- loading ------------------------------------------------------------------------------ */
struct load {
	int fd; /* of a file that can be read again, once it is ready */
	char *ca;
	struct load_check how;
	struct load_info info;
	struct pass pass;
	struct stream *spool; /* what comes from a pipe is written there */
	bool ready;
};

static int open_spool(const char *folder, struct error *err)
{
	int fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		CLEANUP_FREE char *name = str_format("%s/.ferry-checkpoint-XXXXXX", folder);

		fd = mkostemp(name, O_CLOEXEC);
		if (fd >= 0)
			unlink(name);
	}
	return fd < 0 ? error_sys(err, errno, "a file in %s for the checkpoint", folder) : fd;
}

static int open_source(struct load *l, json_t *args, struct error *err)
{
	const char *path = json_string_value(json_object_get(args, "path"));
	const char *folder = json_string_value(json_object_get(args, "spool"));
	json_t *num = json_object_get(args, "fd");
	struct stat st;
	int fd;

	if (!path == !num)
		return error_set(err, EINVAL, "load needs a path or a descriptor");
	fd = path ? open(path, O_RDONLY | O_CLOEXEC) : (int)json_integer_value(num);
	if (fd < 0 || fstat(fd, &st) < 0) {
		int r = error_sys(err, errno, "the checkpoint%s%s", path ? " " : "",
				  path ? path : "");

		if (fd >= 0)
			close(fd);
		return r;
	}
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	if (S_ISREG(st.st_mode)) {
		l->fd = fd;
		l->ready = true;
		return load_check(fd, &l->how, &l->info, err);
	}
	if (S_ISDIR(st.st_mode)) {
		close(fd);
		return error_set(err, EISDIR, "the checkpoint is a folder");
	}
	l->pass.s = stream_new_file(fd);
	l->fd = open_spool(folder ? folder : "/var/tmp", err);
	if (l->fd < 0)
		return l->fd;
	fd = fcntl(l->fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return error_sys(err, errno, "a file for the checkpoint");
	l->spool = stream_new_file(fd);
	stream_pack(l->spool, STREAM_PACK_NEVER); /* frames are copied as they come */
	return 0;
}

int load_open(json_t *args, struct load **out, struct error *err)
{
	const char *ca = json_string_value(json_object_get(args, "ca"));
	struct load *l;
	int r;

	if (!ca && !json_is_true(json_object_get(args, "allow_unsigned")))
		return error_set(err, EINVAL, "load needs the CA whose signatures are good");
	l = mem_zalloc(sizeof(*l));
	l->fd = -1;
	l->ca = str_dup(ca);
	l->how.ca = l->ca;
	l->how.allow_unsigned = json_is_true(json_object_get(args, "allow_unsigned"));
	l->pass.how = &l->how;
	l->pass.info = &l->info;
	r = open_source(l, args, err);
	if (r < 0)
		load_free(l);
	else
		*out = l;
	return r;
}

bool load_ready(const struct load *l)
{
	return l->ready;
}

int load_fd(const struct load *l)
{
	return stream_fd(l->pass.s);
}

int load_pump(struct load *l, struct error *err)
{
	struct frame f;
	int r = stream_recv(l->pass.s, &f, err);

	if (r == 0)
		r = pass_frame(&l->pass, &f, err);
	if (r == 0)
		r = stream_send(l->spool, f.type, f.raw_flags, NULL, 0, f.raw, f.raw_len, err);
	/* A socket may stay open behind the signature; nothing more is read from it. */
	if (r == -ENODATA || (r == 0 && l->pass.ended)) {
		error_clear(err);
		r = pass_end(&l->pass, err);
		if (r == 0)
			r = stream_flush(l->spool, err);
		l->ready = r == 0;
	}
	return r;
}

struct stream *load_stream(struct load *l, struct error *err)
{
	int fd = fcntl(l->fd, F_DUPFD_CLOEXEC, 3);

	if (fd < 0 || lseek(fd, 0, SEEK_SET) < 0) {
		error_sys(err, errno, "the checkpoint");
		if (fd >= 0)
			close(fd);
		return NULL;
	}
	return stream_new_file(fd);
}

int load_end(struct load *l, struct stream *s, struct error *err)
{
	uint8_t digest[STREAM_DIGEST];
	int r = stream_digest(s, digest, err);

	if (r == 0 && memcmp(digest, l->info.digest, sizeof(digest)) != 0)
		r = error_set(err, EKEYREJECTED, "the checkpoint was written to while it was read");
	return r;
}

const struct load_info *load_info(const struct load *l)
{
	return &l->info;
}

void load_free(struct load *l)
{
	if (!l)
		return;
	stream_close(l->pass.s);
	stream_close(l->spool);
	if (l->fd >= 0)
		close(l->fd);
	load_info_free(&l->info);
	free(l->ca);
	free(l);
}
