/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening the fabric: the parts of this host, the store (the cluster's where this host is
 * in one, else a file of its own), the RPC server, the heartbeat; then reconciling what is
 * found on the host with what the documents say.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "fabric/checkpoint_internal.h"
#include "fabric/internal.h"

static const struct rpc_method *const method_tables[] = {
	container_create_methods, container_methods,  image_methods,
	image_registry_methods,	  files_methods,      network_methods,
	migrate_methods,	  checkpoint_methods, restore_methods,
};

/* --- parts of this host ---------------------------------------------------------------------- */

static int open_containers(struct fabric *f, struct error *err)
{
	CLEANUP_FREE char *oci = str_format("%s/ferry-oci", f->bin_dir);
	CLEANUP_FREE char *shim = str_format("%s/ferry-shim", f->bin_dir);
	struct container_config c = {
		.run_dir = f->run_dir,
		.state_dir = f->state_dir,
		.oci_path = oci,
		.shim_path = shim,
		.cgroup_parent = f->cgroup_parent,
	};

	return container_manager_open(&c, &f->containers, err);
}

static int open_volumes(struct fabric *f, struct error *err)
{
	CLEANUP_FREE char *vold = str_format("%s/ferry-vold", f->bin_dir);
	struct volumes_config v = {
		.run_dir = f->run_dir,
		.state_dir = f->state_dir,
		.vold_path = vold,
		.host = f->host,
		.ceph_conf = f->ceph_conf,
		.ceph_user = f->ceph_user,
		.pool = f->ceph_pool,
	};

	return volumes_open(&v, &f->volumes, err);
}

static int open_network(struct fabric *f, struct error *err)
{
	struct netd_config n = {
		.run_dir = f->run_dir,
		.bpffs = "/sys/fs/bpf",
		.host = f->host,
		.underlay_ip = f->address ? f->address : "127.0.0.1",
	};
	int r = netd_open(&n, &f->netd, err);

	return r < 0 ? r : netd_set_resolver(f->netd, network_lookup, f, err);
}

static int open_parts(struct fabric *f, struct error *err)
{
	CLEANUP_FREE char *images = str_format("%s/images", f->state_dir);
	int r = image_store_open(images, &f->images, err);

	if (r < 0)
		return error_wrap(err, "opening the image store");
	r = open_volumes(f, err);
	if (r < 0)
		return error_wrap(err, "opening volumes");
	r = open_network(f, err);
	if (r < 0)
		return error_wrap(err, "opening the network");
	r = open_containers(f, err);
	return r < 0 ? error_wrap(err, "opening containers") : 0;
}

/* --- store and cluster -------------------------------------------------------------- */

static int open_own_store(struct fabric *f, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/standalone.db", f->state_dir);
	struct store_config c = { .driver = "embedded", .path = path };

	return store_open(&c, &f->store, err);
}

/* Makes this host a working member: store, RPC both ways, heartbeat. */
static int open_cluster(struct fabric *f, struct error *err)
{
	struct hosts_config h = { 0 };
	int r = cluster_load(f->state_dir, &f->cluster, err);

	if (r < 0)
		return r;
	f->store = cluster_store(f->cluster);
	f->client = rpc_client_new(cluster_tls(f->cluster), host_resolve, f->store);
	r = rpc_server_new(cluster_tls(f->cluster), &f->server, err);
	if (r < 0)
		return r;
	rpc_server_add(f->server, cluster_methods, f->cluster);
	for (size_t i = 0; i < sizeof(method_tables) / sizeof(method_tables[0]); i++)
		rpc_server_add(f->server, method_tables[i], f);
	r = rpc_server_start(f->server, cluster_address(f->cluster), cluster_port(f->cluster), err);
	if (r < 0)
		return error_wrap(err, "listening for other hosts");
	h.store = f->store;
	h.name = f->host;
	h.address = cluster_address(f->cluster);
	h.port = rpc_server_port(f->server);
	h.ctx = f;
	return hosts_start(&h, &f->hosts, NULL, err);
}

static void close_cluster(struct fabric *f)
{
	hosts_stop(f->hosts, false);
	rpc_server_stop(f->server);
	rpc_client_free(f->client);
	cluster_close(f->cluster);
	f->hosts = NULL;
	f->server = NULL;
	f->client = NULL;
	f->cluster = NULL;
}

static int no_containers(struct fabric *f, struct error *err)
{
	CLEANUP_JSON json_t *all = documents_cached(f, "containers/");

	if (json_array_size(all))
		return error_set(err, EBUSY,
				 "this host has %zu container(s) of its own; remove them before it "
				 "becomes part of a cluster",
				 json_array_size(all));
	return 0;
}

/* Leaves the host's own store for the cluster's; the old one goes back in use on failure. */
static int enter_cluster(struct fabric *f, struct error *err)
{
	struct store *own = f->store;
	int r;

	mirror_unwatch(f);
	r = open_cluster(f, err);
	if (r < 0) {
		close_cluster(f);
		f->store = own;
		mirror_watch(f, NULL);
		return r;
	}
	pthread_mutex_lock(&f->lock);
	json_object_clear(f->docs);
	json_object_clear(f->versions);
	pthread_mutex_unlock(&f->lock);
	store_close(own);
	return mirror_watch(f, err);
}

static void cluster_params(const struct fabric *f, struct cluster_params *p)
{
	*p = (struct cluster_params){
		.state_dir = f->state_dir,
		.host = f->host,
		.address = f->address,
		.store_driver = f->ceph_state_pool ? "rados" : "embedded",
		.ceph_conf = f->ceph_conf,
		.ceph_user = f->ceph_user,
		.pool = f->ceph_state_pool,
	};
}

static int want_address(const struct fabric *f, struct error *err)
{
	if (f->address)
		return 0;
	return error_set(err, EINVAL,
			 "this host has no address other hosts could reach; set \"address\" in "
			 "/etc/ferry/ferry.json and restart ferryd");
}

static int may_enter_cluster(struct fabric *f, struct error *err)
{
	int r = want_address(f, err);

	if (r < 0)
		return r;
	if (f->cluster)
		return error_set(err, EALREADY, "host %s is in cluster %s already", f->host,
				 cluster_name(f->cluster));
	return no_containers(f, err);
}

int fabric_cluster_init(struct fabric *f, json_t **out, struct error *err)
{
	struct cluster_params p;
	int r = may_enter_cluster(f, err);

	if (r < 0)
		return r;
	cluster_params(f, &p);
	r = cluster_init(&p, err);
	if (!r)
		r = enter_cluster(f, err);
	return r < 0 ? r : fabric_cluster_info(f, out, err);
}

int fabric_cluster_join(struct fabric *f, const char *address, const char *token, json_t **out,
			struct error *err)
{
	struct cluster_params p;
	int r = may_enter_cluster(f, err);

	if (r < 0)
		return r;
	cluster_params(f, &p);
	r = cluster_join(&p, address, token, err);
	if (!r)
		r = enter_cluster(f, err);
	return r < 0 ? r : fabric_cluster_info(f, out, err);
}

int fabric_cluster_info(struct fabric *f, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *hosts = NULL;
	int r;

	if (!f->cluster)
		return error_set(err, ENOENT,
				 "host %s is in no cluster; 'ferry cluster init' makes one, 'ferry "
				 "host join' joins one",
				 f->host);
	r = fabric_host_list(f, &hosts, err);
	if (r < 0)
		return r;
	*out = json_pack("{s:s, s:s, s:s, s:s, s:i, s:s, s:O}", "Id", cluster_id(f->cluster),
			 "Name", cluster_name(f->cluster), "Host", f->host, "Address",
			 cluster_address(f->cluster), "Port", (int)cluster_port(f->cluster),
			 "Store", f->ceph_state_pool ? "rados" : "embedded", "Hosts", hosts);
	return 0;
}

int fabric_cluster_token(struct fabric *f, int64_t ttl_s, json_t **out, struct error *err)
{
	CLEANUP_FREE char *token = NULL;
	int64_t ttl_ns = (ttl_s > 0 ? ttl_s : 3600) * 1000000000ll;
	int r;

	if (!f->cluster)
		return error_set(err, ENOENT,
				 "host %s is in no cluster; run 'ferry cluster init' first",
				 f->host);
	r = cluster_token_create(f->cluster, ttl_ns, &token, err);
	if (r < 0)
		return r;
	*out = json_pack("{s:s, s:I, s:s, s:i}", "Token", token, "Expires",
			 (json_int_t)((clock_real_ns() + ttl_ns) / 1000000000), "Address",
			 cluster_address(f->cluster), "Port", (int)cluster_port(f->cluster));
	return 0;
}

int fabric_host_list(struct fabric *f, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *hosts = NULL;
	CLEANUP_JSON json_t *docs = documents_cached(f, "containers/");
	json_t *h, *doc;
	size_t i, k;
	int r = 0;

	if (f->cluster) {
		r = host_list(f->store, &hosts, err);
	} else {
		json_t *facts = host_facts();

		json_set_str(facts, "name", f->host);
		json_set_str(facts, "address", f->address ? f->address : "");
		json_set_bool(facts, "alive", true);
		hosts = json_pack("[o]", facts);
	}
	if (r < 0)
		return r;
	*out = json_array();
	json_array_foreach (hosts, i, h) {
		json_int_t n = 0;

		json_array_foreach (docs, k, doc)
			n += container_is_up(doc) &&
			     !strcmp(json_str(doc, "host", ""), json_str(h, "name", "-"));
		json_array_append_new(
			*out,
			json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:I}", "Name",
				  json_str(h, "name", ""), "Address", json_str(h, "address", ""),
				  "State", json_bool(h, "alive", false) ? "up" : "down",
				  "Availability", json_str(h, "availability", "active"), "Cpus",
				  (json_int_t)json_int(h, "cpus", 0), "MemoryBytes",
				  (json_int_t)json_int(h, "memory_bytes", 0), "Kernel",
				  json_str(h, "kernel", ""), "Arch", json_str(h, "arch", ""),
				  "Containers", n));
	}
	return 0;
}

int fabric_info(struct fabric *f, json_t **out, struct error *err)
{
	CLEANUP_JSON json_t *docs = documents_cached(f, "containers/");
	CLEANUP_JSON json_t *images = NULL;
	json_int_t running = 0, paused = 0;
	struct utsname u;
	struct sysinfo si;
	json_t *doc;
	size_t i;
	int r = image_list(f->images, &images, err);

	if (r < 0)
		return r;
	uname(&u);
	sysinfo(&si);
	json_array_foreach (docs, i, doc) {
		running += !strcmp(container_status(doc), "running");
		paused += !strcmp(container_status(doc), "paused");
	}
	*out = json_pack(
		"{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:I, s:I, s:s, s:s}", "ID",
		f->cluster ? cluster_id(f->cluster) : f->host, "Name", f->host, "Containers",
		(json_int_t)json_array_size(docs), "ContainersRunning", running, "ContainersPaused",
		paused, "ContainersStopped", (json_int_t)json_array_size(docs) - running - paused,
		"Images", (json_int_t)json_array_size(images), "Driver", "overlay2",
		"KernelVersion", u.release, "Architecture", u.machine, "OSType", "linux", "NCPU",
		(json_int_t)sysconf(_SC_NPROCESSORS_ONLN), "MemTotal",
		(json_int_t)si.totalram * si.mem_unit, "DockerRootDir", f->state_dir,
		"CgroupVersion", access("/sys/fs/cgroup/cgroup.controllers", F_OK) ? "1" : "2");
	json_object_set_new(*out, "Plugins",
			    json_pack("{s:[ss], s:[s], s:n, s:[s]}", "Volume", "rbd", "local",
				      "Network", "overlay", "Authorization", "Log", "json-file"));
	return 0;
}

/* --- reconciling after a start ---------------------------------------------------------------- */

static void reconcile_one(struct fabric *f, const json_t *doc)
{
	const char *id = json_str(doc, "id", "");
	CLEANUP_JSON json_t *live = NULL;
	CLEANUP_FREE char *key = container_key(id);
	struct error err = { 0 };
	int r = container_inspect(f->containers, id, &live, &err);

	if (r == -ENOENT) {
		log_warn("container %s belongs to this host but its files are gone",
			 json_str(doc, "name", id));
		return;
	}
	if (r < 0 || json_object_get(doc, "migration"))
		return;
	/* It ended while nobody watched: container_on_exit() brings that by itself. */
	if (container_is_up(doc) && strcmp(json_str(live, "Status", ""), "running") &&
	    strcmp(json_str(live, "Status", ""), "paused")) {
		container_on_ended(f, id, (int)json_int(live, "ExitCode", 0));
	} else if (!container_is_up(doc) && !strcmp(json_str(live, "Status", ""), "running")) {
		/* Started just before ferryd was killed: the document had not been written. */
		if (container_state_save(f, id, "running", &err) < 0)
			log_warn("container %.12s: %s", id, err.msg);
	}
}

static void reconcile(struct fabric *f)
{
	CLEANUP_JSON json_t *docs = documents_cached(f, "containers/");
	CLEANUP_JSON json_t *known = NULL;
	json_t *doc, *id;
	size_t i;

	checkpoint_recover(f);
	migrate_recover(f);
	json_array_foreach (docs, i, doc)
		if (container_is_local(f, doc))
			reconcile_one(f, doc);
	if (container_list(f->containers, &known, NULL) < 0)
		return;
	json_array_foreach (known, i, id) {
		CLEANUP_FREE char *key = container_key(json_string_value(id));
		CLEANUP_JSON json_t *there = NULL;

		/* A create that was cut before its document was written. */
		if (document_get(f, key, &there, NULL) == -ENOENT)
			container_remove(f->containers, json_string_value(id), NULL);
	}
}

/* --- open and close ----------------------------------------------------------------- */

static void copy_config(struct fabric *f, const struct fabric_config *c)
{
	char name[256];

	gethostname(name, sizeof(name));
	name[sizeof(name) - 1] = '\0';
	f->host = str_dup(c->host ? c->host : name);
	f->address = str_dup(c->address);
	f->run_dir = str_dup(c->run_dir);
	f->state_dir = str_dup(c->state_dir);
	f->bin_dir = str_dup(c->bin_dir);
	f->cgroup_parent = str_dup(c->cgroup_parent);
	f->memory_bytes = c->memory_bytes;
	f->registries = (struct image_registries){ c->insecure_registries, c->registry_mirrors,
						   c->registry_certs };
	f->ceph_conf = str_dup(c->ceph_conf);
	f->ceph_user = str_dup(c->ceph_user);
	f->ceph_pool = str_dup(c->ceph_pool);
	f->ceph_state_pool = str_dup(c->ceph_state_pool);
}

int fabric_open(const struct fabric_config *config, struct fabric **out, struct error *err)
{
	struct fabric *f = mem_zalloc(sizeof(*f));
	int r;

	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	copy_config(f, config);
	f->docs = json_object();
	f->versions = json_object();
	f->outgoing = json_object();
	f->late = json_object();
	f->intents = json_object();
	f->events = event_bus_new(0, 0);
	r = dir_make(f->run_dir, 0755, err);
	if (!r)
		r = dir_make(f->state_dir, 0711, err);
	if (!r)
		r = open_parts(f, err);
	if (!r) {
		r = cluster_exists(f->state_dir) ? open_cluster(f, err) : open_own_store(f, err);
		if (r < 0)
			error_wrap(err, "opening the cluster state");
	}
	if (!r)
		r = mirror_watch(f, err);
	if (r < 0) {
		fabric_close(f);
		return r;
	}
	reconcile(f);
	container_on_exit(f->containers, container_on_ended, f);
	*out = f;
	return 0;
}

void fabric_close(struct fabric *f)
{
	pthread_mutex_lock(&f->lock);
	f->closing = true;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
	event_bus_shutdown(f->events);
	mirror_unwatch(f);
	if (f->cluster)
		close_cluster(f);
	else if (f->store)
		store_close(f->store);
	if (f->netd)
		netd_close(f->netd);
	if (f->containers)
		container_manager_close(f->containers);
	volumes_close(f->volumes);
	if (f->images)
		image_store_close(f->images);
	/* Threads that are still on their way out may look at what is left; the process ends. */
}

struct event_bus *fabric_events(struct fabric *f)
{
	return f->events;
}

const char *fabric_host(const struct fabric *f)
{
	return f->host;
}
