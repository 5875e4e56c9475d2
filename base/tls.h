/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 between hosts, and the small certificate authority behind it.
 *
 * Both ends present a certificate of the cluster's CA; the common name (CN) of a
 * certificate is the host's name. There is no name check against DNS: a caller that
 * wants one certain host compares tls_peer_name(). Session tickets and renegotiation
 * are off, TCP_NODELAY is on, TCP keepalive notices dead peers.
 *
 * Threads: one connection may be used by one reading and one writing thread at the same
 * time. An SSL object itself allows that not; here the socket is non-blocking, a lock is
 * held only for the single SSL_read()/SSL_write() that cannot block, and the waiting
 * (poll) is done without it. Two readers or two writers at once are a mistake of the
 * caller: their bytes would mix. tls_abort() may be called from any thread and makes both
 * return; tls_close() frees, so call it once nobody uses the connection any more.
 *
 * Timeouts are in nanoseconds for the whole call; 0 or less waits for ever. After any
 * error (-ETIMEDOUT included) a connection is of no more use: close it.
 */
#ifndef FERRY_BASE_TLS_H
#define FERRY_BASE_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct tls_ctx; /* our certificate and whom we trust; immutable, any number of threads */
struct tls;	/* one connection */

/*
 * A context from PEM files: own certificate, its key, the cluster's CA. Serves for both
 * directions. NULL with err set. Contexts are reference counted by their connections:
 * freeing one while connections live is fine.
 */
struct tls_ctx *tls_ctx_new(const char *cert_path, const char *key_path, const char *ca_path,
			    struct error *err);

/*
 * A client context of a host that has no certificate yet (join): presents none, and takes
 * only a server whose chain holds a CA certificate with this SHA-256 (64 hex digits, see
 * tls_cert_fingerprint()) that really signed the server's certificate. The handshake
 * fails with -EKEYREJECTED otherwise, before a byte was sent.
 */
struct tls_ctx *tls_ctx_new_pinned(const char *ca_sha256, struct error *err);
void tls_ctx_free(struct tls_ctx *ctx);

/*
 * Connects to host (address or name) and does the handshake. 0, or -ECONNREFUSED,
 * -EHOSTUNREACH, -ETIMEDOUT …, -EPROTO (no TLS 1.3 there), -EKEYREJECTED (certificate).
 */
int tls_connect(struct tls_ctx *ctx, const char *host, uint16_t port, int64_t timeout_ns,
		struct tls **out, struct error *err);

/*
 * Server or client side of the handshake on a connected stream socket. Takes over fd: it
 * is closed by tls_close(), and at once where this fails. `anonymous` lets a client
 * without certificate in (then tls_peer_name() is NULL); one with a wrong certificate is
 * refused all the same.
 */
int tls_accept(struct tls_ctx *ctx, int fd, bool anonymous, int64_t timeout_ns, struct tls **out,
	       struct error *err);
int tls_client(struct tls_ctx *ctx, int fd, int64_t timeout_ns, struct tls **out,
	       struct error *err);

/*
 * A listening TCP socket (close-on-exec, SO_REUSEADDR). address NULL: all addresses.
 * port 0: the kernel picks one; *bound (may be NULL) says which. The fd or -errno.
 */
int tls_listen(const char *address, uint16_t port, uint16_t *bound, struct error *err);

/* Reads exactly / writes all `len` bytes. 0, or -errno; -ENODATA: the peer closed. */
int tls_read(struct tls *t, void *buf, size_t len, int64_t timeout_ns, struct error *err);
int tls_write(struct tls *t, const void *buf, size_t len, int64_t timeout_ns, struct error *err);

/* Reads 1 to `len` bytes, as many as there are. The number, 0: the peer closed, -errno. */
ssize_t tls_read_some(struct tls *t, void *buf, size_t len, int64_t timeout_ns, struct error *err);

/*
 * True where an idle connection looks usable: nothing to read, not closed. (Between
 * requests nobody should have sent us anything.)
 */
bool tls_idle_ok(struct tls *t);

/* CN of the peer's certificate; NULL for an anonymous peer. Belongs to the connection. */
const char *tls_peer_name(const struct tls *t);

/* Address of the peer, numeric. Belongs to the connection. */
const char *tls_peer_address(const struct tls *t);

/* The socket, for poll() on hang-ups only; bytes may wait decrypted: see tls_pending(). */
int tls_fd(const struct tls *t);

/* Bytes that are decrypted and can be read without waiting. */
size_t tls_pending(struct tls *t);

/* Ends the connection for both directions; readers and writers return with an error. */
void tls_abort(struct tls *t);

/* Says goodbye (close_notify, without waiting), closes, frees. NULL is fine. */
void tls_close(struct tls *t);

static inline void cleanup_tls(struct tls **t)
{
	tls_close(*t);
}
#define CLEANUP_TLS __attribute__((cleanup(cleanup_tls)))

/* --- certificates: everything is PEM text, EC P-256, SHA-256; strings: caller frees -- */

/* A fresh private key (PKCS#8). */
int tls_key_create(char **key_pem, struct error *err);

/* A self-signed CA certificate named `name`, valid from an hour ago for `days`. */
int tls_ca_create(const char *name, int days, char **cert_pem, char **key_pem, struct error *err);

/* A certificate signing request for CN `name` with that key. */
int tls_csr_create(const char *key_pem, const char *name, char **csr_pem, struct error *err);

/*
 * Issues a certificate for the request: for client and server use, CN `name` (whatever
 * the request says), alternative names `name` and, where it is given, `address`. The
 * request's own signature is checked. -EINVAL for a request that is no good.
 */
int tls_csr_sign(const char *ca_cert_pem, const char *ca_key_pem, const char *csr_pem,
		 const char *name, const char *address, int days, char **cert_pem,
		 struct error *err);

/* SHA-256 of a certificate's DER as 64 lower-case hex digits. */
int tls_cert_fingerprint(const char *cert_pem, char out[65], struct error *err);

/* Seconds since the epoch when the certificate ends; CN into *name (NULL: not wanted). */
int tls_cert_info(const char *cert_pem, char **name, int64_t *not_after_s, struct error *err);

/* HMAC-SHA256 of text under a key that is derived (HKDF) from a private key: 64 hex digits. */
int tls_key_mac(const char *key_pem, const char *purpose, const char *text, char out[65],
		struct error *err);

#endif
