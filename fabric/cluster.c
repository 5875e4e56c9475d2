/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host's membership in a cluster: making one, loading it. cluster.h is the contract; tokens
 * and joining are in cluster_join.c.
 */
#include "fabric/cluster.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/cluster_files.h"

int cluster_check_params(const struct cluster_params *p, struct error *err)
{
	unsigned char addr[16];

	if (!p->state_dir)
		return error_set(err, EINVAL, "the state directory is missing");
	if (!p->host || !str_is_name(p->host) || strlen(p->host) > 63)
		return error_set(err, EINVAL,
				 "\"%.80s\" is no name for a host: letters, digits, '_', "
				 "'.', '-', at most 63",
				 p->host ? p->host : "");
	if (!p->address || (inet_pton(AF_INET, p->address, addr) != 1 &&
			    inet_pton(AF_INET6, p->address, addr) != 1))
		return error_set(err, EINVAL,
				 "\"%.80s\" is no IP address by which other hosts could "
				 "reach this one",
				 p->address ? p->address : "");
	if (cluster_exists(p->state_dir))
		return error_set(err, EEXIST,
				 "this host is in a cluster already (%s/cluster.json); "
				 "to leave it stop ferryd and remove that file",
				 p->state_dir);
	return 0;
}

bool cluster_exists(const char *state_dir)
{
	CLEANUP_FREE char *path = str_format("%s/cluster.json", state_dir);

	return access(path, F_OK) == 0;
}

/* --- files ------------------------------------------------------------------------------------ */

static int save(const char *state_dir, const char *name, const char *text, mode_t mode,
		struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/%s", state_dir, name);

	return file_write_atomic(path, text, strlen(text), mode, err);
}

int cluster_save_pki(const char *state_dir, const struct cluster_pki *pki, struct error *err)
{
	CLEANUP_FREE char *dir = str_format("%s/pki", state_dir);
	int r = dir_make(dir, 0700, err);

	if (r == 0)
		r = save(state_dir, "pki/ca.crt", pki->ca, 0644, err);
	if (r == 0)
		r = save(state_dir, "pki/ca.key", pki->ca_key, 0600, err);
	if (r == 0)
		r = save(state_dir, "pki/host.crt", pki->cert, 0644, err);
	if (r == 0)
		r = save(state_dir, "pki/host.key", pki->key, 0600, err);
	return r;
}

void cluster_pki_free(struct cluster_pki *pki)
{
	free(pki->ca);
	free(pki->ca_key);
	free(pki->cert);
	free(pki->key);
}

void cluster_remove_files(const char *state_dir)
{
	CLEANUP_FREE char *pki = str_format("%s/pki", state_dir);
	CLEANUP_FREE char *json = str_format("%s/cluster.json", state_dir);

	unlink(json);
	dir_remove(pki, NULL);
}

int cluster_save_membership(const struct cluster_params *p, const char *id, const char *name,
			    json_t *store, struct error *err)
{
	CLEANUP_JSON json_t *j = json_object();
	json_t *cluster = json_object();
	CLEANUP_FREE char *text = NULL;

	json_set_int(j, "schema", 1);
	json_set_str(cluster, "id", id);
	json_set_str(cluster, "name", name);
	json_object_set_new(j, "cluster", cluster);
	json_set_str(j, "host", p->host);
	json_set_str(j, "address", p->address);
	json_set_int(j, "port", p->port ? p->port : RPC_PORT);
	json_object_set(j, "store", store);
	text = json_dumps(j, JSON_INDENT(2));
	return save(p->state_dir, "cluster.json", text, 0644, err);
}

json_t *cluster_store_json(const struct cluster_params *p, const char *driver, const char *pool)
{
	json_t *j = json_object();

	json_set_str(j, "driver", driver);
	if (strcmp(driver, "rados") != 0)
		return j;
	json_set_str(j, "pool", pool);
	json_set_str(j, "ceph_conf", p->ceph_conf ? p->ceph_conf : "/etc/ceph/ceph.conf");
	json_set_str(j, "ceph_user", p->ceph_user ? p->ceph_user : "admin");
	return j;
}

int cluster_open_store(const char *state_dir, const json_t *store, bool create, struct store **out,
		       struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/store.db", state_dir);
	const struct store_config c = {
		.driver = json_str(store, "driver", ""),
		.path = path,
		.pool = json_str(store, "pool", NULL),
		.ceph_conf = json_str(store, "ceph_conf", NULL),
		.ceph_user = json_str(store, "ceph_user", NULL),
		.timeout_ns = json_int(store, "timeout_s", 10) * 1000000000,
		.create_pool = create,
	};

	return store_open(&c, out, err);
}

int cluster_put_member(struct store *s, const char *host, const char *address, uint16_t port,
		       const char *cert, uint64_t expected, struct error *err)
{
	CLEANUP_FREE char *key = str_format("members/%s", host);
	CLEANUP_JSON json_t *j = json_object();
	char fingerprint[65];
	int r = tls_cert_fingerprint(cert, fingerprint, err);

	if (r < 0)
		return r;
	json_set_str(j, "name", host);
	json_set_str(j, "address", address);
	json_set_int(j, "port", port);
	json_set_str(j, "cert_sha256", fingerprint);
	json_set_int(j, "joined_at", clock_real_ns());
	return store_put(s, key, j, expected, NULL, err);
}

/* --- init --------------------------------------------------------------------------- */

static int make_pki(const struct cluster_params *p, const char *name, struct cluster_pki *pki,
		    struct error *err)
{
	CLEANUP_FREE char *csr = NULL;
	CLEANUP_FREE char *ca_name = str_format("ferry cluster %s CA", name);
	int r = tls_ca_create(ca_name, CLUSTER_CERT_DAYS, &pki->ca, &pki->ca_key, err);

	if (r == 0)
		r = tls_key_create(&pki->key, err);
	if (r == 0)
		r = tls_csr_create(pki->key, p->host, &csr, err);
	if (r == 0)
		r = tls_csr_sign(pki->ca, pki->ca_key, csr, p->host, p->address, CLUSTER_CERT_DAYS,
				 &pki->cert, err);
	return r;
}

static int say_exists(struct store *s, const char *where, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;

	store_get(s, "cluster/config", &doc, NULL, NULL);
	return error_set(
		err, EEXIST,
		"%s holds the cluster \"%s\" already; join it (on one of its "
		"hosts: `ferry cluster token`, here: `ferry host join`), or use another pool",
		where, json_str(doc, "name", "?"));
}

static int put_config(struct store *s, const struct cluster_params *p, const char *id,
		      const char *name, const struct cluster_pki *pki, const char *where,
		      struct error *err)
{
	CLEANUP_JSON json_t *j = json_object();
	char fingerprint[65];
	int r = tls_cert_fingerprint(pki->ca, fingerprint, err);

	if (r < 0)
		return r;
	json_set_str(j, "id", id);
	json_set_str(j, "name", name);
	json_set_str(j, "ca_sha256", fingerprint);
	json_set_int(j, "created_at", clock_real_ns());
	json_object_set_new(j, "settings",
			    p->settings ? json_deep_copy(p->settings) : json_object());
	r = store_put(s, "cluster/config", j, STORE_ABSENT, NULL, err);
	return r == -ECANCELED ? say_exists(s, where, err) : r;
}

/* Everything that has to be undone together where a step fails. */
static int init_in(struct store *s, const struct cluster_params *p, const char *name, json_t *store,
		   const char *where, struct error *err)
{
	CLEANUP_FREE char *id = str_random_hex(16);
	struct cluster_pki pki = { 0 };
	int r = make_pki(p, name, &pki, err);

	if (r == 0)
		r = put_config(s, p, id, name, &pki, where, err);
	if (r == 0) {
		r = cluster_save_pki(p->state_dir, &pki, err);
		if (r == 0)
			r = cluster_put_member(s, p->host, p->address, p->port ? p->port : RPC_PORT,
					       pki.cert, STORE_ANY, err);
		if (r == 0)
			r = cluster_save_membership(p, id, name, store, err);
		if (r < 0) {
			CLEANUP_FREE char *key = str_format("members/%s", p->host);

			cluster_remove_files(p->state_dir);
			store_delete(s, key, STORE_ANY, NULL);
			store_delete(s, "cluster/config", STORE_ANY, NULL);
		}
	}
	cluster_pki_free(&pki);
	return r;
}

int cluster_init(const struct cluster_params *p, struct error *err)
{
	const char *driver = p->store_driver ? p->store_driver : "rados";
	const char *pool = p->pool ? p->pool : CLUSTER_POOL;
	CLEANUP_FREE char *db = NULL, *where = NULL;
	CLEANUP_JSON json_t *store = NULL;
	struct store *s = NULL;
	bool had_db;
	int r = cluster_check_params(p, err);

	if (r == 0)
		r = dir_make(p->state_dir, 0711, err);
	if (r < 0)
		return error_wrap(err, "making a cluster");
	store = cluster_store_json(p, driver, pool);
	db = str_format("%s/store.db", p->state_dir);
	had_db = access(db, F_OK) == 0;
	where = strcmp(driver, "rados") ? str_dup(db) : str_format("pool %s", pool);
	r = cluster_open_store(p->state_dir, store, true, &s, err);
	if (r == 0)
		r = init_in(s, p, p->name ? p->name : "ferry", store, where, err);
	store_close(s);
	if (r < 0 && !had_db && !strcmp(driver, "embedded"))
		unlink(db);
	if (r < 0)
		error_wrap(err, "making a cluster");
	return r;
}

/* --- load --------------------------------------------------------------------------- */

struct cluster {
	json_t *membership; /* cluster.json */
	json_t *document;
	char *state_dir;
	char *cert_path, *key_path, *ca_path, *ca_key_path;
	struct tls_ctx *tls;
	struct store *store;
};

static int load(struct cluster *c, struct error *err)
{
	CLEANUP_FREE char *path = str_format("%s/cluster.json", c->state_dir);
	const char *id, *other;
	int r;

	c->membership = json_parse_file(path, 1 << 20, err);
	if (!c->membership)
		return err ? -err->code : -EIO;
	c->tls = tls_ctx_new(c->cert_path, c->key_path, c->ca_path, err);
	if (!c->tls)
		return err ? -err->code : -EIO;
	r = cluster_open_store(c->state_dir, json_object_get(c->membership, "store"), false,
			       &c->store, err);
	if (r < 0)
		return r;
	r = store_get(c->store, "cluster/config", &c->document, NULL, err);
	if (r == -ENOENT)
		return error_set(err, ENOENT,
				 "the store holds no cluster any more: was the pool "
				 "emptied? Remove %s and make or join a cluster anew",
				 path);
	if (r < 0)
		return r;
	id = json_str(json_object_get(c->membership, "cluster"), "id", "");
	other = json_str(c->document, "id", "");
	if (strcmp(id, other) != 0)
		return error_set(err, EKEYREJECTED,
				 "%s belongs to the cluster %s, the store to "
				 "another one, %s: wrong ceph.conf or pool?",
				 path, id, other);
	return 0;
}

int cluster_load(const char *state_dir, struct cluster **out, struct error *err)
{
	struct cluster *c;
	int r;

	if (!cluster_exists(state_dir))
		return error_set(err, ENOENT,
				 "this host is in no cluster; make one with `ferry "
				 "cluster init`, or join one with `ferry host join`");
	c = mem_zalloc(sizeof(*c));
	c->state_dir = str_dup(state_dir);
	c->cert_path = str_format("%s/pki/host.crt", state_dir);
	c->key_path = str_format("%s/pki/host.key", state_dir);
	c->ca_path = str_format("%s/pki/ca.crt", state_dir);
	c->ca_key_path = str_format("%s/pki/ca.key", state_dir);
	r = load(c, err);
	if (r < 0) {
		cluster_close(c);
		error_wrap(err, "loading the cluster's membership");
		return r;
	}
	*out = c;
	return 0;
}

void cluster_close(struct cluster *c)
{
	if (!c)
		return;
	store_close(c->store);
	tls_ctx_free(c->tls);
	json_decref(c->document);
	json_decref(c->membership);
	free(c->cert_path);
	free(c->key_path);
	free(c->ca_path);
	free(c->ca_key_path);
	free(c->state_dir);
	free(c);
}

int cluster_set_address(struct cluster *c, const char *address, uint16_t port, struct error *err)
{
	CLEANUP_FREE char *text = NULL;

	json_set_str(c->membership, "address", address);
	json_set_int(c->membership, "port", port ? port : RPC_PORT);
	text = json_dumps(c->membership, JSON_INDENT(2));
	return save(c->state_dir, "cluster.json", text, 0644, err);
}

const char *cluster_id(const struct cluster *c)
{
	return json_str(c->document, "id", "");
}

const char *cluster_name(const struct cluster *c)
{
	return json_str(c->document, "name", "");
}

const char *cluster_host(const struct cluster *c)
{
	return json_str(c->membership, "host", "");
}

const char *cluster_address(const struct cluster *c)
{
	return json_str(c->membership, "address", "");
}

uint16_t cluster_port(const struct cluster *c)
{
	return (uint16_t)json_int(c->membership, "port", RPC_PORT);
}

struct store *cluster_store(const struct cluster *c)
{
	return c->store;
}

struct tls_ctx *cluster_tls(const struct cluster *c)
{
	return c->tls;
}

json_t *cluster_document(const struct cluster *c)
{
	return c->document;
}

const char *cluster_ceph_conf(const struct cluster *c)
{
	return json_str(json_object_get(c->membership, "store"), "ceph_conf", NULL);
}

const char *cluster_ceph_user(const struct cluster *c)
{
	return json_str(json_object_get(c->membership, "store"), "ceph_user", NULL);
}

const json_t *cluster_store_settings(const struct cluster *c)
{
	return json_object_get(c->membership, "store");
}

const char *cluster_cert_path(const struct cluster *c)
{
	return c->cert_path;
}

const char *cluster_key_path(const struct cluster *c)
{
	return c->key_path;
}

const char *cluster_ca_path(const struct cluster *c)
{
	return c->ca_path;
}

const char *cluster_ca_key_path(const struct cluster *c)
{
	return c->ca_key_path;
}
