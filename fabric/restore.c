/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Restoring and cloning, from any host: finds the checkpoint, decides which container it
 * becomes and where, and has it built there (restore_build.c).
 *
 * An old container that is there still is marked in its document, by the host that owns
 * it and as one operation on it: as with a migration, who is in doubt takes the mark
 * out, and the host that builds cannot commit any more.
 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "fabric/checkpoint_internal.h"

#define BUILD_TIMEOUT_NS 3600000000000ll
#define SEND_TIMEOUT_NS	 60000000000ll

struct restoring {
	struct fabric *f;
	char *id, *container;
	const json_t *checkpoint;
	const struct fabric_restore_options *o;
	const char *host;
	const char *spool; /* of this host; NULL: the cluster has it */
	struct progress_relay relay;
};

/* --- where ------------------------------------------------------------------------------ */

static int want_host(struct fabric *f, const char *host, struct error *err)
{
	CLEANUP_JSON json_t *hosts = NULL;
	CLEANUP_BUF struct buf names = { 0 };
	json_t *h;
	size_t i;
	int r;

	if (!strcmp(host, f->host))
		return 0;
	if (!f->cluster)
		return error_set(
			err, ENOENT,
			"unknown host %s: this host is in no cluster; see 'ferry cluster init'",
			host);
	r = host_list(f->store, &hosts, err);
	if (r < 0)
		return r;
	buf_add(&names, "", 0);
	json_array_foreach (hosts, i, h) {
		buf_addf(&names, "%s%s", i ? ", " : "", json_str(h, "name", ""));
		if (strcmp(json_str(h, "name", ""), host))
			continue;
		if (json_bool(h, "alive", false))
			return 0;
		return error_set(err, EHOSTUNREACH,
				 "host %s is down; start ferryd there or choose another host",
				 host);
	}
	return error_set(err, ENOENT, "unknown host %s; the hosts are: %s", host, names.data);
}

/* --- at another host ------------------------------------------------------------------------ */

static int send_spool(struct restoring *s, struct error *err)
{
	CLEANUP_JSON json_t *params = json_pack("{s:s}", "restore", s->id);
	CLEANUP_CLOSE int fd = open(s->spool, O_RDONLY | O_CLOEXEC);
	struct rpc_stream *stream = NULL;
	int r;

	if (fd < 0)
		return error_sys(err, errno, "opening %s", s->spool);
	r = rpc_stream_open(s->f->client, s->host, "restore.receive", params, SEND_TIMEOUT_NS,
			    &stream, err);
	if (r < 0)
		return r;
	r = rpc_stream_send_fd(stream, fd, NULL, err);
	if (r < 0) {
		rpc_stream_close(stream);
		return r;
	}
	return rpc_stream_finish(stream, NULL, err);
}

static char *received_path(struct fabric *f, const char *id)
{
	return str_format("%s/checkpoints/spool/%.32s", f->state_dir, id);
}

static int rpc_receive(void *ctx, struct rpc_request *req, json_t *params,
		       struct rpc_stream *stream, json_t **result, struct error *err)
{
	struct fabric *f = ctx;
	const char *id = NULL;
	CLEANUP_FREE char *path = NULL;
	CLEANUP_CLOSE int fd = -1;
	int r = json_want_str(params, "restore", true, &id, err);

	(void)req;
	(void)result;
	if (!r && !str_is_name(id))
		r = error_set(err, EINVAL, "restore.receive: \"%.40s\" is no id", id);
	if (r < 0)
		return r;
	fd = spool_new(f, id, &path, err);
	if (fd < 0)
		return fd;
	r = rpc_stream_receive_fd(stream, fd, NULL, err);
	if (r < 0)
		unlink(path);
	return r;
}

static int rpc_build(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		     struct error *err)
{
	struct fabric *f = ctx;
	struct restore_order o = {
		.id = json_str(params, "restore", ""),
		.container = json_str(params, "container", ""),
		.checkpoint = json_object_get(params, "checkpoint"),
		.name = json_str(params, "name", NULL),
		.mark = json_object_get(params, "mark"),
		.rollback = json_bool(params, "rollback", false),
	};
	CLEANUP_FREE char *path = received_path(f, o.id);
	int r;

	if (!str_is_name(o.id) || !str_is_name(o.container) || !json_is_object(o.checkpoint))
		return error_set(err, EINVAL, "restore.build: not a restore");
	if (json_bool(params, "sent", false))
		o.spool = path;
	r = restore_build_here(f, &o, progress_send, req, result, err);
	unlink(path);
	return r;
}

static int build_at(struct restoring *s, const json_t *mark, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *params =
		json_pack("{s:s, s:s, s:O, s:s*, s:O*, s:b, s:b}", "restore", s->id, "container",
			  s->container, "checkpoint", s->checkpoint, "name", s->o->name, "mark",
			  mark, "rollback", s->o->rollback, "sent", s->spool != NULL);
	struct restore_order order = {
		.id = s->id,
		.container = s->container,
		.checkpoint = s->checkpoint,
		.name = s->o->name,
		.spool = s->spool,
		.mark = mark,
		.rollback = s->o->rollback,
	};
	int r;

	if (!strcmp(s->host, s->f->host))
		return restore_build_here(s->f, &order, s->relay.progress, s->relay.ctx, out, err);
	r = s->spool ? send_spool(s, err) : 0;
	return r < 0 ? r
		     : rpc_call_progress(s->f->client, s->host, "restore.build", params,
					 BUILD_TIMEOUT_NS, progress_relay, &s->relay, out, err);
}

/* --- the old container, which is there -------------------------------------------------------- */

static int mark(void *ctx, json_t *doc, struct error *err)
{
	const struct restoring *s = ctx;

	if (strcmp(json_str(doc, "host", ""), s->f->host))
		return error_set(err, EBUSY, "container %s has just moved to host %s; try again",
				 json_str(doc, "name", ""), json_str(doc, "host", ""));
	if (container_is_up(doc))
		return error_set(
			err, EBUSY,
			"container %s runs on host %s; stop it first, or give --name for a "
			"second one",
			json_str(doc, "name", ""), json_str(doc, "host", ""));
	json_object_set_new(doc, "migration", json_pack("{s:s, s:s}", "id", s->id, "to", s->host));
	return 0;
}

struct decision {
	const struct restoring *s;
	bool committed;
};

static int unmark(void *ctx, json_t *doc, struct error *err)
{
	struct decision *d = ctx;

	(void)err;
	d->committed = !strcmp(json_str(doc, "restored", ""), d->s->id);
	return !d->committed && json_object_del(doc, "migration") == 0 ? 0 : 1;
}

/* Whatever came back, the document tells. Waits for a store that does not answer. */
static bool decide(const struct restoring *s)
{
	CLEANUP_FREE char *key = container_key(s->container);
	struct decision d = { .s = s };

	for (;;) {
		struct error err = { 0 };
		int r = document_change(s->f, key, unmark, &d, NULL, &err);

		if (r >= 0 || r == -ENOENT)
			return d.committed;
		log_warn("restore %s: asking the store how it ended: %s", s->id, err.msg);
		clock_sleep_ns(500000000);
	}
}

static int restore_over(struct restoring *s, json_t **out, struct error *err)
{
	CLEANUP_FREE char *key = container_key(s->container);
	CLEANUP_JSON json_t *old = NULL;
	int r = op_begin(s->f, s->container, "restoring", false, err);

	if (r < 0)
		return r;
	r = document_change(s->f, key, mark, s, &old, err);
	if (r < 0) {
		op_end(s->f, s->container);
		return r;
	}
	r = build_at(s, old, out, err);
	if (decide(s)) {
		if (r < 0)
			*out = json_pack("{s:s, s:s, s:s}", "Container", json_str(old, "name", ""),
					 "Id", s->container, "Host", s->host);
		r = 0;
		error_clear(err);
		if (strcmp(s->host, s->f->host))
			container_unmake(s->f, old); /* its files; volumes are not attached */
	} else if (!r) {
		r = error_set(err, ECANCELED, "the restore was given up");
	}
	op_end(s->f, s->container);
	return r;
}

/* --- which container -------------------------------------------------------------------- */

static int name_is_free(struct fabric *f, const char *name, const char *container,
			struct error *err)
{
	CLEANUP_FREE char *key = str_format("names/%s", name);
	CLEANUP_JSON json_t *there = NULL;
	int r = document_get(f, key, &there, err);

	if (r == -ENOENT) {
		error_clear(err);
		return 0;
	}
	if (r < 0 || (container && !strcmp(json_str(there, "id", ""), container)))
		return r;
	return error_set(err, EEXIST,
			 "Conflict. The container name \"/%s\" is already in use by container "
			 "\"%s\"; give another with --name",
			 name, json_str(there, "id", "?"));
}

/* Another host has the old container: it does all of this. */
static int forward(struct restoring *s, const char *owner, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *params = json_pack("{s:O, s:s, s:b}", "checkpoint", s->checkpoint,
						"host", s->host, "rollback", s->o->rollback);

	if (s->spool)
		return error_set(err, EXDEV,
				 "container %s is on host %s; restore the file there, or give "
				 "--name",
				 json_str(s->checkpoint, "container_name", ""), owner);
	return rpc_call_progress(s->f->client, owner, "restore.over", params, BUILD_TIMEOUT_NS,
				 progress_relay, &s->relay, out, err);
}

static int restore_old(struct restoring *s, json_t **out, struct error *err)
{
	CLEANUP_FREE char *key = NULL;
	CLEANUP_JSON json_t *old = NULL;
	const char *name = json_str(s->checkpoint, "container_name", "");
	int r;

	s->container = str_dup(json_str(s->checkpoint, "container", ""));
	key = container_key(s->container);
	r = document_get(s->f, key, &old, err);
	if (r == -ENOENT) {
		error_clear(err);
		r = name_is_free(s->f, name, NULL, err);
		return r < 0 ? r : build_at(s, NULL, out, err);
	}
	if (r < 0)
		return r;
	if (container_is_up(old))
		return error_set(
			err, EBUSY,
			"container %s runs on host %s; stop it first, or give --name for a "
			"second one",
			json_str(old, "name", ""), json_str(old, "host", ""));
	return container_is_local(s->f, old) ? restore_over(s, out, err)
					     : forward(s, json_str(old, "host", ""), out, err);
}

static int restore_new(struct restoring *s, json_t **out, struct error *err)
{
	int r;

	if (!str_is_name(s->o->name))
		return error_set(
			err, EINVAL,
			"Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
			s->o->name);
	r = name_is_free(s->f, s->o->name, NULL, err);
	s->container = str_random_hex(32);
	return r < 0 ? r : build_at(s, NULL, out, err);
}

static int restore(struct fabric *f, const json_t *checkpoint, const char *spool,
		   const struct fabric_restore_options *o, fabric_progress *progress, void *ctx,
		   json_t **out, struct error *err)
{
	struct restoring s = { .f = f,
			       .checkpoint = checkpoint,
			       .o = o,
			       .host = o->host && *o->host ? o->host : f->host,
			       .spool = spool,
			       .relay = { progress, ctx } };
	int r = want_host(f, s.host, err);

	if (r < 0)
		return r;
	s.id = str_random_hex(16);
	r = o->name ? restore_new(&s, out, err) : restore_old(&s, out, err);
	free(s.id);
	free(s.container);
	return r;
}

static int rpc_over(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		    struct error *err)
{
	struct fabric *f = ctx;
	struct fabric_restore_options o = {
		.host = json_str(params, "host", NULL),
		.rollback = json_bool(params, "rollback", false),
	};
	const json_t *checkpoint = json_object_get(params, "checkpoint");
	CLEANUP_FREE char *key = container_key(json_str(checkpoint, "container", "-"));
	CLEANUP_JSON json_t *old = NULL;
	int r = document_get(f, key, &old, err);

	if (!r && !container_is_local(f, old))
		r = error_set(err, EBUSY, "container %s has just moved to host %s; try again",
			      json_str(old, "name", ""), json_str(old, "host", ""));
	return r < 0 ? r : restore(f, checkpoint, NULL, &o, progress_send, req, result, err);
}

const struct rpc_method restore_methods[] = {
	{ "restore.over", rpc_over, NULL, 0 },
	{ "restore.build", rpc_build, NULL, 0 },
	{ "restore.receive", NULL, rpc_receive, 0 },
	{ NULL, NULL, NULL, 0 },
};

/* --- what the API calls ----------------------------------------------------------------------- */

int fabric_restore(struct fabric *f, const char *ref, const struct fabric_restore_options *options,
		   fabric_progress *progress, void *ctx, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	int r;

	checkpoint_sweep(f);
	r = checkpoint_find(f, ref, &doc, err);
	if (r < 0)
		return r;
	if (!strcmp(json_str(doc, "place", ""), "exported"))
		return error_set(err, ENOENT,
				 "the data of checkpoint %s is in the file that it was put out to: "
				 "restore that file",
				 json_str(doc, "name", ""));
	return restore(f, doc, NULL, options, progress, ctx, out, err);
}

int fabric_restore_file(struct fabric *f, int fd, const struct fabric_restore_options *options,
			fabric_progress *progress, void *ctx, json_t **out, struct error *err)
{
	CLEANUP_FREE char *id = str_random_hex(16);
	CLEANUP_SPOOL char *path = NULL;
	CLEANUP_JSON json_t *doc = NULL;
	int spool = spool_new(f, id, &path, err), r;

	if (spool < 0)
		return spool;
	close(spool);
	r = checkpoint_file_read(f, fd, path, &doc, err);
	return r < 0 ? r : restore(f, doc, path, options, progress, ctx, out, err);
}

/* A checkpoint that is there only for this: swept away when this is cut. */
int fabric_clone(struct fabric *f, const char *container,
		 const struct fabric_restore_options *options, fabric_progress *progress, void *ctx,
		 json_t **out, struct error *err)
{
	CLEANUP_FREE char *id = str_random_hex(16), *name = str_format("clone-%.8s", id);
	CLEANUP_FREE char *new_name = NULL, *key = NULL;
	CLEANUP_JSON json_t *owner = NULL;
	CLEANUP_JSON json_t *intent = NULL;
	CLEANUP_JSON json_t *made = NULL;
	CLEANUP_JSON json_t *doc = NULL;
	struct fabric_restore_options o = *options;
	struct error why = { 0 };
	int r = container_find(f, container, &owner, err);

	if (r < 0)
		return r;
	new_name = o.name ? str_dup(o.name) : str_format("%s-clone", json_str(owner, "name", ""));
	o.name = new_name;
	r = want_host(f, o.host && *o.host ? o.host : f->host, err);
	if (!r)
		r = name_is_free(f, new_name, NULL, err);
	if (r < 0)
		return r;
	key = checkpoint_key(json_str(owner, "id", ""), name);
	intent = json_pack("{s:s, s:s, s:s, s:s}", "id", id, "kind", "clone", "host", f->host,
			   "key", key);
	r = intent_begin(f, intent, err);
	if (r < 0)
		return r;
	r = fabric_checkpoint_create(f, json_str(owner, "id", ""), name, true, progress, ctx, &made,
				     err);
	if (!r)
		r = store_get(f->store, key, &doc, NULL, err);
	if (!r)
		r = restore(f, doc, NULL, &o, progress, ctx, out, err);
	if (!r)
		json_set_int(*out, "PauseNs", json_int(made, "PauseNs", 0));
	if (doc && checkpoint_discard(f, doc, true, &why) < 0)
		log_warn("the checkpoint that clone %s was made from: %s; tried again later",
			 new_name, why.msg);
	intent_end(f, intent, !why.code);
	return r;
}
