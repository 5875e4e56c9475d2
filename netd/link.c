/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtnetlink requests built with libnl's message functions: attribute by attribute, so
 * that each request is what rtnetlink(7) says and nothing a library version adds.
 */
#include "netd/link.h"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"

int link_index(const char *name)
{
	unsigned int i = if_nametoindex(name);

	return i ? (int)i : -errno;
}

struct request {
	struct nl_sock *sk;
	struct nl_msg *msg;
};

static void request_end(struct request *r)
{
	if (r->msg)
		nlmsg_free(r->msg);
	if (r->sk)
		nl_socket_free(r->sk);
}
#define CLEANUP_REQUEST __attribute__((cleanup(request_end)))

static int request_begin(struct request *r, int type, int flags, const void *hdr, size_t len,
			 struct error *err)
{
	r->sk = nl_socket_alloc();
	r->msg = nlmsg_alloc_simple(type, flags);
	if (!r->sk || !r->msg || nlmsg_append(r->msg, (void *)(uintptr_t)hdr, len, NLMSG_ALIGNTO))
		return error_set(err, ENOMEM, "no memory for a netlink request");
	if (nl_connect(r->sk, NETLINK_ROUTE) < 0)
		return error_sys(err, errno ? errno : EIO, "opening rtnetlink");
	return 0;
}

static int on_error(struct sockaddr_nl *who, struct nlmsgerr *e, void *arg)
{
	(void)who;
	*(int *)arg = e->error;
	return NL_STOP;
}

/* Sends and waits for the acknowledgement: 0 or the kernel's -errno (err is not set). */
static int request_run(struct request *r, nl_recvmsg_msg_cb_t reply, void *ctx)
{
	struct nl_cb *cb = nl_cb_alloc(NL_CB_DEFAULT);
	int code = 0, n;

	if (!cb)
		return -ENOMEM;
	nl_cb_err(cb, NL_CB_CUSTOM, on_error, &code);
	if (reply)
		nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, reply, ctx);
	n = nl_send_auto(r->sk, r->msg);
	if (n >= 0)
		n = nl_recvmsgs(r->sk, cb);
	/* A reply is followed by its acknowledgement in a message of its own. */
	if (n >= 0 && reply && !code)
		n = nl_recvmsgs(r->sk, cb);
	nl_cb_put(cb);
	if (code)
		return code;
	return n < 0 ? -EIO : 0;
}

int link_add_vxlan(const char *name, const uint8_t mac[6], uint16_t port, struct error *err)
{
	CLEANUP_REQUEST struct request r = { 0 };
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };
	struct nlattr *info, *data;
	uint16_t be_port = (uint16_t)(port << 8 | port >> 8);
	int ret = request_begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifi, sizeof(ifi), err);

	if (ret < 0)
		return ret;
	nla_put_string(r.msg, IFLA_IFNAME, name);
	nla_put(r.msg, IFLA_ADDRESS, 6, mac);
	info = nla_nest_start(r.msg, IFLA_LINKINFO);
	nla_put_string(r.msg, IFLA_INFO_KIND, "vxlan");
	data = nla_nest_start(r.msg, IFLA_INFO_DATA);
	nla_put_u8(r.msg, IFLA_VXLAN_COLLECT_METADATA, 1);
	nla_put_u8(r.msg, IFLA_VXLAN_LEARNING, 0);
	nla_put_u16(r.msg, IFLA_VXLAN_PORT, be_port);
	nla_nest_end(r.msg, data);
	nla_nest_end(r.msg, info);
	ret = request_run(&r, NULL, NULL);
	return ret < 0 ? error_sys(err, -ret, "making VXLAN device %s (UDP port %u)", name, port)
		       : 0;
}

int link_add_veth(const struct link_veth *v, struct error *err)
{
	CLEANUP_REQUEST struct request r = { 0 };
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };
	struct nlattr *info, *data, *peer;
	int ret = request_begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &ifi, sizeof(ifi), err);

	if (ret < 0)
		return ret;
	nla_put_string(r.msg, IFLA_IFNAME, v->name);
	nla_put(r.msg, IFLA_ADDRESS, 6, v->mac);
	nla_put_u32(r.msg, IFLA_MTU, v->mtu);
	info = nla_nest_start(r.msg, IFLA_LINKINFO);
	nla_put_string(r.msg, IFLA_INFO_KIND, "veth");
	data = nla_nest_start(r.msg, IFLA_INFO_DATA);
	peer = nla_nest_start(r.msg, VETH_INFO_PEER);
	nlmsg_append(r.msg, &ifi, sizeof(ifi), 0);
	nla_put_string(r.msg, IFLA_IFNAME, v->peer);
	if (v->peer_mac)
		nla_put(r.msg, IFLA_ADDRESS, 6, v->peer_mac);
	nla_put_u32(r.msg, IFLA_MTU, v->mtu);
	if (v->peer_netns >= 0)
		nla_put_u32(r.msg, IFLA_NET_NS_FD, (uint32_t)v->peer_netns);
	nla_nest_end(r.msg, peer);
	nla_nest_end(r.msg, data);
	nla_nest_end(r.msg, info);
	ret = request_run(&r, NULL, NULL);
	return ret < 0 ? error_sys(err, -ret, "making veth pair %s, %s", v->name, v->peer) : 0;
}

int link_set(int ifindex, const uint8_t *mac, uint32_t mtu, uint32_t txqlen, struct error *err)
{
	CLEANUP_REQUEST struct request r = { 0 };
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex };
	int ret = request_begin(&r, RTM_NEWLINK, 0, &ifi, sizeof(ifi), err);

	if (ret < 0)
		return ret;
	if (mac)
		nla_put(r.msg, IFLA_ADDRESS, 6, mac);
	if (mtu)
		nla_put_u32(r.msg, IFLA_MTU, mtu);
	if (txqlen)
		nla_put_u32(r.msg, IFLA_TXQLEN, txqlen);
	ret = request_run(&r, NULL, NULL);
	return ret < 0 ? error_sys(err, -ret, "configuring interface %d", ifindex) : 0;
}

int link_up(int ifindex, bool arp, struct error *err)
{
	CLEANUP_REQUEST struct request r = { 0 };
	struct ifinfomsg ifi = {
		.ifi_family = AF_UNSPEC,
		.ifi_index = ifindex,
		.ifi_flags = IFF_UP | (arp ? 0 : IFF_NOARP),
		.ifi_change = IFF_UP | IFF_NOARP,
	};
	int ret = request_begin(&r, RTM_NEWLINK, 0, &ifi, sizeof(ifi), err);

	if (ret < 0)
		return ret;
	ret = request_run(&r, NULL, NULL);
	return ret < 0 ? error_sys(err, -ret, "bringing up interface %d", ifindex) : 0;
}

int link_del(const char *name, struct error *err)
{
	CLEANUP_REQUEST struct request r = { 0 };
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC, .ifi_index = link_index(name) };
	int ret;

	if (ifi.ifi_index < 0)
		return 0;
	ret = request_begin(&r, RTM_DELLINK, 0, &ifi, sizeof(ifi), err);
	if (ret < 0)
		return ret;
	ret = request_run(&r, NULL, NULL);
	return ret < 0 && ret != -ENODEV ? error_sys(err, -ret, "removing interface %s", name) : 0;
}

static int on_link(struct nl_msg *msg, void *arg)
{
	struct link_stats *out = arg;
	struct nlattr *a = nlmsg_find_attr(nlmsg_hdr(msg), sizeof(struct ifinfomsg), IFLA_STATS64);
	struct rtnl_link_stats64 s = { 0 };

	if (!a)
		return NL_OK;
	memcpy(&s, nla_data(a), (size_t)nla_len(a) < sizeof(s) ? (size_t)nla_len(a) : sizeof(s));
	out->rx_packets = s.rx_packets;
	out->rx_bytes = s.rx_bytes;
	out->rx_dropped = s.rx_dropped;
	out->tx_packets = s.tx_packets;
	out->tx_bytes = s.tx_bytes;
	out->tx_dropped = s.tx_dropped;
	return NL_OK;
}

int link_stats(int ifindex, struct link_stats *out, struct error *err)
{
	CLEANUP_REQUEST struct request r = { 0 };
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC, .ifi_index = ifindex };
	int ret = request_begin(&r, RTM_GETLINK, NLM_F_ACK, &ifi, sizeof(ifi), err);

	memset(out, 0, sizeof(*out));
	if (ret < 0)
		return ret;
	ret = request_run(&r, on_link, out);
	return ret < 0 ? error_sys(err, -ret, "reading interface %d", ifindex) : 0;
}

static const void *addr_raw(const struct addr *a, int *len)
{
	*len = addr_is_v4(a) ? 4 : 16;
	return addr_is_v4(a) ? a->b + 12 : a->b;
}

static int addr_change(int type, int flags, int ifindex, const struct addr *a, unsigned int prefix,
		       struct error *err)
{
	CLEANUP_REQUEST struct request r = { 0 };
	struct ifaddrmsg ifa = {
		.ifa_family = addr_is_v4(a) ? AF_INET : AF_INET6,
		.ifa_prefixlen = (uint8_t)prefix,
		.ifa_index = (uint32_t)ifindex,
		.ifa_flags = addr_is_v4(a) ? 0 : IFA_F_NODAD,
	};
	int len, ret = request_begin(&r, type, flags, &ifa, sizeof(ifa), err);
	const void *raw = addr_raw(a, &len);

	if (ret < 0)
		return ret;
	nla_put(r.msg, IFA_LOCAL, len, raw);
	nla_put(r.msg, IFA_ADDRESS, len, raw);
	return request_run(&r, NULL, NULL);
}

int link_addr_add(int ifindex, const struct addr *a, unsigned int prefix, struct error *err)
{
	int ret = addr_change(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, ifindex, a, prefix, err);
	char text[46];

	addr_format(a, text);
	return ret < 0 && ret != -EEXIST
		       ? error_sys(err, -ret, "adding address %s/%u", text, prefix)
		       : 0;
}

int link_addr_del(int ifindex, const struct addr *a, unsigned int prefix, struct error *err)
{
	int ret = addr_change(RTM_DELADDR, 0, ifindex, a, prefix, err);

	return ret < 0 && ret != -EADDRNOTAVAIL ? error_sys(err, -ret, "removing an address") : 0;
}

static int route_change(int type, int flags, int ifindex, const struct subnet *dst,
			const struct addr *via, const struct addr *src, struct error *err)
{
	CLEANUP_REQUEST struct request r = { 0 };
	bool v6 = dst ? dst->v6 : via && !addr_is_v4(via);
	struct rtmsg rt = {
		.rtm_family = v6 ? AF_INET6 : AF_INET,
		.rtm_dst_len = dst ? (uint8_t)dst->prefix : 0,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = type == RTM_NEWROUTE ? RTPROT_STATIC : RTPROT_UNSPEC,
		.rtm_scope = type == RTM_DELROUTE ? RT_SCOPE_NOWHERE
			     : via || v6	  ? RT_SCOPE_UNIVERSE
						  : RT_SCOPE_LINK,
		.rtm_type = RTN_UNICAST,
	};
	int len, ret = request_begin(&r, type, flags, &rt, sizeof(rt), err);

	if (ret < 0)
		return ret;
	if (dst) {
		const void *raw = addr_raw(&dst->addr, &len);

		nla_put(r.msg, RTA_DST, v6 ? 16 : 4, raw);
	}
	if (via) {
		const void *raw = addr_raw(via, &len);

		nla_put(r.msg, RTA_GATEWAY, len, raw);
	}
	if (src) {
		const void *raw = addr_raw(src, &len);

		nla_put(r.msg, RTA_PREFSRC, len, raw);
	}
	nla_put_u32(r.msg, RTA_OIF, (uint32_t)ifindex);
	return request_run(&r, NULL, NULL);
}

int link_route_add(int ifindex, const struct subnet *dst, const struct addr *via,
		   const struct addr *src, struct error *err)
{
	int ret = route_change(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, ifindex, dst, via, src,
			       err);

	return ret < 0 ? error_sys(err, -ret, "adding a route") : 0;
}

int link_route_del(int ifindex, const struct subnet *dst, struct error *err)
{
	int ret = route_change(RTM_DELROUTE, 0, ifindex, dst, NULL, NULL, err);

	return ret < 0 && ret != -ESRCH ? error_sys(err, -ret, "removing a route") : 0;
}

int link_sysctl(const char *value, struct error *err, const char *fmt, ...)
{
	char path[256] = "/proc/sys/net/";
	size_t n = strlen(path);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(path + n, sizeof(path) - n, fmt, ap);
	va_end(ap);
	return file_write_str(path, value, err);
}
