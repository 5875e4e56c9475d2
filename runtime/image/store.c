/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image store's folder: opening, locking, index, temporary folders, and the sweep
 * that removes what the index does not name. store.h and image.h are the contracts.
 *
 * Order that makes a kill harmless at any moment: blobs and layers are renamed into
 * place before the index that names them is written, and out of it after.
 */
#include "runtime/image/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "runtime/image/download.h"
#include "runtime/image/manifest.h"
#include "runtime/image/ref.h"

#define INDEX_MAX (256u << 20)

static const struct image_limits default_limits = {
	.max_total_bytes = 64ull << 30,
	.max_entries = 4000000,
	.max_json_bytes = 8u << 20,
	.max_layers = 127,
};

static int lock_file(int fd, int how)
{
	while (flock(fd, how) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

int image_store_lock(struct image_store *s, bool exclusive, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/lock", s->root);
	CLEANUP_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	int r;

	if (fd < 0)
		return error_sys(err, errno, "opening %s", path);
	r = lock_file(fd, exclusive ? LOCK_EX : LOCK_SH);
	if (r < 0)
		return error_sys(err, -r, "locking %s", path);
	return TAKE_FD(fd);
}

/* Caller holds the store's lock, so that a sweep cannot come between mkdir and flock. */
static int tmp_make_locked(struct image_store *s, struct image_tmp *t, struct error *err)
{
	CLEANUP_FREE char *name = str_random_hex(8);
	CLEANUP_FREE char *path = str_format("%s/tmp/%s", s->root, name);
	CLEANUP_CLOSE int fd = -1;
	int r;

	if (mkdir(path, 0700) < 0)
		return error_sys(err, errno, "making %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_sys(err, errno, "opening %s", path);
	r = lock_file(fd, LOCK_EX);
	if (r < 0)
		return error_sys(err, -r, "locking %s", path);
	t->path = TAKE_PTR(path);
	t->lock = TAKE_FD(fd);
	return 0;
}

int image_tmp_make(struct image_store *s, struct image_tmp *t, struct error *err)
{
	CLEANUP_CLOSE int lock = image_store_lock(s, false, err);

	return lock < 0 ? lock : tmp_make_locked(s, t, err);
}

void image_tmp_drop(struct image_tmp *t)
{
	struct error err = { 0 };

	if (!t->path)
		return;
	if (dir_remove(t->path, &err) < 0) /* the next open tries again */
		log_warn("image store: %s", err.msg);
	close(t->lock);
	free(TAKE_PTR(t->path));
	t->lock = -1;
}

/* Removes the temporary folders whose owner is gone: nobody holds their lock. */
static void sweep_tmp(struct image_store *s)
{
	CLEANUP_FREE char *path = str_format("%s/tmp", s->root);
	CLEANUP_CLOSEDIR DIR *d = opendir(path);
	const struct dirent *e;

	while (d && (e = readdir(d))) {
		CLEANUP_FREE char *sub = NULL;
		CLEANUP_CLOSE int fd = -1;
		struct error err = { 0 };

		if (e->d_name[0] == '.')
			continue;
		sub = str_format("%s/%s", path, e->d_name);
		fd = open(sub, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
			continue;
		if (dir_remove(sub, &err) < 0)
			log_warn("image store: removing what a killed load left: %s", err.msg);
	}
}

json_t *image_index_read(struct image_store *s, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/index.json", s->root);
	CLEANUP_JSON json_t *index = NULL;

	if (access(path, F_OK) < 0 && errno == ENOENT)
		return json_pack("{s:i, s:{}, s:{}, s:{}, s:{}}", "schema", 1, "images", "tags",
				 "layers", "digests");
	index = json_parse_file(path, INDEX_MAX, err);
	if (!index)
		return NULL;
	if (json_int(index, "schema", 0) != 1 ||
	    !json_is_object(json_object_get(index, "images")) ||
	    !json_is_object(json_object_get(index, "tags")) ||
	    !json_is_object(json_object_get(index, "layers"))) {
		error_set(err, EIO, "%s is no index of an image store of this version", path);
		return NULL;
	}
	if (!json_is_object(json_object_get(index, "digests"))) /* of a ferry without registries */
		json_object_set_new(index, "digests", json_object());
	return TAKE_PTR(index);
}

json_t *image_index_snapshot(struct image_store *s, struct error *err)
{
	CLEANUP_CLOSE int lock = image_store_lock(s, false, err);

	return lock < 0 ? NULL : image_index_read(s, err);
}

int image_index_write(struct image_store *s, const json_t *index, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/index.json", s->root);
	CLEANUP_FREE char *text = json_text(index);

	return file_write_atomic(path, text, strlen(text), 0600, err);
}

static bool blob_is_used(const json_t *index, const char *hex)
{
	const char *key;
	json_t *v;

	if (json_object_get(json_object_get(index, "images"), hex))
		return true;
	json_object_foreach (json_object_get(index, "layers"), key, v)
		if (strcmp(json_str(v, "diff", ""), hex) == 0)
			return true;
	return false;
}

static int sweep_folder(struct image_store *s, const char *folder, const json_t *index, bool blobs,
			const struct image_tmp *trash, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/%s", s->root, folder);
	CLEANUP_CLOSEDIR DIR *d = opendir(path);
	const struct dirent *e;

	if (!d)
		return error_sys(err, errno, "opening %s", path);
	while ((e = readdir(d))) {
		CLEANUP_FREE char *from = NULL;
		CLEANUP_FREE char *to = NULL;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (blobs ? blob_is_used(index, e->d_name)
			  : json_object_get(json_object_get(index, "layers"), e->d_name) != NULL)
			continue;
		from = str_format("%s/%s", path, e->d_name);
		to = str_format("%s/%c-%s", trash->path, blobs ? 'b' : 'l', e->d_name);
		if (rename(from, to) < 0)
			return error_sys(err, errno, "removing %s", from);
	}
	return 0;
}

int image_store_sweep(struct image_store *s, const json_t *index, struct image_tmp *trash,
		      struct error *err)
{
	int r = tmp_make_locked(s, trash, err);

	if (r == 0)
		r = sweep_folder(s, "blobs/sha256", index, true, trash, err);
	if (r == 0)
		r = sweep_folder(s, "layers", index, false, trash, err);
	return r;
}

int image_store_open(const char *root, struct image_store **out, struct error *err)
{
	static const char *const folders[] = { "blobs/sha256", "layers", "tmp", "downloads" };
	struct image_tmp trash = { NULL, -1 };
	struct error own = { 0 };
	struct image_store *s;
	json_t *index = NULL;
	int lock = -1, r = 0;

	err = err ? err : &own;
	*out = NULL;
	if (*root != '/')
		return error_set(err, EINVAL, "image store: \"%s\" is no absolute path", root);
	s = mem_zalloc(sizeof(*s));
	s->root = str_dup(root);
	s->limits = default_limits;
	for (size_t i = 0; i < sizeof(folders) / sizeof(*folders) && r == 0; i++) {
		CLEANUP_FREE char *path = str_format("%s/%s", root, folders[i]);

		/* 0711: overlayfs and user namespaces need to pass, nobody needs to list */
		r = dir_make(path, 0711, err);
	}
	if (r == 0)
		lock = r = image_store_lock(s, true, err);
	if (lock >= 0) {
		index = image_index_read(s, err);
		r = index ? 0 : -err->code;
	}
	if (r == 0) {
		sweep_tmp(s);
		download_sweep(s);
		r = image_store_sweep(s, index, &trash, err);
	}
	if (lock >= 0)
		close(lock);
	image_tmp_drop(&trash);
	json_decref(index);
	if (r < 0) {
		image_store_close(s);
		return error_wrap(err, "opening image store %s", root);
	}
	*out = s;
	return 0;
}

void image_store_close(struct image_store *s)
{
	if (!s)
		return;
	free(s->root);
	free(s);
}

void image_store_set_limits(struct image_store *s, const struct image_limits *l)
{
	s->limits = default_limits;
	if (l->max_total_bytes)
		s->limits.max_total_bytes = l->max_total_bytes;
	if (l->max_entries)
		s->limits.max_entries = l->max_entries;
	if (l->max_json_bytes)
		s->limits.max_json_bytes = l->max_json_bytes;
	if (l->max_layers)
		s->limits.max_layers = l->max_layers;
}

json_t *image_config_read(struct image_store *s, const char *id, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/blobs/sha256/%s", s->root, id);
	CLEANUP_FREE char *text = NULL;
	size_t len;

	if (file_read(path, INDEX_MAX, &text, &len, err) < 0)
		return NULL;
	return image_parse_config(text, len, err);
}

/* The image that a name means; *key: "host/path:tag" or "host/path@sha256:HEX". */
static const char *find_name(const json_t *index, const struct image_ref *ref, char **key)
{
	CLEANUP_FREE char *whole =
		ref->digest ? str_format("%s/%s@sha256:%s", ref->host, ref->path, ref->digest)
			    : str_format("%s/%s:%s", ref->host, ref->path, ref->tag);
	const char *id =
		json_str(json_object_get(index, ref->digest ? "digests" : "tags"), whole, NULL);

	if (id && key)
		*key = TAKE_PTR(whole);
	return id;
}

static int find_id(const json_t *index, const char *prefix, const char **id, struct error *err)
{
	json_t *images = json_object_get(index, "images"), *v;
	size_t len = strlen(prefix);
	const char *key;

	*id = NULL;
	if (len < 4 || len > IMAGE_HEX_LEN || strspn(prefix, "0123456789abcdef") != len)
		return 0;
	json_object_foreach (images, key, v) {
		if (strncmp(key, prefix, len) != 0)
			continue;
		if (*id)
			return error_set(err, EINVAL,
					 "image id \"%s\" is ambiguous; give more digits", prefix);
		*id = key;
	}
	return 0;
}

int image_resolve(const json_t *index, const char *ref, const char **id, char **tag,
		  struct error *err)
{
	const char *prefix = str_starts(ref, "sha256:") ? ref + 7 : ref;
	CLEANUP_REF struct image_ref name = { 0 };
	CLEANUP_FREE char *shown = NULL;
	struct error why = { 0 };
	int parsed = image_ref_parse(ref, &name, &why), r;

	if (tag)
		*tag = NULL;
	*id = parsed == 0 ? find_name(index, &name, tag) : NULL;
	if (*id)
		return 0;
	r = find_id(index, prefix, id, err);
	if (r < 0 || *id)
		return r;
	if (parsed < 0 && (prefix == ref || strspn(prefix, "0123456789abcdef") != strlen(prefix)))
		return error_set(err, why.code, "%s", why.msg);
	if (parsed == 0 && prefix == ref && !name.digest) {
		CLEANUP_FREE char *whole = str_format("%s/%s:%s", name.host, name.path, name.tag);

		shown = image_ref_short(whole);
	} else {
		shown = str_dup(ref);
	}
	return error_set(err, ENOENT, "No such image: %s", shown);
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *keys_of(json_t *names, const char *id)
{
	const char **list = mem_zalloc((json_object_size(names) + 1) * sizeof(*list)), *key;
	json_t *out = json_array(), *v;
	size_t n = 0;

	json_object_foreach (names, key, v)
		if (json_is_string(v) && strcmp(json_string_value(v), id) == 0)
			list[n++] = key;
	qsort(list, n, sizeof(*list), compare_names);
	for (size_t i = 0; i < n; i++)
		json_array_append_new(out, json_string(list[i]));
	free(list);
	return out;
}

json_t *image_names(const json_t *index, const char *id)
{
	return keys_of(json_object_get(index, "tags"), id);
}

json_t *image_digests(const json_t *index, const char *id)
{
	return keys_of(json_object_get(index, "digests"), id);
}
