/* SPDX-License-Identifier: Apache-2.0 */
/* When what was sent was acknowledged (SO_TIMESTAMPING), and nobody has asked yet. */
/* refused: notices .MSG_ERRQUEUE. wait to be read */
#include <linux/net_tstamp.h>

#include "net.h"

int main(int argc, char **argv)
{
	char control[512], byte;
	struct iovec iov = { &byte, 1 };
	struct msghdr h = { .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	net_set(a, SOL_SOCKET, SO_TIMESTAMPING,
		SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_TSONLY);
	net_send(a, 1, 0, 100);
	net_recv(b, 1, 0, 100);
	CHECK(net_poll(a, 0, 30000) & POLLERR);
	object_move();
	CHECK(net_poll(a, 0, 0) & POLLERR);
	CHECK(recvmsg(a, &h, MSG_ERRQUEUE) >= 0 && CMSG_FIRSTHDR(&h));
	CHECK(!(net_poll(a, 0, 0) & POLLERR));
	net_works(a, b);
	return 0;
}
