/* SPDX-License-Identifier: Apache-2.0 */
/* O_PATH descriptors of a file, a folder, a link and a socket. */
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "object.h"

int main(int argc, char **argv)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX, .sun_path = "/sock" };
	int s = socket(AF_UNIX, SOCK_STREAM, 0), file, folder, link, sock, fd;
	struct stat a, b;
	char to[64];

	object_init(argc, argv);
	CHECK(mkdir("/folder", 0700) == 0 && symlink("/nowhere", "/folder/link") == 0);
	close(open("/folder/file", O_CREAT | O_WRONLY, 0640));
	CHECK(bind(s, (struct sockaddr *)&un, sizeof(un)) == 0);
	folder = open("/folder", O_PATH | O_DIRECTORY);
	file = open("/folder/file", O_PATH);
	link = open("/folder/link", O_PATH | O_NOFOLLOW);
	sock = open("/sock", O_PATH);
	CHECK(folder >= 0 && file >= 0 && link >= 0 && sock >= 0);
	object_move();
	CHECK(fcntl(file, F_GETFL) & O_PATH && read(file, to, 1) < 0 && errno == EBADF);
	CHECK(fstat(file, &a) == 0 && stat("/folder/file", &b) == 0 && a.st_ino == b.st_ino);
	CHECK(fstat(link, &a) == 0 && S_ISLNK(a.st_mode));
	CHECK(readlinkat(link, "", to, sizeof(to)) == 8 && memcmp(to, "/nowhere", 8) == 0);
	CHECK(fstat(sock, &a) == 0 && S_ISSOCK(a.st_mode));
	fd = openat(folder, "file", O_RDWR);
	CHECK(fd >= 0);
	return 0;
}
