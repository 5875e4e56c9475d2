/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The error that waits in a connected UDP socket: a datagram of its came back by ICMP, and the
 * next call is to say so. Asking for it (SO_ERROR) takes it away, so that the source reads it
 * by BPF; the destination makes the ICMP message and puts it on lo.
 */
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "runtime/checkpoint/peek.h"
#include "runtime/checkpoint/sock_inet.h"

/* Those that a connected socket hears of without IP_RECVERR (icmp_err_convert in the kernel's
 * net/ipv4/icmp.c, icmpv6_err_convert). */
static const struct reason {
	int error;
	uint8_t code4, code6; /* of "destination unreachable" */
} reasons[] = {
	{ ECONNREFUSED, ICMP_PORT_UNREACH, ICMP6_DST_UNREACH_NOPORT },
	{ EHOSTUNREACH, ICMP_HOST_ANO, 0xff },
	{ ENOPROTOOPT, ICMP_PROT_UNREACH, 0xff },
	{ ENETUNREACH, ICMP_NET_UNKNOWN, 0xff },
	{ EHOSTDOWN, ICMP_HOST_UNKNOWN, 0xff },
	{ EACCES, 0xff, ICMP6_DST_UNREACH_ADMIN },
};

static const struct reason *reason_of(const Cks__Common *c, int error, uint8_t *code)
{
	bool v6 = c->family == AF_INET6 && c->peer && c->peer->ip.len == 16 &&
		  !IN6_IS_ADDR_V4MAPPED(c->peer->ip.data);

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		*code = v6 ? reasons[i].code6 : reasons[i].code4;
		if (reasons[i].error == error && *code != 0xff)
			return &reasons[i];
	}
	return NULL;
}

int inet_error_find(int fd, Cks__Inet *m, struct error *err)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint8_t code;
	int n, error = 0;

	if (poll(&p, 1, 0) <= 0 || !(p.revents & POLLERR))
		return 0;
	n = peek_socket_error(fd, &error, NULL);
	if (n < 0 || !error)
		return error_set(
			err, EAGAIN,
			"an error or a notice waits in a socket and cannot be read without "
			"taking it away; try again");
	/* looking into the queue would take it away too; bound to a device it would not hear */
	if ((p.revents & POLLIN) || *m->common->device || !reason_of(m->common, error, &code))
		return error_set(
			err, EAGAIN,
			"an error waits in a UDP socket (%s) that cannot be made again; try "
			"again when the program has seen it",
			strerror(error));
	m->error = (uint32_t)error;
	return 0;
}

int inet_error_restore(struct restore *r, int fd, const Cks__Inet *m, struct error *err)
{
	struct pollfd p = { .fd = fd };
	uint8_t code;
	int n;

	if (!m->error)
		return 0;
	if (!m->common->peer || !reason_of(m->common, (int)m->error, &code))
		return error_set(err, EBADMSG, "a socket came with an impossible error");
	n = sock_inject_unreachable(r, m->common->protocol, m->common->peer, m->common->local, code,
				    err);
	for (int i = 0; n == 0 && i < 20000; i++) {
		if (poll(&p, 1, 0) == 1 && (p.revents & POLLERR))
			return 0;
		usleep(i < 50 ? 10 : 100);
	}
	return n < 0 ? n : error_set(err, EIO, "the error of a UDP socket did not come back");
}
