/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that no other file claims: refused before anything is paused. Last in the table. */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "runtime/checkpoint/sock_common.h"

static const struct {
	int family;
	const char *object, *why, *remedy;
} known[] = {
	{ AF_VSOCK, "VSOCK socket", "its other end is this host's hypervisor or a virtual machine",
	  "close it" },
	{ AF_ALG, "kernel crypto socket (AF_ALG)", "its keys and state cannot be read",
	  "let the program use a crypto library" },
	{ AF_XDP, "AF_XDP socket", "its rings belong to this host's network card",
	  "configure the program to use ordinary sockets" },
	{ AF_BLUETOOTH, "Bluetooth socket", "it belongs to this host's hardware", "close it" },
	{ AF_CAN, "CAN socket", "it belongs to this host's hardware", "close it" },
	{ AF_KEY, "IPsec key socket", "it holds state of this host's kernel", "close it" },
	{ AF_TIPC, "TIPC socket", "its connections cannot be taken over", "close it" },
	{ AF_RDS, "RDS socket", "its connections cannot be taken over", "close it" },
	{ 43 /* AF_SMC */, "SMC socket", "its connections cannot be taken over",
	  "configure the program to use TCP" },
};

/* Names of the rest, so that the user sees what it is. Numbers: linux/socket.h. */
static const struct {
	int family;
	const char *name;
} names[] = {
	{ AF_AX25, "AX.25" },
	{ AF_IPX, "IPX" },
	{ AF_APPLETALK, "AppleTalk" },
	{ AF_NETROM, "NET/ROM" },
	{ AF_X25, "X.25" },
	{ AF_ROSE, "ROSE" },
	{ AF_PACKET, "packet" },
	{ AF_ATMPVC, "ATM PVC" },
	{ AF_ATMSVC, "ATM SVC" },
	{ AF_LLC, "LLC" },
	{ AF_IB, "InfiniBand" },
	{ AF_PPPOX, "PPP" },
	{ AF_RXRPC, "RxRPC" },
	{ AF_ISDN, "ISDN" },
	{ AF_PHONET, "Phonet" },
	{ AF_IEEE802154, "802.15.4" },
	{ AF_CAIF, "CAIF" },
	{ AF_NFC, "NFC" },
	{ AF_KCM, "KCM" },
	{ AF_QIPCRTR, "QIPC router" },
	{ 45 /* AF_MCTP */, "MCTP" },
	{ AF_INET, "IPv4" },
	{ AF_INET6, "IPv6" },
};

static bool refused_claims(const struct ofd *o)
{
	struct sock_kind k;

	return sock_kind(o, &k);
}

static void refused_say(const struct ofd *o, char *object, size_t cap, const char **why,
			const char **remedy)
{
	struct sock_kind k = { 0 };

	sock_kind(o, &k);
	*why = "ferry does not know how to move this kind of socket";
	*remedy = "close it, or stop and start the container instead (a cold migration)";
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].family == k.family) {
			snprintf(object, cap, "%s", known[i].object);
			*why = known[i].why;
			*remedy = known[i].remedy;
			return;
		}
	if (k.protocol == IPPROTO_SCTP) {
		snprintf(object, cap, "SCTP socket");
		return;
	}
	snprintf(object, cap, "socket of family %d, type %d, protocol %d", k.family, k.type,
		 k.protocol);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].family == k.family)
			snprintf(object, cap, "%s socket of type %d, protocol %d", names[i].name,
				 k.type, k.protocol);
}

static int refused_check(struct dump *d, const struct ofd *o, struct obstacles *out)
{
	char object[100];
	const char *why, *remedy;

	(void)d;
	refused_say(o, object, sizeof(object), &why, &remedy);
	obj_obstacle(out, o, object, why, remedy);
	return 0;
}

static int refused_dump(struct dump *d, struct ofd *o, struct buf *body, struct error *err)
{
	char object[100];
	const char *why, *remedy;

	(void)d;
	(void)body;
	refused_say(o, object, sizeof(object), &why, &remedy);
	return error_set(err, ENOTSUP, "%s: %s; %s", object, why, remedy);
}

static int refused_restore(struct restore *r, uint32_t id, const void *body, size_t len, int *fd,
			   struct error *err)
{
	(void)r;
	(void)body;
	(void)len;
	(void)fd;
	return error_set(err, EBADMSG, "socket %u of the checkpoint cannot be made", id);
}

const struct object_type sock_type_refused = {
	.type = "refused-socket",
	.claims = refused_claims,
	.check = refused_check,
	.dump = refused_dump,
	.restore = refused_restore,
};
