/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing a checkpoint. The file has no name (O_TMPFILE) until all of it, with its
 * signature, is on the disk: whatever ends the engine before leaves nothing behind. Where
 * the file system has no nameless files, a hidden one in the same folder stands in, and a
 * killed engine leaves that.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/checkpoint/checkpoint.pb-c.h"
#include "runtime/checkpoint/file.h"

struct save {
	int fd;	      /* a duplicate: the stream has its own */
	char *path;   /* NULL: the caller's descriptor */
	char *dir;    /* of path */
	char *hidden; /* name of the file until then; NULL: it has none */
	char *key, *cert;
	bool sealed, published;
};

static char *folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash)
		return str_dup(".");
	return slash == path ? str_dup("/") : str_format("%.*s", (int)(slash - path), path);
}

/* A name in the same folder that nobody has. */
static char *hidden_name(const struct save *v)
{
	CLEANUP_FREE char *random = str_random_hex(8);

	return str_format("%s/.ferry-checkpoint-%s", v->dir, random);
}

static int open_path(struct save *v, struct error *err)
{
	struct stat st;

	if (stat(v->path, &st) == 0 && !S_ISREG(st.st_mode))
		return error_set(err, EEXIST, "%s is there and is no file", v->path);
	v->fd = open(v->dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (v->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
		v->hidden = hidden_name(v);
		v->fd = open(v->hidden, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	}
	return v->fd < 0 ? error_sys(err, errno, "a new file in %s", v->dir) : 0;
}

int save_open(json_t *args, struct save **out, int *fd, struct error *err)
{
	const char *path = json_string_value(json_object_get(args, "path"));
	const char *key = json_string_value(json_object_get(args, "key"));
	const char *cert = json_string_value(json_object_get(args, "cert"));
	json_t *num = json_object_get(args, "fd");
	struct save *v;
	int r = 0;

	if (!path == !num || !key != !cert)
		return error_set(err, EINVAL,
				 "save needs a path or a descriptor, and key and cert together");
	v = mem_zalloc(sizeof(*v));
	v->fd = -1;
	v->key = str_dup(key);
	v->cert = str_dup(cert);
	if (path) {
		v->path = str_dup(path);
		v->dir = folder_of(path);
		r = open_path(v, err);
	} else {
		v->fd = (int)json_integer_value(num);
		fcntl(v->fd, F_SETFD, FD_CLOEXEC);
	}
	if (r == 0) {
		*fd = fcntl(v->fd, F_DUPFD_CLOEXEC, 3);
		if (*fd < 0)
			r = error_sys(err, errno, "the checkpoint's descriptor %d", v->fd);
	}
	if (r < 0)
		save_free(v);
	else
		*out = v;
	return r;
}

int save_seal(struct save *v, struct stream *s, struct error *err)
{
	Ck__Signature m = CK__SIGNATURE__INIT;
	uint8_t digest[STREAM_DIGEST];
	struct signature sig = { 0 };
	int r = stream_flush(s, err);

	if (r == 0 && v->key) {
		r = stream_digest(s, digest, err);
		if (r == 0)
			r = sign_digest(digest, v->key, v->cert, &sig, err);
		if (r < 0)
			return r;
		m.certificate.data = sig.certificate;
		m.certificate.len = (size_t)sig.certificate_len;
		m.signature.data = sig.bytes;
		m.signature.len = sig.len;
		r = stream_send_msg(s, FRAME_SIGNATURE, &m.base, err);
		if (r == 0)
			r = stream_flush(s, err);
		sign_free(&sig);
	}
	v->sealed = r == 0;
	return r;
}

bool save_sealed(const struct save *v)
{
	return v && v->sealed;
}

/* Gives the nameless file a name that is free. */
static int name_it(struct save *v, struct error *err)
{
	char self[64];

	if (v->hidden)
		return 0;
	v->hidden = hidden_name(v);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", v->fd);
	if (linkat(AT_FDCWD, self, AT_FDCWD, v->hidden, AT_SYMLINK_FOLLOW) < 0) {
		int code = errno;

		free(TAKE_PTR(v->hidden));
		return error_sys(err, code, "naming the checkpoint in %s", v->dir);
	}
	return 0;
}

static int sync_folder(const struct save *v, struct error *err)
{
	CLEANUP_CLOSE int dir = open(v->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0 || fsync(dir) < 0)
		return error_sys(err, errno, "writing the folder %s to its disk", v->dir);
	return 0;
}

int save_publish(struct save *v, struct error *err)
{
	int r;

	if (!v->sealed || v->published)
		return 0;
	/* a pipe, a socket, /dev/null have nothing to be synced */
	if (fsync(v->fd) < 0 && !(errno == EINVAL || errno == EROFS || errno == ENOTSUP))
		return error_sys(err, errno, "writing the checkpoint to its disk");
	if (v->path) {
		r = name_it(v, err);
		if (r < 0)
			return r;
		if (rename(v->hidden, v->path) < 0)
			return error_sys(err, errno, "giving the checkpoint its name %s", v->path);
		free(TAKE_PTR(v->hidden));
		v->published = true;
		return sync_folder(v, err);
	}
	v->published = true;
	return 0;
}

void save_free(struct save *v)
{
	if (!v)
		return;
	if (v->hidden)
		unlink(v->hidden);
	if (v->fd >= 0)
		close(v->fd);
	free(v->path);
	free(v->dir);
	free(v->hidden);
	free(v->key);
	free(v->cert);
	free(v);
}
