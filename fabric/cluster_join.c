/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Letting a new host in: tokens, and both sides of "cluster.join". cluster.h is the contract.
 *
 *	token   ferry1-EXPIRY-NONCE-PIN-MAC    hex; expiry in seconds since the epoch, pin the
 *	        SHA-256 of the CA certificate, mac over the rest and the cluster's id with a
 *	        key derived from the CA's key: every host can check it, nothing is stored
 */
#include <openssl/crypto.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/process.h"
#include "base/str.h"
#include "fabric/cluster_files.h"

#define PREFIX	    "ferry1"
#define PURPOSE	    "ferry join token 1"
#define TTL_NS	    (3600ll * 1000000000)
#define MAX_SKEW_NS (300ll * 1000000000)
#define JOIN_NS	    (30ll * 1000000000)

struct token {
	int64_t expiry_s;
	char nonce[33], pin[65], mac[65];
};

static int read_pem(const char *path, char **out, struct error *err)
{
	return file_read(path, 1 << 20, out, NULL, err);
}

/* --- tokens --------------------------------------------------------------------------------- */

static int token_mac(const char *ca_key, const char *cluster, const struct token *t, char mac[65],
		     struct error *err)
{
	CLEANUP_FREE char *text =
		str_format("%s %llx %s %s", cluster, (long long)t->expiry_s, t->nonce, t->pin);

	return tls_key_mac(ca_key, PURPOSE, text, mac, err);
}

int cluster_token_create(struct cluster *c, int64_t ttl_ns, char **token, struct error *err)
{
	CLEANUP_FREE char *ca = NULL, *ca_key = NULL, *nonce = str_random_hex(16);
	struct token t;
	int r;

	if (ttl_ns <= 0)
		ttl_ns = TTL_NS;
	if (ttl_ns < 1000000000)
		return error_set(err, EINVAL, "a token that lives less than a second is of no use");
	t.expiry_s = (clock_real_ns() + ttl_ns) / 1000000000;
	snprintf(t.nonce, sizeof(t.nonce), "%s", nonce);
	r = read_pem(cluster_ca_path(c), &ca, err);
	if (r == 0)
		r = read_pem(cluster_ca_key_path(c), &ca_key, err);
	if (r == 0)
		r = tls_cert_fingerprint(ca, t.pin, err);
	if (r == 0)
		r = token_mac(ca_key, cluster_id(c), &t, t.mac, err);
	if (r < 0)
		return r;
	*token = str_format(PREFIX "-%llx-%s-%s-%s", (long long)t.expiry_s, t.nonce, t.pin, t.mac);
	return 0;
}

static bool is_hex(const char *s, size_t n)
{
	return strlen(s) == n && strspn(s, "0123456789abcdef") == n;
}

static int token_parse(const char *text, struct token *t, struct error *err)
{
	CLEANUP_FREE char *copy = str_dup(text);
	char *save = NULL, *parts[6] = { 0 };
	uint64_t expiry;
	size_t n = 0;

	for (char *p = strtok_r(copy, "-", &save); p && n < 6; p = strtok_r(NULL, "-", &save))
		parts[n++] = p;
	if (n != 5 || strcmp(parts[0], PREFIX) != 0 ||
	    str_to_u64x(parts[1], INT64_MAX / 1000000000, &expiry) < 0 || !is_hex(parts[2], 32) ||
	    !is_hex(parts[3], 64) || !is_hex(parts[4], 64))
		return error_set(err, EINVAL,
				 "this is no join token, or not all of it: copy the whole "
				 "line that `ferry cluster token` prints (%s-…)",
				 PREFIX);
	t->expiry_s = (int64_t)expiry;
	strcpy(t->nonce, parts[2]);
	strcpy(t->pin, parts[3]);
	strcpy(t->mac, parts[4]);
	return 0;
}

/* --- the member's side -------------------------------------------------------------- */

static int check_token(struct cluster *c, const char *text, const char *ca_key, int64_t their_ns,
		       struct error *err)
{
	int64_t now = clock_real_ns(), skew = their_ns - now;
	struct token t;
	char mac[65];
	int r = token_parse(text, &t, err);

	if (r == 0)
		r = token_mac(ca_key, cluster_id(c), &t, mac, err);
	if (r < 0)
		return r;
	if (CRYPTO_memcmp(mac, t.mac, 64) != 0)
		return error_set(err, EKEYREJECTED,
				 "the token was not made by this cluster (%s); "
				 "make one here with `ferry cluster token`",
				 cluster_name(c));
	if (now / 1000000000 >= t.expiry_s)
		return error_set(
			err, ETIME,
			"the token expired %lld seconds ago by the clock of host "
			"%s (the clock of the new host differs by %lld s); make a new one with "
			"`ferry cluster token`",
			(long long)(now / 1000000000 - t.expiry_s), cluster_host(c),
			(long long)(skew / 1000000000));
	if (skew > MAX_SKEW_NS || skew < -MAX_SKEW_NS)
		return error_set(err, ETIME,
				 "the clocks of host %s and of the new host differ by %lld "
				 "seconds; set both right (NTP), then join again",
				 cluster_host(c), (long long)(skew / 1000000000));
	return 0;
}

/*
 * The version of "members/NAME" that may be replaced. A name is free until it registers, and
 * again when its host is down: a machine that was installed anew joins under its old name.
 */
static int check_name(struct store *s, const char *name, uint64_t *expected, struct error *err)
{
	CLEANUP_FREE char *member = str_format("members/%s", name);
	CLEANUP_FREE char *host = str_format("hosts/%s", name);
	CLEANUP_JSON json_t *doc = NULL;
	struct error none;
	int r = store_get(s, host, &doc, NULL, &none);

	if (r == 0 && strcmp(json_str(doc, "state", ""), "down") != 0)
		return error_set(
			err, EEXIST,
			"a host named %s is in the cluster already; choose another name "
			"(\"host\" in /etc/ferry/ferry.json), or, if it is the same machine, wait "
			"until `ferry host ls` calls it down",
			name);
	if (r != 0 && r != -ENOENT) {
		if (err)
			*err = none;
		return r;
	}
	*expected = STORE_ABSENT;
	r = store_get(s, member, NULL, expected, &none);
	if (r == 0 || r == -ENOENT)
		return 0;
	if (err)
		*err = none;
	return r;
}

static int rpc_join(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		    struct error *err)
{
	struct cluster *c = ctx;
	CLEANUP_FREE char *ca = NULL, *ca_key = NULL, *cert = NULL;
	const char *token = NULL, *name = NULL, *address = NULL, *csr = NULL;
	const json_t *store = cluster_store_settings(c);
	int64_t port = 0, their_ns = 0;
	uint64_t expected = STORE_ABSENT;
	int r;

	r = json_want_str(params, "token", true, &token, err);
	if (r == 0)
		r = json_want_str(params, "name", true, &name, err);
	if (r == 0)
		r = json_want_str(params, "address", true, &address, err);
	if (r == 0)
		r = json_want_int(params, "port", true, 1, 65535, &port, err);
	if (r == 0)
		r = json_want_str(params, "csr", true, &csr, err);
	if (r == 0)
		r = json_want_int(params, "time_ns", true, 0, INT64_MAX, &their_ns, err);
	if (r == 0)
		r = read_pem(cluster_ca_path(c), &ca, err);
	if (r == 0)
		r = read_pem(cluster_ca_key_path(c), &ca_key, err);
	if (r == 0)
		r = check_token(c, token, ca_key, their_ns, err);
	if (r < 0)
		return r;
	if (strcmp(json_str(store, "driver", ""), "rados") != 0)
		return error_set(
			err, EOPNOTSUPP,
			"the cluster %s keeps its state in a file of host %s "
			"(embedded) and has one host only; make it anew on Ceph: \"ceph\" in "
			"/etc/ferry/ferry.json, then `ferry cluster init`",
			cluster_name(c), cluster_host(c));
	if (!str_is_name(name)) /* before it becomes part of a key */
		return error_set(err, EINVAL, "\"%.80s\" is no name for a host", name);
	r = check_name(cluster_store(c), name, &expected, err);
	if (r == 0)
		r = tls_csr_sign(ca, ca_key, csr, name, address, CLUSTER_CERT_DAYS, &cert, err);
	if (r == 0)
		r = cluster_put_member(cluster_store(c), name, address, (uint16_t)port, cert,
				       expected, err);
	if (r == -ECANCELED)
		return error_set(err, EEXIST,
				 "another host is joining as %s at this moment; give this one "
				 "another name (\"host\" in /etc/ferry/ferry.json)",
				 name);
	if (r < 0)
		return r;
	*result = json_object();
	json_set_str(*result, "id", cluster_id(c));
	json_set_str(*result, "name", cluster_name(c));
	json_set_str(*result, "cert", cert);
	json_set_str(*result, "ca", ca);
	json_set_str(*result, "ca_key", ca_key);
	json_set_str(*result, "driver", json_str(store, "driver", ""));
	json_set_str(*result, "pool", json_str(store, "pool", ""));
	log_info("host %s (%s) joins the cluster", name, rpc_request_address(req));
	return 0;
}

static int rpc_ping(void *ctx, struct rpc_request *req, json_t *params, json_t **result,
		    struct error *err)
{
	struct cluster *c = ctx;

	(void)req;
	(void)params;
	(void)err;
	*result = json_object();
	json_set_str(*result, "host", cluster_host(c));
	json_set_int(*result, "time_ns", clock_real_ns());
	return 0;
}

const struct rpc_method cluster_methods[] = {
	{ .name = "cluster.join", .call = rpc_join, .flags = RPC_ANONYMOUS },
	{ .name = "cluster.ping", .call = rpc_ping },
	{ 0 },
};

/* --- the new host's side ---------------------------------------------------------------------- */

/* "address", "address:port", "v6", "[v6]:port". */
static int parse_peer(const char *peer, char **address, uint16_t *port, struct error *err)
{
	const char *colon = strrchr(peer, ':'), *close = strchr(peer, ']');
	uint64_t n = RPC_PORT;

	if (peer[0] == '[' && close && (close[1] == ':' || close[1] == '\0')) {
		*address = str_format("%.*s", (int)(close - peer - 1), peer + 1);
		colon = close[1] ? close + 1 : NULL;
	} else if (colon && strchr(peer, ':') == colon) {
		*address = str_format("%.*s", (int)(colon - peer), peer);
	} else {
		*address = str_dup(peer);
		colon = NULL;
	}
	if ((colon && (str_to_u64(colon + 1, 65535, &n) < 0 || n == 0)) || !**address)
		return error_set(err, EINVAL,
				 "\"%s\" is no address of a host: ADDRESS or ADDRESS:PORT", peer);
	*port = (uint16_t)n;
	return 0;
}

static int ask(const struct cluster_params *p, const char *peer, const char *token, const char *pin,
	       const char *csr, json_t **answer, struct error *err)
{
	CLEANUP_FREE char *address = NULL;
	CLEANUP_JSON json_t *params = json_object();
	struct tls_ctx *tls;
	uint16_t port = 0;
	int r = parse_peer(peer, &address, &port, err);

	if (r < 0)
		return r;
	tls = tls_ctx_new_pinned(pin, err);
	if (!tls)
		return err ? -err->code : -EIO;
	json_set_str(params, "token", token);
	json_set_str(params, "name", p->host);
	json_set_str(params, "address", p->address);
	json_set_int(params, "port", p->port ? p->port : RPC_PORT);
	json_set_str(params, "csr", csr);
	json_set_int(params, "time_ns", clock_real_ns());
	r = rpc_call_address(tls, address, port, "cluster.join", params, JOIN_NS, answer, err);
	tls_ctx_free(tls);
	return r;
}

/* The answer's certificates, checked against the pin. */
static int take_pki(json_t *answer, const char *pin, struct cluster_pki *pki, struct error *err)
{
	const char *cert = NULL, *ca = NULL, *ca_key = NULL;
	char fingerprint[65];
	int r = json_want_str(answer, "cert", true, &cert, err);

	if (r == 0)
		r = json_want_str(answer, "ca", true, &ca, err);
	if (r == 0)
		r = json_want_str(answer, "ca_key", true, &ca_key, err);
	if (r == 0)
		r = tls_cert_fingerprint(ca, fingerprint, err);
	if (r < 0)
		return r;
	if (strcmp(fingerprint, pin) != 0)
		return error_set(err, EKEYREJECTED,
				 "the CA in the answer is not that of the token");
	pki->cert = str_dup(cert);
	pki->ca = str_dup(ca);
	pki->ca_key = str_dup(ca_key);
	return 0;
}

/* Can this host reach the state that the others use? */
static int check_store(const struct cluster_params *p, const json_t *store, const char *id,
		       struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	struct store *s = NULL;
	int r = cluster_open_store(p->state_dir, store, false, &s, err);

	if (r == 0)
		r = store_get(s, "cluster/config", &doc, NULL, err);
	store_close(s);
	if (r < 0) {
		error_wrap(err,
			   "the cluster's state cannot be read from here (ceph.conf and keyring "
			   "as on the other hosts?)");
		return r;
	}
	if (strcmp(json_str(doc, "id", ""), id) != 0)
		return error_set(err, EKEYREJECTED,
				 "the Ceph pool that this host reaches belongs to "
				 "another cluster: is its ceph.conf that of the other hosts?");
	return 0;
}

static int settle(const struct cluster_params *p, json_t *answer, const char *pin, char **key,
		  struct error *err)
{
	CLEANUP_JSON json_t *store = NULL;
	struct cluster_pki pki = { 0 };
	int r = take_pki(answer, pin, &pki, err);

	if (r < 0)
		goto out;
	pki.key = TAKE_PTR(*key);
	store = cluster_store_json(p, json_str(answer, "driver", ""), json_str(answer, "pool", ""));
	r = check_store(p, store, json_str(answer, "id", ""), err);
	if (r < 0)
		goto out;
	r = cluster_save_pki(p->state_dir, &pki, err);
	if (r == 0)
		r = cluster_save_membership(p, json_str(answer, "id", ""),
					    json_str(answer, "name", ""), store, err);
	if (r < 0)
		cluster_remove_files(p->state_dir);
out:
	cluster_pki_free(&pki);
	return r;
}

int cluster_join(const struct cluster_params *p, const char *peer, const char *token,
		 struct error *err)
{
	CLEANUP_FREE char *key = NULL, *csr = NULL;
	CLEANUP_JSON json_t *answer = NULL;
	struct token t = { 0 };
	int r = cluster_check_params(p, err);

	if (r == 0)
		r = token_parse(token, &t, err);
	if (r == 0)
		r = dir_make(p->state_dir, 0711, err);
	if (r == 0)
		r = tls_key_create(&key, err);
	if (r == 0)
		r = tls_csr_create(key, p->host, &csr, err);
	if (r == 0)
		r = ask(p, peer, token, t.pin, csr, &answer, err);
	if (r == 0)
		r = settle(p, answer, t.pin, &key, err);
	if (r < 0)
		error_wrap(err, "joining the cluster at %s", peer);
	return r;
}
