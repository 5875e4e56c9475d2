/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The BPF programs one packet at a time (BPF_PROG_TEST_RUN): what becomes of it is seen in
 * the return code, the drop counters and the packet. A bpffs and a net namespace of the
 * test's own; nothing outlives its process.
 */
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <net/ethernet.h>
#include <netinet/if_ether.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "netd/datapath.h"
#include "netd/link.h"

#define OK	 0
#define SHOT	 2
#define REDIRECT 7

static char bpffs[] = "/mnt/bpf";
static struct datapath *dp;
static const uint8_t gw_mac[6] = { 2, 0xfe, 0x44, 0, 0, 1 };
static const uint8_t c_mac[6] = { 2, 0x42, 10, 88, 1, 2 };

/* Test runs act as ingress of the loopback device: skb->ifindex is 1. */
#define PORT 1

static struct addr ip(const char *text)
{
	struct addr a;

	assert_int_equal(addr_parse(text, &a, "test", NULL), 0);
	return a;
}

static void ep(uint32_t vni, const char *text, enum ferry_state state, uint32_t host)
{
	struct ferry_ep e = { .state = state, .host = host, .ifindex = 1, .hold_ifindex = 1 };
	struct addr a = ip(text);

	memcpy(e.mac, c_mac, 6);
	assert_int_equal(datapath_ep_set(dp, vni, &a, &e, NULL), 0);
}

static void port(uint32_t flags)
{
	struct ferry_port p = { .vni = 7, .flags = flags };
	struct addr v4 = ip("10.88.1.2"), v6 = ip("fd00::2");

	memcpy(p.ip4, v4.b, 16);
	memcpy(p.ip6, v6.b, 16);
	memcpy(p.mac, c_mac, 6);
	assert_int_equal(datapath_port_set(dp, PORT, &p, NULL), 0);
}

static uint8_t packet[2048];
static uint32_t packet_len;

static int run(enum datapath_prog prog)
{
	uint8_t out[2048];
	LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = packet, .data_size_in = packet_len,
		    .data_out = out, .data_size_out = sizeof(out), .repeat = 1);

	assert_int_equal(bpf_prog_test_run_opts(datapath_prog_fd(dp, prog), &opts), 0);
	memcpy(packet, out, opts.data_size_out);
	packet_len = opts.data_size_out;
	return (int)opts.retval;
}

static void make_tcp(const char *from, const char *to, uint8_t flags)
{
	struct ether_header eth = { .ether_type = htons(ETHERTYPE_IP) };
	struct iphdr h = {
		.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP, .tot_len = htons(40)
	};
	struct tcphdr t = {
		.th_sport = htons(1000), .th_dport = htons(80), .th_flags = flags, .th_off = 5
	};

	memcpy(eth.ether_dhost, gw_mac, 6);
	memcpy(eth.ether_shost, c_mac, 6);
	inet_pton(AF_INET, from, &h.saddr);
	inet_pton(AF_INET, to, &h.daddr);
	memset(packet, 0, sizeof(packet));
	memcpy(packet, &eth, 14);
	memcpy(packet + 14, &h, 20);
	memcpy(packet + 34, &t, 20);
	packet_len = 64;
}

static int from_container(const char *from, const char *to)
{
	make_tcp(from, to, TH_ACK);
	return run(DATAPATH_CONTAINER);
}

static void expect_drop(int result, enum ferry_drop why, uint64_t before)
{
	assert_int_equal(result, SHOT);
	assert_int_equal(datapath_drops(dp, why), before + 1);
}

#define DROPPED(why, call)                                                                         \
	do {                                                                                       \
		uint64_t n_ = datapath_drops(dp, why);                                             \
		expect_drop(call, why, n_);                                                        \
	} while (0)

static int setup(void **state)
{
	struct ferry_config c = { .version = FERRY_MAPS_VERSION,
				  .underlay = 0x0a000001,
				  .vxlan_ifindex = 1,
				  .gw_ifindex = 1 };
	struct subnet s;

	(void)state;
	assert_int_equal(unshare(CLONE_NEWNS | CLONE_NEWNET), 0);
	assert_int_equal(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	assert_int_equal(mount("tmpfs", "/mnt", "tmpfs", 0, NULL), 0);
	assert_int_equal(link_up(link_index("lo"), true, NULL), 0);
	assert_int_equal(datapath_open(bpffs, &dp, NULL), 0);
	memcpy(c.gw_mac, gw_mac, 6);
	assert_int_equal(datapath_config_set(dp, &c, NULL), 0);
	assert_int_equal(subnet_parse("10.88.1.0/24", &s, NULL), 0);
	assert_int_equal(datapath_subnet_set(dp, &s, 7, NULL), 0);
	assert_int_equal(subnet_parse("10.88.2.0/24", &s, NULL), 0);
	assert_int_equal(datapath_subnet_set(dp, &s, 8, NULL), 0);
	assert_int_equal(datapath_queue_make(dp, 1, NULL), 0);
	port(0);
	ep(7, "10.88.1.1", FERRY_GATEWAY, 0);
	ep(7, "10.88.1.2", FERRY_LOCAL, 0);
	ep(7, "10.88.1.3", FERRY_LOCAL, 0);
	ep(7, "10.88.1.4", FERRY_REMOTE, 0x0a000002);
	ep(7, "fd00::3", FERRY_LOCAL, 0);
	ep(8, "10.88.2.3", FERRY_LOCAL, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	assert_int_equal(datapath_remove(dp, NULL), 0);
	datapath_close(dp);
	return 0;
}

static void test_known_destinations_are_redirected(void **state)
{
	(void)state;
	assert_int_equal(from_container("10.88.1.2", "10.88.1.3"), REDIRECT);
	assert_int_equal(from_container("10.88.1.2", "10.88.1.4"), REDIRECT);
	assert_int_equal(from_container("10.88.1.2", "10.88.1.1"), REDIRECT); /* gateway */
	assert_int_equal(from_container("10.88.1.2", "192.0.2.1"), REDIRECT); /* outside */
}

static void test_what_must_not_pass_is_dropped(void **state)
{
	(void)state;
	DROPPED(FERRY_DROP_SPOOF, from_container("10.88.1.3", "10.88.1.4"));
	DROPPED(FERRY_DROP_SCOPE, from_container("10.88.1.2", "10.88.2.3")); /* network 8 */
	DROPPED(FERRY_DROP_SCOPE, from_container("10.88.1.2", "10.88.1.77"));
	DROPPED(FERRY_DROP_SCOPE, from_container("10.88.1.2", "127.0.0.1"));
	DROPPED(FERRY_DROP_SCOPE, from_container("10.88.1.2", "224.0.0.1"));
	DROPPED(FERRY_DROP_SCOPE, from_container("10.88.1.2", "169.254.169.254"));
	make_tcp("10.88.1.2", "10.88.1.3", TH_ACK);
	packet[12] = 0x81; /* a VLAN */
	packet[13] = 0x00;
	DROPPED(FERRY_DROP_PARSE, run(DATAPATH_CONTAINER));
}

static void test_egress_block_drops_everything(void **state)
{
	(void)state;
	port(FERRY_PORT_BLOCKED);
	DROPPED(FERRY_DROP_BLOCKED, from_container("10.88.1.2", "10.88.1.3"));
	port(0);
	assert_int_equal(from_container("10.88.1.2", "10.88.1.3"), REDIRECT);
}

static void test_internal_network_has_no_way_out(void **state)
{
	(void)state;
	port(FERRY_PORT_INTERNAL);
	DROPPED(FERRY_DROP_SCOPE, from_container("10.88.1.2", "192.0.2.1"));
	assert_int_equal(from_container("10.88.1.2", "10.88.1.3"), REDIRECT);
	port(0);
}

static void test_hold_queues_and_release_delivers_once_empty(void **state)
{
	uint64_t queued = datapath_queued(dp, 1);

	(void)state;
	ep(7, "10.88.1.3", FERRY_HOLD, 0);
	assert_int_equal(from_container("10.88.1.2", "10.88.1.3"), REDIRECT);
	assert_int_equal(datapath_queued(dp, 1), queued + 1);
	ep(7, "10.88.1.3", FERRY_RELEASING, 0);
	assert_int_equal(from_container("10.88.1.2", "10.88.1.3"), REDIRECT);
	assert_int_equal(datapath_queued(dp, 1), queued + 2); /* not empty: still queued */
	datapath_replayed_set(dp, 1, queued + 2);
	assert_int_equal(from_container("10.88.1.2", "10.88.1.3"), REDIRECT);
	assert_int_equal(datapath_queued(dp, 1), queued + 2); /* empty: delivered */
	ep(7, "10.88.1.3", FERRY_LOCAL, 0);
}

static void test_packets_do_not_go_round_in_circles(void **state)
{
	(void)state;
	ep(7, "10.88.1.9", FERRY_REMOTE, 0x0a000001); /* this host itself */
	DROPPED(FERRY_DROP_LOOP, from_container("10.88.1.2", "10.88.1.9"));
}

static void test_frames_without_tunnel_are_not_from_the_overlay(void **state)
{
	(void)state;
	make_tcp("10.88.1.4", "10.88.1.3", TH_ACK);
	DROPPED(FERRY_DROP_PORT, run(DATAPATH_OVERLAY));
}

static int flow_count;

static int count_flow(void *ctx, const struct ferry_flow_key *key, uint32_t via)
{
	(void)key;
	assert_int_equal(via, *(uint32_t *)ctx);
	flow_count++;
	return 0;
}

static int flows(uint32_t via)
{
	struct addr local = ip("10.88.1.2");

	flow_count = 0;
	datapath_flow_walk(dp, 7, &local, count_flow, &via);
	return flow_count;
}

/* What the host let in returns through it; a new connection forgets what was before. */
static void test_flows_with_the_outside_are_noted_and_replaced(void **state)
{
	struct addr local = ip("10.88.1.2");

	(void)state;
	make_tcp("192.0.2.1", "10.88.1.2", TH_SYN);
	memcpy(packet + 34, "\x00\x50\x03\xe8", 4); /* from port 80 to port 1000 */
	assert_int_equal(run(DATAPATH_HOST), REDIRECT);
	assert_memory_equal(packet, c_mac, 6);
	assert_int_equal(flows(0x0a000001), 1);
	assert_int_equal(from_container("10.88.1.2", "192.0.2.1"), REDIRECT);
	make_tcp("10.88.1.2", "192.0.2.1", TH_SYN);
	assert_int_equal(run(DATAPATH_CONTAINER), REDIRECT);
	assert_int_equal(flows(0), 0);
	datapath_flow_flush(dp, 7, &local);
}

static void test_all_flows_of_an_endpoint_are_found(void **state)
{
	struct addr local = ip("10.88.1.2"), other = ip("10.88.1.3");
	struct ferry_flow_key key = { .vni = 7, .proto = IPPROTO_TCP, .peer = { 9 } };

	(void)state;
	for (int i = 0; i < 10000; i++) {
		memcpy(key.local, i % 2 ? local.b : other.b, 16);
		key.peer_port = (uint16_t)i;
		assert_int_equal(datapath_flow_set(dp, &key, 5, NULL), 0);
	}
	assert_int_equal(flows(5), 5000);
	datapath_flow_flush(dp, 7, &local);
	assert_int_equal(flows(5), 0);
	datapath_flow_flush(dp, 7, &other);
}

static void arp(const char *from, const char *to)
{
	struct ether_header eth = { .ether_type = htons(ETHERTYPE_ARP) };
	struct ether_arp a = { .ea_hdr = { htons(1), htons(ETHERTYPE_IP), 6, 4, htons(1) } };

	memset(eth.ether_dhost, 0xff, 6);
	memcpy(eth.ether_shost, c_mac, 6);
	memcpy(a.arp_sha, c_mac, 6);
	inet_pton(AF_INET, from, a.arp_spa);
	inet_pton(AF_INET, to, a.arp_tpa);
	memset(packet, 0, sizeof(packet));
	memcpy(packet, &eth, 14);
	memcpy(packet + 14, &a, sizeof(a));
	packet_len = 60;
}

static void test_arp_is_answered_with_the_gateway_mac(void **state)
{
	struct ether_arp a;

	(void)state;
	arp("10.88.1.2", "10.88.1.4");
	assert_int_equal(run(DATAPATH_CONTAINER), REDIRECT);
	memcpy(&a, packet + 14, sizeof(a));
	assert_memory_equal(packet, c_mac, 6);
	assert_memory_equal(packet + 6, gw_mac, 6);
	assert_int_equal(ntohs(a.arp_op), 2);
	assert_memory_equal(a.arp_sha, gw_mac, 6);
	assert_memory_equal(a.arp_tha, c_mac, 6);
	assert_memory_equal(a.arp_spa, "\x0a\x58\x01\x04", 4);
	assert_memory_equal(a.arp_tpa, "\x0a\x58\x01\x02", 4);
	arp("10.88.1.2", "10.88.1.2"); /* probing its own address */
	DROPPED(FERRY_DROP_UNKNOWN, run(DATAPATH_CONTAINER));
	arp("10.88.1.2", "10.88.1.88"); /* nobody: "no route to host" after a while */
	DROPPED(FERRY_DROP_UNKNOWN, run(DATAPATH_CONTAINER));
}

static uint16_t checksum(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i < n; i += 2)
		sum += (uint32_t)(p[i] << 8 | p[i + 1]);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static void test_nd_is_answered_with_a_valid_checksum(void **state)
{
	struct ether_header eth = { .ether_type = htons(ETHERTYPE_IPV6) };
	struct ip6_hdr h = { 0 };

	(void)state;
	memset(packet, 0, sizeof(packet));
	memcpy(eth.ether_shost, c_mac, 6);
	h.ip6_flow = htonl(6u << 28);
	h.ip6_plen = htons(32);
	h.ip6_nxt = IPPROTO_ICMPV6;
	h.ip6_hlim = 255;
	inet_pton(AF_INET6, "fd00::2", &h.ip6_src);
	inet_pton(AF_INET6, "ff02::1:ff00:3", &h.ip6_dst);
	memcpy(packet, &eth, 14);
	memcpy(packet + 14, &h, 40);
	packet[54] = 135;
	inet_pton(AF_INET6, "fd00::3", packet + 62);
	packet[78] = 1;
	packet[79] = 1;
	memcpy(packet + 80, c_mac, 6);
	packet_len = 86;
	assert_int_equal(run(DATAPATH_CONTAINER), REDIRECT);
	assert_int_equal(packet_len, 86);
	assert_int_equal(packet[54], 136);
	assert_memory_equal(packet + 80, gw_mac, 6);
	memcpy(&h, packet + 14, 40);
	assert_memory_equal(&h.ip6_src, packet + 62, 16);
	/* Pseudo header: addresses, length 32, next header 58 (RFC 8200 8.1). */
	assert_int_equal(checksum(packet + 22, 64, 32 + 58), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_known_destinations_are_redirected),
		cmocka_unit_test(test_what_must_not_pass_is_dropped),
		cmocka_unit_test(test_egress_block_drops_everything),
		cmocka_unit_test(test_internal_network_has_no_way_out),
		cmocka_unit_test(test_hold_queues_and_release_delivers_once_empty),
		cmocka_unit_test(test_packets_do_not_go_round_in_circles),
		cmocka_unit_test(test_frames_without_tunnel_are_not_from_the_overlay),
		cmocka_unit_test(test_flows_with_the_outside_are_noted_and_replaced),
		cmocka_unit_test(test_all_flows_of_an_endpoint_are_found),
		cmocka_unit_test(test_arp_is_answered_with_the_gateway_mac),
		cmocka_unit_test(test_nd_is_answered_with_a_valid_checksum),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
