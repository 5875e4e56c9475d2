/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_pull(): manifest and config first, then the layers that the store lacks, several
 * at a time (fetch → staged and checked), then all of it into the store (install.c).
 * image.h is the contract.
 */
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"
#include "runtime/image/download.h"
#include "runtime/image/install.h"
#include "runtime/image/manifest.h"
#include "runtime/image/ref.h"
#include "runtime/image/transfer.h"

#define THREADS	   3 /* layers at a time, as Docker does */
#define MAX_NESTED 4

struct layer {
	const char *hex, *diff; /* in the manifest, in the config */
	uint64_t size;
	bool here; /* the store has it */
	struct image_file file;
	bool staged;
};

struct pull {
	struct image_store *s;
	const struct image_transfer *t;
	struct image_ref ref;
	char *url; /* of the registry that has it */
	json_t *manifest, *config;
	char *config_text;
	size_t config_len;
	char digest[IMAGE_HEX_LEN + 1]; /* of what the tag names: index or manifest */
	struct image_install in;
	struct layer *layers;
	size_t nlayers;
	struct transfer x;
};

/* --- what is to be fetched ----------------------------------------------------------- */

static const char *want_arch(const struct pull *p)
{
	return p->t->arch ? p->t->arch : IMAGE_HOST_ARCH;
}

/* The manifest of an index for the wanted platform (hex, borrowed from `list`). */
static const char *choose(const struct pull *p, const json_t *list, struct error *err)
{
	CLEANUP_BUF struct buf others = { 0 };
	const json_t *d;
	size_t i;

	json_array_foreach (list, i, d) {
		const char *os = json_str(d, "os", "linux"), *arch = json_str(d, "arch", "");

		if (strcmp(os, "linux") == 0 && (!*arch || strcmp(arch, want_arch(p)) == 0))
			return json_str(d, "digest", NULL);
		if (strcmp(os, "unknown") != 0)
			buf_addf(&others, "%s%.40s/%.40s", others.len ? ", " : "", os, arch);
	}
	error_set(err, ENOENT, "no matching manifest for linux/%s in %s/%s (it has: %.300s)",
		  want_arch(p), p->ref.host, p->ref.path, others.len ? others.data : "nothing");
	return NULL;
}

static bool is_index(const char *type, const json_t *doc)
{
	return json_object_get(doc, "manifests") &&
	       (str_ends(type, "index.v1+json") || str_ends(type, "manifest.list.v2+json") ||
		!json_object_get(doc, "config"));
}

/* From what the name means down to the manifest of one image. */
static int get_manifest(struct pull *p, struct registry *reg, struct error *err)
{
	CLEANUP_FREE char *ref =
		p->ref.digest ? str_format("sha256:%s", p->ref.digest) : str_dup(p->ref.tag);

	for (int depth = 0; depth <= MAX_NESTED; depth++) {
		CLEANUP_FREE char *text = NULL, *type = NULL;
		CLEANUP_JSON json_t *doc = NULL, *list = NULL;
		const char *hex;
		size_t len;
		int r = registry_manifest(reg, ref, p->s->limits.max_json_bytes, &text, &len, &type,
					  err);

		if (r < 0)
			return r;
		if (depth == 0)
			image_hash_of(text, len, p->digest);
		doc = json_parse(text, len, "manifest", err);
		if (!doc)
			return -err->code;
		if (json_int(doc, "schemaVersion", 0) == 1)
			return error_set(err, EINVAL,
					 "%s is a manifest of schema 1, which is not supported any "
					 "more; push the image anew with a newer client",
					 ref);
		if (!is_index(type, doc)) {
			p->manifest = image_parse_oci_manifest(text, len, err);
			return p->manifest ? 0 : -err->code;
		}
		list = image_parse_oci_index(text, len, err);
		hex = list ? choose(p, list, err) : NULL;
		if (!hex)
			return -err->code;
		free(ref);
		ref = str_format("sha256:%s", hex);
	}
	return error_set(err, EINVAL, "indexes are nested more than %d deep", MAX_NESTED);
}

static int get_config(struct pull *p, struct registry *reg, struct error *err)
{
	const json_t *blob = json_object_get(p->manifest, "config_blob");
	const char *hex = json_str(blob, "digest", ""), *type = json_str(blob, "type", "");
	int64_t size = json_int(blob, "size", -1);
	CLEANUP_CLOSE int fd = open(p->in.tmp.path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char is[IMAGE_HEX_LEN + 1];
	int r;

	if (fd < 0)
		return error_sys(err, errno, "making a file in %s", p->in.tmp.path);
	if (*type && !strstr(type, "image.config.v1+json") &&
	    !strstr(type, "container.image.v1+json"))
		return error_set(err, EINVAL,
				 "%s/%s is no container image: its config is of type %.200s",
				 p->ref.host, p->ref.path, type);
	if (size < 0 || (uint64_t)size > p->s->limits.max_json_bytes)
		return error_set(err, size < 0 ? EINVAL : EFBIG,
				 "the manifest gives its config %lld bytes", (long long)size);
	r = registry_blob(reg, hex, 0, (uint64_t)size, fd, err);
	if (r < 0)
		return error_wrap(err, "config");
	p->config_len = (size_t)size;
	p->config_text = mem_zalloc(p->config_len + 1);
	if (pread(fd, p->config_text, p->config_len, 0) != (ssize_t)p->config_len)
		return error_sys(err, errno ? errno : EIO, "reading the config");
	image_hash_of(p->config_text, p->config_len, is);
	if (strcmp(is, hex) != 0)
		return error_set(err, EBADMSG,
				 "config sha256:%s: wrong digest, its content is sha256:%s", hex,
				 is);
	p->config = image_parse_config(p->config_text, p->config_len, err);
	return p->config ? 0 : -err->code;
}

static int stage_config(struct pull *p, struct image_file *f, struct error *err)
{
	CLEANUP_FREE char *path = str_format("sha256:%s", json_str(p->manifest, "config", ""));

	return image_stage_document(&p->in.stage, "config", path, p->config_text, p->config_len, f,
				    err);
}

static int plan_layers(struct pull *p, const json_t *index, struct error *err)
{
	const json_t *blobs = json_object_get(p->manifest, "blobs"), *b;
	const json_t *diffs = json_at(p->config, "rootfs.diff_ids");
	char chain[IMAGE_HEX_LEN + 1], parent[IMAGE_HEX_LEN + 1];
	size_t i;

	if (json_array_size(diffs) != json_array_size(blobs))
		return error_set(err, EINVAL, "the config lists %zu layers, the manifest %zu",
				 json_array_size(diffs), json_array_size(blobs));
	if (json_array_size(blobs) > p->s->limits.max_layers)
		return error_set(err, EFBIG, "it has %zu layers, more than %llu",
				 json_array_size(blobs),
				 (unsigned long long)p->s->limits.max_layers);
	p->layers = mem_zalloc((json_array_size(blobs) + 1) * sizeof(*p->layers));
	json_array_foreach (blobs, i, b) {
		struct layer *y = &p->layers[p->nlayers++];
		int64_t size = json_int(b, "size", -1);

		if (size < 0 || (uint64_t)size > p->s->limits.max_total_bytes)
			return error_set(err, size < 0 ? EINVAL : EFBIG,
					 "the manifest gives layer %zu %lld bytes", i,
					 (long long)size);
		y->hex = json_str(b, "digest", "");
		y->diff = image_digest_hex(json_string_value(json_array_get(diffs, i)));
		y->size = (uint64_t)size;
		memcpy(parent, chain, sizeof(parent));
		image_chain_id(i ? parent : NULL, y->diff, chain);
		y->here = json_object_get(json_object_get(index, "layers"), chain) != NULL;
	}
	return 0;
}

/* --- fetching ------------------------------------------------------------------------ */

/* From another place that has it; 0 where that worked. */
static int from_elsewhere(struct pull *p, size_t i)
{
	struct layer *y = &p->layers[i];
	CLEANUP_CLOSE int fd = open(p->in.tmp.path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	int r;

	if (!p->t->layer || fd < 0 || p->t->layer(p->t->ctx, y->diff, fd) != 0 ||
	    lseek(fd, 0, SEEK_SET) < 0)
		return -ENOENT;
	r = image_stage_blob(&p->in.stage, i, fd, y->diff, &y->file, NULL);
	if (r == 0)
		return 0;
	image_file_drop(&y->file);
	return r;
}

static int stage(struct pull *p, size_t i, const struct download *d, struct error *err)
{
	struct layer *y = &p->layers[i];
	int r;

	if (lseek(d->fd, 0, SEEK_SET) < 0)
		return error_sys(err, errno, "reading %s", d->path);
	r = image_stage_blob(&p->in.stage, i, d->fd, y->hex, &y->file, err);
	if (r < 0)
		image_file_drop(&y->file);
	return r;
}

/* What an earlier pull left may be wrong: then once more from the begin. */
static int from_registry(struct pull *p, size_t i, struct registry *reg, struct error *err)
{
	struct layer *y = &p->layers[i];
	struct download d;
	uint64_t have = 0;
	int r = download_begin(p->s, y->hex, transfer_stopped, &p->x, &d, &have, err);

	if (r < 0)
		return r;
	transfer_begin_layer(&p->x, reg, y->hex, "Downloading", have, y->size);
	r = download_fetch(&d, reg, y->hex, y->size, err);
	if (r == 0) {
		transfer_step(&p->x, "Verifying Checksum", y->hex);
		r = stage(p, i, &d, err);
	}
	if (r == -EBADMSG && have && ftruncate(d.fd, 0) == 0) {
		error_clear(err);
		transfer_begin_layer(&p->x, reg, y->hex, "Downloading", 0, y->size);
		r = download_fetch(&d, reg, y->hex, y->size, err);
		if (r == 0)
			r = stage(p, i, &d, err);
	}
	registry_watch(reg, NULL, NULL);
	/* It is not worth keeping when it is wrong, nor when the disk is full. */
	download_end(&d, r == 0 || r == -EBADMSG || r == -ENOSPC || r == -EINVAL);
	return r;
}

static int fetch_layer(void *ctx, size_t i, struct registry *reg, struct error *err)
{
	struct pull *p = ctx;
	struct layer *y = &p->layers[i];
	int r = 0;

	if (y->here)
		return 0;
	if (from_elsewhere(p, i) < 0)
		r = from_registry(p, i, reg, err);
	if (r < 0)
		return error_wrap(err, "layer sha256:%.12s", y->hex);
	y->staged = true;
	transfer_step(&p->x, "Download complete", y->hex);
	return 0;
}

/* --- into the store ------------------------------------------------------------------ */

static void on_unpack(void *ctx, const char *diff, bool done)
{
	struct pull *p = ctx;

	for (size_t i = 0; i < p->nlayers; i++)
		if (strcmp(p->layers[i].diff, diff) == 0) {
			transfer_step(&p->x, done ? "Pull complete" : "Extracting",
				      p->layers[i].hex);
			return;
		}
}

static uint64_t unpacked_bytes(const struct pull *p)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < p->nlayers; i++)
		sum += p->layers[i].file.size;
	return sum;
}

static int install(struct pull *p, struct error *err)
{
	CLEANUP_FREE struct image_file **files = mem_zalloc((p->nlayers + 1) * sizeof(*files));
	CLEANUP_JSON json_t *names = json_array(), *shown = NULL;
	CLEANUP_FREE char *repo = str_format("%s/%s", p->ref.host, p->ref.path);
	CLEANUP_FREE char *digest = str_format("%s@sha256:%s", repo, p->digest);
	struct image_file config;
	int r = stage_config(p, &config, err);

	p->in.on_unpack = on_unpack;
	p->in.ctx = p;
	for (size_t i = 0; i < p->nlayers; i++)
		files[i] = p->layers[i].here ? NULL : &p->layers[i].file;
	if (p->ref.tag && !p->ref.digest)
		json_array_append_new(names, json_pack("s++", repo, ":", p->ref.tag));
	if (r == 0 && unpacked_bytes(p) > p->s->limits.max_total_bytes)
		r = error_set(err, EFBIG, "its layers hold more than %llu bytes uncompressed",
			      (unsigned long long)p->s->limits.max_total_bytes);
	if (r == 0)
		r = image_install_add(&p->in, &config, files, p->nlayers, names, err);
	for (size_t i = 0; r == 0 && i < p->nlayers; i++)
		image_install_packed(
			&p->in, p->layers[i].diff,
			json_pack("{s:s, s:I, s:s, s:s}", "digest", p->layers[i].hex, "size",
				  (json_int_t)p->layers[i].size, "type",
				  json_str(json_array_get(json_object_get(p->manifest, "blobs"), i),
					   "type", ""),
				  "from", repo));
	json_object_set_new(p->in.digests, digest,
			    json_string(json_str(p->manifest, "config", "")));
	if (r == 0)
		r = image_install_finish(&p->in, &shown, err);
	image_file_drop(&config);
	return r;
}

/* --- the course ---------------------------------------------------------------------- */

static int ask(struct pull *p, const char *url, struct error *err)
{
	struct registry *reg = NULL;
	int r = registry_open(p->t->registries, p->t->login, url, p->ref.path, false, &reg, err);

	if (r == 0)
		r = get_manifest(p, reg, err);
	if (r == 0)
		r = get_config(p, reg, err);
	registry_close(reg);
	return r;
}

/* The first registry of the list that has the image; what the last one says counts. */
static int find(struct pull *p, struct error *err)
{
	char **urls = registry_urls(p->t->registries, p->ref.host, false);
	int r = -ENOENT;

	for (size_t i = 0; urls[i]; i++) {
		error_clear(err);
		r = ask(p, urls[i], err);
		if (r == 0 || r == -ECANCELED) {
			p->url = str_dup(urls[i]);
			break;
		}
		json_decref(TAKE_PTR(p->manifest));
		free(TAKE_PTR(p->config_text));
	}
	registry_urls_free(urls);
	return r;
}

static void free_pull(struct pull *p)
{
	for (size_t i = 0; i < p->nlayers; i++)
		image_file_drop(&p->layers[i].file);
	free(p->layers);
	image_install_drop(&p->in);
	image_ref_free(&p->ref);
	json_decref(p->manifest);
	json_decref(p->config);
	free(p->config_text);
	free(p->url);
	transfer_free(&p->x);
}

static int fetch_all(struct pull *p, bool *new, struct error *err)
{
	CLEANUP_JSON json_t *index = image_index_snapshot(p->s, err);
	int r;

	if (!index)
		return -err->code;
	*new = !json_object_get(json_object_get(index, "images"),
				json_str(p->manifest, "config", ""));
	r = plan_layers(p, index, err);
	for (size_t i = 0; r == 0 && i < p->nlayers; i++)
		transfer_step(&p->x, p->layers[i].here ? "Already exists" : "Pulling fs layer",
			      p->layers[i].hex);
	if (r == 0)
		r = transfer_run(&p->x, p->url, p->ref.path, false, p->nlayers, THREADS,
				 fetch_layer, p, err);
	return r;
}

static int pull_once(struct image_store *s, const char *ref, const struct image_transfer *t,
		     json_t **result, struct error *err)
{
	struct pull p = { .s = s, .t = t };
	bool new = false;
	int r = image_ref_parse(ref, &p.ref, err);

	transfer_init(&p.x, t);
	if (r == 0)
		r = image_install_begin(&p.in, s, err);
	if (r == 0) {
		CLEANUP_FREE char *from = str_format("Pulling from %s", p.ref.path);

		r = find(&p, err);
		if (r == 0)
			transfer_line(&p.x, json_pack("{s:s, s:s}", "status", from, "id",
						      p.ref.digest ? ref : p.ref.tag));
	}
	if (r == 0)
		r = fetch_all(&p, &new, err);
	if (r == 0)
		r = install(&p, err);
	if (r == 0) {
		CLEANUP_FREE char *id = str_format("sha256:%s", json_str(p.manifest, "config", ""));
		CLEANUP_FREE char *digest = str_format("sha256:%s", p.digest);

		*result = json_pack("{s:s, s:s, s:b}", "Id", id, "Digest", digest, "New", new);
	}
	free_pull(&p);
	return r;
}

int image_pull(struct image_store *s, const char *ref, const struct image_transfer *t,
	       json_t **result, struct error *err)
{
	struct error own = { 0 };
	int r;

	err = err ? err : &own;
	*result = NULL;
	/* Somebody may remove, between two looks, an image whose layers this one shares. */
	for (int i = 0; i < 3; i++) {
		error_clear(err);
		r = pull_once(s, ref, t, result, err);
		if (r != -ESTALE)
			break;
	}
	return r < 0 ? error_wrap(err, "pulling %s", ref) : 0;
}
