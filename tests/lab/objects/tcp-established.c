/* SPDX-License-Identifier: Apache-2.0 */
/* An established connection to another host: bytes of both directions go on where they were. */
/* peer */
/* moves: live */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#include "object.h"

#define PORT 7000

static void exchange(int fd, uint32_t n)
{
	uint32_t got = 0;

	CHECK(send(fd, &n, sizeof(n), MSG_NOSIGNAL) == sizeof(n));
	CHECK(recv(fd, &got, sizeof(got), MSG_WAITALL) == sizeof(got));
	CHECK(got == n + 1, "%u was answered by %u", n, got);
}

static int peer(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int one = 1, s = socket(AF_INET, SOCK_STREAM, 0), c;
	uint32_t n;

	CHECK(setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) == 0);
	CHECK(bind(s, (struct sockaddr *)&a, sizeof(a)) == 0 && listen(s, 5) == 0);
	object_ready();
	c = accept(s, NULL, NULL);
	CHECK(c >= 0);
	while (recv(c, &n, sizeof(n), MSG_WAITALL) == sizeof(n)) {
		n++;
		CHECK(send(c, &n, sizeof(n), MSG_NOSIGNAL) == sizeof(n));
	}
	return n == 100 ? 0 : 1; /* the last that was asked, plus one: no reset before it */
}

int main(int argc, char **argv)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(PORT) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	object_init(argc, argv);
	if (object_is_peer)
		return peer();
	CHECK(inet_pton(AF_INET, object_peer(), &a.sin_addr) == 1);
	CHECK(connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	for (uint32_t i = 0; i < 50; i++)
		exchange(fd, i);
	object_move();
	for (uint32_t i = 50; i < 100; i++)
		exchange(fd, i);
	return 0;
}
