/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images that are made here: a layer on top of another image (commit), or of nothing
 * (import). image.h is the contract.
 */
#include <string.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "runtime/image/install.h"
#include "runtime/image/ref.h"

struct commit {
	struct image_store *s;
	const struct image_change *change;
	struct image_install in;
	json_t *doc;	 /* the new config */
	size_t nparents; /* layers that are there */
	struct image_file layer, config;
};

static json_t *empty_doc(void)
{
	return json_pack("{s:s, s:s, s:{}, s:{s:s, s:[]}, s:[]}", "architecture", IMAGE_HOST_ARCH,
			 "os", "linux", "config", "rootfs", "type", "layers", "diff_ids",
			 "history");
}

static int read_parent(struct commit *c, struct error *err)
{
	CLEANUP_CLOSE int lock = -1;
	CLEANUP_JSON json_t *index = NULL;
	const char *id;
	int r;

	if (!c->change->parent) {
		c->doc = empty_doc();
		return 0;
	}
	lock = image_store_lock(c->s, false, err);
	index = lock < 0 ? NULL : image_index_read(c->s, err);
	if (!index)
		return -err->code;
	r = image_resolve(index, c->change->parent, &id, NULL, err);
	if (r < 0)
		return r;
	c->doc = image_config_read(c->s, id, err);
	if (!c->doc)
		return -err->code;
	c->nparents = json_array_size(json_at(c->doc, "rootfs.diff_ids"));
	return 0;
}

static void now_text(char out[32])
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void set_or_drop(json_t *doc, const char *key, const char *value)
{
	if (value && *value)
		json_set_str(doc, key, value);
	else
		json_object_del(doc, key);
}

static json_t *list_of(json_t *doc, const char *key)
{
	json_t *list = json_object_get(doc, key);

	if (!json_is_array(list)) {
		list = json_array();
		json_object_set_new(doc, key, list);
	}
	return list;
}

/* The config of the image to be, with the new layer in it. */
static void make_doc(struct commit *c)
{
	CLEANUP_FREE char *diff = str_format("sha256:%s", c->layer.plain);
	const struct image_change *k = c->change;
	json_t *step = json_object();
	char now[32];

	now_text(now);
	json_set_str(c->doc, "created", now);
	set_or_drop(c->doc, "author", k->author);
	set_or_drop(c->doc, "container", k->container);
	json_object_del(c->doc, "container_config");
	if (k->config)
		json_object_set(c->doc, "config", (json_t *)(uintptr_t)k->config);
	json_array_append_new(list_of(json_object_get(c->doc, "rootfs"), "diff_ids"),
			      json_string(diff));
	json_set_str(step, "created", now);
	set_or_drop(step, "created_by", k->created_by);
	set_or_drop(step, "author", k->author);
	set_or_drop(step, "comment", k->comment);
	json_array_append_new(list_of(c->doc, "history"), step);
}

static int stage_doc(struct commit *c, struct error *err)
{
	CLEANUP_FREE char *text = json_text(c->doc);

	return image_stage_document(&c->in.stage, "config", "config", text, strlen(text),
				    &c->config, err);
}

static int install(struct commit *c, struct error *err)
{
	size_t n = c->nparents + 1;
	CLEANUP_FREE struct image_file **files = mem_zalloc(n * sizeof(*files));
	CLEANUP_JSON json_t *names = json_array(), *shown = NULL;
	CLEANUP_FREE char *whole = NULL;
	int r = 0;

	files[n - 1] = &c->layer;
	if (c->change->name) {
		r = image_ref_normalize(c->change->name, &whole, err);
		if (r == 0)
			json_array_append_new(names, json_string(whole));
	}
	if (r == 0)
		r = image_install_add(&c->in, &c->config, files, n, names, err);
	if (r == 0)
		r = image_install_finish(&c->in, &shown, err);
	return r;
}

int image_commit(struct image_store *s, const struct image_change *change, int fd, char **id,
		 struct error *err)
{
	struct commit c = { .s = s, .change = change };
	CLEANUP_FREE char *whole = NULL;
	struct error own = { 0 };
	int r;

	err = err ? err : &own;
	*id = NULL;
	if (change->name && image_ref_normalize(change->name, &whole, err) < 0)
		return -err->code;
	r = image_install_begin(&c.in, s, err);
	if (r == 0)
		r = read_parent(&c, err);
	if (r == 0)
		r = image_stage_blob(&c.in.stage, 0, fd, NULL, &c.layer, err);
	if (r == 0) {
		make_doc(&c);
		r = stage_doc(&c, err);
	}
	if (r == 0)
		r = install(&c, err);
	if (r == 0)
		*id = str_format("sha256:%s", c.config.plain);
	image_file_drop(&c.layer);
	image_file_drop(&c.config);
	image_install_drop(&c.in);
	json_decref(c.doc);
	return r < 0 ? error_wrap(err, "making an image") : 0;
}
