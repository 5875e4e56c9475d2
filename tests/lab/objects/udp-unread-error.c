/* SPDX-License-Identifier: Apache-2.0 */
/* An error that came back (IP_RECVERR) and was not read yet. */
/* refused: errors wait to be read */
#include <time.h>
#include <linux/errqueue.h>

#include "net.h"

int main(int argc, char **argv)
{
	union net_address at;
	socklen_t len;
	char control[512], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr h = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct sock_extended_err *e;
	int s;

	object_init(argc, argv);
	s = socket(AF_INET, SOCK_DGRAM, 0);
	net_set(s, IPPROTO_IP, IP_RECVERR, 1);
	len = net_at(&at, "127.0.0.1", 7009); /* nobody is there */
	CHECK(connect(s, &at.sa, len) == 0);
	CHECK(send(s, "x", 1, 0) == 1);
	CHECK(net_poll(s, POLLIN, 10000) & POLLERR);
	object_move();
	CHECK(net_poll(s, POLLIN, 10000) & POLLERR);
	CHECK(recvmsg(s, &h, MSG_ERRQUEUE) == 1);
	CHECK(CMSG_FIRSTHDR(&h) && CMSG_FIRSTHDR(&h)->cmsg_type == IP_RECVERR);
	e = (void *)CMSG_DATA(CMSG_FIRSTHDR(&h));
	CHECK(e->ee_errno == ECONNREFUSED && e->ee_origin == SO_EE_ORIGIN_ICMP);
	return 0;
}
