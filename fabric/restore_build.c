/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building a container from a checkpoint, on the host where it will run.
 *
 *   state     done here                                        undo, from the intent
 *   CHECK     memory, CPU, image, snapshots                    -
 *   FETCH     the intent is written; the stream comes into     spool goes
 *             a spool file
 *   IDENTITY  name and addresses reserved (unless it is the    given back
 *             old container, which has them)
 *   VOLUMES   clones of the snapshots made, attached, mounted; clones removed; volumes put
 *             or the volumes themselves rolled back            where they were before
 *   BUILD     endpoint in hold, a stub, an engine that reads   skeleton dropped; the old
 *             the stream and builds                            writable layer comes back
 *   COMMIT    the container's document is written: running,    none: the next start goes on
 *             "restored" by this restore; it runs
 *
 * All of the undo is told by the intent alone (restore_undo()), because it may be another
 * ferryd that has to do it. Where the old container is on this host its folder stays, and
 * its writable layer waits beside the new one until the commit.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/rcu.h"
#include "fabric/checkpoint_internal.h"

struct restore {
	struct fabric *f;
	const struct restore_order *o;
	fabric_progress *progress;
	void *ctx;
	json_t *doc, *intent; /* what the container will be; doc is part of the intent */
	char *spool;
	struct engine *engine;
	pid_t stub;
	int64_t start_ns;
};

/* A moment at which a test may cut (see migrate_hold_point()). */
static void point(struct restore *s, const char *name)
{
	CLEANUP_FREE char *full = str_format("RESTORE-%s", name);

	migrate_hold_point(s->f, full);
}

static void enter(struct restore *s, const char *state)
{
	CLEANUP_JSON json_t *p =
		json_pack("{s:s, s:s}", "State", state, "Container", json_str(s->doc, "name", ""));

	log_debug("restore %s of %s: %s", s->o->id, json_str(s->doc, "name", ""), state);
	if (s->progress)
		s->progress(s->ctx, p);
	point(s, state);
}

/* --- the undo, and what follows a commit --------------------------------------------------- */

static char *layer_path(struct fabric *f, const char *container, const char *name)
{
	return str_format("%s/containers/%s/%s", f->state_dir, container, name);
}

/* The old writable layer is where it was. What the checkpoint's left goes. */
static int put_layer_back(struct fabric *f, const char *container, struct error *err)
{
	CLEANUP_FREE char *upper = layer_path(f, container, "upper");
	CLEANUP_FREE char *before = layer_path(f, container, "upper.before");
	int r;

	if (access(before, F_OK) < 0)
		return 0;
	r = dir_remove(upper, err);
	if (!r && rename(before, upper) < 0)
		r = error_sys(err, errno, "putting back %s", upper);
	return r;
}

static int set_layer_aside(struct fabric *f, const char *container, struct error *err)
{
	CLEANUP_FREE char *upper = layer_path(f, container, "upper");
	CLEANUP_FREE char *before = layer_path(f, container, "upper.before");

	if (dir_make(upper, 0755, err) < 0)
		return -err->code;
	return rename(upper, before) < 0 ? error_sys(err, errno, "setting %s aside", upper) : 0;
}

static int undo_skeleton(struct fabric *f, const json_t *intent, struct error *err)
{
	CLEANUP_JSON json_t *doc = json_copy(json_object_get(intent, "doc"));
	const char *id = json_str(intent, "container", "");
	int r;

	/* Volumes are undo_volume()'s: the document may still name those of the old container. */
	json_object_set_new(doc, "volumes", json_array());

	if (!json_bool(intent, "in_place", false)) {
		migrate_drop_skeleton(f, doc, NULL);
		return 0;
	}
	migrate_abort_armed(f, id);
	r = container_stop(f->containers, id, 0, err);
	container_endpoints_down(f, doc);
	return r < 0 ? r : put_layer_back(f, id, err);
}

static int undo_volume(struct fabric *f, const json_t *v, struct error *err)
{
	const char *name = json_str(v, "name", ""), *before = json_str(v, "before", NULL);
	int r;

	volume_unmount(f->volumes, name, NULL);
	r = volume_detach(f->volumes, name, err);
	if (!r && !before)
		r = volume_remove(f->volumes, name, err);
	else if (!r)
		r = volume_snapshot_rollback(f->volumes, name, before, err);
	if (!r && before)
		r = volume_snapshot_remove(f->volumes, name, before, false, err);
	if (r != -ENOENT)
		return r;
	error_clear(err);
	return 0;
}

/* All addresses that a container has in the networks of its document. */
static void free_addresses(struct fabric *f, const json_t *intent)
{
	json_t *ep, *owner;
	const char *ip;
	size_t i;

	json_array_foreach (json_at(intent, "doc.endpoints"), i, ep) {
		const char *network = json_str(ep, "network", "");
		CLEANUP_FREE char *key = str_format("ipam/net-%s", network);
		CLEANUP_JSON json_t *ipam = NULL;

		if (document_get(f, key, &ipam, NULL) < 0)
			continue;
		json_object_foreach (json_object_get(ipam, "used"), ip, owner)
			if (json_is_string(owner) &&
			    !strcmp(json_string_value(owner), json_str(intent, "container", "-")))
				network_address_free(f, network, ip);
	}
}

static int undo_identity(struct fabric *f, const json_t *intent, struct error *err)
{
	CLEANUP_FREE char *key = str_format("names/%s", json_str(intent, "name", "-"));
	CLEANUP_JSON json_t *there = NULL;
	int r;

	if (!json_bool(intent, "new_identity", false))
		return 0;
	free_addresses(f, intent);
	r = document_get(f, key, &there, err);
	if (!r && !strcmp(json_str(there, "id", ""), json_str(intent, "container", "-")))
		r = document_delete(f, key, err);
	if (r != -ENOENT)
		return r;
	error_clear(err);
	return 0;
}

/* Each step is tried, whatever became of the others. 0, or the first error. */
static int restore_undo(struct fabric *f, const json_t *intent, struct error *err)
{
	struct error why = { 0 };
	int first = undo_skeleton(f, intent, err), r;
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(intent, "volumes"), i, v) {
		error_clear(&why);
		r = undo_volume(f, v, &why);
		if (r < 0 && !first)
			first = error_set(err, -r, "volume %s: %.800s", json_str(v, "name", ""),
					  why.msg);
	}
	error_clear(&why);
	r = undo_identity(f, intent, &why);
	if (r < 0 && !first)
		first = error_set(err, -r, "%s", why.msg);
	return first;
}

/* What was kept for the undo goes. */
static int restore_finish(struct fabric *f, const json_t *intent, struct error *err)
{
	CLEANUP_FREE char *before =
		layer_path(f, json_str(intent, "container", "-"), "upper.before");
	int r = dir_remove(before, err);
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(intent, "volumes"), i, v)
		if (!r && json_str(v, "before", NULL))
			r = checkpoint_snapshot_drop(f, json_str(v, "name", ""),
						     json_str(v, "before", ""), false, err);
	return r;
}

static bool is_restored_by(const json_t *doc, const char *id)
{
	return !strcmp(json_str(doc, "restored", ""), id);
}

int restore_recover(struct fabric *f, const json_t *intent, struct error *err)
{
	CLEANUP_FREE char *key = container_key(json_str(intent, "container", "-"));
	CLEANUP_JSON json_t *doc = NULL;
	int r = document_get(f, key, &doc, err);

	if (r < 0 && r != -ENOENT)
		return r;
	error_clear(err);
	if (!r && is_restored_by(doc, json_str(intent, "id", "-")))
		return restore_finish(f, intent, err);
	log_info("container %s: undoing the restore that was cut", json_str(intent, "name", ""));
	return restore_undo(f, intent, err);
}

/* --- CHECK ------------------------------------------------------------------------------ */

static int has_snapshot(struct fabric *f, const json_t *v, struct error *err)
{
	const char *name = json_str(v, "name", ""), *snapshot = json_str(v, "snapshot", "");
	CLEANUP_JSON json_t *list = NULL;
	json_t *s;
	size_t i;
	int r = volume_snapshot_list(f->volumes, name, &list, err);

	if (r < 0 && r != -ENOENT)
		return r;
	json_array_foreach (list, i, s)
		if (!strcmp(json_str(s, "Name", ""), snapshot))
			return 0;
	return error_set(err, ENOENT,
			 "%s of volume %s is gone, so that the checkpoint has lost its data",
			 r < 0 ? "the image" : "the snapshot", name);
}

/* A volume that is to be rolled back must be nobody's. */
static int nobody_uses(struct fabric *f, const char *volume, struct error *err)
{
	CLEANUP_JSON json_t *all = documents_cached(f, "containers/");
	json_t *c, *v;
	size_t i, k;

	json_array_foreach (all, i, c)
		json_array_foreach (json_object_get(c, "volumes"), k, v)
			if (container_is_up(c) && !strcmp(json_str(v, "name", ""), volume))
				return error_set(err, EBUSY,
						 "volume %s cannot be rolled back: container %s on "
						 "host %s uses it; stop that, or restore without "
						 "--rollback",
						 volume, json_str(c, "name", ""),
						 json_str(c, "host", ""));
	return 0;
}

static int check(struct restore *s, struct error *err)
{
	const json_t *ck = s->o->checkpoint;
	CLEANUP_JSON json_t *image = NULL;
	json_t *v;
	size_t i;
	int r = memory_admit(s->f, json_int(ck, "memory_bytes", 0), err);

	if (!r)
		r = cpu_admit(s->f, (uint64_t)json_int(ck, "xsave_mask", 0), err);
	json_array_foreach (json_object_get(ck, "volumes"), i, v) {
		if (!r)
			r = has_snapshot(s->f, v, err);
		if (!r && s->o->rollback)
			r = nobody_uses(s->f, json_str(v, "name", ""), err);
	}
	if (r < 0)
		return r;
	r = image_ensure(s->f, json_str(ck, "image", ""), NULL, &image, err);
	return r < 0 ? error_wrap(err, "the image %s of the checkpoint",
				  json_str(ck, "image_ref", ""))
		     : 0;
}

/* --- the document of the container to be ----------------------------------------------------- */

static json_t *make_document(struct restore *s)
{
	const struct restore_order *o = s->o;
	json_t *doc = json_deep_copy(json_object_get(o->checkpoint, "doc")), *p;
	const char *name = o->name   ? o->name
			   : o->mark ? json_str(o->mark, "name", "")
				     : json_str(o->checkpoint, "container_name", "");
	size_t i;

	json_set_str(doc, "id", o->container);
	json_set_str(doc, "name", name);
	json_set_str(doc, "host", s->f->host);
	json_set_str(doc, "restored", o->id);
	json_set_str(doc, "desired", "running");
	json_object_set_new(doc, "state", json_pack("{s:s}", "Status", "running"));
	json_object_del(doc, "migration");
	if (!o->name)
		return doc;
	json_set_int(doc, "created_ns", clock_real_ns());
	/* The other one may be there still: it has the published ports and the aliases. */
	json_array_foreach (json_object_get(doc, "ports"), i, p)
		json_set_int(p, "host_port", 0);
	json_array_foreach (json_object_get(doc, "endpoints"), i, p)
		json_object_set_new(p, "aliases", json_array());
	return doc;
}

/* --- FETCH --------------------------------------------------------------------------------- */

static int fetch(struct restore *s, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;

	if (s->o->spool) {
		s->spool = str_dup(s->o->spool);
		return 0;
	}
	fd = spool_new(s->f, s->o->id, &s->spool, err);
	if (fd < 0)
		return fd;
	return blob_read(s->f, json_str(s->o->checkpoint, "id", "-"),
			 (uint64_t)json_int(s->o->checkpoint, "bytes", 0), fd, err);
}

/* --- IDENTITY --------------------------------------------------------------------------- */

/* The network by its id; or, made anew since, by its name. */
static int find_network(struct fabric *f, const json_t *ep, json_t **net, struct error *err)
{
	const char *name = json_str(ep, "network_name", "");

	if (!network_find(f, json_str(ep, "network", "-"), net, NULL))
		return 0;
	if (!strcmp(name, "bridge"))
		return network_default(f, net, err);
	if (!network_find(f, name, net, NULL))
		return 0;
	return error_set(err, ENOENT,
			 "the checkpoint's network %s is gone; make it again, then restore", name);
}

static int take_address(struct restore *s, json_t *ep, struct error *err)
{
	CLEANUP_JSON json_t *net = NULL;
	CLEANUP_FREE char *ip = NULL;
	unsigned int b[4];
	int r = find_network(s->f, ep, &net, err);

	if (!r)
		r = network_address_take(s->f, net, s->o->container,
					 s->o->name ? NULL : json_str(ep, "ip", ""), &ip, err);
	if (r < 0)
		return r;
	json_set_str(ep, "network", json_str(net, "id", ""));
	json_set_int(ep, "vni", json_int(net, "vni", 0));
	if (!s->o->name)
		return 0;
	if (sscanf(ip, "%u.%u.%u.%u", &b[0], &b[1], &b[2], &b[3]) != 4)
		return error_set(err, EPROTO, "address %s is none", ip);
	json_set_str(ep, "ip", ip);
	json_object_set_new(ep, "mac",
			    json_sprintf("02:42:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3]));
	return 0;
}

static int take_identity(struct restore *s, struct error *err)
{
	json_t *ep;
	size_t i;
	int r;

	if (s->o->mark)
		return 0;
	r = container_reserve_name(s->f, json_str(s->doc, "name", ""), s->o->container, err);
	json_array_foreach (json_object_get(s->doc, "endpoints"), i, ep)
		if (!r)
			r = take_address(s, ep, err);
	return r < 0 ? r : intent_update(s->f, s->intent, err);
}

/* --- VOLUMES -------------------------------------------------------------------------- */

static char *clone_name(struct restore *s, const json_t *v)
{
	const char *old = json_str(v, "name", "");
	CLEANUP_FREE char *name = NULL, *more = NULL;
	CLEANUP_JSON json_t *there = NULL;

	if (strlen(old) == 64 && strspn(old, "0123456789abcdef") == 64)
		return str_random_hex(32); /* an anonymous one */
	name = s->o->name ? str_format("%.90s-%.90s", s->o->name, old)
			  : str_format("%.90s-%.90s", old, json_str(s->o->checkpoint, "name", ""));
	if (volume_inspect(s->f->volumes, name, &there, NULL) == -ENOENT)
		return TAKE_PTR(name);
	more = str_random_hex(3);
	return str_format("%s-%s", name, more);
}

/* The create body shows what volumes it has, too. */
static void rename_in_body(json_t *doc, const char *old, const char *name)
{
	json_t *binds = json_at(doc, "docker.HostConfig.Binds"), *b;
	size_t i, n = strlen(old);

	json_array_foreach (binds, i, b) {
		const char *text = json_is_string(b) ? json_string_value(b) : "";

		if (!strncmp(text, old, n) && text[n] == ':')
			json_array_set_new(binds, i, json_sprintf("%s%s", name, text + n));
	}
	json_array_foreach (json_at(doc, "docker.HostConfig.Mounts"), i, b)
		if (!strcmp(json_str(b, "Source", ""), old))
			json_set_str(b, "Source", name);
}

static json_t *volume_at(json_t *doc, const char *destination)
{
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(doc, "volumes"), i, v)
		if (!strcmp(json_str(v, "destination", ""), destination))
			return v;
	return NULL;
}

/* Known to the intent before it is there. */
static int note_volume(struct restore *s, json_t *entry, struct error *err)
{
	json_array_append_new(json_object_get(s->intent, "volumes"), entry);
	return intent_update(s->f, s->intent, err);
}

static int roll_back(struct restore *s, const json_t *v, struct error *err)
{
	const char *name = json_str(v, "name", "");
	CLEANUP_FREE char *before = str_format("ferry-before-%s", s->o->id);
	int r = note_volume(s, json_pack("{s:s, s:s}", "name", name, "before", before), err);

	if (!r)
		r = volume_snapshot_create(s->f->volumes, name, before, err);
	return r < 0 ? r
		     : volume_snapshot_rollback(s->f->volumes, name, json_str(v, "snapshot", ""),
						err);
}

static int clone_volume(struct restore *s, const json_t *v, struct error *err)
{
	const char *old = json_str(v, "name", "");
	CLEANUP_FREE char *name = clone_name(s, v);
	json_t *mine = volume_at(s->doc, json_str(v, "destination", ""));
	int r = note_volume(s, json_pack("{s:s, s:s}", "name", name, "from", old), err);

	if (!r)
		r = volume_clone(s->f->volumes, old, json_str(v, "snapshot", ""), name, err);
	if (r == -EEXIST) /* somebody else's: not to be undone */
		json_array_remove(json_object_get(s->intent, "volumes"),
				  json_array_size(json_object_get(s->intent, "volumes")) - 1);
	if (r < 0)
		return r;
	json_set_str(mine, "name", name);
	rename_in_body(s->doc, old, name);
	event_publish(s->f->events, "volume", "create", name, NULL);
	return 0;
}

static int volumes_up(struct restore *s, struct error *err)
{
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(s->o->checkpoint, "volumes"), i, v) {
		int r;

		if (!volume_at(s->doc, json_str(v, "destination", "")))
			return error_set(err, EBADMSG,
					 "the checkpoint's document contradicts "
					 "itself: nothing is mounted at %s",
					 json_str(v, "destination", ""));
		r = s->o->rollback ? roll_back(s, v, err) : clone_volume(s, v, err);
		if (r < 0)
			return r;
	}
	return container_volumes_up(s->f, s->doc, err);
}

/* --- BUILD ------------------------------------------------------------------------------ */

static json_t *addresses(const struct restore *s)
{
	const json_t *before = json_at(s->o->checkpoint, "doc.endpoints"), *old;
	json_t *list = json_array(), *ep;
	size_t i;

	json_array_foreach (json_object_get(s->doc, "endpoints"), i, ep) {
		old = json_array_get(before, i);
		if (strcmp(json_str(old, "ip", ""), json_str(ep, "ip", "")))
			json_array_append_new(list, json_pack("{s:s, s:s}", "old",
							      json_str(old, "ip", ""), "new",
							      json_str(ep, "ip", "")));
	}
	return list;
}

static int start_engine(struct restore *s, struct error *err)
{
	CLEANUP_FREE char *program = str_format("%s/ferry-checkpoint", s->f->bin_dir);
	CLEANUP_JSON json_t *live = NULL;
	json_t *load = json_pack("{s:s, s:b}", "path", s->spool, "allow_unsigned", !s->f->cluster);
	json_t *args;
	int r = container_inspect(s->f->containers, s->o->container, &live, err);

	if (!r)
		r = engine_start(program, &s->engine, err);
	if (r < 0) {
		json_decref(load);
		return r;
	}
	if (s->f->cluster)
		json_set_str(load, "ca", cluster_ca_path(s->f->cluster));
	args = json_pack("{s:i, s:O, s:o, s:o, s:s, s:o}", "init_pid", (int)s->stub, "cgroup",
			 json_object_get(live, "Cgroup"), "externals",
			 migrate_externals(json_object_get(s->o->checkpoint, "stdio")), "load",
			 load, "connections", s->o->name ? "drop" : "keep", "addresses",
			 addresses(s));
	return engine_call(s->engine, "prepare", args, NULL, err);
}

/*
 * Before the engine begins: it skips what is mounted, but one that makes the writable
 * layer's folders in the same moment would meet those that are made here.
 */
static int mount_volumes(struct restore *s, struct error *err)
{
	json_t *v;
	size_t i;

	json_array_foreach (json_object_get(s->doc, "volumes"), i, v) {
		CLEANUP_FREE char *path = NULL;
		int r = volume_mount(s->f->volumes, json_str(v, "name", ""), &path, err);

		if (!r)
			r = container_mount_into(s->stub, path, json_str(v, "destination", ""),
						 !json_bool(v, "rw", true), err);
		if (r < 0)
			return error_wrap(err, "volume %s", json_str(v, "name", ""));
	}
	return 0;
}

static int build(struct restore *s, struct error *err)
{
	/* From the instant of the checkpoint: the time since then has not passed for it. */
	CLEANUP_JSON json_t *clocks = json_copy(json_object_get(s->o->checkpoint, "clocks"));
	struct container_time_offsets offsets;
	CLEANUP_FREE char *netns = NULL;
	int r = json_bool(s->intent, "in_place", false)
			? set_layer_aside(s->f, s->o->container, err)
			: container_materialise(s->f, s->doc, err);

	if (!r)
		r = container_endpoints_up(s->f, s->doc, true, &netns, err);
	if (r < 0)
		return r;
	json_object_del(clocks, "real_ns");
	offsets = migrate_offsets(clocks);
	r = container_launch(s->f, s->doc, netns, true, &offsets, &s->stub, err);
	if (!r)
		r = mount_volumes(s, err);
	if (!r)
		r = start_engine(s, err);
	if (!r)
		r = engine_call(s->engine, "storage_ready", NULL, NULL, err);
	return r < 0 ? r : engine_call(s->engine, "wait_restored", NULL, NULL, err);
}

/* --- COMMIT ----------------------------------------------------------------------------- */

static int become(void *ctx, json_t *doc, struct error *err)
{
	const struct restore *s = ctx;

	if (is_restored_by(doc, s->o->id))
		return 1; /* an earlier try had got through after all */
	if (container_is_up(doc) ||
	    strcmp(json_str(json_object_get(doc, "migration"), "id", ""), s->o->id))
		return error_set(err, ECANCELED, "host %s has given up restore %s",
				 json_str(doc, "host", ""), s->o->id);
	json_object_update(doc, s->doc);
	json_object_del(doc, "migration");
	return 0;
}

static int swap(struct restore *s, struct error *err)
{
	CLEANUP_FREE char *key = container_key(s->o->container);

	for (;;) {
		CLEANUP_JSON json_t *there = NULL;
		int r;

		error_clear(err);
		r = s->o->mark ? document_change(s->f, key, become, s, NULL, err)
			       : document_new(s->f, key, s->doc, err);
		if (r == -EEXIST && !document_get(s->f, key, &there, NULL) &&
		    is_restored_by(there, s->o->id)) {
			error_clear(err);
			return 0;
		}
		if (r != -ETIMEDOUT && r != -EHOSTUNREACH)
			return r;
		log_warn("restore %s: the store does not say whether it is committed: %s", s->o->id,
			 err->msg);
		clock_sleep_ns(200000000);
	}
}

static int commit(struct restore *s, struct error *err)
{
	CLEANUP_FREE char *path = migrate_socket(s->f, s->o->container);
	CLEANUP_FREE char *folder = str_format("%s/migrations", s->f->run_dir);
	struct error why = { 0 };
	int r = dir_make(folder, 0700, err);

	if (!r)
		r = engine_call(s->engine, "arm", json_pack("{s:s}", "socket", path), NULL, err);
	if (r < 0)
		return r;
	point(s, "ARMED");
	r = swap(s, err);
	if (r < 0)
		return r;
	point(s, "COMMITTED");
	container_adopt_begin(s->f->containers, s->o->container, NULL);
	if (engine_call(s->engine, "run", NULL, NULL, &why) < 0)
		log_error("container %.12s: %s", s->o->container, why.msg);
	unlink(path);
	error_clear(&why);
	if (json_array_size(json_object_get(s->doc, "endpoints")) &&
	    netd_release(s->f->netd, s->o->container, &why) < 0)
		log_error("container %.12s: %s", s->o->container, why.msg);
	migrate_settle(s->f, s->doc);
	return 0;
}

/* --- the whole -------------------------------------------------------------------------- */

static int begin(struct restore *s, struct error *err)
{
	CLEANUP_JSON json_t *live = NULL;
	bool here = s->o->mark && !strcmp(json_str(s->o->mark, "host", ""), s->f->host) &&
		    !container_inspect(s->f->containers, s->o->container, &live, NULL);

	s->intent = json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:b, s:[], s:O}", "id", s->o->id,
			      "kind", "restore", "host", s->f->host, "container", s->o->container,
			      "name", json_str(s->doc, "name", ""), "new_identity", !s->o->mark,
			      "in_place", here, "volumes", "doc", s->doc);
	return intent_begin(s->f, s->intent, err);
}

static int step(struct restore *s, const char *state,
		int (*fn)(struct restore *s, struct error *err), struct error *err)
{
	enter(s, state);
	return fn(s, err);
}

static int run(struct restore *s, struct error *err)
{
	int r = step(s, "FETCH", fetch, err);

	if (!r)
		r = step(s, "IDENTITY", take_identity, err);
	if (!r)
		r = step(s, "VOLUMES", volumes_up, err);
	if (!r)
		r = step(s, "BUILD", build, err);
	if (!r)
		r = step(s, "COMMIT", commit, err);
	return r;
}

static json_t *summary(const struct restore *s)
{
	json_t *volumes = json_array(), *addrs = json_array(), *v;
	size_t i;

	json_array_foreach (json_object_get(s->intent, "volumes"), i, v)
		json_array_append_new(
			volumes, json_pack("{s:s, s:s}", "Name", json_str(v, "name", ""), "From",
					   json_str(v, "from", json_str(v, "name", ""))));
	json_array_foreach (json_object_get(s->doc, "endpoints"), i, v)
		json_array_append_new(addrs, json_string(json_str(v, "ip", "")));
	return json_pack("{s:s, s:s, s:s, s:s, s:I, s:o, s:o}", "Container",
			 json_str(s->doc, "name", ""), "Id", s->o->container, "Host", s->f->host,
			 "Checkpoint", json_str(s->o->checkpoint, "name", ""), "TotalNs",
			 (json_int_t)(clock_mono_ns() - s->start_ns), "Volumes", volumes,
			 "Addresses", addrs);
}

int restore_build_here(struct fabric *f, const struct restore_order *order,
		       fabric_progress *progress, void *ctx, json_t **out, struct error *err)
{
	struct restore s = {
		.f = f, .o = order, .progress = progress, .ctx = ctx, .start_ns = clock_mono_ns()
	};
	struct error why = { 0 };
	int r;

	checkpoint_sweep(f);
	s.doc = make_document(&s);
	r = step(&s, "CHECK", check, err);
	if (!r)
		r = begin(&s, err);
	if (!r) {
		r = run(&s, err);
		if (r < 0 && s.engine)
			engine_kill(s.engine);
		engine_free(s.engine);
		if (!r) {
			*out = summary(&s);
			container_event(f, s.doc, "restore", "checkpoint",
					json_str(order->checkpoint, "name", ""));
		}
		if ((r < 0 ? restore_undo(f, s.intent, &why) : restore_finish(f, s.intent, &why)) <
		    0)
			log_warn("restore of %s: %s; tried again later",
				 json_str(s.doc, "name", ""), why.msg);
		intent_end(f, s.intent, !why.code);
	}
	if (!order->spool)
		spool_remove(&s.spool);
	free(s.spool);
	json_decref(s.intent);
	json_decref(s.doc);
	return r;
}
