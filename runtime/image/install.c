/* SPDX-License-Identifier: Apache-2.0 */
/* Images on their way into the store; install.h is the contract. */
#include "runtime/image/install.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "base/tar.h"
#include "runtime/image/manifest.h"
#include "runtime/image/ref.h"

struct image_layer {
	char chain[IMAGE_HEX_LEN + 1];
	char diff[IMAGE_HEX_LEN + 1];
	struct image_file *file; /* NULL: the store has it */
	bool unpacked;		 /* its folder is TMP/CHAIN */
	uint64_t bytes;
	json_t *packed;
};

static void add_layer(struct image_install *in, const char *chain, const char *diff,
		      struct image_file *f)
{
	struct image_layer *y;

	for (size_t i = 0; i < in->nlayers; i++)
		if (strcmp(in->layers[i].chain, chain) == 0)
			return;
	in->layers = mem_grow(in->layers, in->nlayers + 1, sizeof(*in->layers));
	y = &in->layers[in->nlayers++];
	*y = (struct image_layer){ .file = f };
	memcpy(y->chain, chain, sizeof(y->chain));
	memcpy(y->diff, diff, sizeof(y->diff));
}

int image_install_add(struct image_install *in, struct image_file *config,
		      struct image_file **files, size_t n, const json_t *names, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_JSON json_t *doc = NULL, *chains = json_array();
	const json_t *diffs;
	json_t *name;
	char chain[IMAGE_HEX_LEN + 1];
	size_t len, i;
	int r = image_stage_text(&in->stage, config, &text, &len, err);

	if (r < 0)
		return r;
	doc = image_parse_config(text, len, err);
	if (!doc)
		return error_wrap(err, "\"%s\"", config->path);
	diffs = json_at(doc, "rootfs.diff_ids");
	if (json_array_size(diffs) != n)
		return error_set(err, EINVAL, "\"%s\" lists %zu layers, the manifest %zu",
				 config->path, json_array_size(diffs), n);
	if (n > in->s->limits.max_layers)
		return error_set(err, EFBIG, "\"%s\" has %zu layers, more than %llu", config->path,
				 n, (unsigned long long)in->s->limits.max_layers);
	for (i = 0; i < n; i++) {
		const char *diff = image_digest_hex(json_string_value(json_array_get(diffs, i)));
		char parent[IMAGE_HEX_LEN + 1];

		if (files[i] && strcmp(diff, files[i]->plain) != 0)
			return error_set(
				err, EBADMSG,
				"layer \"%s\": wrong digest, the config says sha256:%s, its "
				"content is sha256:%s",
				files[i]->path, diff, files[i]->plain);
		memcpy(parent, chain, sizeof(parent));
		image_chain_id(i ? parent : NULL, diff, chain);
		json_array_append_new(chains, json_string(chain));
		add_layer(in, chain, diff, files[i]);
	}
	in->configs = mem_grow(in->configs, in->nconfigs + 1, sizeof(struct image_file *));
	in->configs[in->nconfigs++] = config;
	json_object_set_new(
		in->images, config->plain,
		json_pack("{s:O, s:I}", "layers", chains, "loaded", (json_int_t)time(NULL)));
	if (!json_array_size(names))
		json_array_append_new(in->names, json_pack("[n, s]", config->plain));
	json_array_foreach (names, i, name)
		json_array_append_new(in->names, json_pack("[O, s]", name, config->plain));
	return 0;
}

void image_install_packed(struct image_install *in, const char *diff, json_t *packed)
{
	for (size_t i = 0; i < in->nlayers; i++)
		if (strcmp(in->layers[i].diff, diff) == 0) {
			json_decref(in->layers[i].packed);
			in->layers[i].packed = json_incref(packed);
		}
	json_decref(packed);
}

static int unpack_tar(const char *tar, const char *dir, const struct image_limits *limits,
		      uint64_t *bytes, struct error *err)
{
	const struct tar_options o = { .whiteouts = true, .max_entries = limits->max_entries };
	CLEANUP_CLOSE int fd = open(tar, O_RDONLY | O_CLOEXEC);
	CLEANUP_CLOSE int root = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || root < 0)
		return error_sys(err, errno, "opening %s", fd < 0 ? tar : dir);
	return tar_unpack(fd, root, &o, bytes, err);
}

static int unpack_layer(struct image_install *in, struct image_layer *y, struct error *err)
{
	const struct image_file *f = y->file;
	CLEANUP_FREE char *dir = str_format("%s/%s", in->tmp.path, y->chain);
	CLEANUP_FREE char *fs = str_format("%s/fs", dir);
	int r;

	if (!f)
		return error_set(err, ESTALE, "layer sha256:%s was removed meanwhile", y->diff);
	if (in->on_unpack)
		in->on_unpack(in->ctx, y->diff, false);
	/* chmod: whatever the umask is */
	if (mkdir(dir, 0711) < 0 || chmod(dir, 0711) < 0 || mkdir(fs, 0755) < 0 ||
	    chmod(fs, 0755) < 0)
		return error_sys(err, errno, "making %s", fs);
	r = unpack_tar(f->staged, fs, &in->s->limits, &y->bytes, err);
	if (r < 0)
		return error_wrap(err, "layer \"%s\"", f->path);
	y->unpacked = true;
	if (in->on_unpack)
		in->on_unpack(in->ctx, y->diff, true);
	return 0;
}

/* Unpacks what the store does not have yet, and brings everything to the disk. */
static int prepare(struct image_install *in, struct error *err)
{
	CLEANUP_JSON json_t *index = image_index_snapshot(in->s, err);
	int r;

	if (!index)
		return -err->code;
	for (size_t i = 0; i < in->nlayers; i++) {
		if (json_object_get(json_object_get(index, "layers"), in->layers[i].chain))
			continue;
		r = unpack_layer(in, &in->layers[i], err);
		if (r < 0)
			return r;
	}
	if (syncfs(in->tmp.lock) < 0)
		return error_sys(err, errno, "writing the layers to disk");
	return 0;
}

/* A link, not a rename: one staged file may be the blob of several entries. */
static int place_blob(struct image_install *in, const struct image_file *f, struct error *err)
{
	CLEANUP_FREE char *to = str_format("%s/blobs/sha256/%s", in->s->root, f->plain);

	if (link(f->staged, to) < 0 && errno != EEXIST)
		return error_sys(err, errno, "storing blob %s", to);
	return 0;
}

static void note_packed(const struct image_layer *y, json_t *layers)
{
	if (y->packed)
		json_object_set(json_object_get(layers, y->chain), "packed", y->packed);
}

static int place_layer(struct image_install *in, struct image_layer *y, json_t *index,
		       struct error *err)
{
	CLEANUP_FREE char *from = str_format("%s/%s", in->tmp.path, y->chain);
	CLEANUP_FREE char *to = str_format("%s/layers/%s", in->s->root, y->chain);
	json_t *layers = json_object_get(index, "layers");
	int r;

	if (json_object_get(layers, y->chain)) {
		note_packed(y, layers);
		return 0;
	}
	if (!y->unpacked) { /* somebody removed it since we looked */
		r = unpack_layer(in, y, err);
		if (r < 0)
			return r;
	}
	if (rename(from, to) < 0)
		return error_sys(err, errno, "storing layer %s", to);
	json_object_set_new(layers, y->chain,
			    json_pack("{s:s, s:I}", "diff", y->diff, "size", (json_int_t)y->bytes));
	note_packed(y, layers);
	return place_blob(in, y->file, err);
}

static int publish_into(struct image_install *in, json_t *index, json_t *names, struct error *err)
{
	json_t *images = json_object_get(index, "images"), *v;
	const char *key;
	size_t i;
	int r;

	for (i = 0; i < in->nlayers; i++) {
		r = place_layer(in, &in->layers[i], index, err);
		if (r < 0)
			return r;
	}
	for (i = 0; i < in->nconfigs; i++) {
		r = place_blob(in, in->configs[i], err);
		if (r < 0)
			return r;
	}
	json_object_foreach (in->images, key, v)
		if (!json_object_get(images, key))
			json_object_set(images, key, v);
	json_object_update(json_object_get(index, "digests"), in->digests);
	json_array_foreach (in->names, i, v) {
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
	return image_index_write(in->s, index, err);
}

static int publish(struct image_install *in, json_t **names, struct error *err)
{
	CLEANUP_JSON json_t *before = NULL, *after = NULL, *shown = json_array();
	struct image_tmp trash = { NULL, -1 }, undone = { NULL, -1 };
	CLEANUP_CLOSE int lock = image_store_lock(in->s, true, err);
	int r = lock < 0 ? lock : 0;

	if (r == 0) {
		before = image_index_read(in->s, err);
		r = before ? 0 : -err->code;
	}
	/* A loader killed in publish_into() left things no index names: they are in the way. */
	if (r == 0)
		r = image_store_sweep(in->s, before, &trash, err);
	if (r == 0) {
		after = json_deep_copy(before);
		r = publish_into(in, after, shown, err);
		if (r < 0)
			image_store_sweep(in->s, before, &undone, NULL);
	}
	if (lock >= 0)
		close(TAKE_FD(lock));
	image_tmp_drop(&trash);
	image_tmp_drop(&undone);
	if (r == 0)
		*names = TAKE_PTR(shown);
	return r;
}

int image_install_begin(struct image_install *in, struct image_store *s, struct error *err)
{
	int r;

	*in = (struct image_install){ .s = s,
				      .tmp = { NULL, -1 },
				      .images = json_object(),
				      .names = json_array(),
				      .digests = json_object() };
	r = image_tmp_make(s, &in->tmp, err);
	in->stage = (struct image_stage){ .dir = in->tmp.path, .limits = &s->limits };
	return r;
}

int image_install_finish(struct image_install *in, json_t **names, struct error *err)
{
	int r = prepare(in, err);

	return r < 0 ? r : publish(in, names, err);
}

void image_install_drop(struct image_install *in)
{
	image_tmp_drop(&in->tmp);
	image_stage_free(&in->stage);
	json_decref(in->images);
	json_decref(in->names);
	json_decref(in->digests);
	for (size_t i = 0; i < in->nlayers; i++)
		json_decref(in->layers[i].packed);
	free(in->layers);
	free(in->configs);
}
