/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tests let hosts and containers do, and the stage they do it on: containers a1 and
 * a2 on host a and b1 on host b in network n1, a3 on host a in network n2.
 */
#ifndef TESTS_NETD_STAGE_H
#define TESTS_NETD_STAGE_H

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <time.h>

#include "tests/unit/netd/hosts.h"

#define WAIT_S 20 /* generous: the machine is shared */

static struct host hosts[2] = { { .name = "a", .underlay = "10.1.1.2" },
				{ .name = "b", .underlay = "10.1.2.2" } };
#define HOST_A (&hosts[0])
#define HOST_B (&hosts[1])

/* --- what a host does ------------------------------------------------------------------ */

struct params {
	char id[32], net[32], ip[64], ip6[64], host[32], proto[8];
	unsigned int vni, port, host_port;
	bool hold, on;
};

static inline int do_network(struct host *h, void *arg, struct error *err)
{
	CLEANUP_JSON json_t *doc = json_parse(arg, strlen(arg), "network", err);

	return doc ? netd_network_add(h->nd, doc, err) : -EINVAL;
}

static inline int do_add(struct host *h, void *arg, struct error *err)
{
	struct params *p = arg;
	struct netd_endpoint ep = { .id = p->id,
				    .network = *p->net ? p->net : NULL,
				    .ip4 = *p->ip ? p->ip : NULL,
				    .ip6 = *p->ip6 ? p->ip6 : NULL,
				    .hold = p->hold };

	return netd_endpoint_add(h->nd, &ep, NULL, err);
}

static inline int do_remove(struct host *h, void *arg, struct error *err)
{
	return netd_endpoint_remove(h->nd, ((struct params *)arg)->id, err);
}

static inline int do_remote(struct host *h, void *arg, struct error *err)
{
	struct params *p = arg;

	return netd_remote_set(h->nd, p->vni, p->ip, NULL, p->host, err);
}

static inline int do_hold(struct host *h, void *arg, struct error *err)
{
	return netd_hold(h->nd, ((struct params *)arg)->id, err);
}

static inline int do_release(struct host *h, void *arg, struct error *err)
{
	return netd_release(h->nd, ((struct params *)arg)->id, err);
}

static inline int do_forward(struct host *h, void *arg, struct error *err)
{
	struct params *p = arg;

	return netd_forward(h->nd, p->id, *p->host ? p->host : NULL, err);
}

static inline int do_block(struct host *h, void *arg, struct error *err)
{
	struct params *p = arg;

	return netd_block_egress(h->nd, p->id, p->on, err);
}

static inline int do_publish(struct host *h, void *arg, struct error *err)
{
	struct params *p = arg;
	uint16_t port = (uint16_t)p->host_port;
	int r = netd_publish(h->nd, p->id, *p->ip ? p->ip : NULL, p->proto, NULL, &port,
			     (uint16_t)p->port, err);

	p->host_port = port;
	return r;
}

static inline int do_unpublish(struct host *h, void *arg, struct error *err)
{
	return netd_unpublish(h->nd, ((struct params *)arg)->id, NULL, NULL, 0, err);
}

static inline int do_flows(struct host *h, void *arg, struct error *err)
{
	CLEANUP_JSON json_t *flows = NULL;
	CLEANUP_FREE char *text = NULL;
	int r = netd_flows_export(h->nd, arg, &flows, err);

	if (r < 0)
		return r;
	text = json_text(flows);
	snprintf(arg, 8192, "%s", text);
	return 0;
}

static inline int do_import(struct host *h, void *arg, struct error *err)
{
	char *id = arg, *text = id + 64;
	CLEANUP_JSON json_t *flows = json_parse(text, strlen(text), "flows", err);

	return flows ? netd_flows_import(h->nd, id, flows, err) : -EINVAL;
}

static inline int do_inspect(struct host *h, void *arg, struct error *err)
{
	CLEANUP_JSON json_t *doc = NULL;
	CLEANUP_FREE char *text = NULL;
	int r = netd_endpoint_inspect(h->nd, arg, &doc, err);

	if (r < 0)
		return r;
	text = json_text(doc);
	snprintf(arg, 8192, "%s", text);
	return 0;
}

static inline int do_shutdown(struct host *h, void *arg, struct error *err)
{
	int r = netd_shutdown(h->nd, err);

	(void)arg;
	netd_close(h->nd);
	h->nd = NULL;
	return r;
}

/* --- what a container does -------------------------------------------------------------- */

struct job {
	char id[32], ip[64], from[16];
	unsigned int port, count, gap_us;
	int expect;
};

static inline int udp_socket(unsigned int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	struct timeval tv = { .tv_sec = WAIT_S };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 8 << 20;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	return bind(fd, (struct sockaddr *)&at, sizeof(at)) ? -1 : fd;
}

static inline struct sockaddr_in address(const struct job *j)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)j->port) };

	inet_pton(AF_INET, j->ip, &to.sin_addr);
	return to;
}

/* ICMP echo from an unprivileged ping socket (ping_group_range); 0: answered. */
static inline int ping(void *arg)
{
	struct job *j = arg;
	struct sockaddr_in to = address(j);
	struct {
		struct icmphdr h;
		char data[32];
	} m = { .h = { .type = ICMP_ECHO } };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMP);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (fd < 0)
		return 10;
	for (unsigned int i = 0; i < j->count; i++) {
		m.h.un.echo.sequence = htons((uint16_t)i);
		if (sendto(fd, &m, sizeof(m), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
			return 11;
		if (poll(&p, 1, 1000) == 1)
			return recv(fd, &m, sizeof(m), 0) > 0 ? 0 : 12;
	}
	return 1;
}

static inline int do_ping(struct host *h, void *arg, struct error *err)
{
	struct job *j = arg;
	int r = container_do(j->id, ping, j);

	(void)h;
	return r == j->expect ? 0 : error_set(err, EIO, "ping from %s to %s: %d", j->id, j->ip, r);
}

static inline int ping6(void *arg)
{
	struct job *j = arg;
	struct sockaddr_in6 to = { .sin6_family = AF_INET6 };
	char m[16] = { (char)128 };
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_ICMPV6);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	inet_pton(AF_INET6, j->ip, &to.sin6_addr);
	for (unsigned int i = 0; i < j->count; i++) {
		if (sendto(fd, m, sizeof(m), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
			return 11;
		if (poll(&p, 1, 1000) == 1)
			return recv(fd, m, sizeof(m), 0) > 0 ? 0 : 12;
	}
	return 1;
}

static inline int do_ping6(struct host *h, void *arg, struct error *err)
{
	struct job *j = arg;
	int r = container_do(j->id, ping6, j);

	(void)h;
	return r == j->expect ? 0 : error_set(err, EIO, "ping from %s to %s: %d", j->id, j->ip, r);
}

static inline void expect_ping(struct host *h, const char *id, const char *ip, bool answered)
{
	struct job j = { .count = answered ? WAIT_S : 1, .expect = answered ? 0 : 1 };

	snprintf(j.id, sizeof(j.id), "%s", id);
	snprintf(j.ip, sizeof(j.ip), "%s", ip);
	host_do(h, strchr(ip, ':') ? do_ping6 : do_ping, &j, sizeof(j));
}

/* A TCP server that writes back what it reads, forever. */
static inline int tcp_echo(void *arg)
{
	struct job *j = arg;
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)j->port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, c;
	static char buf[65536];

	signal(SIGCHLD, SIG_IGN);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 16))
		return 20;
	while ((c = accept(fd, NULL, NULL)) >= 0) {
		if (!fork()) {
			ssize_t n;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			while ((n = read(c, buf, sizeof(buf))) > 0)
				if (fd_write_all(c, buf, (size_t)n))
					break;
			_exit(0);
		}
		close(c);
	}
	return 0;
}

/* In the caller's namespace: sends count KiB through the echo server, checks all of it. */
static inline int tcp_check(const struct job *j)
{
	struct sockaddr_in to = address(j);
	struct timeval tv = { .tv_sec = WAIT_S };
	uint32_t out[256], in[256];
	int fd = -1;

	for (int tries = 0; tries < WAIT_S * 10; tries++) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
		if (!connect(fd, (struct sockaddr *)&to, sizeof(to)))
			break;
		close(fd);
		fd = -1;
		usleep(100000); /* the server may still be starting */
	}
	if (fd < 0)
		return 1;
	for (unsigned int i = 0; i < j->count; i++) {
		for (unsigned int k = 0; k < 256; k++)
			out[k] = i * 256 + k;
		if (fd_write_all(fd, out, sizeof(out)) || fd_read_all(fd, in, sizeof(in)) ||
		    memcmp(in, out, sizeof(in))) {
			close(fd);
			return 2;
		}
	}
	close(fd);
	return 0;
}

static inline int tcp_check_main(void *arg)
{
	return tcp_check(arg);
}

static inline int do_tcp(struct host *h, void *arg, struct error *err)
{
	struct job *j = arg;
	/* id "": from the host itself */
	int r = *j->id ? container_do(j->id, tcp_check_main, j) : tcp_check(j);

	(void)h;
	return r == j->expect
		       ? 0
		       : error_set(err, EIO, "TCP from %s to %s:%u: %d", j->id, j->ip, j->port, r);
}

static inline int do_serve(struct host *h, void *arg, struct error *err)
{
	struct job *j = arg;

	(void)h;
	return container_start(j->id, tcp_echo, j) > 0 ? 0 : error_set(err, EIO, "fork");
}

/* A TCP server that tells each client which address it comes from, in 16 bytes. */
static inline int tcp_whoami(void *arg)
{
	struct job *j = arg;
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)j->port) };
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1, c;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 16))
		return 20;
	while ((c = accept(fd, (struct sockaddr *)&peer, &len)) >= 0) {
		char text[16] = "";

		inet_ntop(AF_INET, &peer.sin_addr, text, sizeof(text));
		if (fd_write_all(c, text, sizeof(text)))
			return 21;
		close(c);
		len = sizeof(peer);
	}
	return 0;
}

/* Connects to ip:port and compares the server's answer with `from`. 0: as expected. */
static inline int tcp_ask(const struct job *j)
{
	struct sockaddr_in to = address(j);
	struct timeval tv = { .tv_sec = WAIT_S };
	char text[16] = "";

	for (int tries = 0; tries < WAIT_S * 10; tries++) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
		setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
		if (!connect(fd, (struct sockaddr *)&to, sizeof(to))) {
			int r = fd_read_all(fd, text, sizeof(text));

			close(fd);
			if (r)
				return 2;
			if (!strcmp(text, j->from))
				return 0;
			fprintf(stderr, "seen as %s, not %s\n", text, j->from);
			return 3;
		}
		close(fd);
		usleep(100000);
	}
	return 1;
}

static inline int tcp_ask_main(void *arg)
{
	return tcp_ask(arg);
}

static inline int do_ask(struct host *h, void *arg, struct error *err)
{
	struct job *j = arg;
	int r = *j->id ? container_do(j->id, tcp_ask_main, j) : tcp_ask(j);

	(void)h;
	return r == j->expect ? 0
			      : error_set(err, EIO, "asking %s:%u from \"%s\": %d", j->ip, j->port,
					  j->id, r);
}

static inline int do_whoami(struct host *h, void *arg, struct error *err)
{
	struct job *j = arg;

	(void)h;
	return container_start(j->id, tcp_whoami, j) > 0 ? 0 : error_set(err, EIO, "fork");
}

/* --- setting the stage -------------------------------------------------------------------- */

#define NET1                                                                                       \
	"{\"id\":\"n1\",\"name\":\"one\",\"vni\":101,\"subnet\":\"10.88.1.0/24\","                 \
	"\"subnet6\":\"fd00:88:1::/64\"}"
#define NET2 "{\"id\":\"n2\",\"name\":\"two\",\"vni\":102,\"subnet\":\"10.88.2.0/24\"}"

static inline void host_text(struct host *h, host_fn *fn, const char *text)
{
	char arg[512];

	snprintf(arg, sizeof(arg), "%s", text);
	host_do(h, fn, arg, sizeof(arg));
}

static inline struct params P(const char *id, const char *net, unsigned int vni, const char *ip,
			      const char *host) {
	struct params p = { .vni = vni };

	snprintf(p.id, sizeof(p.id), "%s", id);
	snprintf(p.net, sizeof(p.net), "%s", net);
	snprintf(p.ip, sizeof(p.ip), "%s", ip);
	snprintf(p.host, sizeof(p.host), "%s", host);
	return p;
}

#define DO(h, fn, ...)                                                                             \
	do {                                                                                       \
		struct params p_ = P(__VA_ARGS__);                                                 \
		host_do(h, fn, &p_, sizeof(p_));                                                   \
	} while (0)

static inline void
serve(struct host *h, const char *id, unsigned int port)
{
	struct job j = { .port = port };

	snprintf(j.id, sizeof(j.id), "%s", id);
	host_do(h, do_serve, &j, sizeof(j));
}

static inline void expect_tcp(struct host *h, const char *id, const char *ip, unsigned int port,
			      unsigned int kib)
{
	struct job j = { .port = port, .count = kib };

	snprintf(j.id, sizeof(j.id), "%s", id);
	snprintf(j.ip, sizeof(j.ip), "%s", ip);
	host_do(h, do_tcp, &j, sizeof(j));
}

/* Containers a1 a2 on A, b1 on B in n1; a3 on A in n2. */
static inline int setup(void **state)
{
	(void)state;
	world_up(hosts, 2);
	for (int i = 0; i < 2; i++) {
		host_do(&hosts[i], open_netd, NULL, 0);
		host_text(&hosts[i], do_network, NET1);
		host_text(&hosts[i], do_network, NET2);
	}
	for (int i = 2; i <= 3; i++) {
		struct params p = P(i == 2 ? "a1" : "a2", "n1", 101, "", "");

		snprintf(p.ip, sizeof(p.ip), "10.88.1.%d", i);
		snprintf(p.ip6, sizeof(p.ip6), "fd00:88:1::%d", i);
		host_do(HOST_A, do_add, &p, sizeof(p));
		snprintf(p.host, sizeof(p.host), "%s", HOST_A->underlay);
		host_do(HOST_B, do_remote, &p, sizeof(p));
		memcpy(p.ip, p.ip6, sizeof(p.ip));
		host_do(HOST_B, do_remote, &p, sizeof(p));
	}
	{
		struct params p = P("b1", "n1", 101, "10.88.1.4", "");

		snprintf(p.ip6, sizeof(p.ip6), "fd00:88:1::4");
		host_do(HOST_B, do_add, &p, sizeof(p));
	}
	DO(HOST_A, do_remote, "", "", 101, "10.88.1.4", "10.1.2.2");
	DO(HOST_A, do_remote, "", "", 101, "fd00:88:1::4", "10.1.2.2");
	DO(HOST_A, do_add, "a3", "n2", 102, "10.88.2.2", "");
	return 0;
}

static inline int teardown(void **state)
{
	(void)state;
	world_down(hosts, 2);
	return 0;
}

#endif
