/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS connections over OpenSSL; tls.h is the contract, tls_cert.c the certificate authority.
 *
 * The one idea: the socket is non-blocking, and an SSL call is made under the connection's
 * lock only, where it returns at once. What it waits for (WANT_READ, WANT_WRITE) is waited
 * for with poll() outside the lock, so a reader that waits does not stop a writer.
 */
#include "base/tls.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/str.h"

struct tls_ctx {
	SSL_CTX *ssl;
	char pin[65]; /* CA's fingerprint where there is no trust store; else empty */
};

struct tls {
	pthread_mutex_t lock; /* around every call on ssl; never held while waiting */
	SSL *ssl;
	int fd;
	atomic_bool aborted;
	bool established; /* handshake done and no fatal error since: may say goodbye */
	char *peer_name;
	char peer_address[INET6_ADDRSTRLEN];
};

/* --- contexts --------------------------------------------------------------------------- */

/* The newest OpenSSL error as text; the queue is emptied. */
static const char *ssl_reason(char *buf, size_t len)
{
	unsigned long e = ERR_peek_last_error();
	const char *why = e ? ERR_reason_error_string(e) : NULL;

	if (why)
		snprintf(buf, len, "%s", why);
	else
		snprintf(buf, len, "unknown error");
	ERR_clear_error();
	return buf;
}

static int new_ssl_ctx(SSL_CTX **out, struct error *err)
{
	char why[200];
	SSL_CTX *c = SSL_CTX_new(TLS_method());

	if (!c)
		return error_set(err, ENOMEM, "making a TLS context: %s",
				 ssl_reason(why, sizeof(why)));
	/*
	 * AES-128-GCM first: the fastest where there are AES instructions, and the bulk of
	 * what goes through here is a container's memory.
	 */
	if (!SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(c, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:"
					 "TLS_CHACHA20_POLY1305_SHA256") ||
	    !SSL_CTX_set_num_tickets(c, 0)) {
		SSL_CTX_free(c);
		return error_set(err, EOPNOTSUPP, "this OpenSSL has no TLS 1.3: %s",
				 ssl_reason(why, sizeof(why)));
	}
	SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
	SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	*out = c;
	return 0;
}

struct tls_ctx *tls_ctx_new(const char *cert_path, const char *key_path, const char *ca_path,
			    struct error *err)
{
	struct tls_ctx *ctx = mem_zalloc(sizeof(*ctx));
	CLEANUP_FREE char *ca_pem = NULL;
	const char *bad = NULL;
	char why[200];
	size_t len;
	BIO *bio;
	X509 *ca;

	if (new_ssl_ctx(&ctx->ssl, err) < 0)
		goto fail;
	if (file_read(ca_path, 1 << 20, &ca_pem, &len, err) < 0)
		goto fail;
	if (SSL_CTX_use_certificate_file(ctx->ssl, cert_path, SSL_FILETYPE_PEM) != 1)
		bad = cert_path;
	else if (SSL_CTX_use_PrivateKey_file(ctx->ssl, key_path, SSL_FILETYPE_PEM) != 1 ||
		 SSL_CTX_check_private_key(ctx->ssl) != 1)
		bad = key_path;
	else if (SSL_CTX_load_verify_locations(ctx->ssl, ca_path, NULL) != 1)
		bad = ca_path;
	if (bad) {
		error_set(err, EINVAL, "loading %s: %s", bad, ssl_reason(why, sizeof(why)));
		goto fail;
	}
	/* The CA goes along, so that a host that joins can compare it with its pin. */
	bio = BIO_new_mem_buf(ca_pem, (int)len);
	ca = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
	BIO_free(bio);
	if (!ca || SSL_CTX_add_extra_chain_cert(ctx->ssl, ca) != 1) {
		X509_free(ca);
		error_set(err, EINVAL, "loading %s: %s", ca_path, ssl_reason(why, sizeof(why)));
		goto fail;
	}
	return ctx;
fail:
	tls_ctx_free(ctx);
	return NULL;
}

struct tls_ctx *tls_ctx_new_pinned(const char *ca_sha256, struct error *err)
{
	struct tls_ctx *ctx;

	if (strlen(ca_sha256) != 64 || strspn(ca_sha256, "0123456789abcdef") != 64) {
		error_set(err, EINVAL, "a CA's fingerprint is 64 hexadecimal digits");
		return NULL;
	}
	ctx = mem_zalloc(sizeof(*ctx));
	if (new_ssl_ctx(&ctx->ssl, err) < 0) {
		tls_ctx_free(ctx);
		return NULL;
	}
	memcpy(ctx->pin, ca_sha256, 65);
	return ctx;
}

void tls_ctx_free(struct tls_ctx *ctx)
{
	if (!ctx)
		return;
	SSL_CTX_free(ctx->ssl); /* each SSL holds a reference of its own */
	free(ctx);
}

/* --- waiting -------------------------------------------------------------------------------- */

static int64_t deadline_of(int64_t timeout_ns)
{
	return timeout_ns > 0 ? clock_mono_ns() + timeout_ns : INT64_MAX;
}

/* Waits for events on fd until the deadline. 0, -ETIMEDOUT or -errno. */
static int wait_fd(int fd, short events, int64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = { .fd = fd, .events = events };
		int64_t left = deadline_ns == INT64_MAX ? -1 : deadline_ns - clock_mono_ns();
		struct timespec ts = { 0 };
		int n;

		if (deadline_ns != INT64_MAX && left <= 0)
			return -ETIMEDOUT;
		if (left > 0) {
			ts.tv_sec = left / 1000000000;
			ts.tv_nsec = left % 1000000000;
		}
		n = ppoll(&p, 1, left < 0 ? NULL : &ts, NULL);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
	}
}

/* --- the handshake --------------------------------------------------------------------------- */

static void say_clock(char *buf, size_t len, const X509 *cert, bool too_early)
{
	char when[64] = "", now[64];
	struct tm tm;
	time_t t = time(NULL);
	const ASN1_TIME *a = too_early ? X509_get0_notBefore(cert) : X509_get0_notAfter(cert);

	if (ASN1_TIME_to_tm(a, &tm))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	strftime(now, sizeof(now), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	snprintf(buf, len, "it is valid %s %s, and the clock here says %s: %s",
		 too_early ? "from" : "until", when, now,
		 too_early ? "set the clocks of both hosts right (NTP)"
			   : "renew the host's certificate, or set the clock right");
}

/* What a verification result means, as a sentence with a remedy. */
static int say_verify(struct error *err, long result, const X509 *cert)
{
	char clock[300];

	if (cert &&
	    (result == X509_V_ERR_CERT_NOT_YET_VALID || result == X509_V_ERR_CERT_HAS_EXPIRED)) {
		say_clock(clock, sizeof(clock), cert, result == X509_V_ERR_CERT_NOT_YET_VALID);
		return error_set(err, EKEYREJECTED, "the peer's certificate is refused: %s", clock);
	}
	return error_set(err, EKEYREJECTED,
			 "the peer's certificate is refused (%s): it is of another cluster",
			 X509_verify_cert_error_string(result));
}

/* Finds the pinned CA in the chain that the server sent, and verifies its own with it. */
static int verify_pinned(struct tls *t, const char *pin, struct error *err)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(t->ssl);
	X509 *leaf = SSL_get0_peer_certificate(t->ssl), *ca = NULL;
	X509_STORE *store;
	X509_STORE_CTX *vc;
	int r = 0;

	for (int i = 0; chain && i < sk_X509_num(chain) && !ca; i++) {
		unsigned char md[32];
		unsigned int n;
		char hex[65];

		if (X509_digest(sk_X509_value(chain, i), EVP_sha256(), md, &n) && n == 32) {
			str_hex(hex, md, 32);
			if (!strcmp(hex, pin))
				ca = sk_X509_value(chain, i);
		}
	}
	if (!ca || !leaf)
		return error_set(err, EKEYREJECTED,
				 "the host at %s is not of the cluster that made the token (its CA "
				 "is another one): check the address, or get a new token from that "
				 "cluster",
				 t->peer_address);
	store = X509_STORE_new();
	vc = X509_STORE_CTX_new();
	if (!store || !vc || !X509_STORE_add_cert(store, ca) ||
	    !X509_STORE_CTX_init(vc, store, leaf, NULL) ||
	    !X509_STORE_CTX_set_default(vc, "ssl_server"))
		r = error_set(err, ENOMEM, "verifying a certificate: out of memory");
	else if (X509_verify_cert(vc) != 1)
		r = say_verify(err, X509_STORE_CTX_get_error(vc),
			       X509_STORE_CTX_get_current_cert(vc));
	X509_STORE_CTX_free(vc);
	X509_STORE_free(store);
	ERR_clear_error();
	return r;
}

/* An error of OpenSSL during the handshake, with what it is likely to mean. */
static int handshake_error(struct tls *t, int code, int sys, struct error *err)
{
	long verify = SSL_get_verify_result(t->ssl);
	unsigned long e = ERR_peek_last_error();
	char why[200];
	int r;

	if (code == SSL_ERROR_SYSCALL) {
		ERR_clear_error();
		return sys ? error_sys(err, sys, "TLS handshake with %s", t->peer_address)
			   : error_set(err, ECONNRESET, "%s hung up during the TLS handshake",
				       t->peer_address);
	}
	if (verify != X509_V_OK) {
		r = say_verify(err, verify, SSL_get0_peer_certificate(t->ssl));
		ERR_clear_error();
		error_wrap(err, "TLS with %s", t->peer_address);
		return r;
	}
	if (ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
		ERR_clear_error();
		return error_set(err, ECONNRESET, "%s hung up during the TLS handshake",
				 t->peer_address);
	}
	return error_set(err, EPROTO, "TLS handshake with %s: %s", t->peer_address,
			 ssl_reason(why, sizeof(why)));
}

static int handshake(struct tls *t, const struct tls_ctx *ctx, int64_t deadline_ns,
		     struct error *err)
{
	for (;;) {
		int n, code, sys, r;

		ERR_clear_error();
		errno = 0;
		n = SSL_do_handshake(t->ssl);
		sys = errno;
		if (n == 1)
			break;
		code = SSL_get_error(t->ssl, n);
		if (code != SSL_ERROR_WANT_READ && code != SSL_ERROR_WANT_WRITE)
			return handshake_error(t, code, sys, err);
		r = wait_fd(t->fd, code == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline_ns);
		if (r < 0)
			return error_sys(err, -r, "TLS handshake with %s", t->peer_address);
	}
	if (ctx->pin[0])
		return verify_pinned(t, ctx->pin, err);
	return 0;
}

static void note_peer(struct tls *t)
{
	struct sockaddr_storage ss = { 0 };
	socklen_t len = sizeof(ss);

	snprintf(t->peer_address, sizeof(t->peer_address), "peer");
	if (getpeername(t->fd, (struct sockaddr *)&ss, &len) < 0)
		return;
	if (ss.ss_family == AF_UNIX)
		snprintf(t->peer_address, sizeof(t->peer_address), "local");
	else
		getnameinfo((struct sockaddr *)&ss, len, t->peer_address, sizeof(t->peer_address),
			    NULL, 0, NI_NUMERICHOST);
	if (str_starts(t->peer_address, "::ffff:") && strchr(t->peer_address, '.'))
		memmove(t->peer_address, t->peer_address + 7, strlen(t->peer_address + 7) + 1);
}

static void note_name(struct tls *t)
{
	X509 *cert = SSL_get0_peer_certificate(t->ssl);
	X509_NAME *subject = cert ? X509_get_subject_name(cert) : NULL;
	int at = subject ? X509_NAME_get_index_by_NID(subject, NID_commonName, -1) : -1;
	unsigned char *text = NULL;

	if (at < 0)
		return;
	if (ASN1_STRING_to_UTF8(&text,
				X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at))) >= 0)
		t->peer_name = str_dup((const char *)text);
	OPENSSL_free(text);
}

static void set_socket(int fd)
{
	const int on = 1, idle = 5, interval = 2, count = 3;

	/* On a unix socket (tests) these fail, which is fine. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

/* OpenSSL writes with write(2): a peer that is gone must be an error, not a signal. */
static pthread_once_t sigpipe_once = PTHREAD_ONCE_INIT;

static void ignore_sigpipe(void)
{
	struct sigaction sa;

	if (sigaction(SIGPIPE, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

static int new_tls(struct tls_ctx *ctx, int fd, bool server, bool anonymous, int64_t deadline_ns,
		   struct tls **out, struct error *err)
{
	struct tls *t = mem_zalloc(sizeof(*t));
	int r;

	pthread_once(&sigpipe_once, ignore_sigpipe);
	pthread_mutex_init(&t->lock, NULL);
	t->fd = fd;
	note_peer(t);
	set_socket(fd);
	fd_set_cloexec(fd, true);
	r = fd_set_nonblock(fd, true);
	if (r < 0) {
		error_sys(err, -r, "making a socket non-blocking");
		goto fail;
	}
	t->ssl = SSL_new(ctx->ssl);
	if (!t->ssl || SSL_set_fd(t->ssl, fd) != 1) {
		r = error_set(err, ENOMEM, "making a TLS connection: out of memory");
		goto fail;
	}
	if (server) {
		SSL_set_verify(t->ssl,
			       SSL_VERIFY_PEER | (anonymous ? 0 : SSL_VERIFY_FAIL_IF_NO_PEER_CERT),
			       NULL);
		SSL_set_accept_state(t->ssl);
	} else {
		SSL_set_verify(t->ssl, ctx->pin[0] ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
		SSL_set_connect_state(t->ssl);
	}
	r = handshake(t, ctx, deadline_ns, err);
	if (r < 0)
		goto fail;
	t->established = true;
	note_name(t);
	*out = t;
	return 0;
fail:
	tls_close(t);
	return r;
}

int tls_accept(struct tls_ctx *ctx, int fd, bool anonymous, int64_t timeout_ns, struct tls **out,
	       struct error *err)
{
	return new_tls(ctx, fd, true, anonymous, deadline_of(timeout_ns), out, err);
}

int tls_client(struct tls_ctx *ctx, int fd, int64_t timeout_ns, struct tls **out, struct error *err)
{
	return new_tls(ctx, fd, false, false, deadline_of(timeout_ns), out, err);
}

/* --- sockets ------------------------------------------------------------------------------- */

static int connect_one(const struct addrinfo *ai, int64_t deadline_ns)
{
	CLEANUP_CLOSE int fd =
		socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
	socklen_t len = sizeof(int);
	int r, so = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, ai->ai_addr, ai->ai_addrlen) < 0) {
		if (errno != EINPROGRESS)
			return -errno;
		r = wait_fd(fd, POLLOUT, deadline_ns);
		if (r < 0)
			return r;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &so, &len) < 0)
			return -errno;
		if (so)
			return -so;
	}
	return TAKE_FD(fd);
}

int tls_connect(struct tls_ctx *ctx, const char *host, uint16_t port, int64_t timeout_ns,
		struct tls **out, struct error *err)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	int64_t deadline_ns = deadline_of(timeout_ns);
	struct addrinfo *list = NULL;
	char service[8];
	int r, fd = -EHOSTUNREACH;

	snprintf(service, sizeof(service), "%u", port);
	r = getaddrinfo(host, service, &hints, &list);
	if (r != 0)
		return error_set(err, EHOSTUNREACH, "looking up %s: %s", host, gai_strerror(r));
	for (const struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next)
		fd = connect_one(ai, deadline_ns);
	freeaddrinfo(list);
	if (fd < 0)
		return error_sys(err, -fd, "connecting to %s port %u", host, port);
	return new_tls(ctx, fd, false, false, deadline_ns, out, err);
}

int tls_listen(const char *address, uint16_t port, uint16_t *bound, struct error *err)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} local = { 0 };
	socklen_t len = sizeof(local);
	struct addrinfo *list = NULL;
	CLEANUP_CLOSE int fd = -1;
	const int on = 1, off = 0;
	char service[8];
	int r, code = 0;

	snprintf(service, sizeof(service), "%u", port);
	if (!address)
		hints.ai_family = AF_INET6; /* with V6ONLY off it takes IPv4 too */
	r = getaddrinfo(address, service, &hints, &list);
	if (r != 0 && !address) {
		hints.ai_family = AF_INET;
		r = getaddrinfo(address, service, &hints, &list);
	}
	if (r != 0)
		return error_set(err, EINVAL, "looking up %s: %s", address ? address : "any",
				 gai_strerror(r));
	fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 && errno == EAFNOSUPPORT && !address) { /* a kernel without IPv6 */
		freeaddrinfo(list);
		return tls_listen("0.0.0.0", port, bound, err);
	}
	if (fd >= 0) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (list->ai_family == AF_INET6 && !address)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
	}
	if (fd < 0 || bind(fd, list->ai_addr, list->ai_addrlen) < 0 || listen(fd, 128) < 0 ||
	    getsockname(fd, &local.any, &len) < 0)
		code = errno;
	freeaddrinfo(list);
	if (code)
		return error_sys(err, code, "listening on %s port %u", address ? address : "*",
				 port);
	if (bound)
		*bound = ntohs(local.any.sa_family == AF_INET6 ? local.v6.sin6_port
							       : local.v4.sin_port);
	return TAKE_FD(fd);
}

/* --- bytes ------------------------------------------------------------------------------------ */

/* What an SSL call that gave `n` waits for: the poll event, or -errno. Lock held. */
static int what_now(struct tls *t, int n, int sys, struct error *err)
{
	int code = SSL_get_error(t->ssl, n);
	char why[200];

	switch (code) {
	case SSL_ERROR_WANT_READ:
		return POLLIN;
	case SSL_ERROR_WANT_WRITE:
		return POLLOUT;
	case SSL_ERROR_ZERO_RETURN:
		return -ENODATA;
	default:
		break;
	}
	t->established = false;
	if (code == SSL_ERROR_SYSCALL) {
		ERR_clear_error();
		return error_sys(err, sys ? sys : ECONNRESET, "connection to %s",
				 t->peer_name ? t->peer_name : t->peer_address);
	}
	if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
		ERR_clear_error();
		return error_set(err, ECONNRESET, "connection to %s: cut off",
				 t->peer_name ? t->peer_name : t->peer_address);
	}
	return error_set(err, EPROTO, "connection to %s: %s",
			 t->peer_name ? t->peer_name : t->peer_address,
			 ssl_reason(why, sizeof(why)));
}

static int closed(const struct tls *t, struct error *err)
{
	return error_set(err, ECONNABORTED, "connection to %s was closed here",
			 t->peer_name ? t->peer_name : t->peer_address);
}

/* One transfer of 1 to len bytes, waiting for it. The number, 0: peer closed, -errno. */
static ssize_t transfer(struct tls *t, bool write, void *buf, size_t len, int64_t deadline_ns,
			struct error *err)
{
	int want = (int)(len > (1u << 30) ? (1u << 30) : len);

	for (;;) {
		int n, now, sys, r;

		if (atomic_load(&t->aborted))
			return closed(t, err);
		pthread_mutex_lock(&t->lock);
		ERR_clear_error();
		errno = 0;
		n = write ? SSL_write(t->ssl, buf, want) : SSL_read(t->ssl, buf, want);
		sys = errno;
		now = n > 0 ? 0 : what_now(t, n, sys, err);
		pthread_mutex_unlock(&t->lock);
		if (n > 0)
			return n;
		if (now == -ENODATA && !write)
			return 0;
		if (now < 0 && atomic_load(&t->aborted))
			return closed(t, err);
		if (now == -ENODATA)
			return error_set(err, ECONNRESET, "%s hung up",
					 t->peer_name ? t->peer_name : t->peer_address);
		if (now < 0)
			return now;
		r = wait_fd(t->fd, (short)now, deadline_ns);
		if (r < 0)
			return error_sys(err, -r, "waiting for %s",
					 t->peer_name ? t->peer_name : t->peer_address);
	}
}

int tls_read(struct tls *t, void *buf, size_t len, int64_t timeout_ns, struct error *err)
{
	int64_t deadline_ns = deadline_of(timeout_ns);
	size_t done = 0;

	while (done < len) {
		ssize_t n = transfer(t, false, (char *)buf + done, len - done, deadline_ns, err);

		if (n < 0)
			return (int)n;
		if (n == 0)
			return error_set(err, ENODATA, "%s closed the connection",
					 t->peer_name ? t->peer_name : t->peer_address);
		done += (size_t)n;
	}
	return 0;
}

int tls_write(struct tls *t, const void *buf, size_t len, int64_t timeout_ns, struct error *err)
{
	int64_t deadline_ns = deadline_of(timeout_ns);
	size_t done = 0;

	while (done < len) {
		ssize_t n = transfer(t, true, (char *)(uintptr_t)buf + done, len - done,
				     deadline_ns, err);

		if (n < 0)
			return (int)n;
		done += (size_t)n;
	}
	return 0;
}

ssize_t tls_read_some(struct tls *t, void *buf, size_t len, int64_t timeout_ns, struct error *err)
{
	return transfer(t, false, buf, len, deadline_of(timeout_ns), err);
}

bool tls_idle_ok(struct tls *t)
{
	struct pollfd p = { .fd = t->fd, .events = POLLIN | POLLRDHUP };

	return !atomic_load(&t->aborted) && tls_pending(t) == 0 && poll(&p, 1, 0) == 0;
}

const char *tls_peer_name(const struct tls *t)
{
	return t->peer_name;
}

const char *tls_peer_address(const struct tls *t)
{
	return t->peer_address;
}

int tls_fd(const struct tls *t)
{
	return t->fd;
}

size_t tls_pending(struct tls *t)
{
	int n;

	pthread_mutex_lock(&t->lock);
	n = SSL_pending(t->ssl);
	pthread_mutex_unlock(&t->lock);
	return n > 0 ? (size_t)n : 0;
}

void tls_abort(struct tls *t)
{
	atomic_store(&t->aborted, true);
	shutdown(t->fd, SHUT_RDWR);
}

void tls_close(struct tls *t)
{
	if (!t)
		return;
	if (t->established && !atomic_load(&t->aborted)) {
		ERR_clear_error();
		SSL_shutdown(t->ssl); /* one close_notify if the socket takes it */
		ERR_clear_error();
	}
	SSL_free(t->ssl);
	close(t->fd);
	pthread_mutex_destroy(&t->lock);
	free(t->peer_name);
	free(t);
}
