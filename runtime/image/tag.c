/* SPDX-License-Identifier: Apache-2.0 */
/* Names of images: giving, taking away, and removing an image with its last one. */
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/image/ref.h"
#include "runtime/image/store.h"

int image_tag(struct image_store *s, const char *ref, const char *name, struct error *err)
{
	CLEANUP_FREE char *whole = NULL;
	CLEANUP_JSON json_t *index = NULL;
	CLEANUP_CLOSE int lock = -1;
	const char *id;
	int r = image_ref_normalize(name, &whole, err);

	if (r < 0)
		return r;
	lock = image_store_lock(s, true, err);
	if (lock < 0)
		return lock;
	index = image_index_read(s, err);
	if (!index)
		return err ? -err->code : -EIO;
	r = image_resolve(index, ref, &id, NULL, err);
	if (r < 0)
		return r;
	json_object_set_new(json_object_get(index, "tags"), whole, json_string(id));
	return image_index_write(s, index, err);
}

static void untag(json_t *index, const char *whole, json_t *result)
{
	CLEANUP_FREE char *shown = image_ref_short(whole);

	json_object_del(json_object_get(index, strchr(whole, '@') ? "digests" : "tags"), whole);
	json_array_append_new(result, json_pack("{s:s}", "Untagged", shown));
}

/* A repository's digests of an image go with the last of its tags there. */
static void untag_digests(json_t *index, const char *id, const char *whole, json_t *result)
{
	size_t repo = (size_t)(strrchr(whole, ':') - whole), i;
	CLEANUP_JSON json_t *names = image_names(index, id), *digests = image_digests(index, id);
	const json_t *v;

	json_array_foreach (names, i, v)
		if (!strncmp(json_string_value(v), whole, repo + 1))
			return;
	json_array_foreach (digests, i, v)
		if (!strncmp(json_string_value(v), whole, repo) &&
		    json_string_value(v)[repo] == '@')
			untag(index, json_string_value(v), result);
}

static bool layer_is_used(const json_t *index, const char *chain)
{
	const char *id;
	json_t *image, *v;
	size_t i;

	json_object_foreach (json_object_get(index, "images"), id, image)
		json_array_foreach (json_object_get(image, "layers"), i, v)
			if (json_is_string(v) && strcmp(json_string_value(v), chain) == 0)
				return true;
	return false;
}

static void deleted(json_t *result, const char *hex)
{
	CLEANUP_FREE char *full = str_format("sha256:%s", hex);

	json_array_append_new(result, json_pack("{s:s}", "Deleted", full));
}

/* Takes an image and the layers that no other has out of the index. */
static void delete_image(json_t *index, const char *id, json_t *result)
{
	json_t *images = json_object_get(index, "images");
	CLEANUP_JSON json_t *chains =
		json_incref(json_object_get(json_object_get(images, id), "layers"));

	deleted(result, id);
	json_object_del(images, id);
	for (size_t i = json_array_size(chains); i > 0; i--) {
		const char *chain = json_string_value(json_array_get(chains, i - 1));

		if (layer_is_used(index, chain))
			continue;
		json_object_del(json_object_get(index, "layers"), chain);
		deleted(result, chain);
	}
}

int image_remove(struct image_store *s, const char *ref, bool force, json_t **result,
		 struct error *err)
{
	CLEANUP_JSON json_t *index = NULL, *list = json_array(), *names = NULL, *digests = NULL;
	CLEANUP_FREE char *tag = NULL;
	CLEANUP_FREE char *id = NULL;
	struct image_tmp trash = { NULL, -1 };
	CLEANUP_CLOSE int lock = image_store_lock(s, true, err);
	const char *found;
	const json_t *v;
	size_t i;
	int r;

	*result = NULL;
	if (lock < 0)
		return lock;
	index = image_index_read(s, err);
	if (!index)
		return err ? -err->code : -EIO;
	r = image_resolve(index, ref, &found, &tag, err);
	if (r < 0)
		return r;
	id = str_dup(found); /* it belongs to an entry that goes away */
	names = image_names(index, id);
	if (!tag && json_array_size(names) > 1 && !force)
		return error_set(err, EBUSY,
				 "unable to delete %.12s (must be forced) - image is referenced by "
				 "%zu names; remove it by name, or with --force",
				 id, json_array_size(names));
	digests = image_digests(index, id);
	if (tag && strchr(tag, '@') && json_array_size(names) + json_array_size(digests) > 1) {
		untag(index, tag, list);
	} else if (tag && !strchr(tag, '@') && json_array_size(names) > 1) {
		untag(index, tag, list);
		untag_digests(index, id, tag, list);
	} else {
		json_array_foreach (names, i, v)
			untag(index, json_string_value(v), list);
		json_array_foreach (digests, i, v)
			untag(index, json_string_value(v), list);
		delete_image(index, id, list);
	}
	r = image_index_write(s, index, err);
	if (r < 0)
		return r;
	/* The image is gone; what cannot be swept now is swept at the next open. */
	image_store_sweep(s, index, &trash, NULL);
	close(TAKE_FD(lock));
	image_tmp_drop(&trash);
	*result = TAKE_PTR(list);
	return 0;
}
