/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SO_PEERCRED and SO_PEERGROUPS of connections: of who called listen(2) and who called
 * connect(2), with the ids of that moment, though both have others by now. By path, by
 * abstract name, with the listener gone, and of a client that still waits to be accepted.
 */
#include <grp.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "object.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77
#endif

enum { PATH, ABSTRACT, PACKETS, GONE, KINDS };

static socklen_t address(struct sockaddr_un *un, int kind)
{
	static const char *const names[KINDS] = { "/tmp/by-path", "@abstract", "@packets",
						  "/tmp/gone" };

	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	strcpy(un->sun_path, names[kind]);
	if (un->sun_path[0] != '@')
		return sizeof(*un);
	un->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(names[kind]));
}

static int type_of(int kind)
{
	return kind == PACKETS ? SOCK_SEQPACKET : SOCK_STREAM;
}

static void become(uid_t uid, gid_t gid, const gid_t *groups, size_t n)
{
	CHECK(seteuid(0) == 0 && setgroups(n, groups) == 0 && setegid(gid) == 0 &&
	      seteuid(uid) == 0);
}

static void peer_is(int fd, pid_t pid, uid_t uid, gid_t gid, const gid_t *groups, size_t n)
{
	struct ucred u = { .pid = 0, .uid = 0, .gid = 0 };
	gid_t have[16];
	socklen_t len = sizeof(u);
	int pidfd = -1;

	CHECK(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &len) == 0);
	CHECK(u.pid == pid && u.uid == uid && u.gid == gid, "%d %d %d instead of %d %d %d", u.pid,
	      u.uid, u.gid, pid, uid, gid);
	len = sizeof(have);
	CHECK(getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, have, &len) == 0);
	CHECK(len == n * sizeof(gid_t), "%u bytes of groups", len);
	CHECK(memcmp(have, groups, len) == 0);
	len = sizeof(pidfd);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &pidfd, &len) == 0) {
		CHECK(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0) == 0);
		close(pidfd);
	}
}

static int dial(int kind)
{
	struct sockaddr_un un;
	socklen_t len = address(&un, kind);
	int s = socket(AF_UNIX, type_of(kind), 0);

	CHECK(s >= 0 && connect(s, (struct sockaddr *)&un, len) == 0);
	return s;
}

static void name_is(int fd, int kind)
{
	struct sockaddr_un un, have;
	socklen_t len = address(&un, kind), got = sizeof(have);

	memset(&have, 0, sizeof(have));
	CHECK(getsockname(fd, (struct sockaddr *)&have, &got) == 0);
	CHECK(strncmp(un.sun_path + 1, have.sun_path + 1, 8) == 0 &&
	      have.sun_path[0] == un.sun_path[0]);
	CHECK(un.sun_path[0] || got == len);
}

static const gid_t of_server[] = { 7, 8, 1001 }, of_client[] = { 30 };

static int client(int ready, pid_t server, bool waits)
{
	int s[KINDS];
	char byte;

	become(3000, 3001, of_client, 1);
	for (int k = 0; k < KINDS; k++)
		s[k] = dial(k);
	if (waits)
		dial(PATH);
	become(0, 0, NULL, 0);
	CHECK(write(ready, "c", 1) == 1);
	object_wait();
	for (int k = 0; k < KINDS; k++) {
		peer_is(s[k], server, 1000, 1001, of_server, 3);
		CHECK(write(s[k], "x", 1) == 1 && read(s[k], &byte, 1) == 1 && byte == 'y');
	}
	/* the listener is the same for those to come */
	peer_is(dial(PATH), server, 1000, 1001, of_server, 3);
	return 0;
}

int main(int argc, char **argv)
{
	int ready[2], l[KINDS], s[KINDS], waits, status;
	char byte;
	pid_t c;

	object_init(argc, argv);
	CHECK(pipe(ready) == 0);
	become(1000, 1001, of_server, 3);
	for (int k = 0; k < KINDS; k++) {
		struct sockaddr_un un;
		socklen_t len = address(&un, k);

		l[k] = socket(AF_UNIX, type_of(k), 0);
		CHECK(l[k] >= 0 && bind(l[k], (struct sockaddr *)&un, len) == 0);
		CHECK(listen(l[k], 5) == 0);
	}
	become(0, 0, NULL, 0);
	CHECK(chmod("/tmp/by-path", 0777) == 0 && chmod("/tmp/gone", 0777) == 0);
	c = fork();
	if (c == 0)
		_exit(client(ready[1], 1, true));
	CHECK(read(ready[0], &byte, 1) == 1);
	for (int k = 0; k < KINDS; k++)
		s[k] = accept(l[k], NULL, NULL);
	close(l[GONE]);
	unlink("/tmp/gone");
	object_move();
	for (int k = 0; k < KINDS; k++) {
		CHECK(s[k] >= 0);
		name_is(s[k], k);
		peer_is(s[k], c, 3000, 3001, of_client, 1);
	}
	waits = accept(l[PATH], NULL, NULL);
	CHECK(waits >= 0);
	name_is(waits, PATH);
	/* of this one only its owner is known, with the ids that it has */
	peer_is(waits, c, 0, 0, NULL, 0);
	kill(c, SIGUSR2);
	for (int k = 0; k < KINDS; k++)
		CHECK(read(s[k], &byte, 1) == 1 && byte == 'x' && write(s[k], "y", 1) == 1);
	CHECK(waitpid(c, &status, 0) == c && status == 0);
	return 0;
}
