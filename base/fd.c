/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors and small files; fd.h is the contract. */
#include "base/fd.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"

int fd_write_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int fd_read_all(int fd, void *buf, size_t len)
{
	char *p = buf;

	while (len) {
		ssize_t n = read(fd, p, len);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (!n)
			return -ENODATA;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int set_flag(int fd, int get, int set, int flag, bool on)
{
	int flags = fcntl(fd, get);

	if (flags < 0 || fcntl(fd, set, on ? flags | flag : flags & ~flag) < 0)
		return -errno;
	return 0;
}

int fd_set_cloexec(int fd, bool on)
{
	return set_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

int fd_set_nonblock(int fd, bool on)
{
	return set_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

#define FDS_MAX 253 /* SCM_MAX_FD, net/scm.h */

int fd_send(int sock, const void *buf, size_t len, const int *fds, size_t nfds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} ctl;
	struct iovec iov = { (void *)(uintptr_t)buf, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (nfds > FDS_MAX)
		return -E2BIG;
	if (nfds) {
		struct cmsghdr *c;

		memset(&ctl, 0, sizeof(ctl));
		msg.msg_control = ctl.space;
		msg.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if ((size_t)n < len)
		return fd_write_all(sock, (const char *)buf + n, len - (size_t)n);
	return 0;
}

ssize_t fd_recv(int sock, void *buf, size_t len, int *fds, size_t *nfds)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} ctl;
	struct iovec iov = { buf, len };
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = ctl.space,
			      .msg_controllen = sizeof(ctl.space) };
	size_t room = nfds ? *nfds : 0, got = 0;
	ssize_t n;

	do
		n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (got < room)
				fds[got++] = fd;
			else
				close(fd);
		}
	}
	if (nfds)
		*nfds = got;
	return n;
}

static int unix_addr(const char *path, struct sockaddr_un *sa, struct error *err)
{
	memset(sa, 0, sizeof(*sa));
	sa->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(sa->sun_path))
		return error_set(err, ENAMETOOLONG,
				 "socket path %s is longer than %zu bytes; use a shorter folder",
				 path, sizeof(sa->sun_path) - 1);
	strcpy(sa->sun_path, path);
	return 0;
}

int fd_unix_listen(const char *path, mode_t mode, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	struct sockaddr_un sa;
	int r = unix_addr(path, &sa, err);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_sys(err, errno, "making a unix socket");
	if (unlink(path) < 0 && errno != ENOENT)
		return error_sys(err, errno, "replacing socket %s", path);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return error_sys(err, errno, "binding socket %s", path);
	if (chmod(path, mode) < 0)
		return error_sys(err, errno, "setting the mode of socket %s", path);
	if (listen(fd, SOMAXCONN) < 0)
		return error_sys(err, errno, "listening on socket %s", path);
	return TAKE_FD(fd);
}

int fd_unix_connect(const char *path, struct error *err)
{
	CLEANUP_CLOSE int fd = -1;
	struct sockaddr_un sa;
	int r = unix_addr(path, &sa, err);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return error_sys(err, errno, "making a unix socket");
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return error_sys(err, errno, "connecting to %s", path);
	return TAKE_FD(fd);
}

int file_read_at(int dirfd, const char *path, size_t max, char **out, size_t *len,
		 struct error *err)
{
	CLEANUP_FREE char *buf = NULL;
	CLEANUP_CLOSE int fd = -1;
	size_t size = 4096, used = 0;

	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return error_sys(err, errno, "opening %s", path);
	buf = malloc(size);
	if (!buf)
		return error_set(err, ENOMEM, "reading %s: out of memory", path);
	for (;;) {
		ssize_t n;

		if (used + 1 >= size) {
			char *bigger = realloc(buf, size * 2);

			if (!bigger)
				return error_set(err, ENOMEM, "reading %s: out of memory", path);
			buf = bigger;
			size *= 2;
		}
		n = read(fd, buf + used, size - used - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_sys(err, errno, "reading %s", path);
		if (!n)
			break;
		used += (size_t)n;
		if (used > max)
			return error_set(err, EFBIG, "%s is larger than %zu bytes", path, max);
	}
	buf[used] = '\0';
	if (len)
		*len = used;
	*out = TAKE_PTR(buf);
	return 0;
}

int file_read(const char *path, size_t max, char **out, size_t *len, struct error *err)
{
	return file_read_at(AT_FDCWD, path, max, out, len, err);
}

int file_write_atomic(const char *path, const void *buf, size_t len, mode_t mode, struct error *err)
{
	CLEANUP_CLOSE int fd = -1, dir = -1;
	char tmp[PATH_MAX], folder[PATH_MAX];
	char *slash;
	int r;

	if ((size_t)snprintf(tmp, sizeof(tmp), "%s.XXXXXX", path) >= sizeof(tmp))
		return error_set(err, ENAMETOOLONG, "path %s is too long", path);
	snprintf(folder, sizeof(folder), "%s", path);
	slash = strrchr(folder, '/');
	if (!slash)
		strcpy(folder, ".");
	else if (slash == folder)
		slash[1] = '\0';
	else
		*slash = '\0';

	fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0)
		return error_sys(err, errno, "making a temporary file beside %s", path);
	r = fd_write_all(fd, buf, len);
	if (!r && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
		r = -errno;
	if (!r && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		return error_sys(err, -r, "writing %s", path);
	}
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fsync(dir) < 0)
		return error_sys(err, errno, "syncing folder %s", folder);
	return 0;
}

int file_write_str(const char *path, const char *value, struct error *err)
{
	CLEANUP_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
	size_t len = strlen(value);

	if (fd < 0)
		return error_sys(err, errno, "opening %s", path);
	if (write(fd, value, len) != (ssize_t)len)
		return error_sys(err, errno, "writing \"%.40s\" to %s", value, path);
	return 0;
}

int dir_make(const char *path, mode_t mode, struct error *err)
{
	char buf[PATH_MAX];
	struct stat st;

	if ((size_t)snprintf(buf, sizeof(buf), "%s", path) >= sizeof(buf))
		return error_set(err, ENAMETOOLONG, "path %s is too long", path);
	for (char *p = buf + 1;; p++) {
		char old = *p;

		if (old != '/' && old != '\0')
			continue;
		*p = '\0';
		if (mkdir(buf, mode) < 0 && errno != EEXIST)
			return error_sys(err, errno, "making folder %s", buf);
		*p = old;
		if (!old)
			break;
	}
	if (stat(path, &st) < 0)
		return error_sys(err, errno, "making folder %s", path);
	if (!S_ISDIR(st.st_mode))
		return error_set(err, ENOTDIR, "%s is in the way: it is no folder", path);
	return 0;
}

static int remove_in(int dirfd, const char *name, dev_t dev)
{
	CLEANUP_CLOSEDIR DIR *dir = NULL;
	struct dirent *e;
	struct stat st;
	int fd, first = 0;

	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISDIR(st.st_mode))
		return unlinkat(dirfd, name, 0) < 0 && errno != ENOENT ? -errno : 0;
	if (st.st_dev != dev)
		return -EBUSY;
	fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((e = readdir(dir))) {
		int r;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		r = remove_in(fd, e->d_name, dev);
		if (r < 0 && !first)
			first = r;
	}
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT && !first)
		first = -errno;
	return first;
}

int dir_remove(const char *path, struct error *err)
{
	struct stat st;
	int r;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : error_sys(err, errno, "removing %s", path);
	r = remove_in(AT_FDCWD, path, st.st_dev);
	return r < 0 ? error_sys(err, -r, "removing %s", path) : 0;
}
