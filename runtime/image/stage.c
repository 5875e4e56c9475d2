/* SPDX-License-Identifier: Apache-2.0 */
/* Reading the outer tar of an image archive; stage.h is the contract. */
#include "runtime/image/stage.h"

#include <archive_entry.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/tar.h"
#include "runtime/image/manifest.h"

#define CHUNK	   (256u << 10)
#define MAX_FILES  100000 /* of the outer archive: blobs and small documents */
#define MAX_LINKS  16
#define NO_ARCHIVE "not an image archive (a tar, plain or compressed)"

struct source {
	int fd;
	char *buf;
};

static la_ssize_t source_read(struct archive *a, void *ctx, const void **out)
{
	struct source *src = ctx;
	ssize_t n;

	while ((n = read(src->fd, src->buf, CHUNK)) < 0) {
		int code = errno;

		if (code == EAGAIN) {
			struct pollfd p = { .fd = src->fd, .events = POLLIN };

			poll(&p, 1, -1);
		} else if (code != EINTR) {
			archive_set_error(a, EIO, "reading it: %s", strerror(code));
			return ARCHIVE_FATAL;
		}
	}
	*out = src->buf;
	return n;
}

/* The file inside the outer tar, or in a descriptor, as a source of its own, hashed as it goes by.
 */
struct inner {
	struct archive *outer; /* NULL: src */
	struct source src;
	struct image_stage *st;
	struct image_hash hash;
	uint64_t raw_bytes;
	char *buf;
	bool outer_failed, too_much;
};

static la_ssize_t inner_read(struct archive *a, void *ctx, const void **out)
{
	struct inner *in = ctx;
	la_ssize_t n;

	if (in->outer)
		n = archive_read_data(in->outer, in->buf, CHUNK);
	else
		n = source_read(a, &in->src, out);
	if (n < 0) {
		in->outer_failed = in->outer != NULL;
		archive_set_error(a, EINVAL, "truncated or damaged");
		return ARCHIVE_FATAL;
	}
	in->raw_bytes += (uint64_t)n;
	if (in->raw_bytes > in->st->limits->max_total_bytes) {
		in->too_much = true;
		archive_set_error(a, EFBIG, "too much");
		return ARCHIVE_FATAL;
	}
	image_hash_add(&in->hash, in->buf, (size_t)n);
	*out = in->buf;
	return n;
}

static int too_much(const struct image_stage *st, const char *path, struct error *err)
{
	return error_set(err, EFBIG,
			 "entry \"%s\": the archive holds more than %llu bytes uncompressed, the "
			 "configured maximum",
			 path, (unsigned long long)st->limits->max_total_bytes);
}

static int inner_error(struct inner *in, struct archive *a, const char *path, struct error *err)
{
	if (in->too_much)
		return too_much(in->st, path, err);
	return tar_error(in->outer_failed ? in->outer : a, err, "entry \"%s\"", path);
}

/* Copies through the decompressor `a` into fd, hashing both sides. */
static int inner_copy(struct inner *in, struct archive *a, struct image_file *f, int fd,
		      struct error *err)
{
	CLEANUP_HASH struct image_hash plain = { NULL };
	struct archive_entry *e;
	const void *p;
	la_int64_t off;
	la_ssize_t got;
	bool packed;
	size_t n;
	int r;

	if (archive_read_open(a, in, NULL, inner_read, NULL) != ARCHIVE_OK ||
	    archive_read_next_header(a, &e) != ARCHIVE_OK)
		return inner_error(in, a, f->path, err);
	packed = archive_filter_count(a) > 1;
	if (packed)
		image_hash_begin(&plain);
	while ((r = archive_read_data_block(a, &p, &n, &off)) != ARCHIVE_EOF) {
		if (r < ARCHIVE_WARN)
			return inner_error(in, a, f->path, err);
		in->st->total += n;
		if (in->st->total > in->st->limits->max_total_bytes)
			return too_much(in->st, f->path, err);
		if (packed)
			image_hash_add(&plain, p, n);
		r = fd_write_all(fd, p, n);
		if (r < 0)
			return error_sys(err, -r, "writing %s", f->staged);
		f->size += n;
	}
	/* what lies behind the compressed data belongs to the blob's digest, too */
	while ((got = inner_read(a, in, &p)) != 0)
		if (got < 0)
			return inner_error(in, a, f->path, err);
	image_hash_end(&in->hash, f->raw);
	if (packed)
		image_hash_end(&plain, f->plain);
	else
		memcpy(f->plain, f->raw, sizeof(f->plain));
	return 0;
}

static struct archive *reader_new(void)
{
	struct archive *a = archive_read_new();

	if (!a)
		abort();
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_zstd(a);
	archive_read_support_filter_xz(a);
	archive_read_support_filter_bzip2(a);
	return a;
}

/* The next file of the stage's folder, for what `f` holds: an fd, or -errno. */
static int stage_open(const struct image_stage *st, struct image_file *f, struct error *err)
{
	int fd;

	f->staged = str_format("%s/f%zu", st->dir, st->n);
	fd = open(f->staged, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	return fd < 0 ? error_sys(err, errno, "making %s", f->staged) : fd;
}

static void stage_empty(struct image_file *f)
{
	image_hash_of("", 0, f->raw);
	image_hash_of("", 0, f->plain);
}

static int stage_inner(struct inner *in, struct image_file *f, int fd, struct error *err)
{
	CLEANUP_FREE char *buf = mem_zalloc(CHUNK);
	struct archive *a = reader_new();
	int r;

	in->buf = in->src.buf = buf;
	image_hash_begin(&in->hash);
	archive_read_support_format_raw(a);
	r = inner_copy(in, a, f, fd, err);
	archive_read_free(a);
	image_hash_free(&in->hash);
	return r;
}

static int stage_file(struct image_stage *st, struct archive *outer, struct archive_entry *e,
		      struct image_file *f, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	struct inner in = { .outer = outer, .st = st };

	if (archive_entry_size(e) < 0)
		return error_set(err, EINVAL, "entry \"%s\": its size is negative", f->path);
	if ((uint64_t)archive_entry_size(e) > st->limits->max_total_bytes)
		return too_much(st, f->path, err);
	fd = stage_open(st, f, err);
	if (fd < 0)
		return fd;
	if (archive_entry_size(e) == 0) { /* libarchive reads no raw file of 0 bytes */
		stage_empty(f);
		return 0;
	}
	return stage_inner(&in, f, fd, err);
}

/* Whether the bytes in `fd` have this digest: what cannot be unpacked may be wrong altogether. */
static bool has_digest(int fd, const char *hex)
{
	CLEANUP_HASH struct image_hash h = { NULL };
	CLEANUP_FREE char *buf = mem_zalloc(CHUNK);
	char is[IMAGE_HEX_LEN + 1];
	off_t at = 0;
	ssize_t n;

	image_hash_begin(&h);
	while ((n = pread(fd, buf, CHUNK, at)) > 0) {
		image_hash_add(&h, buf, (size_t)n);
		at += n;
	}
	image_hash_end(&h, is);
	return n == 0 && strcmp(is, hex) == 0;
}

int image_stage_blob(const struct image_stage *st, size_t number, int from, const char *hex,
		     struct image_file *f, struct error *err)
{
	struct image_stage own = { .dir = st->dir, .limits = st->limits, .n = number };
	struct inner in = { .st = &own, .src = { .fd = from } };
	CLEANUP_CLOSE int fd = -1;
	struct stat info;
	int r = 0;

	memset(f, 0, sizeof(*f));
	f->path = str_format("%s%s", hex ? "sha256:" : "the layer", hex ? hex : "");
	fd = stage_open(&own, f, err);
	if (fd < 0)
		return fd;
	if (fstat(from, &info) == 0 && S_ISREG(info.st_mode) && info.st_size == 0)
		stage_empty(f);
	else
		r = stage_inner(&in, f, fd, err);
	if (hex &&
	    ((r == 0 && strcmp(f->raw, hex) != 0) || (r == -EINVAL && !has_digest(from, hex))))
		r = error_set(err, EBADMSG, "blob sha256:%s: wrong digest", hex);
	return r;
}

int image_stage_document(const struct image_stage *st, const char *name, const char *path,
			 const char *text, size_t len, struct image_file *f, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	int r;

	memset(f, 0, sizeof(*f));
	f->path = str_dup(path);
	f->staged = str_format("%s/%s", st->dir, name);
	f->size = len;
	image_hash_of(text, len, f->raw);
	memcpy(f->plain, f->raw, sizeof(f->plain));
	fd = open(f->staged, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	r = fd < 0 ? -errno : fd_write_all(fd, text, len);
	return r < 0 ? error_sys(err, -r, "writing %s", f->staged) : 0;
}

/* A blob of an OCI layout must be what its name says. */
static int check_blob(const struct image_file *f, struct error *err)
{
	const char *hex = f->path + strlen("blobs/sha256/");

	if (!str_starts(f->path, "blobs/sha256/"))
		return 0;
	if (!image_is_hex(hex))
		return error_set(err, EINVAL, "entry \"%s\" is not named by a sha256 digest",
				 f->path);
	if (strcmp(hex, f->raw) != 0)
		return error_set(err, EBADMSG,
				 "entry \"%s\": wrong digest, its content is sha256:%s", f->path,
				 f->raw);
	return 0;
}

/* The path a link of the outer archive means: hard links from the top, symlinks from here. */
static char *link_target(const char *path, const char *target, bool is_symlink)
{
	CLEANUP_BUF struct buf b = { 0 };
	const char *slash = strrchr(path, '/');
	size_t dir = slash ? (size_t)(slash - path) : 0;

	if (!is_symlink)
		return tar_path_clean(target, 0);
	if (*target == '/')
		return NULL;
	/* Docker wrote "../HEX/layer.tar": leading ".." are resolved here, others refused */
	while (str_starts(target, "../")) {
		target += 3;
		if (!dir)
			return NULL;
		while (dir && path[dir - 1] != '/')
			dir--;
		if (dir)
			dir--;
	}
	buf_add(&b, path, dir);
	buf_addf(&b, "/%s", target);
	return tar_path_clean(b.data, 1);
}

static int stage_entry(struct image_stage *st, struct archive *a, struct archive_entry *e,
		       struct error *err)
{
	const char *name = archive_entry_pathname(e);
	const char *hard = archive_entry_hardlink(e), *soft = archive_entry_symlink(e);
	CLEANUP_FREE char *path = name ? tar_path_clean(name, 0) : NULL;
	struct image_file *f;
	int r;

	if (!path)
		return error_set(err, EINVAL, "entry \"%.300s\": the path leaves the archive",
				 name ? name : "?");
	if (st->n >= MAX_FILES)
		return error_set(err, EFBIG, "entry \"%s\": more than %d files in the archive",
				 path, MAX_FILES);
	if (!hard && !soft && archive_entry_filetype(e) == AE_IFDIR)
		return 0;
	st->files = mem_grow(st->files, st->n + 1, sizeof(*st->files));
	f = &st->files[st->n];
	memset(f, 0, sizeof(*f));
	f->path = TAKE_PTR(path);
	st->n++;
	if (hard || soft) {
		f->link = link_target(f->path, hard ? hard : soft, !hard);
		if (!f->link)
			return error_set(err, EINVAL,
					 "entry \"%s\": its link \"%.300s\" leaves the archive",
					 f->path, hard ? hard : soft);
		return 0;
	}
	if (archive_entry_filetype(e) != AE_IFREG)
		return error_set(err, EINVAL,
				 "entry \"%s\" is a device or fifo; an image archive holds files",
				 f->path);
	r = stage_file(st, a, e, f, err);
	return r < 0 ? r : check_blob(f, err);
}

int image_stage_read(struct image_stage *st, int fd, struct error *err)
{
	CLEANUP_FREE char *buf = mem_zalloc(CHUNK);
	struct source src = { .fd = fd, .buf = buf };
	struct archive *a = reader_new();
	struct archive_entry *e;
	int r = 0, ar;

	archive_read_support_format_tar(a);
	if (archive_read_open(a, &src, NULL, source_read, NULL) != ARCHIVE_OK)
		r = tar_error(a, err, NO_ARCHIVE);
	while (r == 0) {
		ar = archive_read_next_header(a, &e);
		if (ar == ARCHIVE_EOF)
			break;
		if (ar >= ARCHIVE_WARN)
			r = stage_entry(st, a, e, err);
		else if (st->n)
			r = tar_error(a, err, "behind entry \"%s\"", st->files[st->n - 1].path);
		else
			r = tar_error(a, err, NO_ARCHIVE);
	}
	/* Padding behind the end of the tar: read it, or the writer of a pipe gets EPIPE. */
	while (r == 0) {
		const void *p;

		if (source_read(a, &src, &p) <= 0)
			break;
	}
	archive_read_free(a);
	return r;
}

void image_file_drop(struct image_file *f)
{
	free(f->path);
	free(f->link);
	free(f->staged);
	memset(f, 0, sizeof(*f));
}

void image_stage_free(struct image_stage *st)
{
	for (size_t i = 0; i < st->n; i++)
		image_file_drop(&st->files[i]);
	free(st->files);
	st->files = NULL;
	st->n = 0;
}

/* The last entry of a name wins, as tar means it. */
static struct image_file *lookup(struct image_stage *st, const char *path)
{
	for (size_t i = st->n; i > 0; i--)
		if (strcmp(st->files[i - 1].path, path) == 0)
			return &st->files[i - 1];
	return NULL;
}

struct image_file *image_stage_find(struct image_stage *st, const char *path, struct error *err)
{
	const char *at = path;

	for (int i = 0; i < MAX_LINKS; i++) {
		struct image_file *f = lookup(st, at);

		if (!f) {
			error_set(err, EINVAL, "\"%s\" is missing in the archive%s%s", at,
				  at == path ? "" : ", and linked to by ", at == path ? "" : path);
			return NULL;
		}
		if (!f->link)
			return f;
		at = f->link;
	}
	error_set(err, EINVAL, "\"%s\" is a link that goes in circles", path);
	return NULL;
}

int image_stage_text(struct image_stage *st, const struct image_file *f, char **text, size_t *len,
		     struct error *err)
{
	if (f->size > st->limits->max_json_bytes)
		return error_set(err, EFBIG, "\"%s\" has %llu bytes, more than %llu", f->path,
				 (unsigned long long)f->size,
				 (unsigned long long)st->limits->max_json_bytes);
	return file_read(f->staged, st->limits->max_json_bytes + 1, text, len, err);
}
