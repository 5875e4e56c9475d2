/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading manifest.json, OCI indexes, manifests and configs; manifest.h is the contract.
 * Nothing here touches a file: what a document names is checked for form only.
 */
#include "runtime/image/manifest.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"
#include "base/tar.h"
#include "runtime/image/digest.h"
#include "runtime/image/ref.h"

static json_t *append_new(json_t *array, json_t *value)
{
	if (!value || json_array_append_new(array, value) < 0)
		abort();
	return value;
}

static int add_path(json_t *array, const json_t *value, const char *what, struct error *err)
{
	CLEANUP_FREE char *clean = NULL;

	if (!json_is_string(value))
		return error_set(err, EINVAL, "manifest.json: %s must be a path", what);
	clean = tar_path_clean(json_string_value(value), 0);
	if (!clean || !*clean)
		return error_set(err, EINVAL,
				 "manifest.json: %s \"%.200s\" is no path inside the "
				 "archive",
				 what, json_string_value(value));
	append_new(array, json_string(clean));
	return 0;
}

static int docker_image(json_t *out, const json_t *in, struct error *err)
{
	CLEANUP_JSON json_t *config = json_array(), *layers = json_array(), *names = json_array();
	const json_t *list = json_object_get(in, "Layers"), *tags = json_object_get(in, "RepoTags");
	const json_t *v;
	size_t i;
	int r;

	if (!json_is_object(in))
		return error_set(err, EINVAL, "manifest.json: an image must be an object");
	r = add_path(config, json_object_get(in, "Config"), "Config", err);
	if (r < 0)
		return r;
	if (list && !json_is_null(list) && !json_is_array(list))
		return error_set(err, EINVAL, "manifest.json: Layers must be a list");
	json_array_foreach (list, i, v) {
		r = add_path(layers, v, "a layer", err);
		if (r < 0)
			return r;
	}
	if (tags && !json_is_null(tags) && !json_is_array(tags))
		return error_set(err, EINVAL, "manifest.json: RepoTags must be a list");
	json_array_foreach (tags, i, v) {
		CLEANUP_FREE char *whole = NULL;

		if (!json_is_string(v))
			return error_set(err, EINVAL, "manifest.json: a tag must be a string");
		if (image_ref_normalize(json_string_value(v), &whole, err) < 0)
			return error_wrap(err, "manifest.json: RepoTags");
		append_new(names, json_string(whole));
	}
	append_new(out, json_pack("{s:O, s:O, s:O}", "config", json_array_get(config, 0), "layers",
				  layers, "names", names));
	return 0;
}

json_t *image_parse_docker_manifest(const char *text, size_t len, struct error *err)
{
	CLEANUP_JSON json_t *doc = json_parse(text, len, "manifest.json", err);
	CLEANUP_JSON json_t *out = json_array();
	const json_t *v;
	size_t i;

	if (!doc)
		return NULL;
	if (!json_is_array(doc) || !json_array_size(doc)) {
		error_set(err, EINVAL, "manifest.json must be a list of at least one image");
		return NULL;
	}
	json_array_foreach (doc, i, v)
		if (docker_image(out, v, err) < 0)
			return NULL;
	return TAKE_PTR(out);
}

/* A descriptor's digest as hex, NULL with err set where it is missing or not sha256. */
static const char *descriptor_hex(const json_t *d, const char *what, struct error *err)
{
	const char *digest = json_str(d, "digest", NULL);
	const char *hex = digest ? image_digest_hex(digest) : NULL;

	if (!digest)
		error_set(err, EINVAL, "%s has no digest", what);
	else if (!hex)
		error_set(err, EINVAL, "%s: \"%.100s\" is no sha256 digest", what, digest);
	return hex;
}

/*
 * The name an index gives an image. containerd and buildkit write the whole name; in
 * ref.name skopeo and podman write a name, buildkit only the tag: a word that cannot be
 * told from a tag ("latest", "7.2") names nothing.
 */
static int index_name(json_t *out, const json_t *d, struct error *err)
{
	const json_t *a = json_object_get(d, "annotations");
	const char *name = json_str(a, "io.containerd.image.name", NULL);
	CLEANUP_FREE char *whole = NULL;

	if (!name) {
		name = json_str(a, "org.opencontainers.image.ref.name", NULL);
		if (name && !strpbrk(name, ":/") &&
		    (strcmp(name, "latest") == 0 || (*name >= '0' && *name <= '9')))
			name = NULL;
	}
	if (!name)
		return 0;
	if (image_ref_normalize(name, &whole, err) < 0)
		return error_wrap(err, "OCI index");
	json_set_str(out, "name", whole);
	return 0;
}

json_t *image_parse_oci_index(const char *text, size_t len, struct error *err)
{
	CLEANUP_JSON json_t *doc = json_parse(text, len, "OCI index", err);
	CLEANUP_JSON json_t *out = json_array();
	const json_t *list, *d;
	size_t i;

	if (!doc)
		return NULL;
	list = json_object_get(doc, "manifests");
	if (!json_is_array(list) || json_int(doc, "schemaVersion", 2) != 2) {
		error_set(err, EINVAL,
			  "OCI index: expected schemaVersion 2 and a list of manifests");
		return NULL;
	}
	json_array_foreach (list, i, d) {
		const json_t *p = json_object_get(d, "platform");
		const char *hex = descriptor_hex(d, "OCI index: a manifest", err);
		json_t *o;

		if (!hex)
			return NULL;
		o = append_new(out, json_pack("{s:s}", "digest", hex));
		if (json_is_object(p)) {
			json_set_str(o, "os", json_str(p, "os", ""));
			json_set_str(o, "arch", json_str(p, "architecture", ""));
		}
		if (index_name(o, d, err) < 0)
			return NULL;
	}
	return TAKE_PTR(out);
}

static json_t *blob_of(const json_t *d, const char *hex)
{
	return json_pack("{s:s, s:I, s:s}", "digest", hex, "size",
			 (json_int_t)json_int(d, "size", -1), "type", json_str(d, "mediaType", ""));
}

json_t *image_parse_oci_manifest(const char *text, size_t len, struct error *err)
{
	CLEANUP_JSON json_t *doc = json_parse(text, len, "OCI manifest", err);
	CLEANUP_JSON json_t *layers = json_array(), *blobs = json_array();
	const json_t *list, *d;
	const char *config;
	size_t i;

	if (!doc)
		return NULL;
	config = descriptor_hex(json_object_get(doc, "config"), "OCI manifest: the config", err);
	if (!config)
		return NULL;
	list = json_object_get(doc, "layers");
	if (list && !json_is_null(list) && !json_is_array(list)) {
		error_set(err, EINVAL, "OCI manifest: layers must be a list");
		return NULL;
	}
	json_array_foreach (list, i, d) {
		const char *hex = descriptor_hex(d, "OCI manifest: a layer", err);

		if (!hex)
			return NULL;
		append_new(layers, json_string(hex));
		append_new(blobs, blob_of(d, hex));
	}
	return json_pack("{s:s, s:O, s:O, s:o}", "config", config, "layers", layers, "blobs", blobs,
			 "config_blob", blob_of(json_object_get(doc, "config"), config));
}

static bool is_string_list(const json_t *v)
{
	const json_t *e;
	size_t i;

	if (!json_is_array(v))
		return false;
	json_array_foreach (v, i, e)
		if (!json_is_string(e))
			return false;
	return true;
}

/* What a container is made from later must have the types that everybody expects. */
static int check_run_config(const json_t *c, struct error *err)
{
	static const char *const lists[] = { "Cmd", "Entrypoint", "Env", "OnBuild", "Shell" };
	static const char *const strings[] = { "User", "WorkingDir", "StopSignal" };
	static const char *const objects[] = { "ExposedPorts", "Volumes", "Labels", "Healthcheck" };

	if (!c || json_is_null(c))
		return 0;
	if (!json_is_object(c))
		return error_set(err, EINVAL, "image config: \"config\" must be an object");
	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
		const json_t *v = json_object_get(c, lists[i]);

		if (v && !json_is_null(v) && !is_string_list(v))
			return error_set(err, EINVAL, "image config: %s must be a list of strings",
					 lists[i]);
	}
	for (size_t i = 0; i < sizeof(strings) / sizeof(*strings); i++) {
		const json_t *v = json_object_get(c, strings[i]);

		if (v && !json_is_null(v) && !json_is_string(v))
			return error_set(err, EINVAL, "image config: %s must be a string",
					 strings[i]);
	}
	for (size_t i = 0; i < sizeof(objects) / sizeof(*objects); i++) {
		const json_t *v = json_object_get(c, objects[i]);

		if (v && !json_is_null(v) && !json_is_object(v))
			return error_set(err, EINVAL, "image config: %s must be an object",
					 objects[i]);
	}
	return 0;
}

json_t *image_parse_config(const char *text, size_t len, struct error *err)
{
	CLEANUP_JSON json_t *doc = json_parse(text, len, "image config", err);
	const json_t *rootfs, *diffs, *history, *v;
	size_t i;

	if (!doc)
		return NULL;
	rootfs = json_object_get(doc, "rootfs");
	if (!json_is_object(rootfs) || strcmp(json_str(rootfs, "type", "layers"), "layers") != 0) {
		error_set(err, EINVAL,
			  "image config: no rootfs of type \"layers\"; the archive was "
			  "made by a Docker older than 1.10, or is no image");
		return NULL;
	}
	diffs = json_object_get(rootfs, "diff_ids");
	if (diffs && !json_is_null(diffs) && !json_is_array(diffs)) {
		error_set(err, EINVAL, "image config: rootfs.diff_ids must be a list");
		return NULL;
	}
	json_array_foreach (diffs, i, v)
		if (!json_is_string(v) || !image_digest_hex(json_string_value(v))) {
			error_set(err, EINVAL, "image config: diff id %zu is no sha256 digest", i);
			return NULL;
		}
	history = json_object_get(doc, "history");
	if (history && !json_is_null(history) && !json_is_array(history)) {
		error_set(err, EINVAL, "image config: history must be a list");
		return NULL;
	}
	if (check_run_config(json_object_get(doc, "config"), err) < 0)
		return NULL;
	return TAKE_PTR(doc);
}
