/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the sock_*.c files share: what a socket is, addresses, options, making sockets in
 * the container's network namespace, long queues, packets made by hand.
 *
 * Functions that take a `struct dump` or `struct restore` accept NULL where noted: then
 * the caller's own network namespace is meant (unit tests without a container).
 */
#ifndef FERRY_CHECKPOINT_SOCK_COMMON_H
#define FERRY_CHECKPOINT_SOCK_COMMON_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "runtime/checkpoint/obj_common.h"
#include "runtime/checkpoint/sockets.pb-c.h"

struct sock_kind {
	int family, type, protocol;
};
/* False: not a socket, or an AF_UNIX one. */
bool sock_kind(const struct ofd *o, struct sock_kind *k);

union sock_addr {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* --- addresses ------------------------------------------------------------------------- */
/* Fresh (sock_address_free); interfaces are named through `fd`'s namespace. */
Cks__Address *sock_address_dump(int fd, const union sock_addr *a);
void sock_address_free(Cks__Address *a);
/* Family, length and port fit: all else may rely on it. False for NULL. */
bool sock_address_is_whole(const Cks__Address *m);
/* `fd` is a socket in the namespace where the interface is looked up. Its length, or
 * -errno with err set. */
int sock_address_load(int fd, const Cks__Address *m, union sock_addr *a, struct error *err);
/* getsockname or getpeername; NULL where the socket has none. */
Cks__Address *sock_address_local(int fd);
Cks__Address *sock_address_peer(int fd);
/* "10.0.0.1:80", into a static buffer of the caller's. */
const char *sock_address_text(const Cks__Address *m, char *out, size_t cap);

/* Interface index <-> name in the namespace of socket `fd`. */
int sock_ifindex(int fd, const char *name);
char *sock_ifname(int fd, int index); /* caller frees; NULL: none */

/* --- common state ------------------------------------------------------------------------ */
/* Preflight: whether poll() reports `events` and goes on to do so for 200 ms: a state that
 * does not pass by itself. */
bool sock_stays(int fd, short events);
/* Obstacles that every kind has: foreign namespace, eBPF filter, signal owner. */
void sock_common_check(struct dump *d, const struct ofd *o, struct obstacles *out);
/*
 * Options, flags, addresses. `unconnected`: options that only mean something then are
 * read as well. d may be NULL (no signal owner). Free with sock_common_free().
 */
int sock_common_dump(struct dump *d, const struct ofd *o, bool unconnected, Cks__Common **out,
		     struct error *err);
void sock_common_free(Cks__Common *c);
/* Set in a thread beside the main one: nothing may be sent from it. */
extern _Thread_local bool sock_beside;
/* Looks up what is the same for all sockets of the container, before such a thread runs. */
void sock_common_prepare(struct dump *d);

/*
 * A fresh socket of this kind in the container's namespace (r NULL: the caller's), with
 * its owner and all options but: SO_REUSEADDR (on), the buffers (large), the device, the
 * filter, SO_PEEK_OFF and status flags (non-blocking).
 */
int sock_common_make(struct restore *r, const Cks__Common *c, int *fd, struct error *err);
/* The device: sockets that get handmade packets through lo must not have it until then. */
int sock_common_device(int fd, const Cks__Common *c, struct error *err);
/* What sock_common_make() left out, but for the device. */
int sock_common_finish(int fd, const Cks__Common *c, struct error *err);
/* The same, at once, for one without filter and SO_PEEK_OFF; SO_REUSEADDR is the caller's. */
int sock_common_settle(int fd, const Cks__Common *c, struct error *err);
/* Forgets sockets made in advance. */
void sock_pool_drop(void);
/* Fresh socket in the container's namespace; from a small stock, so that thousands need
 * few visits there. fd or -errno. */
int sock_pool_take(struct restore *r, int family, int type, int protocol, struct error *err);

/* So many TCP sockets of a family will be taken: they are made now. */
void sock_pool_expect(struct restore *r, int family, size_t n);

/* NULL for `r` then means this dump's namespace: the source puts something back. */
void sock_pool_use(struct dump *d);

/* Buffer sizes, as getsockopt() gives them. */
int sock_buffer_set(int fd, int name, unsigned int size);

/* Reads an int option; `missing` where the kernel has none. */
int sock_opt_int(int fd, int level, int name, int missing);
int sock_opt_set(int fd, int level, int name, int value);

/* --- queues ------------------------------------------------------------------------------- */
extern const struct checkpoint_part sock_part;
/* Fresh message; takes over `data`. Long ones are sent at once where d is not NULL. */
int sock_queue_dump(struct dump *d, uint8_t *data, size_t len, Cks__Queue **out, struct error *err);
void sock_queue_free(Cks__Queue *q);
/* Content, borrowed until the process ends. */
int sock_queue_data(const Cks__Queue *q, const uint8_t **data, size_t *len, struct error *err);

/* --- handmade packets (sock_inject.c) --------------------------------------------------------- */
/*
 * Packets that seem to come from `from` are put on the way to the local address `to`,
 * through lo of the container's namespace: they never leave the host.
 */
struct sock_packet {
	const Cks__Address *from, *to;
	uint32_t seq, ack; /* TCP */
	uint8_t flags;	   /* TCP: TH_* */
	uint16_t window;
	const uint8_t *options; /* TCP, a multiple of 4 bytes */
	size_t options_len;
	const void *data;
	size_t len;
};
int sock_inject_tcp(struct restore *r, const struct sock_packet *p, struct error *err);
int sock_inject_udp(struct restore *r, int protocol, const struct sock_packet *p,
		    struct error *err);
/* "Destination unreachable" for a datagram that `to` has sent to `from`. */
int sock_inject_unreachable(struct restore *r, int protocol, const Cks__Address *from,
			    const Cks__Address *to, uint8_t code, struct error *err);
void sock_inject_close(void);

extern const struct object_type sock_type_tcp, sock_type_inet, sock_type_netlink, sock_type_packet,
	sock_type_refused;
#endif
