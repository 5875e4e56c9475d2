/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that wait to be accepted and have sent something already, one of them and closed. */
#include <sys/socket.h>
#include <sys/un.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/tmp/busy" };
	int l = socket(AF_UNIX, SOCK_STREAM, 0), c[4], s;
	static char big[60000], got[sizeof(big)];
	char buf[64];

	object_init(argc, argv);
	CHECK(bind(l, (struct sockaddr *)&un, sizeof(un)) == 0 && listen(l, 10) == 0);
	for (int i = 0; i < 4; i++) {
		c[i] = socket(AF_UNIX, SOCK_STREAM, 0);
		CHECK(connect(c[i], (struct sockaddr *)&un, sizeof(un)) == 0);
	}
	for (size_t i = 0; i < sizeof(big); i++)
		big[i] = (char)(i * 7 % 251);
	CHECK(write(c[0], "GET / ", 6) == 6 && write(c[0], "HTTP/1.0\r\n\r\n", 12) == 12);
	for (size_t at = 0; at < sizeof(big); at += 3000)
		CHECK(write(c[1], big + at, 3000) == 3000);
	CHECK(write(c[3], "half", 4) == 4 && shutdown(c[3], SHUT_WR) == 0);
	object_move();
	CHECK((s = accept(l, NULL, NULL)) >= 0 && recv(s, buf, 18, MSG_WAITALL) == 18);
	CHECK(memcmp(buf, "GET / HTTP/1.0\r\n\r\n", 18) == 0 && write(s, "200", 3) == 3);
	CHECK(read(c[0], buf, 64) == 3);
	CHECK((s = accept(l, NULL, NULL)) >= 0);
	CHECK(recv(s, got, sizeof(got), MSG_WAITALL) == sizeof(got) &&
	      memcmp(big, got, sizeof(big)) == 0);
	CHECK((s = accept(l, NULL, NULL)) >= 0 && recv(s, buf, 1, MSG_DONTWAIT) < 0);
	CHECK((s = accept(l, NULL, NULL)) >= 0 && recv(s, buf, 4, MSG_WAITALL) == 4);
	CHECK(read(s, buf, 1) == 0 && write(s, "back", 4) == 4 && read(c[3], buf, 64) == 4);
	return 0;
}
