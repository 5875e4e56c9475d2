/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_load(): archive → staged files (stage.c) → which images they make → layers
 * unpacked (unpack.c), all in one temporary folder and without the store's lock; then,
 * under the lock, everything is moved into place and the index replaced. A failure
 * before the index is written leaves only things that it does not name.
 */
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/image/manifest.h"
#include "runtime/image/ref.h"
#include "runtime/image/stage.h"
#include "runtime/image/store.h"
#include "runtime/image/unpack.h"

#define MAX_NESTED 4 /* indexes in indexes */

#if defined(__aarch64__)
#define HOST_ARCH "arm64"
#else
#define HOST_ARCH "amd64"
#endif

struct layer {
	char chain[IMAGE_HEX_LEN + 1];
	size_t file;   /* its place in stage.files */
	bool unpacked; /* its folder is TMP/CHAIN */
	uint64_t bytes;
};

struct load {
	struct image_store *s;
	struct image_tmp tmp;
	struct image_stage stage;
	json_t *images; /* {id: {"layers": [chain], "loaded"}}, as in the index */
	json_t *names;	/* [[whole name or null, id], ...] in the archive's order */
	struct layer *layers;
	size_t nlayers;
	struct image_file **configs;
	size_t nconfigs;
};

static void add_layer(struct load *l, const char *chain, const struct image_file *f)
{
	struct layer *y;

	for (size_t i = 0; i < l->nlayers; i++)
		if (strcmp(l->layers[i].chain, chain) == 0)
			return;
	l->layers = mem_grow(l->layers, l->nlayers + 1, sizeof(*l->layers));
	y = &l->layers[l->nlayers++];
	*y = (struct layer){ .file = (size_t)(f - l->stage.files) };
	memcpy(y->chain, chain, sizeof(y->chain));
}

/* One image: its files are known (layers lowest first); checks them against the config. */
static int add_image(struct load *l, struct image_file *config, struct image_file **files, size_t n,
		     const json_t *names, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_JSON json_t *doc = NULL, *chains = json_array();
	const json_t *diffs;
	json_t *name;
	char chain[IMAGE_HEX_LEN + 1];
	size_t len, i;
	int r = image_stage_text(&l->stage, config, &text, &len, err);

	if (r < 0)
		return r;
	doc = image_parse_config(text, len, err);
	if (!doc)
		return error_wrap(err, "\"%s\"", config->path);
	diffs = json_at(doc, "rootfs.diff_ids");
	if (json_array_size(diffs) != n)
		return error_set(err, EINVAL, "\"%s\" lists %zu layers, the manifest %zu",
				 config->path, json_array_size(diffs), n);
	if (n > l->s->limits.max_layers)
		return error_set(err, EFBIG, "\"%s\" has %zu layers, more than %llu", config->path,
				 n, (unsigned long long)l->s->limits.max_layers);
	for (i = 0; i < n; i++) {
		const char *diff = image_digest_hex(json_string_value(json_array_get(diffs, i)));
		char parent[IMAGE_HEX_LEN + 1];

		if (strcmp(diff, files[i]->plain) != 0)
			return error_set(
				err, EBADMSG,
				"layer \"%s\": wrong digest, the config says sha256:%s, its "
				"content is sha256:%s",
				files[i]->path, diff, files[i]->plain);
		memcpy(parent, chain, sizeof(parent));
		image_chain_id(i ? parent : NULL, diff, chain);
		json_array_append_new(chains, json_string(chain));
		add_layer(l, chain, files[i]);
	}
	l->configs = mem_grow(l->configs, l->nconfigs + 1, sizeof(struct image_file *));
	l->configs[l->nconfigs++] = config;
	json_object_set_new(
		l->images, config->plain,
		json_pack("{s:O, s:I}", "layers", chains, "loaded", (json_int_t)time(NULL)));
	if (!json_array_size(names))
		json_array_append_new(l->names, json_pack("[n, s]", config->plain));
	json_array_foreach (names, i, name)
		json_array_append_new(l->names, json_pack("[O, s]", name, config->plain));
	return 0;
}

/* One image of manifest.json. */
static int docker_image(struct load *l, const json_t *image, struct error *err)
{
	const char *path = json_str(image, "config", "");
	const json_t *paths = json_object_get(image, "layers");
	size_t n = json_array_size(paths);
	CLEANUP_FREE struct image_file **files = mem_zalloc((n + 1) * sizeof(*files));
	struct image_file *config = image_stage_find(&l->stage, path, err);

	if (!config)
		return error_wrap(err, "config");
	/* "HEX.json", as Docker names it, is a digest as well */
	if (strlen(path) == IMAGE_HEX_LEN + 5 && str_ends(path, ".json") &&
	    strspn(path, "0123456789abcdef") == IMAGE_HEX_LEN &&
	    strncmp(path, config->plain, IMAGE_HEX_LEN) != 0)
		return error_set(err, EBADMSG,
				 "entry \"%s\": wrong digest, its content is sha256:%s", path,
				 config->plain);
	for (size_t i = 0; i < n; i++) {
		files[i] = image_stage_find(&l->stage, json_string_value(json_array_get(paths, i)),
					    err);
		if (!files[i])
			return error_wrap(err, "layer");
	}
	return add_image(l, config, files, n, json_object_get(image, "names"), err);
}

static int docker_archive(struct load *l, struct image_file *manifest, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_JSON json_t *doc = NULL;
	const json_t *image;
	size_t len, i;
	int r = image_stage_text(&l->stage, manifest, &text, &len, err);

	if (r < 0)
		return r;
	doc = image_parse_docker_manifest(text, len, err);
	if (!doc)
		return -err->code;
	json_array_foreach (doc, i, image) {
		r = docker_image(l, image, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static struct image_file *find_blob(struct load *l, const char *hex, struct error *err)
{
	CLEANUP_FREE char *path = str_format("blobs/sha256/%s", hex);
	struct image_file *f = image_stage_find(&l->stage, path, err);

	if (f && strcmp(f->raw, hex) != 0) { /* it was a link to something else */
		error_set(err, EBADMSG, "\"%s\": wrong digest", path);
		return NULL;
	}
	return f;
}

static int oci_manifest(struct load *l, const char *text, size_t len, const char *name,
			struct error *err)
{
	CLEANUP_JSON json_t *m = image_parse_oci_manifest(text, len, err);
	CLEANUP_JSON json_t *names = json_array();
	const json_t *hexes = json_object_get(m, "layers");
	size_t n = json_array_size(hexes);
	CLEANUP_FREE struct image_file **files = mem_zalloc((n + 1) * sizeof(*files));
	struct image_file *config;

	if (!m)
		return -err->code;
	config = find_blob(l, json_str(m, "config", ""), err);
	if (!config)
		return error_wrap(err, "config");
	for (size_t i = 0; i < n; i++) {
		files[i] = find_blob(l, json_string_value(json_array_get(hexes, i)), err);
		if (!files[i])
			return error_wrap(err, "layer %zu", i);
	}
	if (name)
		json_array_append_new(names, json_string(name));
	return add_image(l, config, files, n, names, err);
}

/*
 * An index. The top one lists images (each of this platform is loaded); a nested one
 * lists one image for several platforms (the first of this platform is loaded).
 */
static int oci_index(struct load *l, const char *text, size_t len, const char *outer_name,
		     int depth, struct error *err)
{
	CLEANUP_JSON json_t *list = image_parse_oci_index(text, len, err);
	CLEANUP_BUF struct buf others = { 0 };
	size_t i, loaded = 0;
	const json_t *d;
	int r;

	if (!list)
		return -err->code;
	if (depth > MAX_NESTED)
		return error_set(err, EINVAL, "OCI indexes are nested more than %d deep",
				 MAX_NESTED);
	json_array_foreach (list, i, d) {
		const char *name = json_str(d, "name", outer_name), *os = json_str(d, "os", NULL);
		const char *arch = json_str(d, "arch", "");
		CLEANUP_FREE char *sub = NULL;
		CLEANUP_JSON json_t *doc = NULL;
		struct image_file *f;
		size_t sublen;

		if (os && (strcmp(os, "linux") != 0 || strcmp(arch, HOST_ARCH) != 0)) {
			buf_addf(&others, "%s%.40s/%.40s", others.len ? ", " : "", os, arch);
			continue;
		}
		f = find_blob(l, json_str(d, "digest", ""), err);
		if (!f)
			return error_wrap(err, "OCI manifest");
		r = image_stage_text(&l->stage, f, &sub, &sublen, err);
		if (r < 0)
			return r;
		doc = json_parse(sub, sublen, f->path, err);
		if (!doc)
			return -err->code;
		if (json_object_get(doc, "manifests"))
			r = oci_index(l, sub, sublen, name, depth + 1, err);
		else
			r = oci_manifest(l, sub, sublen, name, err);
		if (r < 0)
			return r;
		loaded++;
		if (depth > 0)
			break;
	}
	if (!loaded)
		return error_set(err, EINVAL,
				 "the OCI index has no image for linux/%s (it has: %.300s)",
				 HOST_ARCH, others.len ? others.data : "nothing");
	return 0;
}

static int parse_archive(struct load *l, struct error *err)
{
	struct image_file *f = image_stage_find(&l->stage, "manifest.json", NULL);
	CLEANUP_FREE char *text = NULL;
	size_t len;
	int r;

	if (f)
		return docker_archive(l, f, err);
	f = image_stage_find(&l->stage, "index.json", NULL);
	if (!f)
		return error_set(err, EINVAL,
				 "not an image archive: it has neither manifest.json (docker save) "
				 "nor index.json (OCI)");
	r = image_stage_text(&l->stage, f, &text, &len, err);
	return r < 0 ? r : oci_index(l, text, len, NULL, 0, err);
}

static int unpack_layer(struct load *l, struct layer *y, struct error *err)
{
	const struct image_file *f = &l->stage.files[y->file];
	CLEANUP_FREE char *dir = str_format("%s/%s", l->tmp.path, y->chain);
	CLEANUP_FREE char *fs = str_format("%s/fs", dir);
	int r;

	/* chmod: whatever the umask is */
	if (mkdir(dir, 0711) < 0 || chmod(dir, 0711) < 0 || mkdir(fs, 0755) < 0 ||
	    chmod(fs, 0755) < 0)
		return error_sys(err, errno, "making %s", fs);
	r = image_layer_unpack(f->staged, fs, &l->s->limits, &y->bytes, err);
	if (r < 0)
		return error_wrap(err, "layer \"%s\"", f->path);
	y->unpacked = true;
	return 0;
}

static json_t *snapshot(struct image_store *s, struct error *err)
{
	CLEANUP_CLOSE int lock = image_store_lock(s, false, err);

	return lock < 0 ? NULL : image_index_read(s, err);
}

/* Unpacks what the store does not have yet, and brings everything to the disk. */
static int prepare(struct load *l, struct error *err)
{
	CLEANUP_JSON json_t *index = snapshot(l->s, err);
	int r;

	if (!index)
		return -err->code;
	for (size_t i = 0; i < l->nlayers; i++) {
		if (json_object_get(json_object_get(index, "layers"), l->layers[i].chain))
			continue;
		r = unpack_layer(l, &l->layers[i], err);
		if (r < 0)
			return r;
	}
	if (syncfs(l->tmp.lock) < 0)
		return error_sys(err, errno, "writing the layers to disk");
	return 0;
}

/* A link, not a rename: one staged file may be the blob of several entries. */
static int place_blob(struct load *l, const struct image_file *f, struct error *err)
{
	CLEANUP_FREE char *to = str_format("%s/blobs/sha256/%s", l->s->root, f->plain);

	if (link(f->staged, to) < 0 && errno != EEXIST)
		return error_sys(err, errno, "storing blob %s", to);
	return 0;
}

static int place_layer(struct load *l, struct layer *y, json_t *index, struct error *err)
{
	const struct image_file *f = &l->stage.files[y->file];
	CLEANUP_FREE char *from = str_format("%s/%s", l->tmp.path, y->chain);
	CLEANUP_FREE char *to = str_format("%s/layers/%s", l->s->root, y->chain);
	json_t *layers = json_object_get(index, "layers");
	int r;

	if (json_object_get(layers, y->chain))
		return 0;
	if (!y->unpacked) { /* somebody removed it since we looked */
		r = unpack_layer(l, y, err);
		if (r < 0)
			return r;
	}
	if (rename(from, to) < 0)
		return error_sys(err, errno, "storing layer %s", to);
	json_object_set_new(
		layers, y->chain,
		json_pack("{s:s, s:I}", "diff", f->plain, "size", (json_int_t)y->bytes));
	return place_blob(l, f, err);
}

static int publish_into(struct load *l, json_t *index, json_t *names, struct error *err)
{
	json_t *images = json_object_get(index, "images"), *v;
	const char *key;
	size_t i;
	int r;

	for (i = 0; i < l->nlayers; i++) {
		r = place_layer(l, &l->layers[i], index, err);
		if (r < 0)
			return r;
	}
	for (i = 0; i < l->nconfigs; i++) {
		r = place_blob(l, l->configs[i], err);
		if (r < 0)
			return r;
	}
	json_object_foreach (l->images, key, v)
		if (!json_object_get(images, key))
			json_object_set(images, key, v);
	json_array_foreach (l->names, i, v) {
		json_t *name = json_array_get(v, 0), *id = json_array_get(v, 1);
		CLEANUP_FREE char *shown = NULL;

		if (json_is_string(name)) {
			json_object_set(json_object_get(index, "tags"), json_string_value(name),
					id);
			shown = image_ref_short(json_string_value(name));
		} else {
			shown = str_format("sha256:%s", json_string_value(id));
		}
		json_array_append_new(names, json_string(shown));
	}
	return image_index_write(l->s, index, err);
}

static int publish(struct load *l, json_t **names, struct error *err)
{
	CLEANUP_JSON json_t *before = NULL, *after = NULL, *shown = json_array();
	struct image_tmp trash = { NULL, -1 }, undone = { NULL, -1 };
	CLEANUP_CLOSE int lock = image_store_lock(l->s, true, err);
	int r = lock < 0 ? lock : 0;

	if (r == 0) {
		before = image_index_read(l->s, err);
		r = before ? 0 : -err->code;
	}
	/* A loader killed in publish_into() left things no index names: they are in the way. */
	if (r == 0)
		r = image_store_sweep(l->s, before, &trash, err);
	if (r == 0) {
		after = json_deep_copy(before);
		r = publish_into(l, after, shown, err);
		if (r < 0)
			image_store_sweep(l->s, before, &undone, NULL);
	}
	if (lock >= 0)
		close(TAKE_FD(lock));
	image_tmp_drop(&trash);
	image_tmp_drop(&undone);
	if (r == 0)
		*names = TAKE_PTR(shown);
	return r;
}

int image_load(struct image_store *s, int fd, json_t **names, struct error *err)
{
	struct load l = { .s = s, .tmp = { NULL, -1 } };
	struct error own = { 0 };
	int r;

	err = err ? err : &own;
	*names = NULL;
	l.images = json_object();
	l.names = json_array();
	r = image_tmp_make(s, &l.tmp, err);
	if (r == 0) {
		l.stage = (struct image_stage){ .dir = l.tmp.path, .limits = &s->limits };
		r = image_stage_read(&l.stage, fd, err);
	}
	if (r == 0)
		r = parse_archive(&l, err);
	if (r == 0)
		r = prepare(&l, err);
	if (r == 0)
		r = publish(&l, names, err);
	image_tmp_drop(&l.tmp);
	image_stage_free(&l.stage);
	json_decref(l.images);
	json_decref(l.names);
	free(l.layers);
	free(l.configs);
	return r < 0 ? error_wrap(err, "loading images") : 0;
}
