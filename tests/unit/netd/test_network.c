/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network between real namespaces: two hosts and the outside (hosts.h), containers on
 * both (stage.h). Workloads check what they receive byte by byte; nothing here measures
 * time.
 */
#include "tests/unit/netd/stage.h"

#include <ldns/ldns.h>

#include "netd/dns.h"

/* --- promises ------------------------------------------------------------------------------ */

static void test_containers_of_one_host_reach_each_other(void **state)
{
	(void)state;
	expect_ping(HOST_A, "a1", "10.88.1.3", true);
	expect_ping(HOST_A, "a1", "fd00:88:1::3", true);
	serve(HOST_A, "a2", 7000);
	expect_tcp(HOST_A, "a1", "10.88.1.3", 7000, 4096);
}

static void test_containers_of_two_hosts_reach_each_other(void **state)
{
	(void)state;
	expect_ping(HOST_A, "a1", "10.88.1.4", true);
	expect_ping(HOST_B, "b1", "10.88.1.2", true);
	expect_ping(HOST_B, "b1", "fd00:88:1::2", true);
	serve(HOST_B, "b1", 7000);
	expect_tcp(HOST_A, "a1", "10.88.1.4", 7000, 4096);
}

static void test_networks_are_isolated(void **state)
{
	(void)state;
	expect_ping(HOST_A, "a1", "10.88.2.2", false);
	expect_ping(HOST_A, "a3", "10.88.1.2", false);
	expect_ping(HOST_A, "a3", "10.88.2.1", true); /* its gateway is there */
}

/* In a container: 0 where its limits are the host's, and its table of connections its own. */
static int look_at_tcp(void *arg)
{
	static const char *const limits[] = { "tcp_max_tw_buckets", "tcp_max_syn_backlog" };
	char(*want)[32] = arg;

	for (size_t i = 0; i < 2; i++) {
		CLEANUP_FREE char *path = str_format("/proc/sys/net/ipv4/%s", limits[i]);
		CLEANUP_FREE char *text = NULL;

		if (file_read(path, 32, &text, NULL, NULL) < 0 || strcmp(text, want[i]))
			return 1;
	}
	if (access("/proc/sys/net/ipv4/tcp_child_ehash_entries", F_OK) == 0) {
		CLEANUP_FREE char *text = NULL;

		/* Another namespace's would be shown as a negative number. */
		if (file_read("/proc/sys/net/ipv4/tcp_ehash_entries", 32, &text, NULL, NULL) < 0 ||
		    atoi(text) <= 0 || atoi(text) > 65536)
			return 2;
	}
	return 0;
}

static int do_look_at_tcp(struct host *h, void *arg, struct error *err)
{
	static char want[256][32]; /* as long as any argument (hosts.h) */
	CLEANUP_FREE char *tw = NULL;
	CLEANUP_FREE char *syn = NULL;
	CLEANUP_FREE char *child = NULL;
	int r = file_read("/proc/sys/net/ipv4/tcp_max_tw_buckets", 31, &tw, NULL, err);

	(void)h;
	if (r == 0)
		r = file_read("/proc/sys/net/ipv4/tcp_max_syn_backlog", 31, &syn, NULL, err);
	if (r < 0)
		return r;
	snprintf(want[0], sizeof(want[0]), "%s", tw);
	snprintf(want[1], sizeof(want[1]), "%s", syn);
	if (file_read("/proc/sys/net/ipv4/tcp_child_ehash_entries", 31, &child, NULL, NULL) == 0 &&
	    strcmp(child, "0\n"))
		return error_set(err, EINVAL, "the host's setting stays changed: %s", child);
	r = container_do(arg, look_at_tcp, want);
	return r ? error_set(err, EINVAL, "in the container: %d", r) : 0;
}

static void test_table_of_connections_is_small_and_limits_are_not(void **state)
{
	(void)state;
	host_text(HOST_A, do_look_at_tcp, "a1");
}

/* --- hold ------------------------------------------------------------------------------- */

#define FRAMES 12000 /* fewer than the queue holds, so that even a stalled machine loses none */

/*
 * Numbered datagrams to ip:port, about one in gap_us. From one processor: what two send waits
 * in two queues (softnet_data), and Linux keeps the order of each only.
 */
static int udp_send(void *arg)
{
	struct job *j = arg;
	struct sockaddr_in to = address(j);
	int fd = udp_socket(0);
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((size_t)sched_getcpu(), &one);
	sched_setaffinity(0, sizeof(one), &one);
	for (uint32_t i = 0; i < j->count; i++) {
		if (sendto(fd, &i, sizeof(i), 0, (struct sockaddr *)&to, sizeof(to)) < 0)
			return 30;
		usleep(j->gap_us);
	}
	return 0;
}

/* Receives count datagrams; 0: all of them, in order. */
static int udp_receive(void *arg)
{
	struct job *j = arg;
	int fd = udp_socket(j->port);
	uint32_t n;

	/* Tell that the socket is there. */
	close(open(j->from, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	for (uint32_t i = 0; i < j->count; i++) {
		if (recv(fd, &n, sizeof(n), 0) != sizeof(n)) {
			fprintf(stderr, "datagram %u did not come\n", i);
			return 31;
		}
		if (n != i) {
			fprintf(stderr, "datagram %u came when %u was due\n", n, i);
			return 32;
		}
	}
	return 0;
}

static pid_t bg_pid[4]; /* in a host's process: what do_start began */
static int bg_n;

static int do_receiver(struct host *h, void *arg, struct error *err)
{
	struct job *j = arg;

	(void)h;
	snprintf(j->from, sizeof(j->from), "/mnt/fu-%d", getpid() % 100000);
	unlink(j->from);
	bg_pid[bg_n++] = container_start(j->id, udp_receive, j);
	for (int i = 0; i < WAIT_S * 100 && access(j->from, F_OK); i++)
		usleep(10000);
	return unlink(j->from) ? error_set(err, EIO, "the receiver did not start") : 0;
}

static int do_sender(struct host *h, void *arg, struct error *err)
{
	struct job *j = arg;

	(void)h;
	(void)err;
	bg_pid[bg_n++] = container_start(j->id, udp_send, j);
	return 0;
}

/* Waits for what was begun in this host. */
static int do_wait(struct host *h, void *arg, struct error *err)
{
	int status, bad = 0;

	(void)h;
	(void)arg;
	while (bg_n)
		if (process_wait(bg_pid[--bg_n], &status) || !WIFEXITED(status) ||
		    WEXITSTATUS(status))
			bad = WIFEXITED(status) ? WEXITSTATUS(status) : 99;
	return bad ? error_set(err, EIO, "a background job ended with %d", bad) : 0;
}

static json_t *inspect(struct host *h, const char *id)
{
	char text[8192];
	json_t *doc;

	snprintf(text, sizeof(text), "%s", id);
	host_do(h, do_inspect, text, sizeof(text));
	doc = json_parse(text, strlen(text), "inspect", NULL);
	assert_non_null(doc);
	return doc;
}

static void expect_state(struct host *h, const char *id, const char *state)
{
	for (int i = 0; i < WAIT_S * 100; i++) {
		CLEANUP_JSON json_t *doc = inspect(h, id);
		const json_t *iface = json_array_get(json_object_get(doc, "interfaces"), 0);

		if (!strcmp(json_str(iface, "state", ""), state))
			return;
		usleep(10000);
	}
	fail_msg("container %s did not become %s", id, state);
}

static int64_t held(struct host *h, const char *id)
{
	CLEANUP_JSON json_t *doc = inspect(h, id);

	return json_int(json_array_get(json_object_get(doc, "interfaces"), 0), "held_frames", 0);
}

static void hold_while_sending(struct host *from, const char *id)
{
	struct job receiver = { .id = "b1", .port = 7777, .count = FRAMES };
	struct job sender = { .ip = "10.88.1.4", .port = 7777, .count = FRAMES, .gap_us = 20 };

	snprintf(sender.id, sizeof(sender.id), "%s", id);
	host_do(HOST_B, do_receiver, &receiver, sizeof(receiver));
	host_do(from, do_sender, &sender, sizeof(sender));
	for (int i = 0; i < 3; i++) {
		usleep(50000);
		DO(HOST_B, do_hold, "b1", "", 0, "", "");
		usleep(i == 1 ? 300000 : 20000);
		DO(HOST_B, do_release, "b1", "", 0, "", "");
	}
	host_do(from, do_wait, NULL, 0);
	host_do(HOST_B, do_wait, NULL, 0);
	expect_state(HOST_B, "b1", "local");
}

static void test_hold_and_release_keep_every_packet_in_order(void **state)
{
	(void)state;
	hold_while_sending(HOST_A, "a1");
}

static void test_hold_keeps_packets_of_the_same_host_in_order(void **state)
{
	(void)state;
	DO(HOST_B, do_add, "b2", "n1", 101, "10.88.1.5", "");
	hold_while_sending(HOST_B, "b2");
	DO(HOST_B, do_remove, "b2", "", 0, "", "");
}

static void test_held_packets_wait_and_are_counted(void **state)
{
	struct job receiver = { .id = "b1", .port = 7778, .count = 100 };
	struct job sender = { .id = "a1", .ip = "10.88.1.4", .port = 7778, .count = 100 };

	(void)state;
	host_do(HOST_B, do_receiver, &receiver, sizeof(receiver));
	DO(HOST_B, do_hold, "b1", "", 0, "", "");
	host_do(HOST_A, do_sender, &sender, sizeof(sender));
	host_do(HOST_A, do_wait, NULL, 0);
	for (int i = 0; i < WAIT_S * 100 && held(HOST_B, "b1") < 100; i++)
		usleep(10000);
	assert_int_equal(held(HOST_B, "b1"), 100);
	DO(HOST_B, do_release, "b1", "", 0, "", "");
	host_do(HOST_B, do_wait, NULL, 0);
}

/* A small queue overflows: what fits is delivered, the release ends all the same. */
static void test_release_ends_when_the_queue_was_full(void **state)
{
	struct job sender = { .id = "a1", .ip = "10.88.1.4", .port = 7779, .count = 20000 };

	(void)state;
	DO(HOST_B, do_hold, "b1", "", 0, "", "");
	host_do(HOST_A, do_sender, &sender, sizeof(sender));
	host_do(HOST_A, do_wait, NULL, 0);
	DO(HOST_B, do_release, "b1", "", 0, "", "");
	expect_state(HOST_B, "b1", "local");
	expect_ping(HOST_A, "a1", "10.88.1.4", true);
}

static void test_blocked_container_sends_nothing(void **state)
{
	struct params p = P("b1", "", 0, "", "");

	(void)state;
	p.on = true;
	host_do(HOST_B, do_block, &p, sizeof(p));
	expect_ping(HOST_B, "b1", "10.88.1.2", false);
	expect_ping(HOST_A, "a1", "10.88.1.4", false);
	p.on = false;
	host_do(HOST_B, do_block, &p, sizeof(p));
	expect_ping(HOST_B, "b1", "10.88.1.2", true);
}

/*
 * The undo of a migration: b1's skeleton on A takes the packets, then gives them back, in
 * order, to b1 on B.
 */
static void test_undone_move_returns_what_was_held(void **state)
{
	struct job receiver = { .id = "b1", .port = 7780, .count = 500 };
	struct job sender = { .id = "a1", .ip = "10.88.1.4", .port = 7780, .count = 500 };
	struct params p = P("b1", "n1", 101, "10.88.1.4", "");

	(void)state;
	p.hold = true;
	host_do(HOST_B, do_receiver, &receiver, sizeof(receiver));
	host_do(HOST_A, do_add, &p, sizeof(p));
	expect_state(HOST_A, "b1", "standby");
	expect_ping(HOST_A, "a1", "10.88.1.4", true); /* still B's */
	DO(HOST_A, do_hold, "b1", "", 0, "", "");
	DO(HOST_B, do_forward, "b1", "", 0, "", "10.1.1.2");
	host_do(HOST_A, do_sender, &sender, sizeof(sender));
	host_do(HOST_A, do_wait, NULL, 0);
	DO(HOST_B, do_forward, "b1", "", 0, "", "");
	DO(HOST_A, do_forward, "b1", "", 0, "", "10.1.2.2");
	host_do(HOST_B, do_wait, NULL, 0);
	DO(HOST_A, do_remove, "b1", "", 0, "", "");
	expect_ping(HOST_A, "a1", "10.88.1.4", true);
	expect_state(HOST_B, "b1", "local");
}

/* --- outside ----------------------------------------------------------------------------- */

static void expect_seen_as(struct host *h, const char *id, const char *ip, unsigned int port,
			   const char *from)
{
	struct job j = { .port = port };

	snprintf(j.id, sizeof(j.id), "%s", id);
	snprintf(j.ip, sizeof(j.ip), "%s", ip);
	snprintf(j.from, sizeof(j.from), "%s", from);
	if (h)
		host_do(h, do_ask, &j, sizeof(j));
	else
		assert_int_equal(tcp_ask(&j), 0);
}

static pid_t outside(int (*fn)(void *arg), unsigned int port)
{
	struct job j = { .port = port };
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(fn(&j));
	}
	return pid;
}

static void end(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	process_wait(pid, &status);
}

static void test_containers_reach_the_outside_masqueraded(void **state)
{
	pid_t server = outside(tcp_whoami, 8001);

	(void)state;
	expect_seen_as(HOST_A, "a1", "203.0.113.1", 8001, "10.1.1.2");
	expect_seen_as(HOST_B, "b1", "203.0.113.1", 8001, "10.1.2.2");
	end(server);
}

static void test_published_port_keeps_the_clients_address(void **state)
{
	struct params p = P("a2", "", 0, "", "");
	struct params q = P("a2", "", 0, "10.88.1.3", "");
	struct job j = { .id = "a2", .port = 8002 };

	(void)state;
	snprintf(p.proto, sizeof(p.proto), "tcp");
	p.port = 8002;
	p.host_port = 18002;
	host_do(HOST_A, do_publish, &p, sizeof(p));
	host_do(HOST_A, do_whoami, &j, sizeof(j));
	expect_seen_as(NULL, "", "10.1.1.2", 18002, "10.1.1.1");
	/* From the host itself: by its address and by 127.0.0.1. */
	expect_seen_as(HOST_A, "", "10.1.1.2", 18002, "10.1.1.2");
	expect_seen_as(HOST_A, "", "127.0.0.1", 18002, "10.1.1.2");
	/* From another container of the host, through the published port. */
	expect_seen_as(HOST_A, "a1", "10.1.1.2", 18002, "10.1.1.2");
	/* Published by a host where the container does not run. */
	memcpy(q.proto, p.proto, sizeof(q.proto));
	q.port = 8002;
	host_do(HOST_B, do_publish, &q, sizeof(q));
	assert_true(q.host_port > 0);
	expect_seen_as(NULL, "", "10.1.2.2", q.host_port, "10.1.2.1");
	expect_seen_as(HOST_B, "", "127.0.0.1", q.host_port, "10.1.2.2");
	/* Taken. */
	snprintf(q.id, sizeof(q.id), "b1");
	assert_int_equal(host_try(HOST_B, do_publish, &q, sizeof(q)), -EADDRINUSE);
	DO(HOST_B, do_unpublish, "a2", "", 0, "", "");
	DO(HOST_A, do_unpublish, "a2", "", 0, "", "");
}

/* The host's own sockets reach containers here and elsewhere. */
static void test_host_reaches_containers(void **state)
{
	struct job j = { .id = "b1", .port = 8003 };

	(void)state;
	host_do(HOST_B, do_whoami, &j, sizeof(j));
	expect_seen_as(HOST_B, "", "10.88.1.4", 8003, "10.1.2.2");
	expect_seen_as(HOST_A, "", "10.88.1.4", 8003, "10.1.1.2");
}

static int udp_whoami(void *arg)
{
	struct job *j = arg;
	int fd = udp_socket(j->port);
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);
	char text[16];

	while (recvfrom(fd, text, sizeof(text), 0, (struct sockaddr *)&peer, &len) >= 0) {
		memset(text, 0, sizeof(text));
		inet_ntop(AF_INET, &peer.sin_addr, text, sizeof(text));
		sendto(fd, text, sizeof(text), 0, (struct sockaddr *)&peer, len);
	}
	return 0;
}

static int do_udp_whoami(struct host *h, void *arg, struct error *err)
{
	struct job *j = arg;

	(void)h;
	return container_start(j->id, udp_whoami, j) > 0 ? 0 : error_set(err, EIO, "fork");
}

static void test_published_udp_port_keeps_the_clients_address(void **state)
{
	struct params p = P("b1", "", 0, "", "");
	struct job j = { .id = "b1", .port = 8010, .ip = "10.1.2.2" };
	struct sockaddr_in to;
	char text[16] = "";
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	(void)state;
	snprintf(p.proto, sizeof(p.proto), "udp");
	p.port = 8010;
	host_do(HOST_B, do_publish, &p, sizeof(p));
	host_do(HOST_B, do_udp_whoami, &j, sizeof(j));
	j.port = p.host_port;
	to = address(&j);
	for (int i = 0; i < WAIT_S * 10; i++) {
		assert_int_equal(sendto(fd, "hello", 5, 0, (struct sockaddr *)&to, sizeof(to)), 5);
		if (poll(&pfd, 1, 100) == 1 && recv(fd, text, sizeof(text), 0) > 0)
			break;
	}
	close(fd);
	assert_string_equal(text, "10.1.2.1");
	DO(HOST_B, do_unpublish, "b1", "", 0, "", "");
}

/* --- several networks, and none ------------------------------------------------------------ */

static int do_disconnect(struct host *h, void *arg, struct error *err)
{
	struct params *p = arg;

	return netd_endpoint_disconnect(h->nd, p->id, p->net, err);
}

static int has_only_lo(void *arg)
{
	(void)arg;
	return if_nametoindex("lo") && !if_nametoindex("eth0") ? 0 : 1;
}

static int do_only_lo(struct host *h, void *arg, struct error *err)
{
	(void)h;
	return container_do(arg, has_only_lo, arg) ? error_set(err, EIO, "more than lo") : 0;
}

static void test_container_on_two_networks_reaches_both(void **state)
{
	(void)state;
	DO(HOST_A, do_add, "a5", "n1", 101, "10.88.1.20", "");
	DO(HOST_A, do_add, "a5", "n2", 102, "10.88.2.20", "");
	DO(HOST_A, do_add, "a5", "n2", 102, "10.88.2.20", ""); /* again: no harm */
	DO(HOST_B, do_remote, "", "", 101, "10.88.1.20", "10.1.1.2");
	expect_ping(HOST_A, "a5", "10.88.2.2", true);
	expect_ping(HOST_A, "a5", "10.88.1.4", true);
	expect_ping(HOST_A, "a3", "10.88.2.20", true);
	{
		CLEANUP_JSON json_t *doc = inspect(HOST_A, "a5");
		json_t *ifaces = json_object_get(doc, "interfaces");

		assert_int_equal(json_array_size(ifaces), 2);
		assert_string_equal(json_str(json_array_get(ifaces, 0), "ifname", ""), "eth0");
		assert_string_equal(json_str(json_array_get(ifaces, 1), "ifname", ""), "eth1");
		assert_int_equal(json_int(json_array_get(ifaces, 1), "prefix", 0), 24);
	}
	DO(HOST_A, do_disconnect, "a5", "n2", 0, "", "");
	expect_ping(HOST_A, "a3", "10.88.2.20", false);
	expect_ping(HOST_A, "a5", "10.88.1.4", true);
	DO(HOST_A, do_remove, "a5", "", 0, "", "");
	DO(HOST_A, do_remove, "a5", "", 0, "", "");
}

static void test_container_without_network_has_only_lo(void **state)
{
	char id[32] = "a6";

	(void)state;
	DO(HOST_A, do_add, "a6", "", 0, "", "");
	host_do(HOST_A, do_only_lo, id, sizeof(id));
	DO(HOST_A, do_remove, "a6", "", 0, "", "");
}

/* --- names ------------------------------------------------------------------------------- */

static int resolver(void *ctx, const char *network, const char *name, json_t **ips)
{
	(void)ctx;
	if (!strcmp(network, "n1") && !strcmp(name, "web"))
		*ips = json_pack("[s, s]", "10.88.1.3", "fd00:88:1::3");
	else if (!strcmp(network, "n1") && !strcmp(name, "10.88.1.3"))
		*ips = json_pack("[s]", "web");
	else
		return -ENOENT;
	return 0;
}

static int do_resolver(struct host *h, void *arg, struct error *err)
{
	(void)arg;
	return netd_set_resolver(h->nd, resolver, NULL, err);
}

struct ask {
	char id[32], name[64], expect[64];
	int type;
	bool tcp;
};

/* Asks 127.0.0.11; 0: the first record is `expect` ("": no record, "NXDOMAIN": that). */
static int dns_ask(void *arg)
{
	struct ask *a = arg;
	ldns_resolver *r = ldns_resolver_new();
	ldns_rdf *server = ldns_rdf_new_frm_str(LDNS_RDF_TYPE_A, "127.0.0.11");
	ldns_rdf *name = ldns_dname_new_frm_str(a->name);
	struct timeval tv = { .tv_sec = WAIT_S };
	ldns_pkt *p = NULL;
	ldns_rr *rr;
	char *text;
	int ret;

	ldns_resolver_push_nameserver(r, server);
	ldns_resolver_set_usevc(r, a->tcp);
	ldns_resolver_set_timeout(r, tv);
	if (ldns_resolver_send(&p, r, name, (ldns_rr_type)a->type, LDNS_RR_CLASS_IN, LDNS_RD) !=
	    LDNS_STATUS_OK)
		return 40;
	if (!strcmp(a->expect, "SERVFAIL"))
		return ldns_pkt_get_rcode(p) == LDNS_RCODE_SERVFAIL ? 0 : 41;
	if (!*a->expect)
		return ldns_pkt_get_rcode(p) || ldns_pkt_ancount(p) ? 42 : 0;
	if (!ldns_pkt_ancount(p))
		return 43;
	rr = ldns_rr_list_rr(ldns_pkt_answer(p), 0);
	text = ldns_rdf2str(ldns_rr_rdf(rr, 0));
	ret = strcmp(text, a->expect) ? 44 : 0;
	if (ret)
		fprintf(stderr, "%s: %s\n", a->name, text);
	free(text);
	ldns_pkt_free(p);
	ldns_rdf_deep_free(name);
	ldns_rdf_deep_free(server);
	free(ldns_resolver_pop_nameserver(r));
	ldns_resolver_free(r);
	return ret;
}

static int do_dns(struct host *h, void *arg, struct error *err)
{
	struct ask *a = arg;
	int r = container_do(a->id, dns_ask, a);

	(void)h;
	return r ? error_set(err, EIO, "asking for %s in %s: %d", a->name, a->id, r) : 0;
}

static void expect_name(struct host *h, const char *id, const char *name, int type,
			const char *expect)
{
	struct ask a = { .type = type };

	snprintf(a.id, sizeof(a.id), "%s", id);
	snprintf(a.name, sizeof(a.name), "%s", name);
	snprintf(a.expect, sizeof(a.expect), "%s", expect);
	host_do(h, do_dns, &a, sizeof(a));
	a.tcp = true;
	host_do(h, do_dns, &a, sizeof(a));
}

static int outside_name(void *ctx, const char *name, json_t **answers)
{
	(void)ctx;
	*answers = json_pack("[s]", strcmp(name, "example.org") ? "192.0.2.1" : "192.0.2.7");
	return 0;
}

/* A name server of the outside, UDP and TCP, one query at a time. */
static int dns_outside(void *arg)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(53) };
	int udp = socket(AF_INET, SOCK_DGRAM, 0), tcp = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	struct pollfd p[2] = { { .fd = udp, .events = POLLIN }, { .fd = tcp, .events = POLLIN } };
	uint8_t msg[4096], *out = NULL;
	size_t len;

	(void)arg;
	inet_pton(AF_INET, "203.0.113.1", &at.sin_addr);
	setsockopt(tcp, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(udp, (struct sockaddr *)&at, sizeof(at)) ||
	    bind(tcp, (struct sockaddr *)&at, sizeof(at)) || listen(tcp, 8))
		return 50;
	while (poll(p, 2, -1) > 0) {
		struct sockaddr_in from;
		socklen_t from_len = sizeof(from);

		if (p[0].revents) {
			ssize_t n = recvfrom(udp, msg, sizeof(msg), 0, (struct sockaddr *)&from,
					     &from_len);

			if (n > 0 && dns_answer(msg, (size_t)n, 512, outside_name, NULL, &out,
						&len) == DNS_ANSWER)
				sendto(udp, out, len, 0, (struct sockaddr *)&from, from_len);
		}
		if (p[1].revents) {
			int c = accept(tcp, NULL, NULL);
			uint8_t size[2];

			if (!fd_read_all(c, size, 2) &&
			    !fd_read_all(c, msg, (size_t)(size[0] << 8 | size[1])) &&
			    dns_answer(msg, (size_t)(size[0] << 8 | size[1]), 65535, outside_name,
				       NULL, &out, &len) == DNS_ANSWER) {
				size[0] = (uint8_t)(len >> 8);
				size[1] = (uint8_t)len;
				fd_write_all(c, size, 2);
				fd_write_all(c, out, len);
			}
			close(c);
		}
		free(out);
		out = NULL;
	}
	return 0;
}

static void test_containers_are_found_by_name(void **state)
{
	pid_t server;

	(void)state;
	host_do(HOST_A, do_resolver, NULL, 0);
	expect_name(HOST_A, "a1", "web", LDNS_RR_TYPE_A, "10.88.1.3");
	expect_name(HOST_A, "a1", "WEB", LDNS_RR_TYPE_AAAA, "fd00:88:1::3");
	expect_name(HOST_A, "a1", "3.1.88.10.in-addr.arpa", LDNS_RR_TYPE_PTR, "web.");
	expect_name(HOST_A, "a1", "web", LDNS_RR_TYPE_MX, "");
	/* No upstream server listens: an answer, not silence. */
	expect_name(HOST_A, "a3", "web", LDNS_RR_TYPE_A, "SERVFAIL");
	server = outside(dns_outside, 53);
	for (int i = 0; i < 50; i++) {
		struct ask a = { .id = "a1",
				 .name = "example.org",
				 .expect = "192.0.2.7",
				 .type = LDNS_RR_TYPE_A };

		if (!host_try(HOST_A, do_dns, &a, sizeof(a)))
			break;
		usleep(100000); /* it may still be starting */
	}
	expect_name(HOST_A, "a1", "example.org", LDNS_RR_TYPE_A, "192.0.2.7");
	end(server);
}

/* --- after a crash ------------------------------------------------------------------------- */

static void test_traffic_goes_on_without_netd_and_netd_finds_its_state(void **state)
{
	struct params p = P("a2", "", 0, "", "");

	(void)state;
	snprintf(p.proto, sizeof(p.proto), "tcp");
	p.port = 8004;
	p.host_port = 18004;
	host_do(HOST_A, do_publish, &p, sizeof(p));
	DO(HOST_A, do_hold, "a2", "", 0, "", "");
	host_kill(HOST_A);
	expect_ping(HOST_B, "b1", "10.88.1.2", true);
	expect_ping(HOST_B, "b1", "10.88.1.3", false); /* held */

	host_start(HOST_A);
	host_do(HOST_A, open_netd, NULL, 0);
	expect_state(HOST_A, "a2", "hold");
	DO(HOST_A, do_release, "a2", "", 0, "", "");
	expect_ping(HOST_B, "b1", "10.88.1.3", true);
	expect_ping(HOST_A, "a1", "10.88.1.4", true);
	host_do(HOST_A, do_resolver, NULL, 0);
	expect_name(HOST_A, "a1", "web", LDNS_RR_TYPE_A, "10.88.1.3");
	{
		struct job j = { .id = "a2", .port = 8004 };

		host_do(HOST_A, do_whoami, &j, sizeof(j));
	}
	expect_seen_as(NULL, "", "10.1.1.2", 18004, "10.1.1.1");
	DO(HOST_A, do_add, "a4", "n1", 101, "10.88.1.9", "");
	DO(HOST_B, do_remote, "", "", 101, "10.88.1.9", "10.1.1.2");
	expect_ping(HOST_A, "a4", "10.88.1.4", true);
}

static void test_bad_requests_change_nothing(void **state)
{
	struct params p = P("a9", "n1", 101, "10.88.1.2", "");

	(void)state;
	assert_int_equal(host_try(HOST_A, do_add, &p, sizeof(p)), -EADDRINUSE);
	p = P("a9", "nope", 101, "10.88.1.77", "");
	assert_int_equal(host_try(HOST_A, do_add, &p, sizeof(p)), -ENOENT);
	p = P("a9", "n1", 101, "10.99.1.2", "");
	assert_int_equal(host_try(HOST_A, do_add, &p, sizeof(p)), -EINVAL);
	p = P("../a9", "n1", 101, "10.88.1.77", "");
	assert_int_equal(host_try(HOST_A, do_add, &p, sizeof(p)), -EINVAL);
	p = P("", "", 101, "10.88.1.2", "10.1.2.2");
	assert_int_equal(host_try(HOST_A, do_remote, &p, sizeof(p)), -EEXIST);
	p = P("a9", "", 0, "", "");
	assert_int_equal(host_try(HOST_A, do_hold, &p, sizeof(p)), -ENOENT);
	{
		char doc[512] = "{\"id\":\"n3\",\"vni\":103,\"subnet\":\"10.88.0.0/16\"}";

		assert_int_equal(host_try(HOST_A, do_network, doc, sizeof(doc)), -EEXIST);
		snprintf(doc, sizeof(doc),
			 "{\"id\":\"n3\",\"vni\":103,\"subnet\":\"10.90.0.0/16\","
			 "\"driver\":\"macvlan\"}");
		assert_int_equal(host_try(HOST_A, do_network, doc, sizeof(doc)), -ENOTSUP);
	}
	expect_ping(HOST_A, "a1", "10.88.1.4", true);
}

static int do_nothing_left(struct host *h, void *arg, struct error *err)
{
	static const char *const checks[] = {
		"test \"$(ls /proc/sys/net/ipv4/conf | grep -E '^(fe|fh)' | wc -l)\" = 0",
		"test -z \"$(nft list tables)\"",
		"test ! -e $BASE/bpf/ferry",
		"test ! -e $BASE/run/netd && test ! -e $BASE/run/netns",
		"test $(cat /proc/sys/net/ipv4/ip_forward) = 0",
		"test -z \"$(ip route show dev ferry.gw 2>/dev/null)\"",
	};

	(void)h;
	(void)arg;
	setenv("BASE", base_dir, 1);
	for (size_t i = 0; i < sizeof(checks) / sizeof(*checks); i++)
		if (system(checks[i]))
			return error_set(err, EIO, "left behind: %s", checks[i]);
	return 0;
}

static void test_shutdown_leaves_nothing_behind(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		host_do(&hosts[i], do_shutdown, NULL, 0);
		host_do(&hosts[i], do_nothing_left, NULL, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_containers_of_one_host_reach_each_other),
		cmocka_unit_test(test_containers_of_two_hosts_reach_each_other),
		cmocka_unit_test(test_networks_are_isolated),
		cmocka_unit_test(test_table_of_connections_is_small_and_limits_are_not),
		cmocka_unit_test(test_hold_and_release_keep_every_packet_in_order),
		cmocka_unit_test(test_hold_keeps_packets_of_the_same_host_in_order),
		cmocka_unit_test(test_held_packets_wait_and_are_counted),
		cmocka_unit_test(test_release_ends_when_the_queue_was_full),
		cmocka_unit_test(test_blocked_container_sends_nothing),
		cmocka_unit_test(test_undone_move_returns_what_was_held),
		cmocka_unit_test(test_containers_reach_the_outside_masqueraded),
		cmocka_unit_test(test_published_port_keeps_the_clients_address),
		cmocka_unit_test(test_published_udp_port_keeps_the_clients_address),
		cmocka_unit_test(test_host_reaches_containers),
		cmocka_unit_test(test_container_on_two_networks_reaches_both),
		cmocka_unit_test(test_container_without_network_has_only_lo),
		cmocka_unit_test(test_containers_are_found_by_name),
		cmocka_unit_test(test_traffic_goes_on_without_netd_and_netd_finds_its_state),
		cmocka_unit_test(test_bad_requests_change_nothing),
		cmocka_unit_test(test_shutdown_leaves_nothing_behind),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
