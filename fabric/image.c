/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images: each host has a store of its own; what is missing here comes from another host
 * of the cluster, as the archive that image_save() writes.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "fabric/internal.h"

#define ASK_TIMEOUT_NS 5000000000ll

int fabric_image_load(struct fabric *f, int fd, json_t **names, struct error *err)
{
	int r = image_load(f->images, fd, names, err);
	json_t *name;
	size_t i;

	if (r < 0)
		return r;
	json_array_foreach (*names, i, name)
		event_publish(f->events, "image", "load", json_string_value(name), NULL);
	return 0;
}

int fabric_image_list(struct fabric *f, json_t **out, struct error *err)
{
	return image_list(f->images, out, err);
}

int fabric_image_inspect(struct fabric *f, const char *ref, json_t **out, struct error *err)
{
	return image_get(f->images, ref, out, err);
}

int fabric_image_history(struct fabric *f, const char *ref, json_t **out, struct error *err)
{
	return image_history(f->images, ref, out, err);
}

int fabric_image_tag(struct fabric *f, const char *ref, const char *name, struct error *err)
{
	int r = image_tag(f->images, ref, name, err);

	if (!r)
		event_publish(f->events, "image", "tag", name, NULL);
	return r;
}

int fabric_image_remove(struct fabric *f, const char *ref, bool force, json_t **out,
			struct error *err)
{
	CLEANUP_JSON json_t *image = NULL;
	CLEANUP_JSON json_t *all = documents_cached(f, "containers/");
	json_t *c;
	size_t i;
	int r = image_get(f->images, ref, &image, err);

	if (r < 0)
		return r;
	json_array_foreach (all, i, c) {
		bool up = container_is_up(c);

		/* Its layers are what a container stands on, so not even force takes them away. */
		if (!container_is_local(f, c) ||
		    strcmp(json_str(c, "image", ""), json_str(image, "Id", "-")) ||
		    json_array_size(json_object_get(image, "RepoTags")) > 1)
			continue;
		return error_set(
			err, EBUSY,
			"conflict: unable to remove repository reference \"%s\" - container %.12s "
			"(%s) uses its image %.19s; remove the container first",
			ref, json_str(c, "id", ""), up ? "running" : "stopped",
			json_str(image, "Id", ""));
	}
	r = image_remove(f->images, ref, force, out, err);
	if (!r)
		event_publish(f->events, "image", "delete", json_str(image, "Id", ""), NULL);
	return r;
}

int fabric_image_save(struct fabric *f, const char *const *refs, size_t n, int fd,
		      struct error *err)
{
	return image_save(f->images, refs, n, fd, err);
}

/* --- from host to host ------------------------------------------------------------------------ */

static int rpc_get(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		   struct error *err)
{
	struct fabric *f = ctx;
	const char *ref = NULL;
	int r = json_want_str(params, "ref", true, &ref, err);

	(void)req;
	return r < 0 ? r : image_get(f->images, ref, result, err);
}

struct saving {
	struct fabric *f;
	const char *ref;
};

static int save_image(void *ctx, int fd, struct error *err)
{
	const struct saving *s = ctx;

	return image_save(s->f->images, &s->ref, 1, fd, err);
}

static int rpc_save(void *ctx, struct rpc_request *req, json_t *params, struct rpc_stream *stream,
		    json_t **result, struct error *err)
{
	struct saving s = { .f = ctx };
	struct pump p = { .write = save_image, .ctx = &s };
	int rd, r = json_want_str(params, "ref", true, &s.ref, err);

	(void)req;
	(void)result;
	if (!r)
		r = pump_start(&p, &rd, err);
	if (r < 0)
		return r;
	return pump_end(&p, rd, rpc_stream_send_fd(stream, rd, NULL, err), err);
}

const struct rpc_method image_methods[] = {
	{ "image.get", rpc_get, NULL, 0 },
	{ "image.save", NULL, rpc_save, 0 },
	{ NULL, NULL, NULL, 0 },
};

static int fetch_image(struct fabric *f, const char *host, const char *ref, struct error *err)
{
	CLEANUP_JSON json_t *params = json_pack("{s:s}", "ref", ref);
	CLEANUP_JSON json_t *names = NULL;
	struct rpc_stream *stream;
	struct pump p = { .write = pump_receive };
	int rd, r = rpc_stream_open(f->client, host, "image.save", params, 0, &stream, err);

	if (r < 0)
		return r;
	p.ctx = stream;
	r = pump_start(&p, &rd, err);
	if (!r) {
		r = image_load(f->images, rd, &names, err);
		pump_join(&p, rd);
	}
	if (r < 0)
		rpc_stream_close(stream);
	else
		r = rpc_stream_finish(stream, NULL, err);
	return r < 0 ? error_wrap(err, "fetching image %s from host %s", ref, host) : 0;
}

int image_ensure(struct fabric *f, const char *ref, const char *from_host, json_t **image,
		 struct error *err)
{
	CLEANUP_JSON json_t *hosts = NULL;
	CLEANUP_JSON json_t *params = json_pack("{s:s}", "ref", ref);
	json_t *h;
	size_t i;
	int r = image_get(f->images, ref, image, err);

	if (r != -ENOENT || !f->client || host_list(f->store, &hosts, NULL) < 0)
		return r;
	json_array_foreach (hosts, i, h) {
		const char *name = json_str(h, "name", "");
		CLEANUP_JSON json_t *there = NULL;

		if (!strcmp(name, f->host) || !json_bool(h, "alive", false) ||
		    (from_host && strcmp(name, from_host)))
			continue;
		if (rpc_call(f->client, name, "image.get", params, ASK_TIMEOUT_NS, &there, NULL) <
		    0)
			continue;
		error_clear(err);
		r = fetch_image(f, name, ref, err);
		return r < 0 ? r : image_get(f->images, ref, image, err);
	}
	return r;
}
