/* SPDX-License-Identifier: Apache-2.0 */
/* UDP, ICMP, raw, netlink and packet sockets between two network namespaces. */
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netpacket/packet.h>

#include "tests/unit/checkpoint/socknet.h"

static int setup(void **state)
{
	(void)state;
	net_up();
	net_start();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	net_down();
	return 0;
}

static int socket_in(enum net_host h, int family, int type, int protocol)
{
	int fd;

	net_enter(h);
	fd = socket(family, type | SOCK_CLOEXEC, protocol);
	net_enter(NET_HOME);
	assert_true(fd >= 0);
	return fd;
}

static int udp_at(enum net_host h, int family, const char *ip, int port)
{
	int fd = socket_in(h, family, SOCK_DGRAM, 0);
	union sock_addr a;
	socklen_t len = net_address(&a, family, ip, port);

	assert_int_equal(bind(fd, &a.sa, len), 0);
	return fd;
}

static void say(int fd, int family, const char *ip, int port, const char *text)
{
	union sock_addr a;
	socklen_t len = net_address(&a, family, ip, port);

	assert_int_equal(sendto(fd, text, strlen(text), 0, &a.sa, len), (ssize_t)strlen(text));
}

static void hear(int fd, const char *text, int from_port)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	union sock_addr a = { 0 };
	socklen_t len = sizeof(a);
	char buf[4096] = "";
	ssize_t n;

	assert_int_equal(poll(&p, 1, 10000), 1);
	n = recvfrom(fd, buf, sizeof(buf) - 1, MSG_DONTWAIT, &a.sa, &len);
	assert_true(n >= 0);
	buf[n] = '\0';
	assert_string_equal(buf, text);
	if (from_port)
		assert_int_equal(ntohs(a.in.sin_port), from_port);
}

static void hear_nothing(int fd)
{
	char byte;

	assert_true(recv(fd, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
}

static void test_udp_keeps_address_peer_and_queue(void **state)
{
	int s = udp_at(NET_A, AF_INET, "0.0.0.0", 5300),
	    c = udp_at(NET_A, AF_INET, "10.9.0.2", 5301);
	int p = udp_at(NET_P, AF_INET, "10.9.0.1", 5400);
	union sock_addr a;
	socklen_t len = net_address(&a, AF_INET, "10.9.0.1", 5400);

	(void)state;
	assert_int_equal(connect(c, &a.sa, len), 0);
	sock_opt_set(s, IPPROTO_IP, IP_PKTINFO, 1);
	say(p, AF_INET, "10.9.0.2", 5300, "one");
	usleep(50000);
	net_undo((int *const[]){ &s, &c }, 2);
	say(p, AF_INET, "10.9.0.2", 5300, "");
	say(p, AF_INET, "10.9.0.2", 5300, "three");
	say(p, AF_INET, "10.9.0.2", 5301, "connected");
	usleep(50000);
	assert_int_equal(sock_opt_int(s, SOL_SOCKET, SO_PEEK_OFF, 0), -1);
	assert_int_equal(sock_opt_int(s, IPPROTO_IP, IP_RECVORIGDSTADDR, -1), 0);
	net_move((int *const[]){ &s, &c }, 2);
	assert_int_equal(sock_opt_int(s, IPPROTO_IP, IP_PKTINFO, 0), 1);
	assert_int_equal(sock_opt_int(s, SOL_SOCKET, SO_REUSEADDR, -1), 0);
	hear(s, "one", 5400);
	hear(s, "", 5400);
	hear(s, "three", 5400);
	hear_nothing(s);
	hear(c, "connected", 5400);
	say(p, AF_INET, "10.9.0.2", 5300, "again");
	hear(s, "again", 5400);
	assert_int_equal(send(c, "back", 4, 0), 4);
	hear(p, "back", 5301);
	close(s);
	close(c);
	close(p);
}

/* A datagram came back; the next call says so, once. */
static void test_udp_error_is_told_once(void **state)
{
	static const char *const ips[] = { "10.9.0.2", "fd09::2" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		int family = i ? AF_INET6 : AF_INET, error = 0;
		int s = socket_in(NET_A, family, SOCK_DGRAM, 0);
		union sock_addr a;
		socklen_t len = net_address(&a, family, ips[i], 7099);
		struct pollfd p = { .fd = s };

		assert_int_equal(connect(s, &a.sa, len), 0);
		assert_int_equal(send(s, "x", 1, 0), 1);
		assert_int_equal(poll(&p, 1, 10000), 1);
		net_move((int *const[]){ &s }, 1);
		len = sizeof(error);
		assert_int_equal(getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &len), 0);
		assert_int_equal(error, ECONNREFUSED);
		hear_nothing(s);
		close(s);
	}
}

static void test_udp_over_ipv6_and_shared_ports(void **state)
{
	int s = udp_at(NET_A, AF_INET6, "::", 5300);
	int p = udp_at(NET_P, AF_INET6, "::", 5400), shared[3];
	union sock_addr a;
	socklen_t len = net_address(&a, AF_INET, "10.9.0.2", 5500);
	char buf[10];
	int heard = 0;

	(void)state;
	for (int i = 0; i < 3; i++) {
		shared[i] = socket_in(NET_A, AF_INET, SOCK_DGRAM, 0);
		sock_opt_set(shared[i], SOL_SOCKET, SO_REUSEPORT, 1);
		assert_int_equal(bind(shared[i], &a.sa, len), 0);
	}
	say(p, AF_INET6, "fd09::2", 5300, "six");
	say(p, AF_INET6, "::ffff:10.9.0.2", 5300, "mapped");
	say(p, AF_INET6, "::ffff:10.9.0.2", 5500, "shared");
	usleep(50000);
	for (int i = 0; i < 3; i++)
		heard +=
			recv(shared[i], buf, sizeof(buf), MSG_PEEK | MSG_DONTWAIT) > 0 ? 1 << i : 0;
	net_move((int *const[]){ &shared[2], &s, &shared[0], &shared[1] }, 4);
	hear(s, "six", 5400);
	hear(s, "mapped", 5400);
	for (int i = 0; i < 3; i++) {
		if (heard & 1 << i)
			hear(shared[i], "shared", 5400);
		hear_nothing(shared[i]);
	}
	for (int i = 0; i < 3; i++)
		close(shared[i]);
	close(s);
	close(p);
}

static void test_multicast_memberships_are_carried(void **state)
{
	int s = udp_at(NET_A, AF_INET, "0.0.0.0", 5353),
	    p = udp_at(NET_P, AF_INET, "10.9.0.1", 5400);
	struct ip_mreqn m = { 0 };

	(void)state;
	net_run(NET_P, "ip route add 239.1.1.1 dev pb");
	inet_pton(AF_INET, "239.1.1.1", &m.imr_multiaddr);
	net_enter(NET_A);
	m.imr_ifindex = (int)if_nametoindex("eth0");
	net_enter(NET_HOME);
	assert_int_equal(setsockopt(s, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)), 0);
	net_move((int *const[]){ &s }, 1);
	say(p, AF_INET, "239.1.1.1", 5353, "to all");
	hear(s, "to all", 5400);
	close(s);
	close(p);
}

static void test_ping_and_raw_sockets(void **state)
{
	int ping = socket_in(NET_A, AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
	int raw = socket_in(NET_A, AF_INET, SOCK_RAW, IPPROTO_ICMP), ident;
	uint8_t echo[8] = { 8, 0, 0, 0, 0, 0, 0, 1 }, reply[100];
	union sock_addr a, mine = { 0 };
	socklen_t len = net_address(&a, AF_INET, "0.0.0.0", 777), n = sizeof(mine);
	uint32_t filter = 0xffff0000;
	struct pollfd p;

	(void)state;
	assert_int_equal(bind(ping, &a.sa, len), 0);
	assert_int_equal(setsockopt(raw, SOL_RAW, 1, &filter, sizeof(filter)), 0);
	net_move((int *const[]){ &ping, &raw }, 2);
	assert_int_equal(getsockname(ping, &mine.sa, &n), 0);
	ident = ntohs(mine.in.sin_port);
	assert_int_equal(ident, 777);
	len = net_address(&a, AF_INET, "10.9.0.1", 0);
	assert_int_equal(sendto(ping, echo, sizeof(echo), 0, &a.sa, len), sizeof(echo));
	p = (struct pollfd){ .fd = ping, .events = POLLIN };
	assert_int_equal(poll(&p, 1, 10000), 1);
	assert_int_equal(recv(ping, reply, sizeof(reply), 0), 8);
	assert_int_equal(reply[0], 0);
	filter = 0;
	n = sizeof(filter);
	assert_int_equal(getsockopt(raw, SOL_RAW, 1, &filter, &n), 0);
	assert_int_equal(filter, 0xffff0000);
	p.fd = raw;
	assert_int_equal(poll(&p, 1, 10000), 1);
	close(ping);
	close(raw);
}

static void test_netlink_sockets_keep_groups(void **state)
{
	int s = socket_in(NET_A, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK }, b = { 0 };
	socklen_t len = sizeof(b);
	struct pollfd p = { .events = POLLIN };

	(void)state;
	assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(getsockname(s, (struct sockaddr *)&a, &len), 0);
	net_move((int *const[]){ &s }, 1);
	len = sizeof(b);
	assert_int_equal(getsockname(s, (struct sockaddr *)&b, &len), 0);
	assert_int_equal(a.nl_pid, b.nl_pid);
	assert_int_equal(b.nl_groups, RTMGRP_LINK);
	net_run(NET_B, "ip link set eth0 mtu 1400");
	p.fd = s;
	assert_int_equal(poll(&p, 1, 10000), 1);
	close(s);
}

static void test_packet_socket_keeps_filter_and_interface(void **state)
{
	/* UDP to port 5300 only */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_H | BPF_ABS, 36),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 5300, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0xffff),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	struct sock_fprog f = { 4, code };
	int s = socket_in(NET_A, AF_PACKET, SOCK_RAW, htons(0x0800)), p;
	struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(0x0800) };
	socklen_t len = sizeof(a);
	uint8_t frame[2000];

	(void)state;
	net_enter(NET_A);
	a.sll_ifindex = (int)if_nametoindex("eth0");
	assert_int_equal(bind(s, (struct sockaddr *)&a, sizeof(a)), 0);
	net_enter(NET_HOME);
	assert_int_equal(setsockopt(s, SOL_SOCKET, SO_ATTACH_FILTER, &f, sizeof(f)), 0);
	net_move((int *const[]){ &s }, 1);
	assert_int_equal(getsockname(s, (struct sockaddr *)&a, &len), 0);
	assert_int_equal(ntohs(a.sll_protocol), 0x0800);
	p = udp_at(NET_P, AF_INET, "10.9.0.1", 5400);
	say(p, AF_INET, "10.9.0.2", 5299, "wrong");
	say(p, AF_INET, "10.9.0.2", 5300, "right");
	assert_int_equal(recv(s, frame, sizeof(frame), 0), 14 + 20 + 8 + 5);
	assert_memory_equal(frame + 42, "right", 5);
	close(s);
	close(p);
}

static void refused(int fd, const char *word)
{
	struct error err = { 0 };
	CLEANUP_BUF struct buf body = { 0 };
	struct ofd o = { .id = 9, .fd = fd, .link = (char *)(uintptr_t) "socket:[9]" };
	int n;

	o.flags = fcntl(fd, F_GETFL);
	fstat(fd, &o.st);
	o.kind = object_type_for(&o);
	assert_non_null(o.kind);
	net_enter(NET_A);
	n = o.kind->dump(NULL, &o, &body, &err);
	net_enter(NET_HOME);
	sock_gate_detach();
	assert_true(n < 0);
	if (!strstr(err.msg, word))
		fprintf(stderr, "# %s\n", err.msg);
	assert_non_null(strstr(err.msg, word));
	close(fd);
}

static void test_what_cannot_travel_is_refused(void **state)
{
	int s;

	(void)state;
	s = socket_in(NET_A, AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER);
	refused(s, "netfilter");
	s = socket_in(NET_A, AF_INET, SOCK_DGRAM, 0);
	sock_opt_set(s, IPPROTO_UDP, 1 /* UDP_CORK */, 1);
	refused(s, "UDP_CORK");
	s = socket_in(NET_A, AF_INET, SOCK_STREAM, 0);
	sock_opt_set(s, SOL_SOCKET, SO_ZEROCOPY, 1);
	refused(s, "ZEROCOPY");
	net_enter(NET_A);
	s = socket(38 /* AF_ALG */, SOCK_SEQPACKET, 0);
	net_enter(NET_HOME);
	if (s >= 0)
		refused(s, "AF_ALG");
	s = socket_in(NET_A, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	assert_true(send(s, &(struct {
				 struct nlmsghdr h;
				 struct rtgenmsg g;
			 }){ { 20, RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 }, { AF_UNSPEC } },
			 20, 0) == 20);
	refused(s, "try again");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_udp_keeps_address_peer_and_queue, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_udp_error_is_told_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_udp_over_ipv6_and_shared_ports, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_multicast_memberships_are_carried, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_ping_and_raw_sockets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_netlink_sockets_keep_groups, setup, teardown),
		cmocka_unit_test_setup_teardown(test_packet_socket_keeps_filter_and_interface,
						setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_cannot_travel_is_refused, setup,
						teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
