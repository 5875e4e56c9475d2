/* SPDX-License-Identifier: Apache-2.0 */
/* SO_RCVTIMEO, SO_SNDTIMEO and SO_LINGER. */
#include <sys/time.h>

#include "net.h"

int main(int argc, char **argv)
{
	struct timeval tv = { 0, 240000 }, got = { 0 };
	struct linger lg = { 1, 7 }, lnow = { 0 };
	socklen_t len = sizeof(got);
	int l, a, b;

	object_init(argc, argv);
	net_pair("127.0.0.1", 7000, &l, &a, &b);
	CHECK(setsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)) == 0);
	CHECK(setsockopt(b, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)) == 0);
	CHECK(setsockopt(b, SOL_SOCKET, SO_LINGER, &lg, sizeof(lg)) == 0);
	object_move();
	CHECK(getsockopt(b, SOL_SOCKET, SO_SNDTIMEO, &got, &len) == 0);
	CHECK(memcmp(&got, &tv, sizeof(tv)) == 0);
	len = sizeof(lnow);
	CHECK(getsockopt(b, SOL_SOCKET, SO_LINGER, &lnow, &len) == 0);
	CHECK(memcmp(&lnow, &lg, sizeof(lg)) == 0);
	CHECK(recv(a, &l, 1, 0) < 0 && errno == EAGAIN); /* comes to its end */
	net_works(a, b);
	return 0;
}
