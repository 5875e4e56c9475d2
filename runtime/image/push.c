/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_push(): layers that the registry lacks are packed with gzip into a nameless file
 * and uploaded, several at a time; then config and manifest. A layer that has been in a
 * registry before is asked for by the digest it had there. image.h is the contract.
 */
#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/str.h"
#include "runtime/image/ref.h"
#include "runtime/image/store.h"
#include "runtime/image/transfer.h"

#define THREADS	    3
#define CHUNK	    (256u << 10)
#define DOCKER_TYPE "application/vnd.docker."
#define OCI_TYPE    "application/vnd.oci.image."
#define LAYER_GZIP  DOCKER_TYPE "image.rootfs.diff.tar.gzip"

struct layer {
	char chain[IMAGE_HEX_LEN + 1], diff[IMAGE_HEX_LEN + 1];
	int fd;		/* the uncompressed tar, held open */
	json_t *packed; /* {"digest", "size", "type", "from"}, or NULL */
};

struct push {
	struct image_store *s;
	const struct image_transfer *t;
	struct image_ref ref;
	char *repo, *id, *url;
	struct layer *layers;
	size_t n;
	int config;
	uint64_t config_size;
	struct image_tmp tmp;
	struct transfer x;
};

/* --- what is to be sent -------------------------------------------------------------- */

static int open_blob(struct image_store *s, const char *hex, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/blobs/sha256/%s", s->root, hex);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? error_sys(err, errno, "opening %s", path) : fd;
}

int image_layer_open(struct image_store *s, const char *diff, struct error *err)
{
	CLEANUP_CLOSE int lock = image_store_lock(s, false, err);
	CLEANUP_JSON json_t *index = lock < 0 ? NULL : image_index_read(s, err);
	const char *chain;
	json_t *v;

	if (!index)
		return err ? -err->code : -EIO;
	json_object_foreach (json_object_get(index, "layers"), chain, v)
		if (strcmp(json_str(v, "diff", ""), diff) == 0)
			return open_blob(s, diff, err);
	return error_set(err, ENOENT, "no layer sha256:%s here", diff);
}

/* Holds open what the image consists of, so that a remove meanwhile does no harm. */
static int hold(struct push *p, const json_t *index, struct error *err)
{
	const json_t *chains =
		json_object_get(json_object_get(json_object_get(index, "images"), p->id), "layers");
	const json_t *v;
	struct stat st;
	size_t i;

	p->layers = mem_zalloc((json_array_size(chains) + 1) * sizeof(*p->layers));
	json_array_foreach (chains, i, v) {
		struct layer *y = &p->layers[p->n++];
		const json_t *layer =
			json_object_get(json_object_get(index, "layers"), json_string_value(v));

		snprintf(y->chain, sizeof(y->chain), "%s", json_string_value(v));
		snprintf(y->diff, sizeof(y->diff), "%s", json_str(layer, "diff", ""));
		y->packed = json_deep_copy(json_object_get(layer, "packed"));
		y->fd = open_blob(p->s, y->diff, err);
		if (y->fd < 0)
			return y->fd;
	}
	p->config = open_blob(p->s, p->id, err);
	if (p->config < 0)
		return p->config;
	if (fstat(p->config, &st) < 0)
		return error_sys(err, errno, "looking at the config");
	p->config_size = (uint64_t)st.st_size;
	return 0;
}

static int collect(struct push *p, const char *ref, struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_JSON json_t *index = NULL;
	const char *id;
	int r = image_ref_parse(ref, &p->ref, err);

	if (r < 0)
		return r;
	if (p->ref.digest)
		return error_set(err, EINVAL, "cannot push a digest reference; use name:tag");
	p->repo = str_format("%s/%s", p->ref.host, p->ref.path);
	lock = image_store_lock(p->s, false, err);
	index = lock < 0 ? NULL : image_index_read(p->s, err);
	if (!index)
		return -err->code;
	r = image_resolve(index, ref, &id, NULL, err);
	if (r < 0)
		return error_set(err, -r, "An image does not exist locally with the tag: %s",
				 p->repo + (str_starts(p->repo, "docker.io/") ? 10 : 0));
	p->id = str_dup(id);
	return hold(p, index, err);
}

/* --- one layer ----------------------------------------------------------------------- */

struct packing {
	int fd;
	struct image_hash hash;
	uint64_t size;
};

static la_ssize_t packed_out(struct archive *a, void *ctx, const void *p, size_t n)
{
	struct packing *k = ctx;
	int r = fd_write_all(k->fd, p, n);

	if (r < 0) {
		archive_set_error(a, -r, "%s", strerror(-r));
		return -1;
	}
	image_hash_add(&k->hash, p, n);
	k->size += n;
	return (la_ssize_t)n;
}

static int pack_failed(struct archive *a, struct error *err)
{
	int code = archive_errno(a);

	return error_set(err, code > 0 ? code : EIO, "packing: %s",
			 archive_error_string(a) ? archive_error_string(a) : "failed");
}

static int pack_through(struct push *p, const struct layer *y, struct archive *a, struct error *err)
{
	CLEANUP_FREE char *buf = mem_zalloc(CHUNK);
	struct archive_entry *e = archive_entry_new();
	off_t at = 0;
	ssize_t n;
	int r = 0;

	archive_entry_set_pathname(e, "layer");
	archive_entry_set_filetype(e, AE_IFREG);
	if (archive_write_header(a, e) != ARCHIVE_OK)
		r = pack_failed(a, err);
	archive_entry_free(e);
	while (r == 0 && (n = pread(y->fd, buf, CHUNK, at)) != 0) {
		if (n < 0)
			return error_sys(err, errno, "reading layer sha256:%s", y->diff);
		if (transfer_stopped(&p->x))
			return error_set(err, ECANCELED, "stopped");
		if (archive_write_data(a, buf, (size_t)n) != n)
			r = pack_failed(a, err);
		at += n;
	}
	if (r == 0 && archive_write_close(a) != ARCHIVE_OK)
		r = pack_failed(a, err);
	return r;
}

/* The layer as gzip in k->fd; the same bytes every time. */
static int pack(struct push *p, const struct layer *y, struct packing *k, char *hex,
		struct error *err)
{
	struct archive *a = archive_write_new();
	int r = 0;

	k->fd = open(p->tmp.path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (k->fd < 0)
		r = error_sys(err, errno, "making a file in %s", p->tmp.path);
	image_hash_begin(&k->hash);
	if (r == 0 &&
	    (archive_write_set_format_raw(a) != ARCHIVE_OK ||
	     archive_write_add_filter_gzip(a) != ARCHIVE_OK ||
	     archive_write_set_filter_option(a, "gzip", "timestamp", NULL) != ARCHIVE_OK ||
	     archive_write_set_bytes_per_block(a, CHUNK) != ARCHIVE_OK ||
	     archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
	     archive_write_open(a, k, NULL, packed_out, NULL) != ARCHIVE_OK))
		r = pack_failed(a, err);
	if (r == 0)
		r = pack_through(p, y, a, err);
	archive_write_free(a);
	if (r == 0)
		image_hash_end(&k->hash, hex);
	image_hash_free(&k->hash);
	return r;
}

/* 1: the registry has the layer as it was packed once, here or in another repository. */
static int is_there(struct push *p, struct layer *y, struct registry *reg, struct error *err)
{
	const char *hex = json_str(y->packed, "digest", NULL),
		   *from = json_str(y->packed, "from", "");
	size_t host = strlen(p->ref.host);
	int r;

	if (!hex)
		return 0;
	r = registry_has_blob(reg, hex, err);
	if (r < 0)
		return r;
	if (r) {
		transfer_step(&p->x, "Layer already exists", y->diff);
		return 1;
	}
	if (strncmp(from, p->ref.host, host) != 0 || from[host] != '/' || !strcmp(from, p->repo))
		return 0;
	r = registry_mount(reg, hex, from + host + 1, err);
	if (r == 1) {
		CLEANUP_FREE char *text = str_format("Mounted from %s", from + host + 1);

		transfer_step(&p->x, text, y->diff);
	}
	return r;
}

static int send_packed(struct push *p, struct layer *y, struct registry *reg, struct packing *k,
		       struct error *err)
{
	char hex[IMAGE_HEX_LEN + 1];
	int r = pack(p, y, k, hex, err);

	if (r == 0)
		r = registry_has_blob(reg, hex, err);
	if (r < 0)
		return r;
	if (r) {
		transfer_step(&p->x, "Layer already exists", y->diff);
	} else {
		transfer_begin_layer(&p->x, reg, y->diff, "Pushing", 0, k->size);
		r = registry_upload(reg, hex, k->fd, k->size, err);
		registry_watch(reg, NULL, NULL);
		if (r < 0)
			return r;
		transfer_step(&p->x, "Pushed", y->diff);
	}
	json_decref(y->packed);
	y->packed = json_pack("{s:s, s:I, s:s, s:s}", "digest", hex, "size", (json_int_t)k->size,
			      "type", LAYER_GZIP, "from", p->repo);
	return 0;
}

static int send_layer(void *ctx, size_t i, struct registry *reg, struct error *err)
{
	struct push *p = ctx;
	struct layer *y = &p->layers[i];
	struct packing k = { .fd = -1 };
	int r = is_there(p, y, reg, err);

	if (r == 0)
		r = send_packed(p, y, reg, &k, err);
	if (k.fd >= 0)
		close(k.fd);
	return r < 0 ? error_wrap(err, "layer sha256:%.12s", y->diff) : 0;
}

/* --- config and manifest -------------------------------------------------------------- */

static json_t *descriptor(const char *type, const char *hex, int64_t size)
{
	CLEANUP_FREE char *digest = str_format("sha256:%s", hex);

	return json_pack("{s:s, s:I, s:s}", "mediaType", type, "size", (json_int_t)size, "digest",
			 digest);
}

/* Docker's form, unless a layer is of a type that only OCI knows (zstd, uncompressed OCI). */
static char *manifest_text(const struct push *p, const char **type)
{
	CLEANUP_JSON json_t *layers = json_array(), *doc = NULL;
	bool oci = false;

	for (size_t i = 0; i < p->n; i++)
		oci |= strcmp(json_str(p->layers[i].packed, "type", ""), LAYER_GZIP) != 0;
	for (size_t i = 0; i < p->n; i++) {
		const json_t *k = p->layers[i].packed;
		const char *t = json_str(k, "type", "");

		if (oci && str_starts(t, DOCKER_TYPE))
			t = str_ends(t, "gzip") ? OCI_TYPE "layer.v1.tar+gzip"
						: OCI_TYPE "layer.v1.tar";
		json_array_append_new(
			layers, descriptor(t, json_str(k, "digest", ""), json_int(k, "size", 0)));
	}
	*type = oci ? OCI_TYPE "manifest.v1+json" : DOCKER_TYPE "distribution.manifest.v2+json";
	doc = json_pack(
		"{s:i, s:s, s:o, s:O}", "schemaVersion", 2, "mediaType", *type, "config",
		descriptor(oci ? OCI_TYPE "config.v1+json" : DOCKER_TYPE "container.image.v1+json",
			   p->id, (int64_t)p->config_size),
		"layers", layers);
	return json_text(doc);
}

static int send_manifest(struct push *p, json_t **result, struct error *err)
{
	const char *type;
	CLEANUP_FREE char *text = manifest_text(p, &type), *digest = NULL;
	char hex[IMAGE_HEX_LEN + 1];
	struct registry *reg = NULL;
	int r = registry_open(p->t->registries, p->t->login, p->url, p->ref.path, true, &reg, err);

	if (r == 0)
		r = registry_has_blob(reg, p->id, err);
	if (r == 0)
		r = registry_upload(reg, p->id, p->config, p->config_size, err);
	if (r >= 0)
		r = registry_put_manifest(reg, p->ref.tag, text, type, err);
	registry_close(reg);
	if (r < 0)
		return r;
	image_hash_of(text, strlen(text), hex);
	digest = str_format("sha256:%s", hex);
	*result = json_pack("{s:s, s:s, s:I}", "Tag", p->ref.tag, "Digest", digest, "Size",
			    (json_int_t)strlen(text));
	return 0;
}

/* The store learns how its layers lie in the registry, and the image its digest there. */
static int note(struct push *p, const json_t *result, struct error *err)
{
	CLEANUP_FREE char *key = str_format("%s@%s", p->repo, json_str(result, "Digest", ""));
	CLEANUP_CLOSE int lock = image_store_lock(p->s, true, err);
	CLEANUP_JSON json_t *index = lock < 0 ? NULL : image_index_read(p->s, err);

	if (!index)
		return -err->code;
	if (!json_object_get(json_object_get(index, "images"), p->id))
		return 0; /* removed meanwhile */
	for (size_t i = 0; i < p->n; i++) {
		json_t *y = json_object_get(json_object_get(index, "layers"), p->layers[i].chain);

		if (y)
			json_object_set(y, "packed", p->layers[i].packed);
	}
	json_object_set_new(json_object_get(index, "digests"), key, json_string(p->id));
	return image_index_write(p->s, index, err);
}

static void announce(struct push *p)
{
	CLEANUP_FREE char *text = str_format("The push refers to repository [%s]", p->repo);

	transfer_line(&p->x, json_pack("{s:s}", "status", text));
	for (size_t i = 0; i < p->n; i++)
		transfer_step(&p->x, "Preparing", p->layers[i].diff);
}

static int push(struct push *p, const char *ref, json_t **result, struct error *err)
{
	CLEANUP_FREE char *line = NULL;
	char **urls;
	int r = collect(p, ref, err);

	if (r == 0)
		r = image_tmp_make(p->s, &p->tmp, err);
	if (r < 0)
		return r;
	urls = registry_urls(p->t->registries, p->ref.host, true);
	p->url = str_dup(urls[0]);
	registry_urls_free(urls);
	announce(p);
	r = transfer_run(&p->x, p->url, p->ref.path, true, p->n, THREADS, send_layer, p, err);
	if (r == 0)
		r = send_manifest(p, result, err);
	if (r == 0)
		r = note(p, *result, err);
	if (r < 0)
		return r;
	line = str_format("%s: digest: %s size: %lld", p->ref.tag, json_str(*result, "Digest", ""),
			  (long long)json_int(*result, "Size", 0));
	transfer_line(&p->x, json_pack("{s:s}", "status", line));
	transfer_line(&p->x, json_pack("{s:{}, s:O}", "progressDetail", "aux", *result));
	return 0;
}

int image_push(struct image_store *s, const char *ref, const struct image_transfer *t,
	       json_t **result, struct error *err)
{
	struct push p = { .s = s, .t = t, .tmp = { NULL, -1 }, .config = -1 };
	struct error own = { 0 };
	int r;

	err = err ? err : &own;
	*result = NULL;
	transfer_init(&p.x, t);
	r = push(&p, ref, result, err);
	if (r < 0)
		json_decref(TAKE_PTR(*result));
	for (size_t i = 0; i < p.n; i++) {
		if (p.layers[i].fd >= 0)
			close(p.layers[i].fd);
		json_decref(p.layers[i].packed);
	}
	if (p.config >= 0)
		close(p.config);
	free(p.layers);
	image_tmp_drop(&p.tmp);
	image_ref_free(&p.ref);
	free(p.repo);
	free(p.id);
	free(p.url);
	transfer_free(&p.x);
	return r < 0 ? error_wrap(err, "pushing %s", ref) : 0;
}
