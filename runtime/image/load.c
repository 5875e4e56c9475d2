/* SPDX-License-Identifier: Apache-2.0 */
/*
 * image_load(): archive → staged files (stage.c) → which images they make, and these into
 * the store (install.c).
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/image/install.h"
#include "runtime/image/manifest.h"

#define MAX_NESTED 4 /* indexes in indexes */

/* One image of manifest.json. */
static int docker_image(struct image_install *in, const json_t *image, struct error *err)
{
	const char *path = json_str(image, "config", "");
	const json_t *paths = json_object_get(image, "layers");
	size_t n = json_array_size(paths);
	CLEANUP_FREE struct image_file **files = mem_zalloc((n + 1) * sizeof(*files));
	struct image_file *config = image_stage_find(&in->stage, path, err);

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
		files[i] = image_stage_find(&in->stage, json_string_value(json_array_get(paths, i)),
					    err);
		if (!files[i])
			return error_wrap(err, "layer");
	}
	return image_install_add(in, config, files, n, json_object_get(image, "names"), err);
}

static int docker_archive(struct image_install *in, struct image_file *manifest, struct error *err)
{
	CLEANUP_FREE char *text = NULL;
	CLEANUP_JSON json_t *doc = NULL;
	const json_t *image;
	size_t len, i;
	int r = image_stage_text(&in->stage, manifest, &text, &len, err);

	if (r < 0)
		return r;
	doc = image_parse_docker_manifest(text, len, err);
	if (!doc)
		return -err->code;
	json_array_foreach (doc, i, image) {
		r = docker_image(in, image, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static struct image_file *find_blob(struct image_install *in, const char *hex, struct error *err)
{
	CLEANUP_FREE char *path = str_format("blobs/sha256/%s", hex);
	struct image_file *f = image_stage_find(&in->stage, path, err);

	if (f && strcmp(f->raw, hex) != 0) { /* it was a link to something else */
		error_set(err, EBADMSG, "\"%s\": wrong digest", path);
		return NULL;
	}
	return f;
}

static int oci_manifest(struct image_install *in, const char *text, size_t len, const char *name,
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
	config = find_blob(in, json_str(m, "config", ""), err);
	if (!config)
		return error_wrap(err, "config");
	for (size_t i = 0; i < n; i++) {
		files[i] = find_blob(in, json_string_value(json_array_get(hexes, i)), err);
		if (!files[i])
			return error_wrap(err, "layer %zu", i);
	}
	if (name)
		json_array_append_new(names, json_string(name));
	return image_install_add(in, config, files, n, names, err);
}

/*
 * An index. The top one lists images (each of this platform is loaded); a nested one
 * lists one image for several platforms (the first of this platform is loaded).
 */
static int oci_index(struct image_install *in, const char *text, size_t len, const char *outer_name,
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

		if (os && (strcmp(os, "linux") != 0 || strcmp(arch, IMAGE_HOST_ARCH) != 0)) {
			buf_addf(&others, "%s%.40s/%.40s", others.len ? ", " : "", os, arch);
			continue;
		}
		f = find_blob(in, json_str(d, "digest", ""), err);
		if (!f)
			return error_wrap(err, "OCI manifest");
		r = image_stage_text(&in->stage, f, &sub, &sublen, err);
		if (r < 0)
			return r;
		doc = json_parse(sub, sublen, f->path, err);
		if (!doc)
			return -err->code;
		if (json_object_get(doc, "manifests"))
			r = oci_index(in, sub, sublen, name, depth + 1, err);
		else
			r = oci_manifest(in, sub, sublen, name, err);
		if (r < 0)
			return r;
		loaded++;
		if (depth > 0)
			break;
	}
	if (!loaded)
		return error_set(err, EINVAL,
				 "the OCI index has no image for linux/%s (it has: %.300s)",
				 IMAGE_HOST_ARCH, others.len ? others.data : "nothing");
	return 0;
}

static int parse_archive(struct image_install *in, struct error *err)
{
	struct image_file *f = image_stage_find(&in->stage, "manifest.json", NULL);
	CLEANUP_FREE char *text = NULL;
	size_t len;
	int r;

	if (f)
		return docker_archive(in, f, err);
	f = image_stage_find(&in->stage, "index.json", NULL);
	if (!f)
		return error_set(err, EINVAL,
				 "not an image archive: it has neither manifest.json (docker save) "
				 "nor index.json (OCI)");
	r = image_stage_text(&in->stage, f, &text, &len, err);
	return r < 0 ? r : oci_index(in, text, len, NULL, 0, err);
}

int image_load(struct image_store *s, int fd, json_t **names, struct error *err)
{
	struct image_install in;
	struct error own = { 0 };
	int r;

	err = err ? err : &own;
	*names = NULL;
	r = image_install_begin(&in, s, err);
	if (r == 0)
		r = image_stage_read(&in.stage, fd, err);
	if (r == 0)
		r = parse_archive(&in, err);
	if (r == 0)
		r = image_install_finish(&in, names, err);
	image_install_drop(&in);
	return r < 0 ? error_wrap(err, "loading images") : 0;
}
