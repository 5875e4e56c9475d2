/* SPDX-License-Identifier: Apache-2.0 */
/* Frames over a socket or TLS; stream.h draws the format. */
#include "runtime/checkpoint/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/process.h"
#include "base/str.h"
#include "base/tls.h"
#include "runtime/checkpoint/stream_pack.h"

#define GATHER (256 << 10)

struct header {
	uint32_t len;
	uint16_t type, flags;
	uint32_t crc;
};

struct stream {
	int fd;
	struct tls *tls;
	uint8_t *out;
	size_t out_len;
	uint8_t *in; /* payload of the last frame */
	size_t in_cap;
	atomic_uint_fast64_t bytes, saved;
	struct packer *packer;
	struct unpacker *unpacker;
	EVP_MD_CTX *hash; /* of a file only */
};

struct stream *stream_new_fd(int fd)
{
	struct stream *s = mem_zalloc(sizeof(*s));
	int size = 8 << 20;

	s->fd = fd;
	s->out = mem_zalloc(GATHER);
	s->packer = packer_new(STREAM_PACK_NEVER);
	s->unpacker = unpacker_new();
	/* So that the source does not wait for each page that the destination writes. */
	if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return s;
}

/* A peer that shares its processors with workloads reads late; one that is gone never does. */
#define PEER_GONE_S 10

void stream_patience(struct stream *s, unsigned int seconds)
{
	unsigned int ms = seconds * 1000;
	int on = 1, count = (int)seconds;

	setsockopt(s->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPIDLE, &on, sizeof(on));
	setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPINTVL, &on, sizeof(on));
	setsockopt(s->fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
}

struct stream *stream_new_tls(struct tls *tls)
{
	struct stream *s = stream_new_fd(tls_fd(tls));

	stream_patience(s, PEER_GONE_S);
	s->tls = tls;
	stream_pack(s, STREAM_PACK_AUTO);
	return s;
}

void stream_pack(struct stream *s, enum stream_packing how)
{
	packer_free(s->packer);
	s->packer = packer_new(how);
}

struct stream *stream_new_file(int fd)
{
	struct stream *s = stream_new_fd(fd);

	s->hash = EVP_MD_CTX_new();
	if (!s->hash || EVP_DigestInit_ex(s->hash, EVP_sha256(), NULL) != 1)
		abort(); /* no memory */
	stream_pack(s, STREAM_PACK_ALWAYS);
	return s;
}

int stream_digest(struct stream *s, uint8_t out[STREAM_DIGEST], struct error *err)
{
	EVP_MD_CTX *copy = EVP_MD_CTX_new();
	int r = stream_flush(s, err);

	if (r == 0 && (!copy || !s->hash || EVP_MD_CTX_copy_ex(copy, s->hash) != 1 ||
		       EVP_DigestFinal_ex(copy, out, NULL) != 1))
		r = error_set(err, EIO, "the checkpoint's SHA-256 cannot be computed");
	EVP_MD_CTX_free(copy);
	return r;
}

static void hash(struct stream *s, const void *p, size_t n)
{
	if (s->hash && n)
		EVP_DigestUpdate(s->hash, p, n);
}

void stream_close(struct stream *s)
{
	if (!s)
		return;
	EVP_MD_CTX_free(s->hash);
	if (s->tls)
		tls_close(s->tls);
	else if (s->fd >= 0)
		close(s->fd);
	packer_free(s->packer);
	unpacker_free(s->unpacker);
	free(s->out);
	free(s->in);
	free(s);
}

void stream_abort(struct stream *s)
{
	if (s->tls)
		tls_abort(s->tls);
	else
		shutdown(s->fd, SHUT_RDWR);
}

int stream_fd(const struct stream *s)
{
	return s->fd;
}

bool stream_buffered(const struct stream *s)
{
	return s->tls && tls_pending(s->tls) > 0;
}

uint64_t stream_bytes(const struct stream *s)
{
	return s->bytes;
}

uint64_t stream_plain_bytes(const struct stream *s)
{
	return s->bytes + s->saved;
}

static void wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	poll(&p, 1, -1);
}

static int write_all(struct stream *s, const void *p, size_t n, struct error *err)
{
	if (s->tls && n) {
		int64_t t0 = clock_mono_ns();
		int r = tls_write(s->tls, p, n, 0, err);

		packer_wire(s->packer, n, clock_mono_ns() - t0);
		return r;
	}
	hash(s, p, n);
	while (n) {
		/* MSG_NOSIGNAL: the peer may die at any moment. */
		ssize_t w = send(s->fd, p, n, MSG_NOSIGNAL);

		if (w < 0 && errno == ENOTSOCK)
			w = write(s->fd, p, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0 && errno == EAGAIN) {
			wait_for(s->fd, POLLOUT);
			continue;
		}
		if (w < 0)
			return error_sys(err, errno, "%s",
					 s->hash ? "writing the checkpoint"
						 : "sending to the other engine");
		p = (const char *)p + w;
		n -= (size_t)w;
	}
	return 0;
}

static int cut_off(const struct stream *s, struct error *err)
{
	return error_set(err, EBADMSG,
			 "the checkpoint is truncated: it ends in the middle of a frame, behind "
			 "byte %llu; write or copy it again",
			 (unsigned long long)s->bytes);
}

static int read_all(struct stream *s, void *p, size_t n, struct error *err)
{
	size_t want = n;

	if (s->tls && n) {
		int r = tls_read(s->tls, p, n, 0, err);

		if (r == -ENODATA)
			return error_set(err, EPIPE, "the other engine has closed the stream");
		return r;
	}
	while (n) {
		ssize_t got = read(s->fd, p, n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno == EAGAIN) {
			wait_for(s->fd, POLLIN);
			continue;
		}
		if (got < 0)
			return error_sys(err, errno, "%s",
					 s->hash ? "reading the checkpoint"
						 : "receiving from the other engine");
		if (got == 0 && s->hash)
			return n < want ? cut_off(s, err)
					: error_set(err, ENODATA, "the checkpoint has no end");
		if (got == 0)
			return error_set(err, EPIPE, "the other engine has closed the stream");
		p = (char *)p + got;
		n -= (size_t)got;
	}
	return 0;
}

int stream_flush(struct stream *s, struct error *err)
{
	size_t n = s->out_len;

	s->out_len = 0;
	return write_all(s, s->out, n, err);
}

int stream_flush_over(struct stream *s, size_t bytes, struct error *err)
{
	return s->out_len > bytes ? stream_flush(s, err) : 0;
}

/* Into the gathering buffer, or past it where the piece is large. */
static int put(struct stream *s, const void *p, size_t n, struct error *err)
{
	int r;

	if (s->out_len + n > GATHER) {
		r = stream_flush(s, err);
		if (r < 0)
			return r;
	}
	if (n > GATHER / 2)
		return write_all(s, p, n, err);
	if (n)
		memcpy(s->out + s->out_len, p, n);
	s->out_len += n;
	return 0;
}

int stream_send(struct stream *s, uint16_t type, uint16_t flags, const void *head, size_t head_len,
		const void *data, size_t len, struct error *err)
{
	struct header h = { 0, type, flags, 0 };
	const void *packed = NULL;
	size_t packed_len = 0;
	int r;

	if (head_len + len > STREAM_FRAME_MAX)
		return error_set(err, EMSGSIZE, "a frame of %zu bytes is too long", head_len + len);
	if (type == FRAME_PAGES && len)
		packed = packer_pack(s->packer, data, len, &packed_len);
	if (packed) {
		s->saved += len - packed_len;
		data = packed;
		len = packed_len;
		h.flags |= FRAME_ZSTD;
	}
	h.len = (uint32_t)(head_len + len);
	if (!s->tls)
		h.crc = crc32c(crc32c(0, head, head_len), data, len);
	s->bytes += sizeof(h) + h.len;
	r = put(s, &h, sizeof(h), err);
	if (r == 0)
		r = put(s, head, head_len, err);
	/* A large piece written past the buffer must not overtake what is in it. */
	if (r == 0 && len > GATHER / 2)
		r = stream_flush(s, err);
	return r < 0 ? r : put(s, data, len, err);
}

int stream_send_msg(struct stream *s, uint16_t type, const ProtobufCMessage *m, struct error *err)
{
	size_t n = protobuf_c_message_get_packed_size(m);
	uint8_t *packed = mem_zalloc(n + 1);
	int r;

	protobuf_c_message_pack(m, packed);
	r = stream_send(s, type, 0, NULL, 0, packed, n, err);
	free(packed);
	return r;
}

int stream_recv(struct stream *s, struct frame *f, struct error *err)
{
	struct header h;
	int r;

	r = read_all(s, &h, sizeof(h), err);
	if (r < 0)
		return r;
	if (h.len > STREAM_FRAME_MAX)
		return error_set(err, EBADMSG, "the stream is damaged: a frame of %u bytes", h.len);
	if (h.len > s->in_cap) {
		s->in_cap = h.len + 4096;
		s->in = mem_grow(s->in, s->in_cap, 1);
	}
	r = read_all(s, s->in, h.len, err);
	if (r < 0)
		return r == -ENODATA ? cut_off(s, err) : r;
	if (!s->tls && crc32c(0, s->in, h.len) != h.crc)
		return error_set(err, EBADMSG,
				 "the stream is damaged: checksum of a frame of type %u differs",
				 h.type);
	if (h.type != FRAME_SIGNATURE) {
		hash(s, &h, sizeof(h));
		hash(s, s->in, h.len);
	}
	s->bytes += sizeof(h) + h.len;
	*f = (struct frame){ h.type, h.flags, h.len, s->in, h.flags, h.len, s->in };
	if (h.type != FRAME_PAGES || !(h.flags & FRAME_ZSTD))
		return 0;
	f->flags &= (uint16_t)~FRAME_ZSTD;
	r = unpacker_unpack(s->unpacker, sizeof(struct page_run), &f->data, &f->len, err);
	s->saved += f->len - h.len;
	return r;
}
