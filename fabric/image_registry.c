/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images from and to registries. A layer that another host of the cluster has is taken
 * from there: it is nearer, and the registry may ask money for it.
 */
#include <string.h>

#include "fabric/internal.h"

#define ASK_TIMEOUT_NS 2000000000ll

struct carrier {
	struct fabric *f;
	const struct fabric_transfer *t;
	pthread_mutex_t lock;
	json_t *silent; /* hosts that could not be reached: not asked again */
};

static void progress(void *ctx, json_t *line)
{
	const struct carrier *c = ctx;

	if (c->t->progress)
		c->t->progress(c->t->ctx, line);
}

static bool stop(void *ctx)
{
	const struct carrier *c = ctx;

	return c->t->stop && c->t->stop(c->t->ctx);
}

/* --- layers from other hosts ---------------------------------------------------------- */

/* The layer that a request names: an fd, or -errno. */
static int open_named(struct fabric *f, const json_t *params, struct error *err)
{
	const char *diff = NULL;
	int r = json_want_str(params, "diff", true, &diff, err);

	return r < 0 ? r : image_layer_open(f->images, diff, err);
}

static int rpc_layer(void *ctx, struct rpc_request *req, json_t *params, struct rpc_stream *stream,
		     json_t **result, struct error *err)
{
	CLEANUP_CLOSE int fd = open_named(ctx, params, err);

	(void)req;
	(void)result;
	return fd < 0 ? fd : rpc_stream_send_fd(stream, fd, NULL, err);
}

static int rpc_has_layer(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
			 struct error *err)
{
	CLEANUP_CLOSE int fd = open_named(ctx, params, err);

	(void)req;
	(void)result;
	return fd < 0 ? fd : 0;
}

const struct rpc_method image_registry_methods[] = {
	{ "image.has_layer", rpc_has_layer, NULL, 0 },
	{ "image.layer", NULL, rpc_layer, 0 },
	{ NULL, NULL, NULL, 0 },
};

static int layer_from(struct fabric *f, const char *host, const char *diff, int fd)
{
	CLEANUP_JSON json_t *params = json_pack("{s:s}", "diff", diff);
	struct rpc_stream *stream = NULL;
	/* A host that hangs must not hold up what a registry could do. */
	int r = rpc_call(f->client, host, "image.has_layer", params, ASK_TIMEOUT_NS, NULL, NULL);

	if (r == 0)
		r = rpc_stream_open(f->client, host, "image.layer", params, 0, &stream, NULL);
	if (r < 0)
		return r;
	r = rpc_stream_receive_fd(stream, fd, NULL, NULL);
	if (r < 0) {
		rpc_stream_close(stream);
		return r;
	}
	return rpc_stream_finish(stream, NULL, NULL);
}

static bool is_silent(struct carrier *c, const char *host)
{
	bool yes;

	pthread_mutex_lock(&c->lock);
	yes = json_object_get(c->silent, host) != NULL;
	pthread_mutex_unlock(&c->lock);
	return yes;
}

static void note_silent(struct carrier *c, const char *host)
{
	pthread_mutex_lock(&c->lock);
	json_object_set_new(c->silent, host, json_true());
	pthread_mutex_unlock(&c->lock);
}

static int layer(void *ctx, const char *diff, int fd)
{
	struct carrier *c = ctx;
	CLEANUP_JSON json_t *hosts = NULL;
	const json_t *h;
	size_t i;

	if (!c->f->client || host_list(c->f->store, &hosts, NULL) < 0)
		return -ENOENT;
	json_array_foreach (hosts, i, h) {
		const char *name = json_str(h, "name", "");
		int r;

		if (!strcmp(name, c->f->host) || !json_bool(h, "alive", false) ||
		    is_silent(c, name))
			continue;
		r = layer_from(c->f, name, diff, fd);
		if (r == 0)
			return 0;
		if (r != -ENOENT)
			note_silent(c, name);
		/* What came of it is worth nothing. */
		if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
			return -EIO;
	}
	return -ENOENT;
}

/* --- pull and push -------------------------------------------------------------------- */

struct setup {
	struct carrier carrier;
	struct image_registries registries;
	struct image_login login;
	struct image_transfer transfer;
};

static const char *field(const json_t *login, const char *key)
{
	const char *s = json_str(login, key, NULL);

	return s && *s ? s : NULL;
}

static void set_up(struct setup *s, struct fabric *f, const struct fabric_transfer *t)
{
	*s = (struct setup){
		.carrier = { .f = f, .t = t, .silent = json_object() },
		.registries = f->registries,
		.login = { .user = field(t->login, "username"),
			   .password = field(t->login, "password"),
			   .identity_token = field(t->login, "identitytoken"),
			   .registry_token = field(t->login, "registrytoken") },
		.transfer = { .progress = progress, .stop = stop, .layer = layer, .arch = t->arch },
	};
	pthread_mutex_init(&s->carrier.lock, NULL);
	s->transfer.registries = &s->registries;
	s->transfer.ctx = &s->carrier;
	if (s->login.user || s->login.identity_token || s->login.registry_token)
		s->transfer.login = &s->login;
}

static void tear_down(struct setup *s)
{
	pthread_mutex_destroy(&s->carrier.lock);
	json_decref(s->carrier.silent);
}

int fabric_image_pull(struct fabric *f, const char *ref, const struct fabric_transfer *t,
		      json_t **result, struct error *err)
{
	struct error why = { 0 };
	struct setup s;
	int r;

	set_up(&s, f, t);
	r = image_pull(f->images, ref, &s.transfer, result, &why);
	tear_down(&s);
	if (r == -ECONNREFUSED || r == -EHOSTUNREACH || r == -ETIMEDOUT)
		return error_set(err, -r, "%s; images come as archives, too: 'docker load'",
				 why.msg);
	if (r < 0)
		return error_set(err, -r, "%s", why.msg);
	event_publish(f->events, "image", "pull", ref, NULL);
	return 0;
}

int fabric_image_push(struct fabric *f, const char *ref, const struct fabric_transfer *t,
		      json_t **result, struct error *err)
{
	struct setup s;
	int r;

	set_up(&s, f, t);
	r = image_push(f->images, ref, &s.transfer, result, err);
	tear_down(&s);
	if (!r)
		event_publish(f->events, "image", "push", ref, NULL);
	return r;
}

int fabric_image_distribution(struct fabric *f, const char *ref, const json_t *login, json_t **out,
			      struct error *err)
{
	struct fabric_transfer t = { .login = login };
	struct setup s;
	int r;

	set_up(&s, f, &t);
	r = image_distribution(&s.transfer, ref, out, err);
	tear_down(&s);
	return r;
}

int fabric_image_login(struct fabric *f, const char *host, const json_t *login, struct error *err)
{
	struct fabric_transfer t = { .login = login };
	struct setup s;
	int r;

	set_up(&s, f, &t);
	r = image_login_check(&s.transfer, host, err);
	tear_down(&s);
	return r;
}
